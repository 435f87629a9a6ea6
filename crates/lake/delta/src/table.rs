//! What a handle knows of its table: state, shape, live files, key index; and how it keeps up with the log.
//!
//! Deliberately absent: the epoch. See [`crate::write`].
use std::sync::Arc;

use lakeward_core::{CommitMark, Error, ErrorKind, Result, Slot, TableSchema};
use lakeward_files::{
    EpochOptions, EpochWriter, Head, LiveFile, Spent, Stem, TableLayout, is_superseded,
};
use tokio::task::JoinSet;

use crate::checkpoint;
use crate::commit::{Committer, Fate, Trace, delete_quietly, now_ms};
use crate::content;
use crate::log::{Log, copy_folder};
use crate::open::{Opened, is_promoted, layout, owned_shape};
use crate::schema::Shape;
use crate::state::{Changed, State};

/// Rows are held back up to this many bytes before they are written: enough for the changes of a hot row to meet,
/// little against the smallest memory cap.
const BUFFER_BYTES: u64 = 4 << 20;

/// A table's handle. See [`lakeward_core::SinkTable`].
pub(crate) struct DeltaTable {
    pub(crate) committer: Committer,
    pub(crate) slot: Slot,
    /// The line's log.
    pub(crate) log: Log,
    /// The line's newest version; `None` before its first commit.
    pub(crate) state: Option<State>,
    /// Of a copy: the visible table.
    pub(crate) visible: Option<State>,
    /// The shape in which rows are written now; lands with the next commit where the table has another.
    pub(crate) shape: Shape,
    /// The source's schema as the engine told it last.
    pub(crate) source: Arc<TableSchema>,
    /// The source's schema behind a shape that has not landed yet.
    pub(crate) pending: Option<Arc<TableSchema>>,
    /// Live rows and key index of the line's newest version.
    pub(crate) content: Head,
    pub(crate) writer: EpochWriter,
    target_file_bytes: u64,
    /// All older rows go with this epoch.
    pub(crate) truncated: bool,
    /// The index was made anew for a key that no commit has brought yet.
    pub(crate) rekeyed: bool,
    /// Rows came since the epoch began or was truncated.
    pub(crate) wrote: bool,
    pub(crate) suspects: Vec<Suspect>,
    /// Grows when the files of `content` are numbered anew: work planned before does not fit any more.
    pub(crate) numbering: u64,
    /// What commits have spent on the deletes of files.
    pub(crate) spent: Spent,
    /// The mark that the table had when it was opened.
    opened: Option<CommitMark>,
    /// Expiry has dealt with all versions below this one.
    pub(crate) expired_to: u64,
    /// Checkpoints being written; at most one.
    checkpoints: JoinSet<()>,
}

/// Files of commits whose answer was lost. They go when none of the commits can stand.
pub(crate) struct Suspect {
    pub(crate) sent: Vec<Trace>,
    /// Paths in the store.
    pub(crate) paths: Vec<String>,
}

impl DeltaTable {
    /// Opens a table or a copy; reads its keys. Creates nothing.
    pub(crate) async fn open(
        committer: Committer,
        schema: &Arc<TableSchema>,
        slot: Slot,
        target_file_bytes: u64,
    ) -> Result<Self> {
        let opened = Opened::read(&committer, slot).await?;
        let shape = opened.shape(&committer, schema)?;
        let layout = layout(&committer, &shape)?;
        let options = options(&committer, target_file_bytes);
        let writer = EpochWriter::new(committer.store.clone(), layout, options);
        let new = opened.state.is_none() || opened.slot != Slot::Visible;
        let mut table = Self {
            log: Log::new(committer.store.clone(), &committer.folder, opened.slot),
            committer,
            slot: opened.slot,
            state: None,
            visible: opened.visible,
            shape,
            source: Arc::clone(schema),
            pending: new.then(|| Arc::clone(schema)),
            content: Head::empty(),
            writer,
            target_file_bytes,
            truncated: false,
            rekeyed: false,
            wrote: false,
            suspects: Vec::new(),
            numbering: 0,
            spent: Spent::default(),
            opened: None,
            expired_to: 0,
            checkpoints: JoinSet::new(),
        };
        match &opened.state {
            Some(state) => table.reindex(state).await?,
            None => table.index(Vec::new()).await?,
        }
        if let Some(state) = opened.state {
            // A table that was set back has no mark to go by.
            table.opened = state.mark().ok().flatten();
            table.state = Some(state);
        }
        table.name_files();
        Ok(table)
    }

