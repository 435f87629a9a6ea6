//! The cases: names, aims and units, one line each. Nothing here measures.

use Better::{Higher, Lower};
use Group::{
    BigTransaction, Commits, Decode, Edit, Fresh, Fresh200, Idle, Index, LoadNarrow, LoadOneReader,
    LoadTaxi, LoadWide, Log, MySqlLog, Release, Start,
};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// At least the aim.
    Higher,
    /// At most the aim.
    Lower,
}

/// Cases that one act measures together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    LoadNarrow,
    LoadOneReader,
    LoadTaxi,
    LoadWide,
    Log,
    BigTransaction,
    Start,
    Fresh,
    Fresh200,
    Commits,
    Idle,
    MySqlLog,
    Decode,
    Index,
    Release,
    Edit,
}

impl Group {
    /// All, in the order in which they run: those that need the large table as it was made come first.
    pub(crate) const ALL: [Group; 16] = [
        LoadNarrow,
        LoadOneReader,
        LoadTaxi,
        LoadWide,
        Start,
        Log,
        BigTransaction,
        Fresh,
        Fresh200,
        Commits,
        Idle,
        MySqlLog,
        Decode,
        Index,
        Release,
        Edit,
    ];
}

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) better: Better,
    /// `None`: the figure is stated, no aim is set.
    pub(crate) aim: Option<f64>,
    pub(crate) unit: &'static str,
    /// What it is held against, for people.
    pub(crate) against: &'static str,
}

const MIB: f64 = 1_048_576.0;
const RAW_COPY: &str = "one COPY (FORMAT binary) thrown away";
const RAW_LOG: &str = "a raw reader that lets bytes gather";
const RECVLOGICAL: &str = "pg_recvlogical -f /dev/null";
const RIVALS: &str = "best published of any tool";
const CAP: &str = "declared cap";

const fn case(
    name: &'static str,
    group: Group,
    better: Better,
    aim: f64,
    unit: &'static str,
    against: &'static str,
) -> Case {
    Case { name, group, better, aim: Some(aim), unit, against }
}

const fn stated(
    name: &'static str,
    group: Group,
    unit: &'static str,
    against: &'static str,
) -> Case {
    Case { name, group, better: Lower, aim: None, unit, against }
}

/// Every case, in the order in which they are shown.
pub(crate) const CASES: &[Case] = &[
    case("load_narrow_ratio", LoadNarrow, Higher, 0.9, "ratio", RAW_COPY),
    case("load_narrow_rows_per_cpu_second", LoadNarrow, Higher, 2e6, "rows/CPU-s", RIVALS),
    case("load_taxi_rows_per_cpu_second", LoadTaxi, Higher, 8e5, "rows/CPU-s", RIVALS),
    Case {
        better: Higher,
        ..stated("load_wide_rows_per_cpu_second", LoadWide, "rows/CPU-s", "no aim")
    },
    case("load_peak_rss_bytes", LoadNarrow, Lower, 512.0 * MIB, "bytes", CAP),
    case("load_one_reader_peak_rss_bytes", LoadOneReader, Lower, 256.0 * MIB, "bytes", CAP),
    case("log_vs_recvlogical", Log, Higher, 2.0, "ratio", RECVLOGICAL),
    case("log_vs_raw", Log, Higher, 0.8, "ratio", RAW_LOG),
    case("log_changes_per_cpu_second_v2", Log, Higher, 4e5, "changes/CPU-s", RIVALS),
    case("log_changes_per_cpu_second_v3", Log, Higher, 5e5, "changes/CPU-s", RIVALS),
    case("log_changes_per_cpu_second_delta", Log, Higher, 5e5, "changes/CPU-s", RIVALS),
    case("log_server_cpu_ratio", Log, Lower, 1.1, "ratio", RAW_LOG),
    case("bigtx_ratio", BigTransaction, Higher, 0.8, "ratio", RAW_LOG),
    case("bigtx_peak_rss_bytes", BigTransaction, Lower, 512.0 * MIB, "bytes", CAP),
    case(
        "mysql_decode_changes_per_cpu_second",
        Decode,
        Higher,
        3e6,
        "changes/CPU-s",
        "the log in memory",
    ),
    case(
        "mysql_log_changes_per_cpu_second_v3",
        MySqlLog,
        Higher,
        5e5,
        "changes/CPU-s",
        "a raw reader",
    ),
    case("fresh_p50_s", Fresh, Lower, 0.7, "s", "half the commit interval"),
    case("fresh_p99_s", Fresh, Lower, 1.3, "s", "the commit interval"),
    case("fresh200_p50_s", Fresh200, Lower, 0.35, "s", "half the commit interval"),
    case("scan_ratio", Commits, Lower, 1.2, "ratio", "the same rows freshly rewritten"),
    case("write_amplification", Commits, Lower, 2.0, "ratio", "Parquet bytes of the changed rows"),
    stated("total_amplification", Commits, "ratio", "Parquet bytes of the changed rows"),
    case("metadata_bytes", Commits, Lower, 2.0 * MIB, "bytes", "no limit"),
    case("index_build_keys_per_cpu_second", Index, Higher, 2e6, "keys/CPU-s", "no limit"),
    case("index_lookups_per_cpu_second", Index, Higher, 5e5, "keys/CPU-s", "no limit"),
    case("index_rss_bytes", Index, Lower, 256.0 * MIB, "bytes", CAP),
    case("start_clean_s", Start, Lower, 1.0, "s", "no limit"),
    case("start_lost_index_s", Start, Lower, 10.0, "s", "no limit"),
    case("idle_rss_bytes", Idle, Lower, 60.0 * MIB, "bytes", "no limit"),
    case("idle_core_ratio", Idle, Lower, 0.005, "cores", "no limit"),
    case("build_release_s", Release, Lower, 720.0, "s", "no limit"),
    case("edit_to_tested_s", Edit, Lower, 30.0, "s", "no limit"),
];

