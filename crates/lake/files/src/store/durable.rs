//! Files of a local disk that have their name only when they are whole: temporary file, sync, link or rename, sync of
//! the folder.
//!
//! Everything here blocks. Deliberately absent: what to do about an error.
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use lakeward_core::{Error, ErrorKind, Result};

/// Temporary files older than this belong to a writer that died. A living one touches its file far more often.
const STALE: Duration = Duration::from_secs(3 * 24 * 3600);

/// A file without its final name. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    pub(super) fn create(staging: &Path) -> Result<Self> {
        let path = staging.join(uuid::Uuid::new_v4().to_string());
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(e) if e.kind() == Io::NotFound => make_folders(staging).and_then(|()| open()),
            opened => opened,
        };
        let file = file.map_err(|e| io_error("create a file", &path, e))?;
        Ok(Self { file, path })
    }

    pub(super) fn write(&mut self, content: &[u8]) -> Result<()> {
        self.file.write_all(content).map_err(|e| io_error("write a file", &self.path, e))
    }

    /// Gives the file its name unless the name is taken.
    pub(super) fn create_new(self, target: &Path) -> Result<bool> {
        Ok(self.link(target)?
            && sync_parent(target).map(|()| true).map_err(|e| unknown(target, e))?)
    }

    /// As `create_new`, but the name may not be durable yet.
    fn link(self, target: &Path) -> Result<bool> {
        let failed = |e| io_error("create a file", target, e);
        self.file.sync_all().map_err(failed)?;
        let linked = match fs::hard_link(&self.path, target) {
            Err(e) if e.kind() == Io::NotFound => {
                make_parent(target).and_then(|()| fs::hard_link(&self.path, target))
            }
            linked => linked,
        };
        match linked {
            Err(e) if e.kind() == Io::AlreadyExists => Ok(false),
            linked => linked.map_err(failed).map(|()| true),
        }
    }

    /// Gives the file its name, in place of what had it.
    pub(super) fn replace(self, target: &Path) -> Result<()> {
        let failed = |e| io_error("write a file", target, e);
        self.file.sync_all().map_err(failed)?;
        match fs::rename(&self.path, target) {
            Err(e) if e.kind() == Io::NotFound => {
                make_parent(target)
                    .and_then(|()| fs::rename(&self.path, target))
                    .map_err(failed)?;
            }
            renamed => renamed.map_err(failed)?,
        }
        sync_parent(target).map_err(failed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone already; after a crash the sweep finds it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a folder and those above it; each new folder's entry is synced.
pub(super) fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_parent(folder),
        Err(e) if e.kind() == Io::AlreadyExists => Ok(()),
        Err(e) if e.kind() == Io::NotFound => {
            let Some(parent) = folder.parent() else { return Err(e) };
            make_folders(parent)?;
            make_folders(folder)
        }
        Err(e) => Err(e),
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_folders)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Creates files below `root`. Each folder is synced once, after the last.
pub(super) fn create_all(staging: &Path, root: &Path, files: &[(String, Bytes)]) -> Result<()> {
    let mut folders: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (path, content) in files {
        let target = root.join(path);
        let mut temporary = Temporary::create(staging)?;
        temporary.write(content)?;
        if !temporary.link(&target)? {
            return Err(super::taken(path));
        }
        folders.insert(target.parent().map(Path::to_owned).unwrap_or_default(), target);
    }
    folders.values().try_for_each(|file| sync_parent(file).map_err(|e| unknown(file, e)))
}

/// Removes files below `root`; goes on after an error. Each folder is synced once, after the last.
pub(super) fn remove_each(root: &Path, files: &[String], each: fn()) -> Result<()> {
    let mut outcome = Ok(());
    let mut folders: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for target in files.iter().map(|path| root.join(path)) {
        match fs::remove_file(&target) {
            Ok(()) => {
                folders.insert(target.parent().map(Path::to_owned).unwrap_or_default(), target);
            }
            Err(e) if e.kind() == Io::NotFound => {}
            Err(e) => outcome = outcome.and(Err(io_error("delete a file", &target, e))),
        }
        each();
    }
    let synced = |file: &PathBuf| sync_parent(file).map_err(|e| io_error("delete a file", file, e));
    outcome.and(folders.values().try_for_each(synced))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == Io::NotFound => return Ok(()),
        Err(e) => Err(e),
    }
    .map_err(|e| io_error("delete a file", path, e))
}

pub(super) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == Io::NotFound => return Ok(()),
        Err(e) => Err(e),
    }
    .map_err(|e| io_error("delete a folder", path, e))
}

/// Removes what writers that died left behind. What cannot be removed now is tried again at the next start.
pub(super) fn sweep(staging: &Path) {
    let Ok(entries) = fs::read_dir(staging) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

pub(super) fn io_error(act: &str, path: &Path, error: io::Error) -> Error {
    let shown = path.display();
    let (kind, remedy) = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => (
            ErrorKind::Exhausted,
            format!("free space on the file system that holds {shown}, then run again"),
        ),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (
            ErrorKind::Config,
            format!("let this user write below {shown}, or choose another warehouse"),
        ),
        Io::NotADirectory | Io::Unsupported => (
            ErrorKind::Config,
            format!("choose a warehouse on a file system that can hold {shown} and hard links"),
        ),
        _ => (ErrorKind::Unreachable, format!("check the disk that holds {shown}")),
    };
    Error::new(kind, format!("could not {act}"))
        .with("path", shown)
        .remedied(remedy)
        .caused_by(error)
}

fn unknown(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "a new file may not be durable")
        .with("path", path.display())
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The device answers every write with "no space left"; nothing is stored anywhere.
    #[test]
    fn a_full_disk_is_named_with_its_remedy() {
        let Ok(file) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let folder = tempfile::tempdir().unwrap();
        let mut temporary = Temporary { file, path: folder.path().join("none") };
        let error = temporary.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        assert!(error.remedy().contains("free space"), "{}", error.remedy());
        assert!(error.context("path").is_some());
    }

    #[test]
    fn errors_of_the_disk_have_their_kind() {
        let kind = |error: Io| io_error("write", Path::new("/w"), error.into()).kind();
        assert_eq!(kind(Io::QuotaExceeded), ErrorKind::Exhausted);
        assert_eq!(kind(Io::PermissionDenied), ErrorKind::Config);
        assert_eq!(kind(Io::ReadOnlyFilesystem), ErrorKind::Config);
        assert_eq!(kind(Io::TimedOut), ErrorKind::Unreachable);
    }
}