    /// Brings the handle up to the log. Returns whether the line itself moved.
    pub(crate) async fn refresh(&mut self) -> Result<bool> {
        if let Slot::Copy(generation) = self.slot {
            self.follow_visible().await?;
            if self.visible.as_ref().is_some_and(|v| is_promoted(v, generation)) {
                return self.become_visible(generation).await;
            }
        }
        let Some(state) = &self.state else {
            return match self.log.load().await? {
                Some(state) => self.moved(state, Changed::all()).await,
                None => Ok(false),
            };
        };
        if !self.log.holds(state).await? {
            return Err(self.gone());
        }
        match self.log.advance(state).await? {
            Some((state, changed)) => self.moved(state, changed).await,
            None => Ok(false),
        }
    }

    async fn follow_visible(&mut self) -> Result<()> {
        let log = self.visible_log();
        let newer = match &self.visible {
            None => log.load().await?,
            Some(visible) => log.advance(visible).await?.map(|(state, _)| state),
        };
        if newer.is_some() {
            self.visible = newer;
        }
        Ok(())
    }

    /// The promotion of this copy stands, by whatever hand.
    async fn become_visible(&mut self, generation: u32) -> Result<bool> {
        let Some(state) = self.visible.take() else { return Ok(false) };
        self.take_place().await;
        self.sweep_copy(generation).await;
        self.moved(state, Changed::all()).await
    }

    /// From now on this handle writes the visible table.
    pub(crate) async fn take_place(&mut self) {
        self.checkpoints.abort_all();
        self.slot = Slot::Visible;
        self.log = self.visible_log();
        self.content.take_place(&self.committer.index.home(self.slot)).await;
    }

    /// Deletes the log of a copy that was promoted. Its files are the table's.
    pub(crate) async fn sweep_copy(&self, generation: u32) {
        let folder = copy_folder(&self.committer.folder, generation);
        if let Err(error) = self.committer.store.delete_all(&folder).await {
            tracing::warn!(%folder, %error, "could not delete the log of a promoted copy");
        }
    }

    pub(crate) fn visible_log(&self) -> Log {
        Log::new(self.committer.store.clone(), &self.committer.folder, Slot::Visible)
    }

    async fn moved(&mut self, state: State, changed: Changed) -> Result<bool> {
        self.settle(&state).await;
        self.adopt(state, changed).await?;
        Ok(true)
    }

    async fn adopt(&mut self, state: State, changed: Changed) -> Result<()> {
        if self.rekeyed && !self.writer.is_empty() && changed.files {
            return Err(self.disturbed("files moved in an epoch in which the table's key changed"));
        }
        let landed = owned_shape(&self.committer, &state, self.slot)?;
        let before = self.state.as_ref().map(|s| owned_shape(&self.committer, s, self.slot));
        let shape = match &self.pending {
            // What rows are written in has ids that only the way to it tells.
            Some(_) if before.transpose()?.as_ref() == Some(&landed) => self.shape.clone(),
            Some(schema) => landed.becoming(schema, self.committer.growth, |_| None)?.shape,
            None => landed,
        };
        if shape != self.shape {
            self.reshape(shape)?;
        }
        if changed.files {
            self.reindex(&state).await?;
        }
        self.state = Some(state);
        self.name_files();
        Ok(())
    }

    fn reshape(&mut self, shape: Shape) -> Result<()> {
        if !self.writer.is_empty() {
            return Err(
                self.disturbed("another writer changed the table's columns within an epoch")
            );
        }
        let layout = layout(&self.committer, &shape)?;
        self.writer = EpochWriter::new(self.committer.store.clone(), layout, self.options());
        self.shape = shape;
        Ok(())
    }

    pub(crate) fn options(&self) -> EpochOptions {
        options(&self.committer, self.target_file_bytes)
    }

    /// The epoch cannot go on: the handle must be opened again, and the log read again.
    fn disturbed(&self, why: &str) -> Error {
        Error::new(ErrorKind::Conflict, why).with("table", &self.committer.table)
    }

