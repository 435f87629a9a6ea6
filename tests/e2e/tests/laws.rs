//! The laws, for every pair of source and lake there is. One program, so that servers are shared
//! and the readers are loaded once.
//!
//! A law that is not run says `SKIPPED name: reason`; `cargo x test` counts these lines.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed law panics with its evidence"
)]

use std::sync::Arc;

use lakeward_e2e::shared;
use lakeward_testkit::Result;
use lakeward_testkit::laws::kill::Occurrences;
use lakeward_testkit::laws::{Extent, bad_input, bank, fence, kill, limits, restart, traps, types};
use lakeward_testkit::pairs::IcebergFolder;
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;

type Lake = IcebergFolder;

/// Written by others while the slot must move.
const GIB: u64 = 1 << 30;

async fn own(version: Version, settings: &[(&str, &str)]) -> Result<Arc<Postgres>> {
    Ok(Arc::new(Postgres::start_with(version, settings).await?))
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
        skip(name, "another server's turn; all run under --full");
    }
    run
}

macro_rules! shared_laws {
    ($($name:ident => $law:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let server = shared(VERSION).await.unwrap();
                holds($law(server).await);
            }
        )*
    };
}

macro_rules! laws {
    ($module:ident, $version:expr, kills: $kills:expr, streams: $streams:expr) => {
        mod $module {
            use super::*;

            const VERSION: Version = $version;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kill_law() {
                let occurrences = match Extent::from_env() {
                    Extent::Ci => $kills,
                    Extent::Full => Occurrences::Three,
                };
                let server = own(VERSION, &[]).await.unwrap();
                holds(kill::law::<_, Lake>(server, occurrences).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn restart_law_in_stream() {
                if its_turn(concat!(stringify!($module), "::restart_law_in_stream"), $streams) {
                    let server = own(VERSION, &[]).await.unwrap();
                    holds(restart::law::<_, Lake>(server, Extent::from_env(), false).await);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn restart_law_while_loading() {
                if its_turn(concat!(stringify!($module), "::restart_law_while_loading"), !$streams) {
                    let server = own(VERSION, &[]).await.unwrap();
                    holds(restart::law::<_, Lake>(server, Extent::from_env(), true).await);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn held_commit() {
                let server = own(VERSION, &[]).await.unwrap();
                holds(traps::held_commit::<_, Lake>(server, false).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn held_commit_across_a_restart() {
                let server = own(VERSION, &[]).await.unwrap();
                holds(traps::held_commit::<_, Lake>(server, true).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn large_transaction_under_64_mib() {
                let server = own(VERSION, &[]).await.unwrap();
                holds(limits::large_transaction::<_, Lake>(server).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn log_is_released_while_others_write() {
                let server = own(VERSION, &[]).await.unwrap();
                holds(limits::log_is_released::<_, Lake>(server, GIB).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn passwords() {
                let server = own(VERSION, &[]).await.unwrap();
                server.require_password("the right one").await.unwrap();
                holds(bad_input::wrong_password::<_, Lake>(Arc::clone(&server)).await);
                holds(bad_input::right_password::<_, Lake>(server, "the right one").await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn wal_level_replica() {
                let server = own(VERSION, &[("wal_level", "replica")]).await.unwrap();
                holds(bad_input::wal_level_replica::<_, Lake>(server).await);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn disk_full() {
                let server = shared(VERSION).await.unwrap();
                match bad_input::disk_full::<_, Lake>(server).await {
                    Ok(Some(())) => {}
                    Ok(None) => skip(
                        concat!(stringify!($module), "::disk_full"),
                        "this machine mounts no small disk",
                    ),
                    Err(error) => panic!("{error}"),
                }
            }

            shared_laws! {
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
                missing_table => bad_input::missing_table::<_, Lake>;
                no_right_on_a_table => bad_input::no_right_on_a_table::<_, Lake>;
                unwritable_warehouse => bad_input::unwritable_warehouse::<_, Lake>;
                damaged_ledger => bad_input::damaged_ledger::<_, Lake>;
                lost_ledger => bad_input::lost_ledger::<_, Lake>;
                slot_dropped => bad_input::slot_dropped::<_, Lake>;
                two_pipelines_on_one_table => bad_input::two_pipelines_on_one_table::<_, Lake>;
                catalogue_locked => bad_input::catalogue_locked::<_, Lake>;
                bad_definition => bad_input::bad_definition::<_, Lake>;
                unreachable_server => bad_input::unreachable_server::<_, Lake>;
            }
        }
    };
}

laws!(postgres_15, Version::V15, kills: Occurrences::Middle, streams: true);
laws!(postgres_18, Version::V18, kills: Occurrences::Three, streams: false);
