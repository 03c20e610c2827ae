//! What was written and has not left.

use std::collections::VecDeque;
use std::io::IoSlice;

/// So many buffers leave in one call.
const VECTORED: usize = 16;
/// A buffer takes no more than this by being appended to.
const JOINED_BYTES: usize = 16 * 1024;

/// Bytes in order, in as few pieces as is cheap.
#[derive(Default)]
pub(super) struct WriteQueue {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have left.
    sent_of_first: usize,
    len: usize,
}

impl WriteQueue {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + bytes.len() <= JOINED_BYTES => last.extend_from_slice(bytes),
            _ => self.pieces.push_back(bytes.to_vec()),
        }
    }

    /// Shows `send` the first bytes, for one vectored call.
    pub(super) fn with_slices<T>(&self, send: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); VECTORED];
        let mut skipped = self.sent_of_first;
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece[std::mem::take(&mut skipped)..]);
            count += 1;
        }
        send(&slices[..count])
    }

    /// `count` bytes have left.
    pub(super) fn advance(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(first) = self.pieces.front() {
            let of_first = first.len() - self.sent_of_first;
            if left < of_first {
                self.sent_of_first += left;
                return;
            }
            left -= of_first;
            self.sent_of_first = 0;
            self.pieces.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &WriteQueue) -> Vec<u8> {
        queue.with_slices(|slices| slices.iter().flat_map(|slice| slice.to_vec()).collect())
    }

    #[test]
    fn bytes_leave_in_order_wherever_a_call_ends() {
        let mut queue = WriteQueue::default();
        let sent: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
        for piece in sent.chunks(7_000) {
            queue.push(piece);
        }
        queue.push(b"");
        assert_eq!(queue.len(), sent.len());
        let mut left = &sent[..];
        for step in [0, 1, 6_999, 13_001, 5, 19_000, 990, 4, 9_999] {
            assert_eq!(all(&queue), left);
            queue.advance(step);
            left = &left[step.min(left.len())..];
        }
        assert!(queue.is_empty() && left.is_empty() && queue.pieces.is_empty());
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_offered_in_turns() {
        let mut queue = WriteQueue::default();
        (0..40_u8).for_each(|number| queue.push(&[number; JOINED_BYTES]));
        assert_eq!(queue.with_slices(|slices| slices.len()), VECTORED);
        queue.advance(VECTORED * JOINED_BYTES);
        assert_eq!(all(&queue)[0], VECTORED as u8);
    }
}
