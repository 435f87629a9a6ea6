//! What came from the server and was not read yet, cut into packets.
//!
//! A packet stands in the buffer as it came and is read there. One of 16 MiB and more comes in parts, which are joined in
//! place. Deliberately absent: the socket, and what packets mean.
use std::ops::Range;

/// Length and number before each part of a packet.
const HEAD: usize = 4;
/// A part of this length is followed by another one.
const PART_FULL: usize = 0xFF_FFFF;
/// No packet is longer: the server's own limit.
const PACKET_BYTES_MAX: usize = 1 << 30;

/// Bytes that are not a packet of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The buffer.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
    room: usize,
}

impl Inbox {
    /// With room for so many bytes; longer packets make more for themselves, as long as they are there.
    pub(crate) fn new(room: usize) -> Self {
        Self { bytes: vec![0; room], begin: 0, end: 0, room }
    }

    /// From now on there is room for so many bytes.
    pub(crate) fn widen(&mut self, room: usize) {
        self.room = self.room.max(room);
        if self.bytes.len() < self.room {
            self.bytes.resize(self.room, 0);
        }
    }

    /// Where the next packet's content stands, and the number of its last part. `None`: it has not come as a whole.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(crate) fn packet(&mut self) -> Result<Option<(Range<usize>, u8)>, TooLong> {
        let mut at = self.begin;
        loop {
            let Some((length, number)) = self.head(at) else { return Ok(None) };
            let end = at + HEAD + length;
            if end - self.begin > PACKET_BYTES_MAX {
                return Err(TooLong);
            }
            if end > self.end {
                return Ok(None);
            }
            if length < PART_FULL {
                let packet = self.joined(at, end);
                self.begin = end;
                return Ok(Some((packet, number)));
            }
            at = end;
        }
    }

    fn head(&self, at: usize) -> Option<(usize, u8)> {
        let head: &[u8; HEAD] = self.bytes.get(at..self.end)?.first_chunk()?;
        let [a, b, c, number] = *head;
        Some((u32::from_le_bytes([a, b, c, 0]) as usize, number))
    }

    /// Joins the full parts from `begin` on with the one at `last`, by moving the earlier ones up.
    fn joined(&mut self, last: usize, end: usize) -> Range<usize> {
        let mut start = last + HEAD;
        let mut part = last;
        while part > self.begin {
            part -= HEAD + PART_FULL;
            self.bytes.copy_within(part + HEAD..part + HEAD + PART_FULL, start - PART_FULL);
            start -= PART_FULL;
        }
        start..end
    }

    /// The bytes at a place that [`packet`](Self::packet) gave, until more is read.
    pub(crate) fn at(&self, place: Range<usize>) -> &[u8] {
        self.bytes.get(place).unwrap_or_default()
    }

    /// Room for what comes next; never empty. Packets that were given are gone.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let wanted = self.needed().max(self.room);
        // One long packet does not keep its memory.
        if self.bytes.len() < wanted || self.bytes.len() > 4 * wanted {
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to(wanted);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Bytes that must be there before the first packet is, as far as its parts tell; more than are.
    fn needed(&self) -> usize {
        let mut at = 0;
        while let Some((length, _)) = self.head(at) {
            at += HEAD + length;
            if at > self.end {
                return at;
            }
        }
        at + HEAD
    }

    /// So many bytes were written into [`free`](Self::free).
    pub(crate) fn came(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Everything that was given so far, taken out with its buffer: places stay as they were given. What has not been
    /// given stays.
    pub(crate) fn take_given(&mut self) -> Vec<u8> {
        // A few bytes are cheaper copied than given away with all their room.
        if self.begin == self.end && self.end < self.room / 8 {
            let given = self.bytes.get(..self.end).unwrap_or_default().to_vec();
            (self.begin, self.end) = (0, 0);
            return given;
        }
        let mut fresh = vec![0; self.room.max(self.end - self.begin)];
        fresh[..self.end - self.begin].copy_from_slice(&self.bytes[self.begin..self.end]);
        (self.begin, self.end) = (0, self.end - self.begin);
        std::mem::replace(&mut self.bytes, fresh)
    }

    /// Bytes of the packets that were given and not taken out.
    pub(crate) fn given(&self) -> usize {
        self.begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(content: &[u8], number: u8) -> Vec<u8> {
        [&(content.len() as u32).to_le_bytes()[..3], &[number], content].concat()
    }

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], most: usize) {
        while !bytes.is_empty() {
            let free = inbox.free();
            let count = bytes.len().min(free.len()).min(most);
            free[..count].copy_from_slice(&bytes[..count]);
            inbox.came(count);
            bytes = &bytes[count..];
        }
    }

    fn next(inbox: &mut Inbox) -> Option<(Vec<u8>, u8)> {
        let (place, number) = inbox.packet().unwrap()?;
        Some((inbox.at(place).to_vec(), number))
    }

    #[test]
    fn packets_come_out_however_they_came_in() {
        let stream = [part(b"abc", 0), part(b"", 1), part(&[7; 100], 2)].concat();
        for most in [1, 3, 7, 1000] {
            let mut inbox = Inbox::new(16);
            let mut found = Vec::new();
            for piece in stream.chunks(most) {
                feed(&mut inbox, piece, most);
                while let Some(packet) = next(&mut inbox) {
                    found.push(packet);
                }
            }
            assert_eq!(found, [(b"abc".to_vec(), 0), (vec![], 1), (vec![7; 100], 2)], "{most}");
        }
    }

    #[test]
    fn parts_of_a_long_packet_are_joined() {
        let content: Vec<u8> = (0..PART_FULL + 5).map(|at| (at % 251) as u8).collect();
        let (first, second) = content.split_at(PART_FULL);
        let stream = [part(first, 0), part(second, 1), part(b"x", 2)].concat();
        let mut inbox = Inbox::new(1 << 16);
        feed(&mut inbox, &stream, 1 << 20);
        assert_eq!(next(&mut inbox), Some((content.clone(), 1)));
        assert_eq!(next(&mut inbox), Some((b"x".to_vec(), 2)));
        let exactly = [part(first, 0), part(b"", 1)].concat();
        feed(&mut inbox, &exactly, 1 << 20);
        assert_eq!(next(&mut inbox), Some((first.to_vec(), 1)));
        assert_eq!(next(&mut inbox), None);
        assert!(inbox.free().len() < 1 << 18, "the memory of a long packet is given back");
    }

    #[test]
    fn what_was_given_is_taken_out_where_it_stands() {
        let mut inbox = Inbox::new(64);
        feed(&mut inbox, &[part(b"one", 0), part(b"two", 1), vec![9, 0]].concat(), 64);
        let (one, _) = inbox.packet().unwrap().unwrap();
        let (two, _) = inbox.packet().unwrap().unwrap();
        let taken = inbox.take_given();
        assert_eq!((&taken[one], &taken[two]), (&b"one"[..], &b"two"[..]));
        feed(&mut inbox, &[0, 2, b'n', b'i', b'n', b'e', b'b', b'y', b't', b'e', b's'], 64);
        assert_eq!(next(&mut inbox), Some((b"ninebytes".to_vec(), 2)));
        let mut roomy = Inbox::new(1 << 10);
        feed(&mut roomy, &part(b"few", 0), 64);
        let (few, _) = roomy.packet().unwrap().unwrap();
        assert_eq!(roomy.take_given()[few], *b"few");
        feed(&mut roomy, &part(b"more", 1), 64);
        assert_eq!(next(&mut roomy), Some((b"more".to_vec(), 1)));
    }
}
