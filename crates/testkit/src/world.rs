//! A world: one source database, one lake folder, one pipeline definition, and the judge.
//!
//! The laws see sources and lakes only through [`SourceServer`] and [`LakeTarget`]; a new source
//! or format implements one of them and passes the same laws.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::dialect::{self, Ability, Dialect};
use crate::judge::{Judge, LakeAt, PointSum, SourceAt, Verdict};
use crate::product::{Call, Ended, Hold, Running, exit};
use crate::{Result, fail, host};

/// How long a call that must end by itself may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(180);

/// How long a run may take that has the backlog of many broken ones to do, on a machine that runs other laws too.
const RECOVERY_LIMIT: Duration = Duration::from_secs(400);

/// A boxed future of the kit.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// An open connection to a source, on which a law runs statements.
pub trait Session: Send {
    /// Runs statements; returns how many rows they touched.
    fn run<'a>(&'a mut self, sql: &'a str) -> Pending<'a, u64>;
}

/// A server that cannot be followed as it is set up.
#[derive(Clone, Copy, Debug)]
pub struct Unfit {
    /// The setting and its value.
    pub setting: (&'static str, &'static str),
    /// What the refusal must say.
    pub words: &'static [&'static str],
}

/// A running source server with as many databases as a law asks for.
pub trait SourceServer: Send + Sync + Sized + 'static {
    /// A version that the kit knows how to get.
    type Version: Copy + Send + Sync + 'static;

    /// Starts a server; `settings` win over the kit's own.
    fn begin(
        version: Self::Version,
        settings: &[(&str, &str)],
    ) -> impl Future<Output = Result<Self>> + Send;
    /// A setting that makes it useless as a source.
    fn unfit() -> Unfit;
    /// What a run must say whose log is gone.
    fn lost_log() -> &'static [&'static str];
    /// `postgres 18`
    fn title(&self) -> String;
    /// The full version, as the server tells it.
    fn full_version(&self) -> Pending<'_, String>;
    /// Its language.
    fn dialect(&self) -> &'static dyn Dialect;
    /// Where a database's tables stand, as the pipeline names it: `public`.
    fn namespace(&self, database: &str) -> String;
    /// Makes an empty database.
    fn create_database<'a>(&'a self, database: &'a str) -> Pending<'a, ()>;
    /// Makes a database that is a copy of another, to which nobody is connected.
    fn copy_database<'a>(&'a self, from: &'a str, to: &'a str) -> Pending<'a, ()>;
    /// Drops a database with everything that followed its log.
    fn forget<'a>(&'a self, database: &'a str) -> Pending<'a, ()>;
    /// Opens a connection that takes the server's own words only; see [`speak`].
    fn session<'a>(&'a self, database: &'a str) -> Pending<'a, Box<dyn Session>>;
    /// The text of a query's rows, asked in the server's own words.
    fn query<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
    ) -> Pending<'a, Vec<Vec<Option<String>>>>;
    /// Stops the server and starts it again at the same address.
    fn start_anew(&self) -> Pending<'_, ()>;
    /// Leaves the server behind when this process ends. Returns its process id.
    fn stay(&mut self) -> Option<u32>;
    /// From now on the server asks for this password.
    fn ask_for_password<'a>(&'a self, password: &'a str) -> Pending<'a, ()>;
    /// The definition's `source` mapping without `tables`, one entry a line.
    fn definition(&self, database: &str) -> Vec<String>;
    /// How the judge reaches the database.
    fn judged_at(&self, database: &str) -> SourceAt;
}

/// Opens a connection that understands the kit's `$words`.
pub async fn speak<S: SourceServer>(source: &S, database: &str) -> Result<Box<dyn Session>> {
    let (dialect, database) = (source.dialect(), database.to_owned());
    let mut session = source.session(&database).await?;
    session.run(dialect.prelude()).await?;
    Ok(Box::new(Speaking { session, dialect, database }))
}

struct Speaking {
    session: Box<dyn Session>,
    dialect: &'static dyn Dialect,
    database: String,
}

impl Session for Speaking {
    fn run<'a>(&'a mut self, sql: &'a str) -> Pending<'a, u64> {
        Box::pin(async move {
            let sql = dialect::spell(self.dialect, &self.database, sql)?;
            self.session.run(&sql).await
        })
    }
}

/// One lake of a target, as the definition and the judge know it.
#[derive(Clone, Debug)]
pub struct Lake {
    /// The sink's name in the definition.
    pub name: String,
    /// The definition's lines of this sink.
    pub definition: Vec<String>,
    /// How the judge reads it.
    pub at: LakeAt,
    /// A file by whose SQLite lock another program keeps it from committing, if there is one.
    pub lock: Option<PathBuf>,
}

/// A place for one lake or several, empty at first.
pub trait LakeTarget: Send + Sync + Sized + 'static {
    /// `iceberg`
    fn title() -> &'static str;
    /// Empty lakes below `home`.
    fn create(home: &Path) -> Result<Self>;
    /// The lakes; each is a sink of the pipeline.
    fn lakes(&self) -> Vec<Lake>;
}