/// The case of this name.
pub(crate) fn by_name(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

/// What of the cases can be measured with a source and a lake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// PostgreSQL's log can be read by raw readers, and its clock can be asked for places.
    pub(crate) postgres: bool,
    /// There is something to read afterwards.
    pub(crate) readable: bool,
}

impl Reach {
    /// Whether a case means something here.
    pub(crate) fn holds(self, case: &Case) -> bool {
        match case.group {
            Log => self.postgres || case.name.starts_with("log_changes"),
            BigTransaction => self.postgres,
            Fresh | Fresh200 | Commits => self.postgres && self.readable,
            _ => true,
        }
    }
}

/// The cases whose name begins with `only`, all without it, as far as they can be measured.
pub(crate) fn chosen(only: Option<&str>, reach: Reach) -> impl Iterator<Item = &'static Case> {
    let wanted = move |case: &&Case| only.is_none_or(|only| case.name.starts_with(only));
    CASES.iter().filter(wanted).filter(move |case| reach.holds(case))
}

/// The groups that measure these cases.
pub(crate) fn groups(only: Option<&str>, reach: Reach) -> Vec<Group> {
    let chosen: Vec<Group> = chosen(only, reach).map(|case| case.group).collect();
    Group::ALL.into_iter().filter(|group| chosen.contains(group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reach = Reach { postgres: true, readable: true };

    #[test]
    fn a_prefix_chooses_groups() {
        assert_eq!(groups(Some("load_narrow"), ALL), [Group::LoadNarrow]);
        assert_eq!(groups(Some("fresh"), ALL), [Group::Fresh, Group::Fresh200]);
        assert_eq!(groups(Some("nothing"), ALL), []);
        assert_eq!(groups(None, ALL), Group::ALL);
    }

    #[test]
    fn what_cannot_be_measured_is_not_chosen() {
        let maria = Reach { postgres: false, readable: true };
        let names: Vec<&str> = chosen(Some("log_"), maria).map(|case| case.name).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let nowhere = Reach { postgres: true, readable: false };
        assert_eq!(groups(Some("fresh"), nowhere), []);
    }

    #[test]
    fn names_are_unique() {
        for case in CASES {
            assert_eq!(CASES.iter().filter(|other| other.name == case.name).count(), 1);
            assert!(by_name(case.name).is_some());
        }
    }
}
