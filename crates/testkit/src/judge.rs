//! The judge as a process: one Python program that stays up and answers one question a line.
//! What it compares, and how, is in `tests/e2e/judge`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{Result, fail, host, readers};

/// The longest answer waited for. A million rows take under a minute.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// A running judge.
pub struct Judge {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What the judge said about source and lake.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// True if nothing differs, through no reader.
    pub agree: bool,
    /// Tables compared.
    pub tables: u64,
    /// Rows of the source in them.
    pub rows: u64,
    /// The whole answer: readers' versions, differences with samples.
    pub answer: Value,
}

impl Verdict {
    /// `duckdb 1.5.5, pyiceberg 0.12.0`
    pub fn readers(&self) -> String {
        let readers = self.answer["readers"].as_object();
        let named = readers.into_iter().flatten();
        let named =
            named.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")));
        named.collect::<Vec<_>>().join(", ")
    }

    /// An error that shows the differences, unless there are none.
    pub fn ensure(self) -> Result<Verdict> {
        if self.agree {
            return Ok(self);
        }
        let mut said = serde_json::to_string_pretty(&self.answer["differences"])?;
        said.truncate(said.floor_char_boundary(6000));
        fail!("source and lake differ ({} tables, {} rows):\n{said}", self.tables, self.rows)
    }
}

impl Judge {
    /// Starts the judge, making the readers' environment first if it is missing.
    pub async fn start() -> Result<Judge> {
        let python = tokio::task::spawn_blocking(readers::python).await??;
        let mut child = Command::new(python)
            .args(["-B", "-m", "judge"])
            .current_dir(host::workspace().join("tests/e2e"))
            .env("LAKEWARD_SPARK", readers::spark_home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            fail!("the judge has no pipes");
        };
        let output = BufReader::new(output).lines();
        Ok(Judge { _child: child, input, output })
    }

    /// One question, one answer; `error` in the answer becomes an error.
    pub async fn ask(&mut self, question: &Value) -> Result<Value> {
        self.input.write_all(format!("{question}\n").as_bytes()).await?;
        let line = tokio::time::timeout(ANSWER_LIMIT, self.output.next_line()).await;
        let Some(line) = line.map_err(|_| "the judge did not answer in time")?? else {
            fail!("the judge ended");
        };
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => fail!("judge: {error}\n{}", answer["trace"].as_str().unwrap_or("")),
            None => Ok(answer),
        }
    }

    /// Compares the tables that the patterns select, in every lake and through each lake's own
    /// readers; `!pattern` takes some out again.
    pub async fn compare_all(
        &mut self,
        source: &SourceAt,
        lakes: &[LakeAt],
        patterns: &[String],
    ) -> Result<Verdict> {
        self.compare_through(source, lakes, patterns, &[]).await
    }

    /// Like [`Judge::compare_all`], through these readers only: `duckdb`, `pyiceberg`,
    /// `deltalake`, and `spark` where [`Judge::spark`] says that it is there.
    pub async fn compare_through(
        &mut self,
        source: &SourceAt,
        lakes: &[LakeAt],
        patterns: &[String],
        readers: &[&str],
    ) -> Result<Verdict> {
        let question = json!({"verb": "judge", "source": source, "lakes": lakes,
            "tables": patterns, "readers": readers});
        let answer = self.ask(&question).await?;
        Ok(Verdict {
            agree: answer["agree"].as_bool().unwrap_or(false),
            tables: answer["tables"].as_u64().unwrap_or(0),
            rows: answer["rows"].as_u64().unwrap_or(0),
            answer,
        })
    }

    /// The sum of a column over the table versions of each consistent point.
    pub async fn sums_of(
        &mut self,
        lake: &LakeAt,
        column: &str,
        points: &[Value],
    ) -> Result<Vec<PointSum>> {
        let question = json!({"verb": "sums", "lake": lake, "column": column, "points": points});
        let answer = self.ask(&question).await?;
        let sums = answer["points"].as_array().cloned().unwrap_or_default();
        let read = |point: &Value| PointSum {
            epoch: point["epoch"].as_u64().unwrap_or(0),
            rows: point["rows"].as_u64().unwrap_or(0),
            sum: point["sum"].as_i64().unwrap_or(i64::MIN),
        };
        Ok(sums.iter().map(read).collect())
    }

    /// Spark's version; why there is none where this machine cannot run it. Installs it first
    /// where it can.
    pub async fn spark(&mut self) -> Result<Result<String, String>> {
        tokio::task::spawn_blocking(readers::spark).await??;
        let answer = self.ask(&json!({"verb": "spark.versions"})).await?;
        let said = |name: &str| answer[name].as_str().unwrap_or("?").to_owned();
        Ok(if answer["java"] == true { Ok(said("spark")) } else { Err(said("why")) })
    }

    /// Lets Spark rewrite the files of the tables that the patterns select, as a foreign
    /// maintenance job would: `OPTIMIZE` in Delta, `rewrite_data_files` in Iceberg.
    pub async fn foreign_rewrite(
        &mut self,
        lake: &LakeAt,
        patterns: &[String],
    ) -> Result<BTreeMap<String, Rewritten>> {
        let question = json!({"verb": "spark.rewrite", "lake": lake, "tables": patterns});
        let answer = self.ask(&question).await?;
        let tables = answer["tables"].as_object().cloned().unwrap_or_default();
        let read = |said: &Value| match said["refused"].as_str() {
            Some(why) => Rewritten::Refused(why.to_owned()),
            None => Rewritten::Files(said["removed"].as_u64().unwrap_or(0)),
        };
        Ok(tables.into_iter().map(|(name, said)| (name, read(&said))).collect())
    }
}

