//! A finished epoch as a change of the table's files: which files come, which go, which get another deletion vector.
//!
//! A data file has at most one vector: a new one holds the older deletes too and replaces it in the same commit. All vectors of
//! a commit stand in one file. Deliberately absent: the commit.
use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use lakeward_core::{Error, ErrorKind, Result, Staged, TableSchema};
use lakeward_files::{EpochFiles, Store};
use roaring::RoaringBitmap;

use crate::action::Vector;
use crate::commit::{FileChange, Trace, delete_quietly, now_ms};
use crate::content;
use crate::schema::Shape;
use crate::table::{DeltaTable, Suspect};
use crate::text;
use crate::vectors;

/// The sink's own part of [`Staged`].
pub(crate) struct Payload {
    pub(crate) epoch: EpochFiles,
    pub(crate) change: FileChange,
    /// The line's version on which the positions were resolved.
    pub(crate) base: Option<u64>,
    /// The shape under which the rows were written.
    pub(crate) shape: Shape,
    /// Commits of it that were sent and whose answer was lost.
    pub(crate) sent: Vec<Trace>,
    /// Paths of vector files that this work wrote, in use or not.
    vector_files: Vec<String>,
    unresolved: Option<RecordBatch>,
}

impl Payload {
    /// Writes the deletion vectors that `epoch` needs on the table as it is known now.
    pub(crate) async fn resolve(table: &DeltaTable, epoch: EpochFiles) -> Result<Self> {
        let unresolved =
            epoch.unresolved.as_ref().map(|rows| keys_as_source(rows, &table.shape, &table.source));
        let mut payload = Self {
            unresolved: unresolved.transpose()?,
            epoch,
            change: FileChange::default(),
            base: table.base(),
            shape: table.shape.clone(),
            sent: Vec::new(),
            vector_files: Vec::new(),
        };
        payload.write_vectors(table).await?;
        Ok(payload)
    }

    /// Resolves the positions again on the table as it is known now.
    pub(crate) async fn rebase(mut self, table: &DeltaTable) -> Result<Self> {
        if table.shape != self.shape {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the table's columns changed under staged work",
            )
            .with("table", &table.committer.table));
        }
        self.epoch.rebase(&table.content).await?;
        if self.sent.is_empty() {
            delete_quietly(&table.committer.store, &std::mem::take(&mut self.vector_files)).await;
        }
        self.base = table.base();
        self.write_vectors(table).await?;
        Ok(self)
    }

    /// For the engine.
    pub(crate) fn staged(self) -> Staged {
        Staged {
            rows_added: self.epoch.rows_added(),
            rows_deleted: self.epoch.rows_deleted(),
            bytes: self.epoch.bytes(),
            unresolved: self.unresolved.clone(),
            payload: Box::new(self),
        }
    }

    /// Gives up files that no sent commit named.
    pub(crate) async fn delete(self, store: &Store) -> Result<()> {
        delete_quietly(store, &self.vector_files).await;
        self.epoch.abandon(store).await
    }

    /// Gives up files that a sent commit may have named.
    pub(crate) fn suspect(self) -> Suspect {
        let data = self.epoch.files.iter().map(|f| f.file.path.clone());
        Suspect { sent: self.sent, paths: data.chain(self.vector_files).collect() }
    }

    async fn write_vectors(&mut self, table: &DeltaTable) -> Result<()> {
        let older = self.older_deletes(table);
        let dead = self.epoch.files.iter().map(|new| new.dead.clone());
        let rows: Vec<RoaringBitmap> = dead.filter(|dead| !dead.is_empty()).chain(older).collect();
        let mut vectors = write(table, &rows, &mut self.vector_files).await?.into_iter();
        self.change = self.file_change(table, &mut vectors)?;
        Ok(())
    }

    /// All deleted rows of each older file that this epoch touches.
    fn older_deletes(&self, table: &DeltaTable) -> Vec<RoaringBitmap> {
        let deletes = self.epoch.deletes.iter();
        let before = |file| table.content.files().get(file).map(|f| f.deleted.clone());
        deletes.map(|d| before(&d.file).unwrap_or_default() | &d.rows).collect()
    }

    /// The vectors come in the order in which their rows were written.
    fn file_change(
        &self,
        table: &DeltaTable,
        vectors: &mut impl Iterator<Item = Vector>,
    ) -> Result<FileChange> {
        let folder = &table.committer.folder;
        let mut change = FileChange::default();
        for new in &self.epoch.files {
            let vector = if new.dead.is_empty() { None } else { vectors.next() };
            change.added.push(content::add(folder, &new.file, &self.shape, vector, true));
        }
        let now = now_ms();
        let Some(state) = &table.state else { return Ok(change) };
        if self.epoch.truncated {
            change.removed = state.files.values().map(|add| add.removed(now, true)).collect();
            return Ok(change);
        }
        for deletes in &self.epoch.deletes {
            let old = state.files.get(content::log_path(folder, &deletes.path));
            let rows = table.content.files().get(&deletes.file).map(|f| f.rows);
            let (Some(old), Some(rows), Some(vector)) = (old, rows, vectors.next()) else {
                return Err(Error::new(
                    ErrorKind::Bug,
                    "a row was found in a file that the table does not list",
                )
                .with("file", &deletes.path));
            };
            change.removed.push(old.removed(now, true));
            change.added.push(content::with_vector(old, rows, vector, true));
        }
        Ok(change)
    }
}

/// Writes vectors in one file of the table, if there are any, and notes its path.
pub(crate) async fn write(
    table: &DeltaTable,
    rows: &[RoaringBitmap],
    paths: &mut Vec<String>,
) -> Result<Vec<Vector>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let committer = &table.committer;
    let stem = table.stem();
    let (name, vectors) = vectors::write(&committer.store, &committer.folder, &stem, rows).await?;
    paths.push(format!("{}/{name}", committer.folder));
    Ok(vectors)
}

/// The keys of rows of the lake, with the columns and types of the source's schema; other columns NULL.
fn keys_as_source(rows: &RecordBatch, shape: &Shape, source: &TableSchema) -> Result<RecordBatch> {
    // The library's message may hold a value: it is not kept.
    let misfit = || {
        Error::new(ErrorKind::Bug, "keys do not fit the source's schema")
            .with("table", &source.table)
    };
    let schema = source.arrow();
    let column = |index: usize| {
        let data_type = schema.field(index).data_type();
        let id = source.columns[index].id;
        match shape.fields.iter().position(|f| f.column == id) {
            Some(at) if at < rows.num_columns() && shape.key.contains(&id) => {
                match text::back(rows.column(at), data_type)? {
                    Some(column) => Ok(column),
                    None => arrow_cast::cast(rows.column(at), data_type).map_err(|_| misfit()),
                }
            }
            _ => Ok(new_null_array(data_type, rows.num_rows())),
        }
    };
    let columns = (0..source.columns.len()).map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|_| misfit())
}
