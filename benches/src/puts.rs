//! Bytes of the files that appear in a lake's folders, however soon they go again: the kernel tells each by name.
//!
//! Objects get their name when they are whole (a link or a rename), so that their size is right when they are seen.
//! Deliberately absent: what is written in place (a SQLite catalogue).

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_testkit::Result;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

const PAUSE: Duration = Duration::from_millis(1);

/// Where a v2 position-delete file names the files it speaks of; it stands in the file's last bytes.
const DELETES: &[u8] = b"file_path";

/// Bytes of files that appeared, by what they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Puts {
    /// Data files of commits: the changed rows.
    pub(crate) rows: u64,
    /// Deletes and deletion vectors of commits.
    pub(crate) deletes: u64,
    /// Data and delete files of compactions.
    pub(crate) compacted: u64,
    /// Everything else: manifests, lists, metadata, logs, checkpoints.
    pub(crate) metadata: u64,
}

/// A watch over a lake's folders, begun when they exist.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Puts>>,
}

impl Watch {
    /// Watches all folders below `root` that are there now.
    pub(crate) fn begin(root: &Path) -> Result<Self> {
        let watches = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut folders = Vec::new();
        for folder in folders_below(root) {
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO;
            folders.push((inotify::add_watch(&watches, &folder, flags)?, folder));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Ok(Self { stop, thread: std::thread::spawn(move || count(watches, &folders, &told)) })
    }

    /// Ends the watch.
    pub(crate) fn end(self) -> Result<Puts> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err("the watch broke".into()))
    }
}

fn folders_below(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        next += 1;
    }
    // half-written objects have no name yet; the ledger is not the table's
    found.retain(|path| {
        let text = path.to_string_lossy();
        !text.contains(".lakeward-staging") && !text.contains("/_lakeward")
    });
    found
}

fn count(watches: OwnedFd, folders: &[(i32, PathBuf)], stop: &AtomicBool) -> Result<Puts> {
    let mut puts = Puts::default();
    let mut space = [MaybeUninit::uninit(); 64 * 1024];
    let mut events = Reader::new(watches, &mut space);
    loop {
        let event = match events.next() {
            Err(Errno::AGAIN) if stop.load(Ordering::Relaxed) => return Ok(puts),
            Err(Errno::AGAIN) => {
                std::thread::sleep(PAUSE);
                continue;
            }
            event => event?,
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err("more files appeared than could be counted".into());
        }
        let folder = folders.iter().find(|(id, _)| *id == event.wd());
        if let (Some((_, folder)), Some(name)) = (folder, event.file_name()) {
            puts.add(&folder.join(name.to_string_lossy().as_ref()));
        }
    }
}

impl Puts {
    /// All bytes of commits, their metadata included.
    pub(crate) fn by_commits(&self) -> u64 {
        self.rows + self.deletes + self.metadata
    }

    /// All bytes.
    pub(crate) fn all(&self) -> u64 {
        self.by_commits() + self.compacted
    }

    fn add(&mut self, path: &Path) {
        let Ok(meta) = fs::metadata(path) else { return };
        if !meta.is_file() {
            return;
        }
        let place = match kind(path) {
            Kind::Rows => &mut self.rows,
            Kind::Deletes => &mut self.deletes,
            Kind::Compacted => &mut self.compacted,
            Kind::Metadata => &mut self.metadata,
        };
        *place += meta.len();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Rows,
    Deletes,
    Compacted,
    Metadata,
}

fn kind(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_data = !name.contains("checkpoint") && name.ends_with(".parquet");
    let is_vector = name.ends_with(".puffin") || name.ends_with(".bin");
    match (is_data, is_vector) {
        (false, false) => Kind::Metadata,
        _ if is_compacted(&name) => Kind::Compacted,
        (_, true) => Kind::Deletes,
        _ if tail(path).is_ok_and(|tail| contains(&tail, DELETES)) => Kind::Deletes,
        _ => Kind::Rows,
    }
}

/// `<writer>-g<generation>-c<epoch>-<number>-<random>.parquet`
fn is_compacted(name: &str) -> bool {
    let stem = name.rsplit('-').nth(2).and_then(|part| part.strip_prefix('c'));
    stem.is_some_and(|epoch| !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()))
}

fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let watch = Watch::begin(folder.path()).unwrap();
        for (name, content) in [
            ("data/w-g1-e7-00001-ab.parquet", "rows".as_bytes()),
            ("data/w-g1-e7-00002-ab.parquet", b"PAR1 file_path PAR1"),
            ("data/w-g1-c7-00001-ab.parquet", b"compacted"),
            ("data/x.puffin", b"vector"),
            ("v1.metadata.json", b"{}"),
        ] {
            let staged = folder.path().join("staged");
            fs::write(&staged, content).unwrap();
            fs::rename(staged, folder.path().join(name)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        let puts = watch.end().unwrap();
        assert_eq!((puts.rows, puts.deletes, puts.compacted), (4, 25, 9), "{puts:?}");
        assert!(puts.all() > puts.compacted + puts.rows);
    }
}
