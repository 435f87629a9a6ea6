//! The files that one writer is writing: opening, rolling by size, rows that died again, giving up.
//!
//! Deliberately absent: which rows, and why.
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use lakeward_core::{Error, ErrorKind, Result};
use roaring::RoaringBitmap;

use super::EpochOptions;
use super::epoch::NewFile;
use crate::layout::TableLayout;
use crate::parquet::{DataFile, FileWriter, WriterOptions};
use crate::read::DataFileReader;
use crate::store::Store;

/// A file ends before its row numbers leave 32 bits by far.
const ROWS_MAX: u64 = 1 << 30;

/// A row in one of the files being written, which are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OwnPlace {
    pub(crate) file: u32,
    pub(crate) row: u32,
}

struct OwnFile {
    path: String,
    dead: RoaringBitmap,
    done: Option<DataFile>,
}

/// Files being written. Only the last may be open.
pub(crate) struct Files {
    store: Store,
    options: EpochOptions,
    files: Vec<OwnFile>,
    /// Behind a lock only because an encoder cannot be shared between threads; nobody ever waits for it.
    open: Mutex<Option<FileWriter>>,
}

impl Files {
    pub(crate) fn new(store: Store, options: EpochOptions) -> Self {
        Self { store, options, files: Vec::new(), open: Mutex::new(None) }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn rename(&mut self, stem: String) {
        self.options.stem = stem;
    }

    /// Writes all of `rows` to one file and says where the first of them is.
    pub(crate) async fn write(
        &mut self,
        layout: &TableLayout,
        rows: &RecordBatch,
    ) -> Result<OwnPlace> {
        let rows = layout.seal(rows)?;
        if self.open_file().as_ref().is_some_and(|w| is_full(w, self.options.target_file_bytes)) {
            self.close().await?;
        }
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        let writer = match open {
            Some(writer) => writer,
            None => {
                let path = next_path(&self.options, self.files.len());
                let schema = layout.schema().clone();
                let writer =
                    FileWriter::create(&self.store, path.clone(), schema, WriterOptions::default())
                        .await?;
                self.files.push(OwnFile { path, dead: RoaringBitmap::new(), done: None });
                open.insert(writer)
            }
        };
        let row = writer.rows() as u32;
        writer.write(&rows).await?;
        Ok(OwnPlace { file: self.files.len() as u32 - 1, row })
    }

    fn open_file(&self) -> MutexGuard<'_, Option<FileWriter>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the open file, if there is one.
    pub(crate) async fn close(&mut self) -> Result<()> {
        let open = self.open_file().take();
        let Some(writer) = open else { return Ok(()) };
        let done = writer.finish().await?;
        if let Some(last) = self.files.last_mut() {
            last.done = Some(done);
        }
        Ok(())
    }

    /// A row will be deleted in the commit that adds its file.
    pub(crate) fn kill(&mut self, place: OwnPlace) {
        if let Some(file) = self.files.get_mut(place.file as usize) {
            file.dead.insert(place.row);
        }
    }

    /// Opens a file for reading; ends it first if it is still being written.
    pub(crate) async fn reader(&mut self, file: u32) -> Result<DataFileReader> {
        let is_open = self.open_file().is_some();
        if is_open && file as usize + 1 == self.files.len() {
            self.close().await?;
        }
        let file = self.files.get(file as usize).ok_or_else(|| {
            Error::new(ErrorKind::Bug, "a place names a file that was never written")
        })?;
        DataFileReader::open(&self.store, &file.path).await
    }

    /// Rows of a file that are still alive. The file must be closed.
    pub(crate) fn dead(&self, file: u32) -> RoaringBitmap {
        self.files.get(file as usize).map(|f| f.dead.clone()).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> u32 {
        self.files.len() as u32
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.open_file().as_ref().map_or(0, FileWriter::memory_bytes)
    }

    /// Deletes files in which no row is alive. All files must be closed.
    pub(crate) async fn drop_dead(&mut self) -> Result<()> {
        let is_dead =
            |file: &&OwnFile| file.done.as_ref().is_some_and(|done| done.rows == file.dead.len());
        delete_files(&self.store, self.files.iter().filter(is_dead).map(|f| f.path.as_str()))
            .await?;
        for file in &mut self.files {
            if is_dead(&&*file) {
                file.done = None;
            }
        }
        Ok(())
    }

    /// The finished files; this is empty afterwards.
    pub(crate) fn take(&mut self) -> Vec<NewFile> {
        *self.open_file() = None;
        let files = std::mem::take(&mut self.files).into_iter().enumerate();
        files
            .filter_map(|(number, own)| {
                Some(NewFile { file: own.done?, dead: own.dead, number: number as u32 })
            })
            .collect()
    }

    /// Deletes all files; this is empty afterwards.
    pub(crate) async fn abandon(&mut self) -> Result<()> {
        *self.open_file() = None;
        let files = std::mem::take(&mut self.files);
        let done = files.iter().filter(|f| f.done.is_some());
        delete_files(&self.store, done.map(|f| f.path.as_str())).await
    }
}

/// Deletes files; goes on after an error and tells the first.
pub(crate) async fn delete_files<'a>(
    store: &Store,
    paths: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut outcome = Ok(());
    for path in paths {
        outcome = outcome.and(store.delete(path).await);
    }
    outcome
}

fn is_full(writer: &FileWriter, target_bytes: u64) -> bool {
    writer.bytes() >= target_bytes || writer.rows() >= ROWS_MAX
}

fn next_path(options: &EpochOptions, number: usize) -> String {
    let (folder, stem, random) = (&options.folder, &options.stem, uuid::Uuid::new_v4().simple());
    format!("{folder}/{stem}-{number:05}-{random}.parquet")
}
