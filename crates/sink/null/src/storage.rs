//! Small named objects, in memory or as files. A file has its name only when it is whole, so that a killed process leaves
//! none half-written. Nothing is synced: what is lost with the machine is loaded again, into nothing.
use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lakeward_core::{Error, ErrorKind, LedgerStore, Result};
use tokio::fs;

/// Objects of one sink.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>),
    Folder(PathBuf),
}

impl Storage {
    /// Objects below a folder, which is made; without one in memory.
    pub(crate) async fn open(folder: Option<PathBuf>) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self::Memory(Arc::default())) };
        fs::create_dir_all(&folder).await.map_err(|e| failed("make a folder", &folder, e))?;
        Ok(Self::Folder(folder))
    }

    /// Objects below one name more.
    pub(crate) async fn below(&self, name: &str) -> Result<Self> {
        match self {
            Self::Memory(_) => Self::open(None).await,
            Self::Folder(folder) => Self::open(Some(folder.join(name))).await,
        }
    }

    /// Writes an object, in place of what had its name.
    pub(crate) async fn replace(&self, name: &str, content: Vec<u8>) -> Result<()> {
        match self {
            Self::Memory(objects) => {
                locked(objects).insert(name.to_owned(), content);
                Ok(())
            }
            Self::Folder(folder) => {
                let (staged, target) = (stage(folder, content).await?, folder.join(name));
                fs::rename(&staged, &target).await.map_err(|e| failed("write a file", &target, e))
            }
        }
    }
}

#[async_trait]
impl LedgerStore for Storage {
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<bool> {
        match self {
            Self::Memory(objects) => {
                let mut objects = locked(objects);
                let free = !objects.contains_key(name);
                objects.entry(name.to_owned()).or_insert(content);
                Ok(free)
            }
            Self::Folder(folder) => {
                let (staged, target) = (stage(folder, content).await?, folder.join(name));
                let linked = fs::hard_link(&staged, &target).await;
                fs::remove_file(&staged).await.map_err(|e| failed("remove a file", &staged, e))?;
                match linked {
                    Err(e) if e.kind() == Io::AlreadyExists => Ok(false),
                    linked => linked.map(|()| true).map_err(|e| failed("write a file", &target, e)),
                }
            }
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Memory(objects) => Ok(locked(objects).get(name).cloned()),
            Self::Folder(folder) => match fs::read(folder.join(name)).await {
                Err(e) if e.kind() == Io::NotFound => Ok(None),
                read => read.map(Some).map_err(|e| failed("read a file", &folder.join(name), e)),
            },
        }
    }

    async fn list(&self) -> Result<Vec<String>> {
        match self {
            Self::Memory(objects) => Ok(locked(objects).keys().cloned().collect()),
            Self::Folder(folder) => names(folder).await.map_err(|e| failed("list", folder, e)),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        match self {
            Self::Memory(objects) => {
                locked(objects).remove(name);
                Ok(())
            }
            Self::Folder(folder) => match fs::remove_file(folder.join(name)).await {
                Err(e) if e.kind() == Io::NotFound => Ok(()),
                gone => gone.map_err(|e| failed("remove a file", &folder.join(name), e)),
            },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What half-written files are called.
const STAGED: &str = ".staged-";

async fn stage(folder: &Path, content: Vec<u8>) -> Result<PathBuf> {
    let path = folder.join(format!("{STAGED}{}", uuid::Uuid::new_v4().simple()));
    fs::write(&path, content).await.map_err(|e| failed("write a file", &path, e))?;
    Ok(path)
}

async fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let (mut names, mut entries) = (Vec::new(), fs::read_dir(folder).await?);
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().await?.is_file() && !name.starts_with(STAGED) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::Exhausted,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Config,
        _ => ErrorKind::Unreachable,
    };
    Error::new(kind, format!("could not {what}")).with("path", path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keeps_the_contract(storage: Storage) {
        assert!(storage.create("a", vec![1]).await.unwrap());
        assert!(!storage.create("a", vec![2]).await.unwrap());
        assert_eq!(storage.read("a").await.unwrap(), Some(vec![1]));
        storage.replace("b", vec![3]).await.unwrap();
        storage.replace("b", vec![4]).await.unwrap();
        assert_eq!(storage.read("b").await.unwrap(), Some(vec![4]));
        assert_eq!(storage.list().await.unwrap(), ["a", "b"]);
        storage.delete("a").await.unwrap();
        storage.delete("a").await.unwrap();
        assert_eq!(storage.read("a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn objects_are_created_once_in_memory_and_in_a_folder() {
        keeps_the_contract(Storage::open(None).await.unwrap()).await;
        let folder = tempfile::tempdir().unwrap();
        let open = || Storage::open(Some(folder.path().join("x")));
        keeps_the_contract(open().await.unwrap().below("y").await.unwrap()).await;
        let again = open().await.unwrap().below("y").await.unwrap();
        assert_eq!(again.list().await.unwrap(), ["b"]);
    }
}
