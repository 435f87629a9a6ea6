//! A finished epoch as a change of the table's files: which files come, which go.
//!
//! A data file has one deletion vector, which holds the older deletes too and replaces the one before in the same commit.
//! Position delete files of version 2 may be a few: see [`stand_beside`]. Deliberately absent: manifests and the swap.
use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use iceberg::spec::{FormatVersion, ManifestEntryRef, Schema};
use lakeward_core::{Error, ErrorKind, Result, Staged, TableSchema};
use lakeward_files::{EpochFiles, FileDeletes, Store};
use roaring::RoaringBitmap;

use crate::commit::{delete_quietly, unpartitioned_id};
use crate::manifests::{FileChange, Removed};
use crate::metadata::{LiveFile, referenced};
use crate::schema::Shape;
use crate::table::{IcebergTable, Suspect};
use crate::{datafile, deletes};

/// Position delete files that a data file has at most. Each is opened by every reader of the file.
const DELETE_FILES_MAX: usize = 4;

/// Fewer older deletes than this are written again with the new ones: a file more would cost readers more than that saves.
const ROWS_WORTH_KEEPING: u64 = 8 << 10;

/// The older deletes are left alone when they are so many times the new ones.
const TIMES_WORTH_KEEPING: u64 = 4;

/// Whether the older delete files of a data file stay when deletes come to it, or are replaced by one with all of them.
fn stand_beside(format: FormatVersion, older_files: usize, older: u64, new: u64) -> bool {
    format < FormatVersion::V3
        && older_files < DELETE_FILES_MAX
        && older >= ROWS_WORTH_KEEPING.max(new.saturating_mul(TIMES_WORTH_KEEPING))
}

/// The sink's own part of [`Staged`].
pub(crate) struct Payload {
    pub(crate) epoch: EpochFiles,
    pub(crate) change: FileChange,
    /// The line's snapshot on which the positions were resolved.
    pub(crate) base: Option<i64>,
    /// The shape under which the rows were written.
    pub(crate) shape: Shape,
    /// The format version for which the deletes were written.
    pub(crate) format: FormatVersion,
    /// A commit of it was sent whose answer was lost; the head that the last such was built on.
    pub(crate) sent: bool,
    pub(crate) parent: Option<String>,
    /// Delete files that this work wrote, in use or not.
    delete_files: Vec<String>,
    unresolved: Option<RecordBatch>,
}

impl Payload {
    /// Writes the delete files that `epoch` needs on the table as it is known now.
    pub(crate) async fn resolve(table: &IcebergTable, epoch: EpochFiles) -> Result<Self> {
        let unresolved =
            epoch.unresolved.as_ref().map(|rows| keys_as_source(rows, &table.shape, &table.source));
        let mut payload = Self {
            unresolved: unresolved.transpose()?,
            epoch,
            change: FileChange::default(),
            base: table.base(),
            shape: table.shape.clone(),
            format: table.format(),
            sent: false,
            parent: None,
            delete_files: Vec::new(),
        };
        payload.write_deletes(table).await?;
        Ok(payload)
    }

