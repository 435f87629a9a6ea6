//! A warehouse: named objects below one root, written durably or not at all.
//!
//! On a local disk an object appears under its name only when its bytes and its folder entry are on the disk.
//! Paths are relative, with `/` between their parts, of ASCII letters, digits and `. _ - =` only, so that a path, its
//! URL and its file name are one text. Deliberately absent: what the objects mean.
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use lakeward_core::{Error, ErrorKind, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart};

mod durable;

use durable::{Temporary, io_error};

/// Where half-written local objects lie until they get their name.
const STAGING: &str = ".lakeward-staging";
/// Parts of one remote upload that may be on their way at once.
const PARTS_IN_FLIGHT: usize = 4;

/// A warehouse's objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Base URL without a slash at its end.
    base: Arc<str>,
    /// The root folder of a local store: its writes do not go through `objects`, which does not sync.
    local: Option<Arc<PathBuf>>,
}

impl Store {
    /// A folder of this machine, created if it is not there. URLs are `file:///…`.
    ///
    /// # Errors
    /// `Config` naming the folder when it cannot be made, or its absolute path is not text.
    pub fn local(dir: &Path) -> Result<Self> {
        let failed = |e| io_error("open the warehouse", dir, e);
        durable::make_folders(dir).map_err(failed)?;
        let root = dir.canonicalize().map_err(failed)?;
        let base = root.to_str().ok_or_else(|| {
            Error::new(ErrorKind::Config, "the warehouse's path is not valid text")
                .with("path", root.display())
        })?;
        durable::sweep(&root.join(STAGING));
        let objects = LocalFileSystem::new_with_prefix(&root).map_err(|e| store_error(base, e))?;
        let base = format!("file://{}", base.trim_end_matches('/')).into();
        Ok(Self { objects: Arc::new(objects), base, local: Some(Arc::new(root)) })
    }

    /// A remote store. `base` is the URL of its root, without a slash at the end. `put` and `create` must be durable
    /// when they answer, and conditional creation must be supported.
    pub fn remote(objects: Arc<dyn ObjectStore>, base: impl Into<Arc<str>>) -> Self {
        Self { objects, base: base.into(), local: None }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// The path of a URL below this store's root; `None` for any other. `file:/x` and `file:///x` are the same.
    pub fn path_of(&self, url: &str) -> Option<String> {
        let below = |base: &str, url: &str| -> Option<String> {
            url.strip_prefix(base)?.strip_prefix('/').map(str::to_owned)
        };
        let short = |url: &str| -> Option<String> {
            let rest = url.strip_prefix("file:")?;
            Some(format!("/{}", rest.trim_start_matches('/')))
        };
        match (self.local.is_some(), short(&self.base), short(url)) {
            (true, Some(base), Some(url)) => below(&base, &url),
            _ => below(&self.base, url),
        }
    }

    /// Writes an object, durably, replacing what was there.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, `Config` when writing is forbidden, `Unreachable` else; all name the path.
    pub async fn put(&self, path: &str, content: Bytes) -> Result<()> {
        let object = object_path(path)?;
        let Some(root) = self.local.clone() else {
            let put = self.objects.put(&object, content.into()).await;
            return put.map(|_| ()).map_err(|e| store_error(path, e));
        };
        let target = root.join(path);
        blocking(move || {
            let mut temporary = Temporary::create(&root.join(STAGING))?;
            temporary.write(&content)?;
            temporary.replace(&target)
        })
        .await
    }

    /// Creates an object, durably; `false` when one of that name exists already (its content is unchanged).
    ///
    /// # Errors
    /// As `put`; `OutcomeUnknown` when it may or may not exist afterwards.
    pub async fn create(&self, path: &str, content: Bytes) -> Result<bool> {
        let object = object_path(path)?;
        let Some(root) = self.local.clone() else {
            return self.create_remote(path, &object, content).await;
        };
        let target = root.join(path);
        blocking(move || {
            let mut temporary = Temporary::create(&root.join(STAGING))?;
            temporary.write(&content)?;
            temporary.create_new(&target)
        })
        .await
    }

    /// Creates several objects, durably; they cost little more than one. After an error any of them may exist.
    ///
    /// # Errors
    /// As [`create`](Self::create); `Conflict` when an object of one of the names exists already.
    pub async fn create_all(&self, objects: Vec<(String, Bytes)>) -> Result<()> {
        for (path, _) in &objects {
            object_path(path)?;
        }
        let Some(root) = self.local.clone() else {
            let created = objects.iter().map(|(path, content)| async move {
                let object = object_path(path)?;
                match self.create_remote(path, &object, content.clone()).await? {
                    true => Ok(()),
                    false => Err(taken(path)),
                }
            });
            return futures::future::try_join_all(created).await.map(|_| ());
        };
        blocking(move || durable::create_all(&root.join(STAGING), &root, &objects)).await
    }

    async fn create_remote(&self, path: &str, object: &ObjectPath, content: Bytes) -> Result<bool> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(object, content.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e @ object_store::Error::Generic { .. }) => {
                Err(Error::new(ErrorKind::OutcomeUnknown, "creating an object got no clear answer")
                    .with("path", path)
                    .caused_by(e))
            }
            Err(e) => Err(store_error(path, e)),
        }
    }

    /// Reads an object; `None` when there is none.
    ///
    /// # Errors
    /// `Unreachable` naming the path.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let found = match self.objects.get(&object_path(path)?).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(store_error(path, e)),
        };
        found.bytes().await.map(Some).map_err(|e| store_error(path, e))
    }

    /// Reads parts of an object, in the order given.
    ///
    /// # Errors
    /// `Corrupt` when there is no such object, `Unreachable` else.
    pub async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let parts = self.objects.get_ranges(&object_path(path)?, ranges).await;
        parts.map_err(|e| match e {
            object_store::Error::NotFound { .. } => missing(path),
            e => store_error(path, e),
        })
    }

    /// Size in bytes; `None` when there is no such object.
    ///
    /// # Errors
    /// `Unreachable` naming the path.
    pub async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.objects.head(&object_path(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(store_error(path, e)),
        }
    }

    /// Paths of all objects below a folder (all levels), ascending. A folder that is not there is empty.
    ///
    /// # Errors
    /// `Unreachable` naming the folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let object = object_path(folder)?;
        let found: Vec<_> = self
            .objects
            .list(Some(&object))
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .map_err(|e| store_error(folder, e))?;
        let mut paths = found;
        paths.sort_unstable();
        Ok(paths)
    }

    /// Deletes an object, durably; deleting what is not there is fine.
    ///
    /// # Errors
    /// As `put`.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let object = object_path(path)?;
        let Some(root) = self.local.clone() else {
            return match self.objects.delete(&object).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(store_error(path, e)),
            };
        };
        let target = root.join(path);
        blocking(move || durable::remove(&target)).await
    }

    /// Deletes several objects, durably when it answers; what is not there is fine. `each` is told after every one.
    /// Goes on after an error and tells the first.
    ///
    /// # Errors
    /// As `put`.
    pub async fn delete_each(&self, paths: Vec<String>, each: fn()) -> Result<()> {
        for path in &paths {
            object_path(path)?;
        }
        let Some(root) = self.local.clone() else {
            let mut outcome = Ok(());
            for path in &paths {
                outcome = outcome.and(self.delete(path).await);
                each();
            }
            return outcome;
        };
        blocking(move || durable::remove_each(&root, &paths, each)).await
    }

    /// Deletes all objects below a folder, and the folder itself where folders exist.
    ///
    /// # Errors
    /// As `put`.
    pub async fn delete_all(&self, folder: &str) -> Result<()> {
        object_path(folder)?;
        let Some(root) = self.local.clone() else {
            for path in self.list(folder).await? {
                self.delete(&path).await?;
            }
            return Ok(());
        };
        let target = root.join(folder);
        blocking(move || durable::remove_folder(&target)).await
    }

    /// Opens an object for writing piece by piece. It exists only after [`ObjectWriter::finish`].
    ///
    /// # Errors
    /// As `put`.
    pub async fn writer(&self, path: &str) -> Result<ObjectWriter> {
        let object = object_path(path)?;
        let target = match self.local.clone() {
            Some(root) => {
                let target = root.join(path);
                let temporary = blocking(move || Temporary::create(&root.join(STAGING))).await?;
                Target::Local { temporary: Some(temporary), target }
            }
            None => {
                let upload = self.objects.put_multipart(&object).await;
                let upload = upload.map_err(|e| store_error(path, e))?;
                Target::Remote(WriteMultipart::new(upload))
            }
        };
        Ok(ObjectWriter { path: path.to_owned(), bytes: 0, target })
    }
}

