//! The binary log's events, decoded from their bytes: everything behind the event header is read here.
//!
//! Pure: no socket, no catalogue, no clock. Every length is checked; no bytes can cause a panic.
pub mod cell;
mod compress;
mod cursor;
pub mod event;
pub(crate) mod layout;
pub mod rows;
pub mod table_map;

pub(crate) use cursor::Cursor;
pub use cursor::Malformed;

/// Whose log it is: the two differ in events and details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
}