    fn gone(&self) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            "the table was dropped or replaced behind the pipeline's back",
        )
        .with("table", &self.committer.table)
        .remedied("`lakeward resync` the table")
    }

    /// Brings the key index in step with the live files; reads the key columns of those that it lacks.
    pub(crate) async fn reindex(&mut self, state: &State) -> Result<()> {
        let store = &self.committer.store;
        let files = content::live(store, &self.committer.folder, state).await?;
        self.numbering += 1;
        self.spent = Spent::default();
        self.index(files).await
    }

    async fn index(&mut self, files: Vec<LiveFile>) -> Result<()> {
        let home = self.committer.index.home(self.slot);
        self.content =
            Head::rebuild(&self.committer.store, self.writer.layout(), files, &home).await?;
        Ok(())
    }

    /// New files carry the writer, the generation and the earliest epoch that they can belong to.
    pub(crate) fn name_files(&mut self) {
        let stem = self.stem().staged();
        self.writer.name_files(stem);
    }

    /// What names of files begun now say.
    pub(crate) fn stem(&self) -> Stem {
        let progress = self.state.as_ref().and_then(State::progress);
        let generation = match self.slot {
            Slot::Copy(generation) => generation,
            Slot::Visible => progress.map_or(1, |(generation, _)| generation),
        };
        let epoch = progress.map_or(1, |(_, epoch)| epoch + 1);
        Stem { writer: self.committer.writer.clone(), generation, epoch }
    }

    pub(crate) fn mark(&self) -> Result<Option<CommitMark>> {
        self.state.as_ref().map_or(Ok(None), State::mark)
    }

    /// Whether another writer of the pipeline has the table now: upkeep that was begun here must be given up.
    pub(crate) fn is_superseded(&self) -> Result<bool> {
        let now = self.mark()?;
        Ok(is_superseded(now.as_ref(), self.opened.as_ref(), &self.committer.writer))
    }

    pub(crate) fn base(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.version)
    }

    pub(crate) fn layout(&self) -> &TableLayout {
        self.writer.layout()
    }

    /// Whether a reader would find a row after the epoch so far, as far as that is known without reading.
    pub(crate) fn has_rows(&self) -> bool {
        self.wrote || (!self.truncated && self.content.live_rows() > 0)
    }

    /// Deletes what lost commits left, where none of them can land any more.
    pub(crate) async fn settle(&mut self, state: &State) {
        let store = &self.committer.store;
        let mut still = Vec::new();
        for suspect in std::mem::take(&mut self.suspects) {
            match fate(&suspect.sent).await {
                Ok(Fate::Stands) => {}
                Ok(Fate::Past) => {
                    let folder = &self.committer.folder;
                    let is_live =
                        |path: &String| state.files.contains_key(content::log_path(folder, path));
                    let dead: Vec<String> =
                        suspect.paths.into_iter().filter(|path| !is_live(path)).collect();
                    delete_quietly(store, &dead).await;
                }
                Ok(Fate::Open) => still.push(suspect),
                Err(error) => {
                    let table = &self.committer.table;
                    tracing::warn!(%table, %error, "files of a lost commit stay: its fate cannot be read");
                    still.push(suspect);
                }
            }
        }
        self.suspects = still;
    }

    /// Begins a checkpoint of the newest version, if it is time for one. Nothing waits for it.
    pub(crate) fn checkpoint(&mut self) {
        while self.checkpoints.try_join_next().is_some() {}
        let Some(state) = &self.state else { return };
        let due = state.version > 0
            && state.version.is_multiple_of(u64::from(self.committer.checkpoint_interval));
        if !due || !self.checkpoints.is_empty() {
            return;
        }
        let (store, log, state) = (self.committer.store.clone(), self.log.clone(), state.clone());
        let table = self.committer.table.clone();
        self.checkpoints.spawn(async move {
            if let Err(error) = checkpoint::write(&store, &log, &state, now_ms()).await {
                tracing::warn!(%table, %error, "could not write a checkpoint; the next will do");
            }
        });
    }
}

/// What became of several commits of the same work: one that stands decides, then one that is open.
pub(crate) async fn fate(sent: &[Trace]) -> Result<Fate> {
    let mut all = Fate::Past;
    for trace in sent {
        match trace.fate().await? {
            Fate::Stands => return Ok(Fate::Stands),
            Fate::Open => all = Fate::Open,
            Fate::Past => {}
        }
    }
    Ok(all)
}

fn options(committer: &Committer, target_file_bytes: u64) -> EpochOptions {
    EpochOptions {
        folder: format!("{}/data", committer.folder),
        stem: committer.writer.clone(),
        target_file_bytes,
        buffer_bytes: BUFFER_BYTES,
    }
}