/// What a law may choose in the pipeline definition.
#[derive(Clone, Debug)]
pub struct Options {
    /// Patterns of tables; all of the database if the law does not choose.
    pub tables: Vec<String>,
    /// `512MiB`
    pub memory: String,
    /// `1s`
    pub commit_interval: String,
    /// Rows of one chunk of the initial load.
    pub rows_per_chunk: u64,
    /// Parallel chunk readers.
    pub chunk_readers: u32,
    /// More lines of the definition's `source` mapping.
    pub source: Vec<String>,
    /// More lines of the definition's `pipeline` mapping.
    pub pipeline: Vec<String>,
    /// The state folder's name; two writers at once need two.
    pub state: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tables: Vec::new(),
            memory: "256MiB".to_owned(),
            commit_interval: "200ms".to_owned(),
            rows_per_chunk: 500,
            chunk_readers: 2,
            source: Vec::new(),
            pipeline: Vec::new(),
            state: "state".to_owned(),
        }
    }
}

/// One source database and one lake, with everything a law needs between them.
pub struct World<S, L> {
    /// The server, shared with other worlds.
    pub source: Arc<S>,
    /// The lake.
    pub lake: L,
    /// The database's name; the pipeline has the same.
    pub database: String,
    /// The pipeline definition's choices; written anew for every call.
    pub options: Options,
    home: PathBuf,
    calls: AtomicU32,
}

impl<S: SourceServer, L: LakeTarget> World<S, L> {
    /// The name of a law's database; laws over other lakes may share the server.
    pub fn name(law: &str) -> String {
        format!("{law}_{}", L::title())
    }

    /// A world with an empty database for this law. Its folder is `target/laws/…`; it stays when
    /// the law fails and is emptied when the law starts again.
    pub async fn create(source: Arc<S>, law: &str) -> Result<World<S, L>> {
        source.create_database(&World::<S, L>::name(law)).await?;
        World::over(source, law)
    }

    /// A world for this law over a database that exists.
    pub fn over(source: Arc<S>, law: &str) -> Result<World<S, L>> {
        let title = format!("{}-{}-{law}", source.title().replace(' ', "-"), L::title());
        World::at(source, &World::<S, L>::name(law), &host::target().join("laws").join(title))
    }

    /// A world over a database that exists, in a folder that is emptied first.
    pub fn at(source: Arc<S>, name: &str, home: &Path) -> Result<World<S, L>> {
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        fs::create_dir_all(home)?;
        let home = home.canonicalize()?;
        let lake = L::create(&home)?;
        let tables = vec![format!("{}.*", source.namespace(name))];
        let (options, calls) = (Options { tables, ..Options::default() }, AtomicU32::new(0));
        Ok(World { source, lake, database: name.to_owned(), options, home, calls })
    }

