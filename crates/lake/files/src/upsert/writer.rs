//! The asynchronous shell of an epoch: reads what the plan needs, carries the plan out.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use futures::TryStreamExt;
use lakeward_core::{ChangeBatch, Error, ErrorKind, KeyHash, Op, Result};

use super::base::{Bases, Fetched, Missing, group};
use super::buffer::{Buffer, Popped};
use super::epoch::{EpochFiles, touched_places};
use super::files::{Files, OwnPlace};
use super::first::FirstRows;
use super::fitted::Fitted;
use super::flushed::Flushed;
use super::state::{Base, BufferPlace, Changes, KeyMap, Keys, Own, Plan, Spot};
use super::{EpochOptions, pieces};
use crate::head::Head;
use crate::index::{FileId, Place};
use crate::layout::{Identity, TableLayout, rows_within};
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;

/// Bytes written to a file at once: the fewer, the closer files end to their target.
const BYTES_AT_ONCE: u64 = 2 << 20;

/// Writes the changes of one table, epoch after epoch.
///
/// Futures of its methods must be driven to their end: after one was dropped half way, or failed, only
/// [`abandon`](Self::abandon) is left (but see [`write`](Self::write)). An epoch may begin only when the one before was
/// published or given up: base rows are looked up while it is written.
pub struct EpochWriter {
    layout: TableLayout,
    buffer_bytes: u64,
    keys: Keys,
    /// Keys that the epoch before touched: the next one will touch about as many.
    expected_keys: usize,
    buffer: Buffer,
    files: Files,
    /// Incomplete rows without a base, by key; those whose key is no longer [`Spot::Owed`] are settled.
    owed: KeyMap<RecordBatch>,
    truncated: bool,
    first: FirstRows,
    flushed: Flushed,
    /// Whether the table was empty when this writer was first used; `None`: it was not used yet.
    began_empty: Option<bool>,
    /// Places in the lake that go whatever the index says later.
    fixed: Vec<Place>,
}

impl EpochWriter {
    /// A writer with nothing in it.
    pub fn new(store: Store, layout: TableLayout, options: EpochOptions) -> Self {
        Self {
            keys: no_keys(&layout),
            expected_keys: 0,
            layout,
            buffer_bytes: options.buffer_bytes,
            buffer: Buffer::default(),
            files: Files::new(store, options),
            owed: KeyMap::default(),
            truncated: false,
            first: FirstRows::default(),
            flushed: Flushed::default(),
            began_empty: None,
            fixed: Vec::new(),
        }
    }

    /// The layout in which rows are written now.
    pub fn layout(&self) -> &TableLayout {
        &self.layout
    }

    /// Names the files that are begun from now on.
    pub fn name_files(&mut self, stem: String) {
        self.files.rename(stem);
    }

    /// Adds changes. Lake column `i` takes the batch's column `columns[i]`, or NULL.
    ///
    /// # Errors
    /// `BadData` naming table and column; `Unsupported` for changes that the table's identity cannot express;
    /// `Conflict` when a row that must complete a missing cell is in a file that is gone: bring `head` up to date and
    /// write the same batch again.
    pub async fn write(
        &mut self,
        batch: &ChangeBatch,
        columns: &[Option<usize>],
        head: &Head,
    ) -> Result<()> {
        let began_empty = *self.began_empty.get_or_insert(head.files().is_empty());
        if began_empty && self.are_first(batch) {
            return self.write_first(batch, columns).await;
        }
        for piece in pieces(batch) {
            self.write_piece(&piece, columns, head).await?;
        }
        Ok(())
    }

    /// Whether rows need not be compared with anything: what is first stays so only until other changes come.
    fn are_first(&self, batch: &ChangeBatch) -> bool {
        let nothing_touched = matches!(&self.keys, Keys::Keyed(spots) if spots.is_empty());
        let alone = batch.absent.is_none() && batch.before.is_none();
        nothing_touched && alone && batch.ops.iter().all(|op| *op == Op::ReadFirst)
    }

    async fn write_first(&mut self, batch: &ChangeBatch, columns: &[Option<usize>]) -> Result<()> {
        let rows = self.layout.fit(&batch.rows, columns)?;
        let keys = self.layout.hash(&rows)?;
        let at_once = rows_within(&rows, BYTES_AT_ONCE);
        for from in (0..rows.num_rows()).step_by(at_once) {
            let length = at_once.min(rows.num_rows() - from);
            let place = self.files.write(&self.layout, &rows.slice(from, length)).await?;
            self.first.push(place, keys[from..from + length].to_vec());
        }
        Ok(())
    }

