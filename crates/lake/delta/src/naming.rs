//! Names of files: each carries its writer, the copy's generation and the earliest epoch that it can belong to, so that whoever
//! finds a file that no log names can tell whether somebody may still be about to commit it.
//!
//! Deliberately absent: deleting. See [`crate::maintain`].
use uuid::{Builder, Uuid};

/// Whose work a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stem {
    /// The process run; letters, digits, `_` and `-`.
    pub(crate) writer: String,
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
}

/// What a file's name tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
    /// It was written by a compaction.
    pub(crate) compacted: bool,
}

impl Stem {
    /// The beginning of a data file's name.
    pub(crate) fn data(&self) -> String {
        format!("{}-g{}-e{}", self.writer, self.generation, self.epoch)
    }

    /// The beginning of the name of a data file that a compaction writes.
    pub(crate) fn compacted(&self) -> String {
        format!("{}-g{}-c{}", self.writer, self.generation, self.epoch)
    }

    /// The UUID of a new file of deletion vectors: 48 bits of epoch, 12 of generation, 30 of the writer's fingerprint, the rest
    /// random.
    pub(crate) fn vector_id(&self) -> Uuid {
        let random = Uuid::new_v4().as_u128() as u32;
        let print = self
            .writer
            .bytes()
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let bits = u128::from(self.epoch) << 80
            | u128::from(self.generation & 0xfff) << 64
            | u128::from(print & 0x3fff_ffff) << 32
            | u128::from(random);
        Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// What the name of a file of ours tells; `None` when it is none of ours.
pub(crate) fn origin(path: &str) -> Option<Origin> {
    let name = path.rsplit('/').next()?;
    if let Some(id) = name.strip_prefix("deletion_vector_").and_then(|n| n.strip_suffix(".bin")) {
        return vector_origin(Uuid::parse_str(id).ok()?);
    }
    // `<writer>-g<generation>-<e|c><epoch>-<number>-<random>.parquet`
    let mut parts = name.strip_suffix(".parquet")?.rsplit('-').skip(2);
    let (epoch, generation) = (parts.next()?, parts.next()?);
    let (kind, epoch) = epoch.split_at_checked(1)?;
    Some(Origin {
        generation: generation.strip_prefix('g')?.parse().ok()?,
        epoch: epoch.parse().ok().filter(|_| matches!(kind, "e" | "c"))?,
        compacted: kind == "c",
    })
}

fn vector_origin(id: Uuid) -> Option<Origin> {
    let bits = id.as_u128();
    (id.get_version_num() == 8).then_some(Origin {
        generation: (bits >> 64) as u32 & 0xfff,
        epoch: (bits >> 80) as u64,
        compacted: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        let stem = Stem { writer: "w-1_x-g9-e9".into(), generation: 3, epoch: 70_000 };
        let of = |compacted| Some(Origin { generation: 3, epoch: 70_000, compacted });
        let random = Uuid::new_v4().simple().to_string();
        assert_eq!(origin(&format!("data/{}-00001-{random}.parquet", stem.data())), of(false));
        assert_eq!(origin(&format!("data/{}-00001-{random}.parquet", stem.compacted())), of(true));
        assert_eq!(origin(&format!("deletion_vector_{}.bin", stem.vector_id())), of(false));
        assert_ne!(stem.vector_id(), stem.vector_id());
        for foreign in [
            "part-00000-0a-c000.snappy.parquet",
            "x.parquet",
            "data/é",
            "deletion_vector_61d16c75-6994-46b7-a15b-8b538852e50e.bin",
        ] {
            assert_eq!(origin(foreign), None, "{foreign}");
        }
    }
}
