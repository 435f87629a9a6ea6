//! MariaDB's binary log from a place to its end, thrown away. Events are counted, not changes: rows lie inside of them.

use std::time::Instant;

use lakeward_testkit::Result;

use super::Taken;
use super::mysql::Connection;

const COM_BINLOG_DUMP: u8 = 0x12;
/// The server ends the stream at the log's end instead of waiting for more.
const NON_BLOCK: u16 = 1;

/// The settings without which MariaDB sends an older form of its log.
const SETTINGS: [&str; 3] = [
    "SET @master_binlog_checksum='CRC32'",
    "SET @mariadb_slave_capability=4",
    "SET @master_heartbeat_period=60000000000",
];

/// Reads from `offset` of a log file to the end of the last one. `changes` is what the caller knows to be there.
pub(crate) fn read(port: u16, file: &str, offset: u32, changes: u64) -> Result<Taken> {
    let mut connection = Connection::open(port)?;
    for setting in SETTINGS {
        connection.execute(setting)?;
    }
    let (start, before) = (Instant::now(), connection.bytes);
    let mut body = offset.to_le_bytes().to_vec();
    body.extend(NON_BLOCK.to_le_bytes());
    body.extend(4_242_424_242u32.to_le_bytes());
    body.extend(file.as_bytes());
    connection.command(COM_BINLOG_DUMP, &body)?;
    loop {
        while let Some(packet) = connection.next()? {
            if packet.is_end() {
                let bytes = connection.bytes - before;
                return Ok(Taken { rows: changes, bytes, wall: start.elapsed() });
            }
        }
        connection.fill()?;
    }
}