/// What became of a foreign rewrite of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// So many files were replaced.
    Files(u64),
    /// Spark cannot, or lost a race; its words.
    Refused(String),
}

/// Where the judge finds a source: the kind that it knows, and how to connect.
#[derive(Clone, Debug, Serialize)]
pub struct SourceAt {
    /// `postgres`, `mysql`
    pub kind: String,
    /// A connection URL.
    pub dsn: String,
}

/// Where the judge finds a lake.
#[derive(Clone, Debug, Serialize)]
pub struct LakeAt {
    /// `iceberg`, `delta`
    pub kind: String,
    /// The warehouse's folder.
    pub folder: PathBuf,
}

/// What one consistent point showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointSum {
    /// The point's epoch.
    pub epoch: u64,
    /// Rows in all its tables.
    pub rows: u64,
    /// The column's sum over them.
    pub sum: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::{self, MariaDb};
    use crate::postgres::Postgres;
    use crate::servers::Version;

    async fn finds_every_planted_fault(source: SourceAt) {
        let folder = tempfile::tempdir().unwrap();
        let mut judge = Judge::start().await.unwrap();
        for (lake, own) in [("iceberg", "pyiceberg"), ("delta", "deltalake")] {
            let question = json!({"verb": "prove", "source": source, "lake": {"kind": lake},
                "folder": folder.path().join(lake)});
            let answer = judge.ask(&question).await.unwrap();
            let planted = answer["planted"].as_u64().unwrap();
            assert!(planted >= 30, "{answer}");
            assert_eq!(answer["missed"], json!([]));
            assert_eq!(answer["found"], json!({"duckdb": planted, own: planted}));
        }
    }

    #[tokio::test]
    async fn the_judge_finds_every_planted_fault_in_copies_of_postgres() {
        let server = Postgres::start(Version::V15).await.unwrap();
        let dsn = server.url("postgres");
        finds_every_planted_fault(SourceAt { kind: "postgres".to_owned(), dsn }).await;
    }

    #[tokio::test]
    async fn the_judge_finds_every_planted_fault_in_copies_of_mariadb() {
        let server = MariaDb::start(mariadb::Version::V10_11).await.unwrap();
        let dsn = server.url("mysql");
        finds_every_planted_fault(SourceAt { kind: "mysql".to_owned(), dsn }).await;
    }
}