    /// The world's own folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The full name of a table: `public.orders`.
    pub fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.source.namespace(&self.database))
    }

    /// The lakes' folders; the first one is every lake's own.
    pub fn folder(&self) -> PathBuf {
        self.lake.lakes().first().map(|lake| lake.at.folder.clone()).unwrap_or_default()
    }

    /// True if the source has it; else says that the law does not apply.
    pub fn needs(source: &S, ability: Ability, law: &str) -> bool {
        let has = source.dialect().has(ability);
        if !has {
            println!("{law}, {}: does not apply, no {ability:?}", source.title());
        }
        has
    }

    /// Where the pipeline keeps its state.
    pub fn state_dir(&self) -> PathBuf {
        self.home.join(&self.options.state)
    }

    /// Writes the definition and returns its path. Another call may read the file at this moment.
    pub fn definition(&self) -> Result<PathBuf> {
        let path = self.home.join(format!("pipeline-{}.yaml", self.options.state));
        let fresh = tempfile::NamedTempFile::new_in(&self.home)?;
        fs::write(fresh.path(), self.definition_text())?;
        fresh.persist(&path)?;
        Ok(path)
    }

    /// The pipeline definition as text.
    pub fn definition_text(&self) -> String {
        let tables = serde_json::json!(self.options.tables).to_string();
        let mut lines = vec!["source:".to_owned()];
        lines.extend(self.source.definition(&self.database).iter().map(|line| format!("  {line}")));
        lines.extend(self.options.source.iter().map(|line| format!("  {line}")));
        lines.push(format!("  tables: {tables}"));
        lines.push("sink:".to_owned());
        lines.extend(sinks(&self.lake.lakes()));
        lines.push("pipeline:".to_owned());
        lines.push(format!("  name: {}", self.database));
        lines.push(format!("  state_dir: {}", self.state_dir().display()));
        lines.push(format!("  commit_interval: {}", self.options.commit_interval));
        lines.push(format!("  memory: {}", self.options.memory));
        lines.push(format!("  rows_per_chunk: {}", self.options.rows_per_chunk));
        lines.push(format!("  chunk_readers: {}", self.options.chunk_readers));
        lines.extend(self.options.pipeline.iter().map(|line| format!("  {line}")));
        lines.join("\n") + "\n"
    }

    /// A call of any verb, with a log file of its own.
    pub fn call(&self, verb: &[&str]) -> Result<Call> {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let log = self.home.join(format!("{n:03}-{}.log", verb.first().unwrap_or(&"help")));
        Call::new(verb, &self.definition()?, log)
    }

    /// `lakeward run`, following until told otherwise.
    pub fn run(&self) -> Result<Call> {
        Ok(self.call(&["run"])?.arg("--log-format").arg("json"))
    }

    /// `lakeward run --until-caught-up`; must exit 0.
    pub async fn catch_up(&self) -> Result<Ended> {
        let call = self.run()?.arg("--until-caught-up");
        call.finish(CALL_LIMIT).await?.ensure(exit::DONE)
    }

    /// Like [`World::catch_up`], taking the pipeline over from a writer that is dead but young.
    pub async fn recover(&self) -> Result<Ended> {
        let call = self.run()?.arg("--take-over").arg("--until-caught-up");
        call.finish(RECOVERY_LIMIT).await?.ensure(exit::DONE)
    }

    /// Starts `lakeward run`, as the successor of a writer that was killed.
    pub fn follow(&self) -> Result<Running> {
        self.run()?.arg("--take-over").spawn()
    }

    /// A hold in the world's folder.
    pub fn hold(&self, name: &str) -> Hold {
        Hold::new(self.home.join(name))
    }

    /// Runs statements on a connection of their own.
    pub async fn execute(&self, sql: &str) -> Result<u64> {
        self.session().await?.run(sql).await
    }

    /// Opens a connection to the world's database.
    pub async fn session(&self) -> Result<Box<dyn Session>> {
        speak(self.source.as_ref(), &self.database).await
    }

    /// The text of the only cell of a query.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let sql = &dialect::spell(self.source.dialect(), &self.database, sql)?;
        let rows = self.source.query(&self.database, sql).await?;
        let cell = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        cell.ok_or_else(|| format!("no value from: {sql}").into())
    }

    /// Compares the pipeline's tables; differences are an error.
    pub async fn judge(&self, judge: &mut Judge) -> Result<Verdict> {
        self.judge_tables(judge, &self.options.tables).await
    }

    /// Compares some tables; differences are an error that says where the evidence is.
    pub async fn judge_tables(&self, judge: &mut Judge, tables: &[String]) -> Result<Verdict> {
        let lakes: Vec<LakeAt> = self.lake.lakes().into_iter().map(|lake| lake.at).collect();
        let at = self.source.judged_at(&self.database);
        let verdict = judge.compare_all(&at, &lakes, tables).await?.ensure();
        verdict.map_err(|error| format!("{error}\nevidence: {}", self.home.display()).into())
    }

    /// A call of a verb for one sink.
    pub fn call_for(&self, verb: &[&str], lake: &Lake) -> Result<Call> {
        let call = self.call(verb)?;
        Ok(if self.lake.lakes().len() > 1 { call.arg("--sink").arg(&lake.name) } else { call })
    }

    /// The consistent points of a lake that the product names, oldest first.
    pub async fn points(&self, lake: &Lake) -> Result<Vec<Value>> {
        let call = self.call_for(&["inspect", "points"], lake)?.arg("--json");
        let ended = call.finish(CALL_LIMIT).await?.ensure(exit::DONE)?;
        let lines = ended.text();
        let points =
            lines.lines().filter(|line| line.starts_with('{') && line.contains("\"tables\""));
        Ok(points.map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// The sum of a column at every consistent point of a lake that holds all of these tables. A
    /// table that is loading is in no point.
    pub async fn sums(
        &self,
        judge: &mut Judge,
        lake: &Lake,
        column: &str,
        of: &[&str],
    ) -> Result<Vec<PointSum>> {
        let mut points = self.points(lake).await?;
        let of: Vec<String> = of.iter().map(|table| self.table(table)).collect();
        points.retain(|point| of.iter().all(|table| !point["tables"][table].is_null()));
        if points.is_empty() {
            fail!("no consistent point of {} holds {of:?}", lake.name);
        }
        judge.sums_of(&lake.at, column, &points).await
    }

    /// The law holds: the evidence may go, and so may the database with what follows its log.
    pub async fn done(self) -> Result<()> {
        self.source.forget(&self.database).await?;
        Ok(fs::remove_dir_all(self.home)?)
    }
}

/// The definition's `sink`: a mapping for one lake, a list for several.
fn sinks(lakes: &[Lake]) -> Vec<String> {
    if let [lake] = lakes {
        return lake.definition.iter().map(|line| format!("  {line}")).collect();
    }
    let mut lines = Vec::new();
    for lake in lakes {
        lines.push(format!("  - name: {}", lake.name));
        lines.extend(lake.definition.iter().map(|line| format!("    {line}")));
    }
    lines
}
