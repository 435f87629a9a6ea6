//! The foreign readers: one Python environment with the readers and the sources' drivers, and where
//! Java is another one with Spark and each format's Java library. Both are made once below
//! `target/` from pinned lists and made again when their list changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::{Result, fail, host};

/// The pinned list of packages.
fn requirements() -> PathBuf {
    host::workspace().join("tests/e2e/requirements.txt")
}

/// The environment's interpreter, made first if it is missing or out of date.
pub fn python() -> Result<PathBuf> {
    let _lock = host::lock("readers")?;
    let home = host::target().join("readers");
    let wanted = fs::read_to_string(requirements())?;
    let interpreter = home.join("venv/bin/python");
    let stamp = home.join("requirements.installed");
    if current(&stamp, &wanted) && interpreter.exists() {
        return Ok(interpreter);
    }
    let list = requirements().display().to_string();
    environment(&home, &["-r", &list])?;
    fs::write(stamp, wanted)?;
    Ok(interpreter)
}

/// What Spark needs, as `tests/e2e/spark.json` pins it.
#[derive(Deserialize)]
struct Pinned {
    python: Vec<String>,
    /// Maven coordinates by format.
    jars: BTreeMap<String, Vec<String>>,
}

/// The folder of Spark's environment, there or not.
pub fn spark_home() -> PathBuf {
    host::target().join("readers/spark")
}

/// True if this machine runs Java programs.
pub fn has_java() -> bool {
    answers("java", "-version")
}

/// Makes Spark's environment if it is missing or out of date; `None` where there is no Java.
/// Without Maven the jars are left to Spark, which fetches them when it starts.
pub fn spark() -> Result<Option<PathBuf>> {
    if !has_java() {
        return Ok(None);
    }
    let _lock = host::lock("spark")?;
    let (home, stamp) = (spark_home(), spark_home().join("spark.installed"));
    let wanted = fs::read_to_string(host::workspace().join("tests/e2e/spark.json"))?;
    if current(&stamp, &wanted) && home.join("venv/bin/python").exists() {
        return Ok(Some(home));
    }
    let pinned: Pinned = serde_json::from_str(&wanted)?;
    let packages: Vec<&str> = pinned.python.iter().map(String::as_str).collect();
    environment(&home, &packages)?;
    if answers("mvn", "--version") {
        for (format, jars) in &pinned.jars {
            fetch_jars(&home, format, jars)?;
        }
    }
    fs::write(stamp, wanted)?;
    Ok(Some(home))
}

fn current(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|made| made == wanted)
}

fn answers(program: &str, question: &str) -> bool {
    Command::new(program).arg(question).output().is_ok_and(|output| output.status.success())
}

/// Makes `venv` below `home` anew, with these packages.
fn environment(home: &Path, packages: &[&str]) -> Result<()> {
    fs::create_dir_all(home)?;
    let venv = home.join("venv");
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    host::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    host::run(pip.args(packages))?;
    Ok(())
}

/// Lets Maven bring the jars of one format, under this machine's own settings.
fn fetch_jars(home: &Path, format: &str, jars: &[String]) -> Result<()> {
    let folder = home.join("jars").join(format);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let project = home.join(format!("{format}.pom.xml"));
    fs::write(&project, project_of(jars)?)?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-DexcludeTransitive", "-f"]).arg(project);
    maven.arg(format!("-DoutputDirectory={}", folder.display()));
    maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
    host::run(&mut maven)?;
    Ok(())
}

/// A Maven project that depends on the jars and builds nothing.
fn project_of(jars: &[String]) -> Result<String> {
    let mut dependencies = String::new();
    for jar in jars {
        let parts: Vec<&str> = jar.split(':').collect();
        let [group, artifact, version] = parts[..] else {
            fail!("not group:artifact:version: {jar}");
        };
        dependencies += &format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        );
    }
    Ok(format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>lakeward</groupId>\
         <artifactId>readers</artifactId><version>0</version><packaging>pom</packaging>\
         <dependencies>{dependencies}</dependencies></project>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_names_each_jar() {
        let project = project_of(&["a.b:c:1".to_owned(), "d:e:2".to_owned()]).unwrap();
        assert_eq!(project.matches("<dependency>").count(), 2);
        assert!(project.contains("<groupId>a.b</groupId><artifactId>c</artifactId><version>1<"));
        assert!(project_of(&["a:b".to_owned()]).is_err());
    }
}
