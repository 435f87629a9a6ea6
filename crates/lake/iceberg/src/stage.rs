//! A finished epoch as a change of the table's files: which files come, which go.
//!
//! A data file has at most one delete file of ours: a new one holds the older deletes too and replaces it in the same
//! commit, so that no reader opens more than one. Deliberately absent: manifests and the swap.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{DataFile as Entry, Schema};
use lakeward_core::{Error, ErrorKind, Result, Staged, TableSchema};
use lakeward_files::{EpochFiles, PositionDeletes, Store};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::commit::{delete_quietly, unpartitioned_id};
use crate::datafile;
use crate::manifests::FileChange;
use crate::metadata::{LiveFile, path_of, referenced};
use crate::schema::Shape;
use crate::table::{IcebergTable, Suspect};

/// Delete files are read and written this many at a time: each waits for the disk, not for the processor.
const FILES_AT_ONCE: usize = 8;

/// The sink's own part of [`Staged`].
pub(crate) struct Payload {
    pub(crate) epoch: EpochFiles,
    pub(crate) change: FileChange,
    /// The line's snapshot on which the positions were resolved.
    pub(crate) base: Option<i64>,
    /// The shape under which the rows were written.
    pub(crate) shape: Shape,
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
        self.base = table.base();
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
        let writes = jobs.into_iter().map(|(location, rows)| {
            let (store, path) = (table.committer.store.clone(), delete_file_path(table, &stem));
            async move {
                let file = PositionDeletes::write(&store, path.clone(), &location, &rows).await?;
                Ok::<_, Error>((path, datafile::deletes(&store, &file, &location, spec)?))
            }
        });
        let written: Vec<(String, Entry)> =
            stream::iter(writes).buffered(FILES_AT_ONCE).try_collect().await?;
        for (path, entry) in written {
            self.delete_files.push(path);
            change.added.push(entry);
        }
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
            let before = table.content.files().get(&deletes.file).map(|f| f.deleted.clone());
            jobs.push((
                file.entry.file_path().to_owned(),
                before.unwrap_or_default() | &deletes.rows,
            ));
        }
        Ok(jobs)
    }

    fn removed(&self, table: &IcebergTable) -> Result<HashSet<String>> {
        if self.epoch.truncated {
            return Ok(everything(&table.files));
        }
        let mut removed = HashSet::new();
        for deletes in &self.epoch.deletes {
            removed.extend(own_deletes(live(table, &deletes.path)?));
        }
        Ok(removed)
    }
}

/// A name for a new delete file.
pub(crate) fn delete_file_path(table: &IcebergTable, stem: &str) -> String {
    format!("{}/data/{stem}-deletes-{}.parquet", table.folder, Uuid::new_v4().simple())
}

fn live<'a>(table: &'a IcebergTable, path: &str) -> Result<&'a LiveFile> {
    table.files.get(path).ok_or_else(|| {
        Error::new(ErrorKind::Bug, "a row was found in a file that the table does not list")
            .with("file", path)
    })
}

/// Locations of all live files and their deletes.
pub(crate) fn everything(files: &HashMap<String, LiveFile>) -> HashSet<String> {
    let of = |file: &LiveFile| {
        let deletes: Vec<String> = file.deletes.iter().map(|d| d.file_path().to_owned()).collect();
        deletes.into_iter().chain([file.entry.file_path().to_owned()])
    };
    files.values().flat_map(of).collect()
}

/// Locations of the delete files that are about this data file alone.
pub(crate) fn own_deletes(file: &LiveFile) -> impl Iterator<Item = String> + '_ {
    file.deletes.iter().filter(|d| referenced(d).is_some()).map(|d| d.file_path().to_owned())
}

/// Live files with their deleted rows, as the key index is built from them. Ordered by path: the same lake gives the
/// same order.
pub(crate) async fn live_rows(
    store: &Store,
    files: &HashMap<String, LiveFile>,
) -> Result<Vec<lakeward_files::LiveFile>> {
    let locations: HashSet<String> =
        files.values().flat_map(|f| f.deletes.iter().map(|d| d.file_path().to_owned())).collect();
    let reads = locations.into_iter().map(|location| {
        let store = store.clone();
        async move {
            let deleted = PositionDeletes::read(&store, &path_of(&store, &location)?).await?;
            Ok::<_, Error>((location, deleted))
        }
    });
    let deletes: HashMap<String, BTreeMap<String, RoaringBitmap>> =
        stream::iter(reads).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    let mut live: Vec<_> = files
        .iter()
        .map(|(path, file)| {
            let of = |delete: &str| deletes.get(delete)?.get(file.entry.file_path());
            let rows = file.deletes.iter().filter_map(|d| of(d.file_path()));
            lakeward_files::LiveFile {
                path: Arc::from(path.as_str()),
                rows: file.entry.record_count(),
                bytes: file.entry.file_size_in_bytes(),
                deleted: rows.fold(RoaringBitmap::new(), |all, rows| all | rows),
            }
        })
        .collect();
    live.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(live)
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
