//! The laws, for every pair of source and lake there is. One program, so that servers are shared
//! and the readers are loaded once.
//!
//! A law that is not run says `SKIPPED name: reason`; `cargo x test` counts these lines. Pairs of a
//! server's version and a lake take turns: each version meets one lake and each source every lake,
//! `--full` runs the others too.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed law panics with its evidence"
)]

use std::sync::Arc;

use lakeward_e2e::Shared;
use lakeward_testkit::Result;
use lakeward_testkit::judge::Judge;
use lakeward_testkit::laws::kill::Occurrences;
use lakeward_testkit::laws::restart::Share;
use lakeward_testkit::laws::{
    Extent, bad_input, bank, fence, foreign, kill, limits, log, restart, sinks, traps, types,
};
use lakeward_testkit::mariadb::{self, MariaDb};
use lakeward_testkit::pairs::{Both, DeltaFolder, Iceberg3Folder, IcebergFolder};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers;
use lakeward_testkit::world::SourceServer;

static POSTGRES_15: Shared<Postgres> = Shared::new(servers::Version::V15);
static POSTGRES_18: Shared<Postgres> = Shared::new(servers::Version::V18);
static MARIADB_10_11: Shared<MariaDb> = Shared::new(mariadb::Version::V10_11);
static MARIADB_11_8: Shared<MariaDb> = Shared::new(mariadb::Version::V11_8);

/// Written by others while the log must be released.
const GIB: u64 = 1 << 30;

async fn own<S: SourceServer>(shared: &Shared<S>, settings: &[(&str, &str)]) -> Arc<S> {
    Arc::new(S::begin(shared.version(), settings).await.unwrap())
}

