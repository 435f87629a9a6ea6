//! A queue of changes that may grow past memory: the front of it goes to a file, order is kept.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakeward_core::kill::{KillPoint, reached};
use lakeward_core::{
    ChangeBatch, Error, ErrorKind, OriginId, Result, SchemaChange, TableId, TableSchema,
    TransactionInfo,
};

use super::codec;

/// Something of a table that must be applied later, in order.
#[derive(Debug, Clone)]
pub enum Item {
    /// Changes.
    Rows(ChangeBatch),
    /// All rows went.
    Truncate {
        /// The table.
        table: TableId,
        /// The leaf or shard.
        origin: Option<OriginId>,
        /// Its transaction.
        transaction: Arc<TransactionInfo>,
    },
    /// The table became another version.
    Schema(SchemaChange),
}

impl Item {
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Rows(batch) => batch.memory_bytes(),
            Self::Truncate { .. } | Self::Schema(_) => 512,
        }
    }
}

enum Slot {
    Memory(Box<Item>),
    /// A batch in the file, and the schema it needs.
    File(Arc<TableSchema>),
}

/// The queue. First in, first out; read once, after the last write.
pub struct SpillQueue {
    path: PathBuf,
    slots: VecDeque<Slot>,
    file: Option<BufWriter<File>>,
    memory_bytes: u64,
    file_bytes: u64,
}

fn disk(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Unreachable,
    };
    Error::new(kind, "the spill file cannot be used")
        .with("path", path.display())
        .caused_by(error)
        .remedied("free disk space under `pipeline.state_dir`, or point it at a larger disk")
}

impl SpillQueue {
    /// An empty queue whose file, if it ever needs one, is `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, slots: VecDeque::new(), file: None, memory_bytes: 0, file_bytes: 0 }
    }

    /// Adds to the end.
    pub fn push(&mut self, item: Item) {
        self.memory_bytes += item.memory_bytes();
        self.slots.push_back(Slot::Memory(Box::new(item)));
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Bytes held in the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Moves all rows that are in memory to the file.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, `Unreachable` for other faults; both name the file.
    pub fn spill(&mut self) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => BufWriter::new(create(&self.path)?),
        };
        for slot in &mut self.slots {
            let Slot::Memory(item) = slot else { continue };
            let Item::Rows(batch) = item.as_ref() else { continue };
            codec::encode(batch, &mut file)?;
            self.memory_bytes = self.memory_bytes.saturating_sub(batch.memory_bytes());
            *slot = Slot::File(Arc::clone(&batch.schema));
        }
        file.flush().map_err(|e| disk(&self.path, e))?;
        self.file_bytes = file.stream_position().map_err(|e| disk(&self.path, e))?;
        self.file = Some(file);
        reached(KillPoint::Spill);
        Ok(())
    }

    /// Ends the writing and gives the items back in order.
    ///
    /// # Errors
    /// As [`spill`](Self::spill).
    pub fn drain(mut self) -> Result<Drain> {
        let reader = match self.file.take() {
            None => None,
            Some(writer) => {
                let failed = |e: std::io::Error| disk(&self.path, e);
                let mut file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                Some(BufReader::with_capacity(1 << 18, file))
            }
        };
        Ok(Drain { slots: std::mem::take(&mut self.slots), reader, _queue: self })
    }
}

fn create(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| disk(path, e))?;
    }
    File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| disk(path, e))
}

impl Drop for SpillQueue {
    fn drop(&mut self) {
        if self.file_bytes > 0 {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The items of a queue, in order.
pub struct Drain {
    slots: VecDeque<Slot>,
    reader: Option<BufReader<File>>,
    _queue: SpillQueue,
}

impl Iterator for Drain {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.slots.pop_front()? {
            Slot::Memory(item) => Ok(*item),
            Slot::File(schema) => match &mut self.reader {
                Some(reader) => codec::decode(reader, &schema).map(Item::Rows),
                None => Err(Error::new(ErrorKind::Bug, "a spilled batch without a file")),
            },
        })
    }
}
