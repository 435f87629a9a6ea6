//! A chunk: a binary COPY in memory, through framing and into Arrow columns.
use lakeward_source_postgres::copy::Rows;
use lakeward_source_postgres::types::{Transfer, Unrepresentable};
use lakeward_source_postgres::wire::Frames;

use super::narrow::{COLUMNS, Row, schema};

/// So many rows as the server sends them: one message a row, the head in the first.
pub(crate) fn stream(rows: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for id in 0..rows {
        let mut body = Vec::new();
        if id == 0 {
            body.extend(b"PGCOPY\n\xff\r\n\0");
            body.extend([0; 8]);
        }
        Row::of(id, 0).copy(&mut body);
        message(&body, &mut out);
    }
    message(&(-1i16).to_be_bytes(), &mut out);
    out
}

fn message(body: &[u8], out: &mut Vec<u8>) {
    out.push(b'd');
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
}

/// Decodes all of it; returns how many rows came out.
pub(crate) async fn decoded(mut bytes: &[u8]) -> u64 {
    let mut rows =
        Rows::new(schema(), vec![Transfer::Binary; COLUMNS], Unrepresentable::Fail).unwrap();
    let (mut frames, mut count) = (Frames::new(), 0);
    while frames.fill(&mut bytes).await.unwrap() > 0 {
        loop {
            let whole = frames.walk(|frame| {
                rows.feed(frame.body)?;
                Ok(!rows.is_full())
            });
            whole.unwrap();
            if !rows.is_full() {
                break;
            }
            count += taken(&mut rows);
        }
    }
    rows.finish().unwrap();
    count + taken(&mut rows)
}

fn taken(rows: &mut Rows) -> u64 {
    rows.take().unwrap().map_or(0, |batch| batch.num_rows() as u64)
}
