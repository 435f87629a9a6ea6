//! The folder of a table's key index on local disk: names, files that have no name yet, and cleaning up.
//!
//! A run gets its name in one act when it is whole and durable; everything else in the folder is left from an ended
//! process and goes at the next start. Deliberately absent: what is in the files.
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lakeward_core::{Env, Error, ErrorKind, Result, Slot, TableId};
use uuid::Uuid;

use super::failed;

const UNFINISHED: &str = "new-";
const RUN: &str = "run-";

/// How much of a table's key index is in memory before it goes to disk.
#[derive(Debug, Clone, Copy)]
pub struct IndexLimits {
    /// The memory part becomes a run when it has more places than this.
    pub memory_places: u64,
    /// Facts that are gathered in one buffer, 24 bytes each; two buffers are in use at a time.
    pub buffer_facts: usize,
    /// So few facts are not worth a run of their own.
    pub few_facts: usize,
}

impl Default for IndexLimits {
    /// 13 MiB for the memory part, 56 MiB while many keys come at once.
    fn default() -> Self {
        Self { memory_places: 256 << 10, buffer_facts: 1200 << 10, few_facts: 64 << 10 }
    }
}

/// The folders of the key indexes of one table of one sink. The default has none: indexes stay in memory.
#[derive(Debug, Clone, Default)]
pub struct IndexFolders {
    /// What holds them.
    folder: Option<PathBuf>,
}

impl IndexFolders {
    /// Below the pipeline's local folder. Two tables never share one.
    pub fn of(env: &Env, table: &TableId) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = table.to_string().chars().map(plain).take(100).collect();
        let exact = format!("{}\0{}", table.namespace, table.name);
        let sum = crc32fast::hash(exact.as_bytes());
        let sink: String = env.name.chars().map(plain).collect();
        let folder = env.state_dir.join("index").join(sink).join(format!("{name}-{sum:08x}"));
        Self { folder: Some(folder) }
    }

    /// The index of the table or of an invisible copy.
    pub fn home(&self, slot: Slot) -> IndexHome {
        let Some(folder) = &self.folder else { return IndexHome::none() };
        IndexHome::at(match slot {
            Slot::Visible => folder.join("visible"),
            Slot::Copy(generation) => folder.join(format!("copy-{generation}")),
        })
    }

    /// Removes them all.
    pub fn remove(&self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Where a table's key index may keep files. Made when the first file is written.
#[derive(Debug, Clone, Default)]
pub struct IndexHome {
    folder: Option<Arc<RwLock<PathBuf>>>,
    limits: IndexLimits,
}

impl IndexHome {
    /// No folder: the whole index stays in memory, however large.
    pub fn none() -> Self {
        Self::default()
    }

    /// A folder that nobody else uses. What is lost of it costs time, never correctness.
    pub fn at(folder: PathBuf) -> Self {
        Self::with_limits(folder, IndexLimits::default())
    }

    /// As [`at`](Self::at), with other limits.
    pub fn with_limits(folder: PathBuf, limits: IndexLimits) -> Self {
        Self { folder: Some(Arc::new(RwLock::new(folder))), limits }
    }

    pub(crate) fn limits(&self) -> IndexLimits {
        self.limits
    }

    /// Whether there is a folder.
    pub(crate) fn is_some(&self) -> bool {
        self.folder.is_some()
    }

    fn folder(&self) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(folder.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The path of a file of the folder.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let none = || Error::new(ErrorKind::Bug, "a key index without a folder wanted a file");
        Ok(self.folder().ok_or_else(none)?.join(name))
    }

    /// The folder, with all that is in it, takes the place of another that goes. Open runs stay open.
    pub fn take_place(&self, of: &Self) {
        let (Some(shared), Some(place)) = (&self.folder, of.folder()) else { return };
        let mut folder = shared.write().unwrap_or_else(PoisonError::into_inner);
        if *folder == place {
            return;
        }
        // Each step may fail: then the runs are not found at the next start, and the keys are read again.
        let _ = fs::remove_dir_all(&place);
        if folder.exists() && fs::rename(&*folder, &place).is_err() {
            let _ = fs::remove_dir_all(&*folder);
        }
        *folder = place;
    }

    /// Removes the folder with all that is in it.
    pub fn remove(&self) {
        if let Some(folder) = self.folder() {
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Removes a file. One that cannot be removed is found at the next start.
    pub(crate) fn remove_file(&self, name: &str) {
        if let Ok(path) = self.path(name) {
            let _ = fs::remove_file(path);
        }
    }

    /// The names of all runs. Files that an ended process left unfinished go.
    pub(crate) fn runs(&self) -> Vec<String> {
        let Some(folder) = self.folder() else { return Vec::new() };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let (runs, others): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with(RUN));
        for name in others.iter().filter(|name| name.starts_with(UNFINISHED)) {
            self.remove_file(name);
        }
        runs
    }

    /// A new file without a name of its own yet.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn create(&self) -> Result<Unfinished> {
        let name = format!("{UNFINISHED}{}", Uuid::new_v4().simple());
        let path = self.path(&name)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::options().read(true).write(true).create_new(true).open(path);
        Ok(Unfinished {
            file: file.map_err(failed)?,
            home: self.clone(),
            name: Mutex::new(Some(name)),
        })
    }
}

/// A file that goes when this is dropped, unless it got a name.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) file: File,
    home: IndexHome,
    /// Its present name; `None` once it is a run.
    name: Mutex<Option<String>>,
}

impl Unfinished {
    /// Gives it the name of a run; the file must be durable. Returns the name.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn become_run(&self) -> Result<String> {
        let mut name = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        let old = name.as_ref().ok_or_else(super::damaged)?;
        let new = format!("{RUN}{}", Uuid::new_v4().simple());
        fs::rename(self.home.path(old)?, self.home.path(&new)?).map_err(failed)?;
        *name = None;
        Ok(new)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(name) = name {
            self.home.remove_file(&name);
        }
    }
}
