//! The walls: which room may depend on which, and on which foreign crates.

use serde_json::Value;

/// A room: its crate, the rooms it may use, and what it must not use although others do.
struct Room {
    name: &'static str,
    rooms: &'static [&'static str],
    foreign: Foreign,
}

enum Foreign {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Any but these.
    Never(&'static [&'static str]),
}

use Foreign::{Never, Only};

const CORE: &str = "lakeward-core";
const FILES: &str = "lakeward-files";
const ENGINE: &str = "lakeward-engine";
const TESTKIT: &str = "lakeward-testkit";

/// Clients of databases.
const DRIVERS: &[&str] = &[
    "tokio-postgres",
    "postgres-protocol",
    "mysql_async",
    "mysql_common",
    "mongodb",
    "tiberius",
    "oracledb",
];

const ROOMS: &[Room] = &[
    Room {
        name: CORE,
        rooms: &[],
        foreign: Only(&[
            "arrow-array",
            "arrow-buffer",
            "arrow-schema",
            "async-trait",
            "schemars",
            "serde",
            "serde_json",
            "xxhash-rust",
        ]),
    },
    Room {
        name: "lakeward-source-postgres",
        rooms: &[CORE],
        foreign: Never(&[
            "iceberg",
            "parquet",
            "object_store",
            "rusqlite",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room {
        name: "lakeward-source-mysql",
        rooms: &[CORE],
        foreign: Never(&[
            "iceberg",
            "parquet",
            "object_store",
            "tokio-postgres",
            "postgres-protocol",
            "rusqlite",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room {
        name: FILES,
        rooms: &[CORE],
        foreign: Never(&[
            "iceberg",
            "deltalake",
            "hudi-core",
            "tokio-postgres",
            "postgres-protocol",
            "rusqlite",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room {
        name: "lakeward-iceberg",
        rooms: &[CORE, FILES],
        foreign: Never(&[
            "deltalake",
            "hudi-core",
            "tokio-postgres",
            "postgres-protocol",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room {
        name: "lakeward-delta",
        rooms: &[CORE, FILES],
        foreign: Never(&[
            "iceberg",
            "deltalake",
            "hudi-core",
            "tokio-postgres",
            "postgres-protocol",
            "rusqlite",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room {
        name: ENGINE,
        rooms: &[CORE],
        foreign: Never(&[
            "iceberg",
            "parquet",
            "deltalake",
            "hudi-core",
            "tokio-postgres",
            "postgres-protocol",
            "rusqlite",
            "datafusion",
            "axum",
            "clap",
        ]),
    },
    Room { name: TESTKIT, rooms: &[CORE, ENGINE], foreign: Never(&["iceberg", "parquet", "clap"]) },
    Room {
        name: "lakeward",
        rooms: &[
            CORE,
            ENGINE,
            FILES,
            "lakeward-source-postgres",
            "lakeward-source-mysql",
            "lakeward-iceberg",
            "lakeward-delta",
            "lakeward-sink-null",
            "lakeward-source-generator",
        ],
        foreign: Never(DRIVERS),
    },
    Room {
        name: "lakeward-sink-null",
        rooms: &[CORE],
        foreign: Only(&["async-trait", "schemars", "serde", "serde_json", "tokio", "uuid"]),
    },
    Room {
        name: "lakeward-source-generator",
        rooms: &[CORE],
        foreign: Only(&[
            "arrow-array",
            "arrow-buffer",
            "arrow-schema",
            "async-trait",
            "schemars",
            "serde",
            "tokio",
        ]),
    },
    Room {
        name: "lakeward-bench",
        rooms: &[TESTKIT],
        foreign: Only(&[
            "flate2",
            "rusqlite",
            "rustix",
            "serde_json",
            "socket2",
            "tempfile",
            "tokio",
        ]),
    },
    Room { name: "lakeward-e2e", rooms: &[TESTKIT], foreign: Only(&["serde_json", "tokio"]) },
    Room { name: "xtask", rooms: &[], foreign: Only(&["serde_json"]) },
];

/// Edges that no wall lets through.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let members: Vec<&Value> =
        packages.iter().filter(|package| package["source"].is_null()).collect();
    let ours: Vec<&str> = members.iter().filter_map(|package| package["name"].as_str()).collect();
    members.iter().flat_map(|package| check_room(package, &ours)).collect()
}

fn check_room(package: &Value, ours: &[&str]) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or("?");
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!(
            "{name}: a room without walls; give it some in xtask/src/tidy/walls.rs"
        )];
    };
    let dependencies = package["dependencies"].as_array().cloned().unwrap_or_default();
    let refused = dependencies.iter().filter_map(|dependency| {
        let to = dependency["name"].as_str()?;
        let for_tests = dependency["kind"] == "dev";
        let reason = refuse(room, to, for_tests, ours.contains(&to))?;
        Some(format!("{name} -> {to}: {reason}"))
    });
    refused.collect()
}

/// Why this edge is not allowed, if it is not.
fn refuse(room: &Room, to: &str, for_tests: bool, ours: bool) -> Option<&'static str> {
    if ours {
        let test_kit = for_tests && to == TESTKIT;
        let allowed = room.rooms.contains(&to) || test_kit;
        return (!allowed).then_some("this room may not know that room");
    }
    if for_tests {
        return None;
    }
    let allowed = match room.foreign {
        Only(names) => names.contains(&to),
        Never(names) => !names.contains(&to),
    };
    (!allowed).then_some("this crate stays outside this room")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str, to: &str, for_tests: bool) -> bool {
        let ours = ROOMS.iter().any(|room| room.name == to);
        ROOMS
            .iter()
            .find(|room| room.name == from)
            .is_some_and(|room| refuse(room, to, for_tests, ours).is_some())
    }

    #[test]
    fn a_source_knows_no_lake_and_an_engine_no_driver() {
        assert!(refused("lakeward-source-postgres", "lakeward-iceberg", false));
        assert!(refused(ENGINE, "tokio-postgres", false));
        assert!(refused(CORE, "tokio", false));
        assert!(refused(ENGINE, TESTKIT, false));
        assert!(refused("lakeward-e2e", "lakeward-iceberg", true));
        assert!(!refused(ENGINE, TESTKIT, true));
        assert!(!refused("lakeward-iceberg", FILES, false));
    }
}