    /// First rows become keys like any other: somebody must find one among them.
    fn join_first(&mut self) {
        if let Keys::Keyed(spots) = &mut self.keys {
            self.first.join(spots, &mut self.files);
        }
    }

    async fn write_piece(
        &mut self,
        batch: &ChangeBatch,
        columns: &[Option<usize>],
        head: &Head,
    ) -> Result<()> {
        let missing = Missing::new(batch.absent.as_ref(), columns, &batch.ops);
        self.check(batch, &missing)?;
        let mut fitted = Fitted::new(batch, columns, &self.layout)?;
        let mut incomplete = missing.incomplete(batch.len());
        if *self.layout.identity() == Identity::WholeRow && !missing.is_empty() {
            fitted.complete_from_images(&incomplete, &missing, &self.layout)?;
            incomplete.fill(false);
        }
        if incomplete.contains(&true) {
            self.join_first();
        }
        let schema = missing.schema(&self.layout);
        let lake = self.lake_places(&fitted, &incomplete, head).await?;
        let from_lake = self.fetch_lake(&lake, &schema, head).await?;
        // From here on the epoch changes.
        self.keys.expect(self.expected_keys);
        let number = self.buffer.next_number();
        let mut plan = self.keys.apply(&Changes {
            batch: number,
            ops: &batch.ops,
            keys: &fitted.keys,
            before: &fitted.before_keys,
            before_is_whole: fitted.before_is_whole,
            incomplete: &incomplete,
            lake: &lake,
        });
        plan.find_rows(|own| self.flushed.now(own));
        let rows = if plan.bases.is_empty() {
            fitted.rows.clone()
        } else {
            let own = self.fetch_own(&plan, &schema).await?;
            self.bases(number, &plan, &fitted, &own, &from_lake).complete(&fitted.rows, &missing)?
        };
        self.carry_out(plan, rows, fitted.keys);
        if self.buffer.bytes() > self.buffer_bytes { self.flush().await } else { Ok(()) }
    }

    /// Refuses what the table's identity cannot express.
    fn check(&self, batch: &ChangeBatch, missing: &Missing) -> Result<()> {
        let only_adds =
            batch.ops.iter().all(|op| matches!(op, Op::Read | Op::ReadFirst | Op::Insert));
        let updates = batch.ops.iter().filter(|op| **op == Op::Update).count();
        let is_update = |row: &&u32| batch.ops.get(**row as usize) == Some(&Op::Update);
        let whole = batch.before.as_ref().filter(|b| !b.key_only);
        let images = whole.map_or(0, |b| b.at.iter().filter(is_update).count());
        let what = match self.layout.identity() {
            Identity::Key(_) => return Ok(()),
            Identity::Append if !only_adds => {
                "an update or delete of a table that is only appended to"
            }
            Identity::WholeRow if images < updates => {
                "an update without its whole before image in a table without a key"
            }
            Identity::Append if !missing.is_empty() => "a missing cell in a table without a key",
            Identity::Append | Identity::WholeRow => return Ok(()),
        };
        Err(Error::new(ErrorKind::Unsupported, what)
            .with("table", self.layout.table())
            .remedied("give the table a key, or let the log carry whole rows"))
    }

    /// Where the lake holds the keys whose rows may be bases.
    async fn lake_places(
        &self,
        fitted: &Fitted,
        incomplete: &[bool],
        head: &Head,
    ) -> Result<KeyMap<Place>> {
        if self.truncated || !matches!(self.keys, Keys::Keyed(_)) {
            return Ok(KeyMap::default());
        }
        let has_image = |row: usize| fitted.before_is_whole && fitted.before_keys[row].is_some();
        let rows = (0..incomplete.len()).filter(|row| incomplete[*row] && !has_image(*row));
        let mut keys: Vec<KeyHash> = rows
            .flat_map(|row| fitted.before_keys[row].into_iter().chain([fitted.keys[row]]))
            .filter(|key| !self.keys.knows(key))
            .collect();
        keys.sort_unstable();
        let places = head.places(&keys).await?;
        Ok(places.into_iter().map(|(at, place)| (keys[at], place)).collect())
    }

    async fn fetch_lake(
        &self,
        places: &KeyMap<Place>,
        schema: &arrow_schema::SchemaRef,
        head: &Head,
    ) -> Result<BTreeMap<FileId, Fetched>> {
        let mut fetched = BTreeMap::new();
        for (file, rows) in group(places.values().map(|p| (p.file, p.row))) {
            let gone = || {
                Error::new(ErrorKind::Conflict, "a file with base rows has gone from the table")
                    .with("table", self.layout.table())
            };
            let path = &head.files().get(&file).ok_or_else(gone)?.path;
            let reader = match DataFileReader::open(self.files.store(), path).await {
                Err(_) if self.files.store().size(path).await?.is_none() => return Err(gone()),
                opened => opened?,
            };
            fetched.insert(file, Fetched::read(&reader, schema, rows).await?);
        }
        Ok(fetched)
    }

