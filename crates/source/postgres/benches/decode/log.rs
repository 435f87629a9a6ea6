//! The log: a walsender's stream in memory, through framing, `pgoutput` and the fold.
//!
//! 60 of 100 changes are updates, 30 inserts, 10 deletes, mixed in tens, in transactions of 10 to 1,000.
use std::sync::Arc;

use lakeward_core::SourceEvent;
use lakeward_source_postgres::batch::Layout;
use lakeward_source_postgres::decode;
use lakeward_source_postgres::fold::{Fold, OpenLayout};
use lakeward_source_postgres::types::Unrepresentable;
use lakeward_source_postgres::wire::Frames;

use super::narrow::{COLUMNS, Row, mixed, schema};

const RELATION: u32 = 16_500;
/// Kind, start, end and time before each message of the log.
const HEADER_BYTES: usize = 25;

/// So many changes at least: the server's bytes, and how many changes they are.
pub(crate) fn stream(changes: u64) -> (Vec<u8>, u64) {
    let (mut out, mut made) = (Vec::new(), 0);
    for transaction in 1.. {
        if made >= changes {
            break;
        }
        let size = 10 + mixed(transaction) % 991;
        message(&mut out, |out| begin(transaction, out));
        for change in made..made + size {
            message(&mut out, |out| self::change(change, out));
        }
        message(&mut out, |out| commit(transaction, out));
        made += size;
    }
    (out, made)
}

/// One `CopyData` with a piece of the log.
fn message(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.push(b'd');
    out.extend([0; 4]);
    out.push(b'w');
    out.extend([0; HEADER_BYTES - 1]);
    body(out);
    let length = (out.len() - from - 1) as u32;
    out[from + 1..from + 5].copy_from_slice(&length.to_be_bytes());
}

fn begin(transaction: u64, out: &mut Vec<u8>) {
    out.push(b'B');
    out.extend((transaction << 20).to_be_bytes());
    out.extend(0u64.to_be_bytes());
    out.extend((transaction as u32).to_be_bytes());
}

fn commit(transaction: u64, out: &mut Vec<u8>) {
    out.extend(*b"C\0");
    out.extend((transaction << 20).to_be_bytes());
    out.extend(((transaction << 20) + 48).to_be_bytes());
    out.extend(0u64.to_be_bytes());
}

fn change(number: u64, out: &mut Vec<u8>) {
    let row = Row::of(1_000_000 + mixed(number) % 10_000_000, number);
    let (kind, image) = match number % 10 {
        0..6 => (b'U', b'N'),
        6..9 => (b'I', b'N'),
        _ => (b'D', b'K'),
    };
    out.push(kind);
    out.extend(RELATION.to_be_bytes());
    out.push(image);
    row.log(image == b'K', out);
}

/// Decodes all of it; returns how many changes came out.
pub(crate) async fn decoded(mut bytes: &[u8]) -> u64 {
    let (mut frames, mut fold, mut changes) = (Frames::new(), fold(), 0);
    while frames.fill(&mut bytes).await.unwrap() > 0 {
        while let Some(frame) = frames.peek().unwrap() {
            let length = frame.body.len();
            let message = decode::parse(&frame.body[HEADER_BYTES..], fold.streaming()).unwrap();
            fold.apply(message).unwrap();
            frames.skip(length);
            changes += taken(&mut fold);
        }
    }
    fold.flush().unwrap();
    changes + taken(&mut fold)
}

fn taken(fold: &mut Fold) -> u64 {
    let mut changes = 0;
    while let Some(event) = fold.pop() {
        if let SourceEvent::Rows(batch) = event {
            changes += batch.len() as u64;
        }
    }
    changes
}

fn fold() -> Fold {
    let slots = (0..COLUMNS as u32).map(Some).collect();
    let layout = Arc::new(Layout::new(RELATION, schema(), slots, Unrepresentable::Fail));
    let mut fold = Fold::new(1, 0);
    fold.install(None, OpenLayout { part: 0, layout, changed: None }, None).unwrap();
    fold
}
