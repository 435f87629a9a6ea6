//! What was asked for on the command line.

use std::path::PathBuf;

use lakeward_testkit::host;

use crate::cases::Reach;
use crate::profile::Tool;
use crate::world::Lake;
use crate::world::server::Product;

pub(crate) const USAGE: &str = "\
usage: bench [--source S] [--lake L] [--only CASE] [--scale F] [--rounds N] [--binary PATH] [--out DIR]
       bench --flame CASE | --heap CASE [the same]
       bench --compare A.json B.json

  S       postgres (postgres-15, postgres-18) or mysql (mariadb-10.11, mariadb-11.8)
  L       iceberg, iceberg-3 (format version 3), delta or null
  CASE    a case's name, or how several begin; --only instructions: the micro benches under callgrind
  F       1: the sizes that the aims speak of";

/// What to do.
pub(crate) enum Act {
    Measure(Box<Arguments>),
    Compare(PathBuf, PathBuf),
}

/// What to measure.
pub(crate) struct Arguments {
    pub(crate) binary: PathBuf,
    pub(crate) scale: f64,
    pub(crate) rounds: u32,
    pub(crate) lake: Lake,
    pub(crate) product: Product,
    pub(crate) only: Option<String>,
    pub(crate) reach: Reach,
    /// `SOURCE-LAKE`: the name of the files.
    pub(crate) title: String,
    pub(crate) out: PathBuf,
    /// Profile instead of measuring.
    pub(crate) tool: Option<Tool>,
}

/// Reads the arguments; the error says what is wrong with them.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Act, String> {
    let mut args = args;
    let (mut source, mut lake) = ("postgres".to_owned(), "iceberg".to_owned());
    let (mut only, mut scale, mut rounds) = (None, 1.0, None);
    let mut binary = host::target().join("release").join("lakeward");
    let mut tool = None;
    let mut out = host::target().join("bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--source" => source = value()?,
            "--lake" => lake = value()?,
            "--only" => only = Some(value()?),
            "--flame" => (only, tool) = (Some(value()?), Some(Tool::Flame)),
            "--heap" => (only, tool) = (Some(value()?), Some(Tool::Heap)),
            "--scale" => scale = number(&arg, &value()?)?,
            "--rounds" => rounds = Some(number(&arg, &value()?)?),
            "--binary" => binary = value()?.into(),
            "--out" => out = value()?.into(),
            "--compare" => return Ok(Act::Compare(value()?.into(), value()?.into())),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if !(scale > 0.0 && scale <= 100.0) {
        return Err("--scale must be more than 0 and at most 100".to_owned());
    }
    let product = Product::named(&source).ok_or(format!("unknown source {source}"))?;
    let into = Lake::named(&lake).ok_or(format!("unknown lake {lake}"))?;
    let reach =
        Reach { postgres: matches!(product, Product::Postgres(_)), readable: into != Lake::Null };
    if let Some(only) = only.as_deref()
        && only != crate::INSTRUCTIONS
        && crate::cases::groups(Some(only), reach).is_empty()
    {
        return Err(format!("no case of {source} and {lake} begins with {only}"));
    }
    // the form of an outcome needs no second look
    let rounds = rounds.unwrap_or(if scale < 0.01 { 1 } else { 3 });
    let title = format!("{source}-{lake}");
    let lake = into;
    let arguments =
        Arguments { binary, scale, rounds, lake, product, only, reach, title, out, tool };
    Ok(Act::Measure(Box::new(arguments)))
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: {text} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Act, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "--fast",
            "--scale x",
            "--scale 0",
            "--lake hudi",
            "--source db2",
            "--only x",
            "--compare a",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_form_needs_one_round() {
        let Ok(Act::Measure(form)) = parsed("--scale 0.001 --source postgres-15 --lake delta")
        else {
            panic!("refused");
        };
        assert_eq!((form.rounds, form.title.as_str()), (1, "postgres-15-delta"));
        let Ok(Act::Measure(whole)) = parsed("--only load") else { panic!("refused") };
        assert_eq!((whole.rounds, whole.scale), (3, 1.0));
        assert!(matches!(parsed("--compare a b"), Ok(Act::Compare(..))));
    }
}