    async fn fetch_own(
        &mut self,
        plan: &Plan,
        schema: &arrow_schema::SchemaRef,
    ) -> Result<BTreeMap<u32, Fetched>> {
        let places = plan.bases.iter().filter_map(|(_, base)| match base {
            Base::Own(Own::File(place)) => Some((place.file, place.row)),
            _ => None,
        });
        let mut fetched = BTreeMap::new();
        for (file, rows) in group(places) {
            let reader = self.files.reader(file).await?;
            fetched.insert(file, Fetched::read(&reader, schema, rows).await?);
        }
        Ok(fetched)
    }

    fn bases<'a>(
        &'a self,
        batch: u32,
        plan: &'a Plan,
        fitted: &'a Fitted,
        own: &'a BTreeMap<u32, Fetched>,
        lake: &'a BTreeMap<FileId, Fetched>,
    ) -> Bases<'a> {
        let buffered = plan.bases.iter().filter_map(|(_, base)| match base {
            Base::Own(Own::Buffer(BufferPlace { batch, .. })) => {
                Some((*batch, self.buffer.rows(*batch)?))
            }
            _ => None,
        });
        let before = fitted.before.as_ref().map(|rows| (&fitted.before_at, rows));
        Bases { batch, rows: &plan.bases, before, buffered: buffered.collect(), own, lake }
    }

    fn carry_out(&mut self, plan: Plan, rows: RecordBatch, keys: Vec<KeyHash>) {
        for own in plan.displaced {
            match own {
                Own::Buffer(place) => self.buffer.kill(place),
                Own::File(place) => self.files.kill(place),
            }
        }
        for row in plan.owed {
            self.owed.insert(keys[row], rows.slice(row, 1));
        }
        let keys = if self.keys.follows_rows() { keys } else { Vec::new() };
        self.buffer.push(rows, keys, plan.live);
    }

    /// Writes the buffer's live rows to files.
    async fn flush(&mut self) -> Result<()> {
        while let Some(Popped { number, live, rows, keys }) = self.buffer.pop()? {
            self.flushed.begin(number, &live);
            let at_once = rows_within(&rows, BYTES_AT_ONCE);
            for from in (0..rows.num_rows()).step_by(at_once) {
                let length = at_once.min(rows.num_rows() - from);
                let first = self.files.write(&self.layout, &rows.slice(from, length)).await?;
                self.flushed.stretch(from, first);
                self.keys.moved(keys.get(from..from + length).unwrap_or_default(), first);
            }
        }
        Ok(())
    }

    /// All rows of the table and of this epoch go.
    ///
    /// # Errors
    /// Those of deleting files that this epoch wrote.
    pub async fn truncate(&mut self) -> Result<()> {
        self.reset();
        self.truncated = true;
        self.files.abandon().await
    }

    /// Goes on in another layout; columns keep their field ids, rows written so far stay as they are. When the
    /// identity changed, `head` is indexed again under the new layout, without the rows that this epoch deletes: if the
    /// epoch is given up afterwards, `head` must be built again.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub async fn evolve(&mut self, layout: TableLayout, head: &mut Head) -> Result<()> {
        self.flush().await?;
        self.files.close().await?;
        let old = std::mem::replace(&mut self.layout, layout);
        let owed = self.refit_owed(&old)?;
        if old.same_identity(&self.layout) {
            self.owed = owed.into_iter().collect();
            return Ok(());
        }
        self.join_first();
        if !self.truncated {
            let doomed: Vec<_> = touched_places(&self.keys, head)
                .await?
                .into_iter()
                .map(|(_, place)| place)
                .collect();
            head.reindex(self.files.store(), &self.layout, &doomed).await?;
            self.fixed.extend(doomed);
        }
        self.identify_again(owed).await
    }

    /// Owed rows in the new layout, under their key's old hash.
    fn refit_owed(&mut self, old: &TableLayout) -> Result<Vec<(KeyHash, RecordBatch)>> {
        let column = |id: &i32| old.field_ids().iter().position(|known| known == id);
        let columns: Vec<_> = self.layout.field_ids().iter().map(column).collect();
        let owed = std::mem::take(&mut self.owed);
        owed.into_iter()
            .filter(|(key, _)| self.is_owed(key))
            .map(|(key, row)| Ok((key, self.layout.fit(&row, &columns)?)))
            .collect()
    }

    fn is_owed(&self, key: &KeyHash) -> bool {
        matches!(&self.keys, Keys::Keyed(spots) if spots.get(key) == Some(&Spot::Owed))
    }

    /// Finds the keys of this epoch's live rows under a new identity.
    async fn identify_again(&mut self, owed: Vec<(KeyHash, RecordBatch)>) -> Result<()> {
        self.keys = no_keys(&self.layout);
        for file in 0..self.files.len() {
            if matches!(self.keys, Keys::Append) {
                break;
            }
            let dead = self.files.dead(file);
            let reader = self.files.reader(file).await?;
            let mut numbers = (0..reader.rows() as u32).filter(|row| !dead.contains(*row));
            let schema = self.layout.nullable_schema();
            let mut batches = reader.stream(schema, &RowChoice::Except(dead.clone()))?;
            let mut found = Vec::new();
            while let Some(rows) = batches.try_next().await? {
                for key in self.layout.hash(&rows)? {
                    let Some(row) = numbers.next() else { break };
                    found.push((key, OwnPlace { file, row }));
                }
            }
            for (key, place) in found {
                self.identify(key, place);
            }
        }
        for (_, row) in owed {
            for key in self.layout.hash(&row)? {
                if let Keys::Keyed(spots) = &mut self.keys {
                    spots.entry(key).or_insert(Spot::Owed);
                    self.owed.insert(key, row.clone());
                }
            }
        }
        Ok(())
    }

    fn identify(&mut self, key: KeyHash, place: OwnPlace) {
        let here = Own::File(place);
        match &mut self.keys {
            Keys::Append => {}
            Keys::Keyed(spots) => {
                if let Some(Spot::Here(Own::File(older))) = spots.insert(key, Spot::Here(here)) {
                    self.files.kill(older);
                }
            }
            Keys::Counted(rows) => {
                let equals = rows.entry(key).or_default();
                equals.own.push(here);
                equals.in_files += 1;
            }
        }
    }

    /// Bytes of memory held for the epoch.
    pub fn buffered_bytes(&self) -> u64 {
        let keys =
            self.keys.memory_bytes() + self.first.memory_bytes() + self.flushed.memory_bytes();
        self.buffer.bytes() + self.files.memory_bytes() + keys
    }

    /// Whether the epoch has no change yet.
    pub fn is_empty(&self) -> bool {
        let no_rows = self.files.len() == 0 && self.buffer.bytes() == 0;
        no_rows && self.keys.is_empty() && !self.truncated && self.fixed.is_empty()
    }

    /// Ends the epoch: all files are durable, all positions resolved on `head`. The writer is empty afterwards.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn finish(&mut self, head: &Head) -> Result<EpochFiles> {
        self.flush().await?;
        self.files.close().await?;
        if let Keys::Keyed(spots) = &self.keys {
            self.first.settle(spots, &mut self.files);
        }
        self.files.drop_dead().await?;
        self.expected_keys = self.keys.len();
        let mut epoch = EpochFiles {
            unresolved: self.unresolved()?,
            files: self.files.take(),
            truncated: self.truncated,
            deletes: Vec::new(),
            first: std::mem::take(&mut self.first),
            flushed: std::mem::take(&mut self.flushed),
            keys: std::mem::replace(&mut self.keys, no_keys(&self.layout)),
            removed: Vec::new(),
            fixed: std::mem::take(&mut self.fixed),
        };
        self.reset();
        epoch.resolve(head).await?;
        Ok(epoch)
    }

    fn unresolved(&self) -> Result<Option<RecordBatch>> {
        let owed = self.owed.iter().filter(|(key, _)| self.is_owed(key));
        let rows: Vec<_> = owed.map(|(_, row)| row).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let schema = Arc::clone(self.layout.nullable_schema());
        concat_batches(&schema, rows).map(Some).map_err(|e| {
            Error::new(ErrorKind::Bug, "unresolved rows do not make a batch").caused_by(e)
        })
    }

    /// Gives the epoch up and deletes its files.
    ///
    /// # Errors
    /// Those of deleting.
    pub async fn abandon(&mut self) -> Result<()> {
        self.reset();
        self.files.abandon().await
    }

    fn reset(&mut self) {
        self.keys = no_keys(&self.layout);
        self.buffer.clear();
        self.owed.clear();
        self.fixed.clear();
        self.first = FirstRows::default();
        self.flushed = Flushed::default();
        self.truncated = false;
    }
}

fn no_keys(layout: &TableLayout) -> Keys {
    match layout.identity() {
        Identity::Append => Keys::Append,
        Identity::Key(_) => Keys::Keyed(KeyMap::default()),
        Identity::WholeRow => Keys::Counted(KeyMap::default()),
    }
}
