//! A table by binary COPY, thrown away.

use std::time::Instant;

use lakeward_testkit::Result;

use super::Taken;
use super::postgres::Connection;

/// Reads all of a table.
pub(crate) fn read(port: u16, database: &str, table: &str) -> Result<Taken> {
    let mut connection = Connection::open(port, database, false)?;
    let (start, before) = (Instant::now(), connection.bytes);
    connection.query(&format!("COPY {table} TO STDOUT (FORMAT binary)"))?;
    let mut frames = 0u64;
    loop {
        while let Some(frame) = connection.next(0)? {
            match frame.tag {
                b'd' => frames += 1,
                b'Z' => {
                    let (bytes, wall) = (connection.bytes - before, start.elapsed());
                    // the head and the end of the format are not rows
                    return Ok(Taken { rows: frames.saturating_sub(1), bytes, wall });
                }
                _ => {}
            }
        }
        connection.fill()?;
    }
}