#[track_caller]
fn holds(outcome: Result<()>) {
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn skip(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
}

/// Laws that one pair in turn runs; the others run them under `--full`.
fn its_turn(name: &str, chosen: bool) -> bool {
    let run = chosen || Extent::from_env() == Extent::Full;
    if !run {
        skip(name, "another pair's turn; all run under --full");
    }
    run
}

/// One law, with the attributes of its pair's turn.
macro_rules! law {
    ([$($turn:tt)*] $name:ident $body:block) => {
        $($turn)*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() $body
    };
}

/// Laws on the server that all pairs share, and on one of their own.
macro_rules! all {
    ($turn:tt shared: $($name:ident => $law:expr;)*) => {
        $(law!($turn $name { holds($law(SERVER.get().await.unwrap()).await); });)*
    };
    ($turn:tt own: $($name:ident => $law:expr;)*) => {
        $(law!($turn $name { holds($law(own(SERVER, &[]).await).await); });)*
    };
}

macro_rules! pair {
    ($module:ident, $turn:tt, $source:ty, $server:expr, $lake:ty, kills: $kills:expr, streams: $streams:expr, restarts: $share:expr) => {
        mod $module {
            use super::*;

            type Source = $source;
            type Lake = $lake;

            static SERVER: &Shared<Source> = &$server;

            law!($turn kill_law {
                let occurrences = match Extent::from_env() {
                    Extent::Ci => $kills,
                    Extent::Full => Occurrences::Three,
                };
                holds(kill::law::<_, Lake>(own(SERVER, &[]).await, occurrences).await);
            });

            law!($turn restart_law_in_stream {
                if its_turn(concat!(stringify!($module), "::restart_law_in_stream"), $streams) {
                    let server = own(SERVER, &[]).await;
                    holds(restart::law::<_, Lake>(server, Extent::from_env(), $share, false).await);
                }
            });

            law!($turn restart_law_while_loading {
                if its_turn(concat!(stringify!($module), "::restart_law_while_loading"), !$streams) {
                    let server = own(SERVER, &[]).await;
                    holds(restart::law::<_, Lake>(server, Extent::from_env(), $share, true).await);
                }
            });

            law!($turn log_is_released_while_others_write {
                holds(limits::log_is_released::<_, Lake>(own(SERVER, &[]).await, GIB).await);
            });

            law!($turn passwords {
                let server = own(SERVER, &[]).await;
                server.ask_for_password("the right one").await.unwrap();
                holds(bad_input::wrong_password::<_, Lake>(Arc::clone(&server)).await);
                holds(bad_input::right_password::<_, Lake>(server, "the right one").await);
            });

            law!($turn unfit_server {
                let server = own(SERVER, &[Source::unfit().setting]).await;
                holds(bad_input::unfit_server::<_, Lake>(server).await);
            });

            law!($turn disk_full {
                match bad_input::disk_full::<_, Lake>(SERVER.get().await.unwrap()).await {
                    Ok(Some(())) => {}
                    Ok(None) => skip(
                        concat!(stringify!($module), "::disk_full"),
                        "this machine mounts no small disk",
                    ),
                    Err(error) => panic!("{error}"),
                }
            });

            all! { $turn own:
                held_commit => |s| traps::held_commit::<_, Lake>(s, false);
                held_commit_across_a_restart => |s| traps::held_commit::<_, Lake>(s, true);
                large_transaction_under_64_mib => limits::large_transaction::<_, Lake>;
                lost_log => bad_input::lost_log::<_, Lake>;
                server_restarts => log::server_restarts::<_, Lake>;
                log_readers_are_ended => log::log_readers_are_ended::<_, Lake>;
                prepared_transactions => log::prepared_transactions::<_, Lake>;
            }

            all! { $turn shared:
                bank_law => bank::law::<_, Lake>;
                fence_law_newer_first => |s| fence::law::<_, Lake>(s, fence::Order::NewerFirst);
                fence_law_older_first => |s| fence::law::<_, Lake>(s, fence::Order::OlderFirst);
                type_law => types::law::<_, Lake>;
                table_added_under_an_open_writer => traps::table_added_under_an_open_writer::<_, Lake>;
                table_added_while_running => traps::table_added_while_running::<_, Lake>;
                rewrite_under_a_snapshot => traps::rewrite_under_a_snapshot::<_, Lake>;
                rewrite_of_a_loaded_table => traps::rewrite_of_a_loaded_table::<_, Lake>;
                ddl_in_a_rolled_back_savepoint => traps::ddl_in_a_rolled_back_savepoint::<_, Lake>;
                ddl_in_a_rolled_back_transaction => traps::ddl_in_a_rolled_back_transaction::<_, Lake>;
                add_column_with_default => traps::add_column_with_default::<_, Lake>;
                add_column_with_default_in_a_torn_epoch => traps::add_column_with_default_in_a_torn_epoch::<_, Lake>;
                columns_swap_names => traps::columns_swap_names::<_, Lake>;
                tables_swap_names => traps::tables_swap_names::<_, Lake>;
                table_made_again => traps::table_made_again::<_, Lake>;
                missing_cells_while_loading => traps::missing_cells_while_loading::<_, Lake>;
                tables_without_a_key => traps::tables_without_a_key::<_, Lake>;
                resync_of_one_table => traps::resync_of_one_table::<_, Lake>;
                log_gets_new_files => log::log_gets_new_files::<_, Lake>;
                changes_logged_as_statements => log::changes_logged_as_statements::<_, Lake>;
                idle_position_moves => limits::idle_position_moves::<_, Lake>;
                missing_table => bad_input::missing_table::<_, Lake>;
                no_right_on_a_table => bad_input::no_right_on_a_table::<_, Lake>;
                unwritable_warehouse => bad_input::unwritable_warehouse::<_, Lake>;
                damaged_ledger => bad_input::damaged_ledger::<_, Lake>;
                lost_ledger => bad_input::lost_ledger::<_, Lake>;
                two_pipelines_on_one_table => bad_input::two_pipelines_on_one_table::<_, Lake>;
                catalogue_locked => bad_input::catalogue_locked::<_, Lake>;
                bad_definition => bad_input::bad_definition::<_, Lake>;
                unreachable_server => bad_input::unreachable_server::<_, Lake>;
            }
        }
    };
}

/// Both lakes from one log.
macro_rules! both {
    ($module:ident, $source:ty, $server:expr, $iceberg:ty, kills: $kills:expr) => {
        mod $module {
            use super::*;

            type Lake = Both<$iceberg, DeltaFolder>;

            static SERVER: &Shared<$source> = &$server;

            law!([] kill_law {
                if its_turn(concat!(stringify!($module), "::kill_law"), $kills) {
                    let occurrences = Occurrences::for_extent(Extent::from_env());
                    holds(kill::law::<_, Lake>(own(SERVER, &[]).await, occurrences).await);
                }
            });

            all! { [] shared:
                bank_law => bank::law::<_, Lake>;
                one_sink_is_away => sinks::law::<_, Lake>;
                one_sink_stays_away => sinks::one_stays_away::<_, Lake>;
                idle_position_moves => limits::idle_position_moves::<_, Lake>;
                add_column_with_default => traps::add_column_with_default::<_, Lake>;
                resync_of_one_table => traps::resync_of_one_table::<_, Lake>;
            }
        }
    };
}

pair!(postgres_15_iceberg, [], Postgres, POSTGRES_15, IcebergFolder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);
pair!(postgres_18_delta, [], Postgres, POSTGRES_18, DeltaFolder, kills: Occurrences::Middle, streams: false, restarts: Share::Fourth);
pair!(mariadb_10_11_delta, [], MariaDb, MARIADB_10_11, DeltaFolder, kills: Occurrences::Middle, streams: false, restarts: Share::Whole);
pair!(mariadb_11_8_iceberg, [], MariaDb, MARIADB_11_8, IcebergFolder, kills: Occurrences::Middle, streams: true, restarts: Share::Fourth);

pair!(postgres_18_iceberg, [#[ignore = "its turn is under --full"]], Postgres, POSTGRES_18, IcebergFolder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);
pair!(postgres_15_delta, [#[ignore = "its turn is under --full"]], Postgres, POSTGRES_15, DeltaFolder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);
pair!(mariadb_10_11_iceberg, [#[ignore = "its turn is under --full"]], MariaDb, MARIADB_10_11, IcebergFolder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);
pair!(mariadb_11_8_delta, [#[ignore = "its turn is under --full"]], MariaDb, MARIADB_11_8, DeltaFolder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);

pair!(postgres_18_iceberg_3, [#[ignore = "its turn is under --full"]], Postgres, POSTGRES_18, Iceberg3Folder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);
pair!(mariadb_11_8_iceberg_3, [#[ignore = "its turn is under --full"]], MariaDb, MARIADB_11_8, Iceberg3Folder, kills: Occurrences::Three, streams: true, restarts: Share::Whole);

both!(postgres_18_both, Postgres, POSTGRES_18, Iceberg3Folder, kills: true);
both!(mariadb_11_8_both, MariaDb, MARIADB_11_8, IcebergFolder, kills: false);

/// The pairs above that are ignored are counted as one skip each.
#[test]
fn pairs_take_turns() {
    for module in [
        "postgres_18_iceberg",
        "postgres_15_delta",
        "mariadb_10_11_iceberg",
        "mariadb_11_8_delta",
        "postgres_18_iceberg_3",
        "mariadb_11_8_iceberg_3",
    ] {
        its_turn(module, false);
    }
}

/// Spark with each format's own Java library, once for all pairs: it starts once for each format.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_judges() {
    let mut judge = Judge::start().await.unwrap();
    match judge.spark().await.unwrap() {
        Err(why) => skip("java_judges", &format!("Java judges: {why}")),
        Ok(version) => {
            println!("java_judges: spark {version}");
            let (postgres, mariadb) = (POSTGRES_18.get().await, MARIADB_11_8.get().await);
            type With3 = Both<Iceberg3Folder, DeltaFolder>;
            type With2 = Both<IcebergFolder, DeltaFolder>;
            holds(foreign::law::<_, With3>(postgres.unwrap(), &mut judge).await);
            holds(foreign::law::<_, With2>(mariadb.unwrap(), &mut judge).await);
        }
    }
}