    /// Resolves the positions again on the table as it is known now.
    pub(crate) async fn rebase(mut self, table: &IcebergTable) -> Result<Self> {
        if table.shape != self.shape {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the table's columns changed under staged work",
            )
            .with("table", &table.committer.table));
        }
        self.epoch.rebase(&table.content).await?;
        if !self.sent {
            delete_quietly(&table.committer.store, &std::mem::take(&mut self.delete_files)).await;
        }
        (self.base, self.format) = (table.base(), table.format());
        self.write_deletes(table).await?;
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
        delete_quietly(store, &self.delete_files).await;
        self.epoch.abandon(store).await
    }

    /// Gives up files that a sent commit may have named.
    pub(crate) fn suspect(self) -> Suspect {
        let data = self.epoch.files.iter().map(|f| f.file.path.clone());
        let paths = data.chain(self.delete_files).collect();
        Suspect { parent: self.parent, paths }
    }

    async fn write_deletes(&mut self, table: &IcebergTable) -> Result<()> {
        let schema = table.shape.schema()?;
        let spec = table.head.as_ref().map_or(Ok(0), |head| unpartitioned_id(&head.metadata))?;
        let mut change = FileChange { removed: self.removed(table)?, added: vec![] };
        let jobs = self.jobs(table, &schema, spec, &mut change)?;
        let stem = table.stem()?.staged();
        let written = deletes::write(table, &stem, spec, jobs).await?;
        self.delete_files.extend(written.paths);
        change.added.extend(written.entries);
        self.change = change;
        Ok(())
    }

    /// Locations of data files with the rows to delete in them; fills the new data files into `change`.
    fn jobs(
        &self,
        table: &IcebergTable,
        schema: &Schema,
        spec: i32,
        change: &mut FileChange,
    ) -> Result<Vec<(String, RoaringBitmap)>> {
        let store = &table.committer.store;
        let mut jobs = Vec::new();
        for new in &self.epoch.files {
            change.added.push(datafile::data(store, &new.file, schema, spec)?);
            if !new.dead.is_empty() {
                jobs.push((store.url(&new.file.path), new.dead.clone()));
            }
        }
        for deletes in &self.epoch.deletes {
            let file = live(table, &deletes.path)?;
            let mut rows = deletes.rows.clone();
            if !self.keeps_older(table, file, deletes)
                && let Some(known) = table.content.files().get(&deletes.file)
            {
                rows |= &known.deleted;
            }
            jobs.push((file.entry.file_path().to_owned(), rows));
        }
        Ok(jobs)
    }

    fn keeps_older(&self, table: &IcebergTable, file: &LiveFile, deletes: &FileDeletes) -> bool {
        let known = table.content.files().get(&deletes.file);
        let older = known.map_or(0, |known| known.deleted.len());
        stand_beside(self.format, own_deletes(file).count(), older, deletes.rows.len())
    }

    fn removed(&self, table: &IcebergTable) -> Result<Removed> {
        let mut removed = Removed::default();
        if self.epoch.truncated {
            for file in table.files.values() {
                removed.insert(&file.entry);
                file.deletes.iter().for_each(|delete| removed.insert(delete));
            }
            return Ok(removed);
        }
        for deletes in &self.epoch.deletes {
            let file = live(table, &deletes.path)?;
            if !self.keeps_older(table, file, deletes) {
                own_deletes(file).for_each(|delete| removed.insert(delete));
            }
        }
        Ok(removed)
    }
}

fn live<'a>(table: &'a IcebergTable, path: &str) -> Result<&'a LiveFile> {
    table.files.get(path).ok_or_else(|| {
        Error::new(ErrorKind::Bug, "a row was found in a file that the table does not list")
            .with("file", path)
    })
}

/// The deletes that are about this data file alone.
pub(crate) fn own_deletes(file: &LiveFile) -> impl Iterator<Item = &ManifestEntryRef> {
    file.deletes.iter().filter(|d| referenced(d).is_some())
}

/// The keys of rows of the lake, with the columns and types of the source's schema; other columns NULL.
fn keys_as_source(rows: &RecordBatch, shape: &Shape, source: &TableSchema) -> Result<RecordBatch> {
    let schema = source.arrow();
    let column = |index: usize| {
        let data_type = schema.field(index).data_type();
        let id = source.columns[index].id;
        match shape.fields.iter().position(|f| f.column == id) {
            Some(at) if at < rows.num_columns() && shape.key.contains(&id) => {
                arrow_cast::cast(rows.column(at), data_type)
            }
            _ => Ok(new_null_array(data_type, rows.num_rows())),
        }
    };
    let columns = (0..source.columns.len()).map(column).collect::<Result<Vec<_>, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    // The library's message may hold a value: it is not kept.
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(schema, columns, &options))
        .map_err(|_| {
            Error::new(ErrorKind::Bug, "keys do not fit the source's schema")
                .with("table", &source.table)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_deletes_stay_when_they_are_many_and_in_few_files() {
        let v2 = FormatVersion::V2;
        for (files, older, new, stays) in [
            (1, 8_191, 1, false),
            (1, 8_192, 2_048, true),
            (1, 8_192, 2_049, false),
            (3, 100_000, 1_000, true),
            (4, 100_000, 1_000, false),
            (0, 0, 1_000, false),
        ] {
            assert_eq!(stand_beside(v2, files, older, new), stays, "{files} {older} {new}");
            assert!(!stand_beside(FormatVersion::V3, files, older, new));
        }
    }
}
