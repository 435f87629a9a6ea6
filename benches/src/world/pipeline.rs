//! A pipeline of the product: its file, its lake, its state; runs of it as measured processes; and a copy of all that it
//! keeps, so that the same backlog can be taken again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lakeward_testkit::{Result, host};

use super::postgres::copy_slot;
use super::{Bench, Lake, RUN_LIMIT, Server};
use crate::measure::{self, Cost, Watched};
use crate::profile::Profile;

/// A pipeline.
pub(crate) struct Pipeline {
    name: String,
    binary: PathBuf,
    profile: Option<Profile>,
    folder: PathBuf,
}

impl Pipeline {
    /// A pipeline of one table, or of all that a pattern names. `options` are lines of its `pipeline` part.
    pub(crate) fn new(
        bench: &Bench,
        server: &Server,
        name: &str,
        tables: &str,
        lake: Lake,
        options: &[&str],
    ) -> Result<Self> {
        let folder = bench.home.path().join(name);
        fs::create_dir_all(&folder)?;
        let new = Self {
            name: name.to_owned(),
            binary: bench.binary.clone(),
            profile: bench.profile.clone(),
            folder,
        };
        new.write(&server.source_lines(name, tables), lake, options)?;
        Ok(new)
    }

    /// Writes the pipeline file anew, with other options.
    pub(crate) fn write(&self, source: &[String], lake: Lake, options: &[&str]) -> Result<()> {
        let own =
            [format!("name: {}", self.name), format!("state_dir: {}", self.state().display())];
        let options = options.iter().map(|line| (*line).to_owned());
        let sink = lake.lines(&self.warehouse().display().to_string());
        let parts = [
            ("source", source.to_vec()),
            ("sink", sink),
            ("pipeline", own.into_iter().chain(options).collect()),
        ];
        let part = |(name, lines): (&str, Vec<String>)| {
            let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
            format!("{name}:\n{lines}")
        };
        Ok(fs::write(self.file(), parts.map(part).concat())?)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("pipeline.yaml")
    }

    /// Its name, which is that of its slot too.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its lake.
    pub(crate) fn warehouse(&self) -> PathBuf {
        self.folder.join("lake")
    }

    /// The folder of its local state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where its runs write.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A call of the product with this pipeline.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = match &self.profile {
            Some(profile) => profile.wrap(&self.binary, &self.name),
            None => Command::new(&self.binary),
        };
        command.arg(verb).arg(self.file());
        command
    }

    /// Runs it until all is in the lake that was there when it began.
    pub(crate) fn catch_up(&self) -> Result<Cost> {
        let mut command = self.command("run");
        command.arg("--until-caught-up");
        tokio::task::block_in_place(|| measure::run(&mut command, &self.log(), RUN_LIMIT))
    }

    /// Starts following.
    pub(crate) fn follow(&self) -> Result<Watched> {
        Watched::start(&mut self.command("run"), &self.log())
    }

    /// Removes lake, state and slot.
    pub(crate) async fn clear(&self, server: &Server) -> Result<()> {
        server.forget(&self.name).await?;
        remove(&self.warehouse())?;
        remove(&self.state())
    }

    /// The slot that stands where `keep` found it.
    pub(crate) fn base_slot(&self) -> String {
        format!("{}_base", self.name)
    }

    /// Keeps a copy of lake, state and slot as they are now.
    pub(crate) async fn keep(&self, server: &Server) -> Result<()> {
        let base = self.folder.join("base");
        remove(&base)?;
        fs::create_dir_all(&base)?;
        copy(&self.warehouse(), &base.join("lake"))?;
        copy(&self.state(), &base.join("state"))?;
        if let Server::Postgres(_) = server {
            server.forget(&self.base_slot()).await?;
            server.execute(&copy_slot(&self.name, &self.base_slot())).await?;
        }
        Ok(())
    }

    /// Brings lake, state and slot back as they were kept.
    pub(crate) async fn restore(&self, server: &Server) -> Result<()> {
        self.clear(server).await?;
        let base = self.folder.join("base");
        copy(&base.join("lake"), &self.warehouse())?;
        copy(&base.join("state"), &self.state())?;
        if let Server::Postgres(_) = server {
            server.execute(&copy_slot(&self.base_slot(), &self.name)).await?;
        }
        Ok(())
    }

    /// Removes all that it has, here and on the server.
    pub(crate) async fn end(self, server: &Server) -> Result<()> {
        self.clear(server).await?;
        server.forget(&self.base_slot()).await?;
        remove(&self.folder)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    host::run(Command::new("cp").arg("-a").arg("--reflink=auto").arg(from).arg(to)).map(|_| ())
}