/// An object being written. Dropping it unfinished leaves no object of its name.
#[derive(Debug)]
pub struct ObjectWriter {
    path: String,
    bytes: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// `None` after a failed or cancelled write.
    Local {
        temporary: Option<Temporary>,
        target: PathBuf,
    },
    Remote(WriteMultipart),
}

impl ObjectWriter {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends.
    ///
    /// # Errors
    /// As [`Store::put`]. After an error only dropping is left.
    pub async fn write(&mut self, content: Bytes) -> Result<()> {
        self.bytes += content.len() as u64;
        match &mut self.target {
            Target::Local { temporary, .. } => {
                let mut file = temporary.take().ok_or_else(|| broken(&self.path))?;
                let file = blocking(move || file.write(&content).map(|()| file)).await?;
                *temporary = Some(file);
                Ok(())
            }
            Target::Remote(upload) => {
                let room = upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
                room.map_err(|e| store_error(&self.path, e))?;
                upload.put(content);
                Ok(())
            }
        }
    }

    /// Makes the object durable and gives it its name. Answers its size in bytes.
    ///
    /// # Errors
    /// As [`Store::put`]; `Conflict` when an object of that name exists already.
    pub async fn finish(self) -> Result<u64> {
        match self.target {
            Target::Local { temporary, target } => {
                let temporary = temporary.ok_or_else(|| broken(&self.path))?;
                if !blocking(move || temporary.create_new(&target)).await? {
                    return Err(taken(&self.path));
                }
            }
            Target::Remote(upload) => {
                upload.finish().await.map_err(|e| store_error(&self.path, e))?;
            }
        }
        Ok(self.bytes)
    }
}

fn taken(path: &str) -> Error {
    Error::new(ErrorKind::Conflict, "an object of this name exists").with("path", path)
}

fn broken(path: &str) -> Error {
    Error::new(ErrorKind::Bug, "an object was written to after a failed write").with("path", path)
}

pub(crate) fn missing(path: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "a file that the table names is missing").with("path", path)
}

/// Checks a path and names it for the object store.
fn object_path(path: &str) -> Result<ObjectPath> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=');
    let part_is_fine = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    if !path.split('/').all(part_is_fine) {
        return Err(Error::new(
            ErrorKind::Bug,
            "an object's path has a character or part that is not allowed",
        )
        .with("path", path));
    }
    Ok(ObjectPath::from(path))
}

fn store_error(path: &str, error: object_store::Error) -> Error {
    let kind = match &error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => ErrorKind::Auth,
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Unreachable,
    };
    Error::new(kind, "the store refused or did not answer").with("path", path).caused_by(error)
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(ErrorKind::Bug, "a disk task ended early").caused_by(e)),
    }
}
