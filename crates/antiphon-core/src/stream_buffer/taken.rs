//! Pieces of a buffer, and what a read takes out of it.

/// A run of bytes in a buffer.
#[derive(Debug)]
pub(super) enum Piece<C> {
    /// As it came.
    Chunk(C),
    /// Small chunks, copied together.
    Joined(Vec<u8>),
}

impl<C: AsRef<[u8]> + Clone> Piece<C> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk) => chunk.as_ref(),
            Self::Joined(bytes) => bytes,
        }
    }

    /// The bytes from `start` to `end`, while the piece stays where it is.
    pub(super) fn part(&self, start: usize, end: usize) -> Part<C> {
        match self {
            Self::Chunk(chunk) => Part { piece: Self::Chunk(chunk.clone()), start, end },
            Self::Joined(bytes) => {
                Part { piece: Self::Joined(bytes[start..end].to_vec()), start: 0, end: end - start }
            }
        }
    }
}

/// Some of a piece's bytes.
#[derive(Debug)]
pub(super) struct Part<C> {
    piece: Piece<C>,
    start: usize,
    end: usize,
}

impl<C: AsRef<[u8]> + Clone> Part<C> {
    /// A piece from `start` to its end.
    pub(super) fn rest_of(piece: Piece<C>, start: usize) -> Self {
        let end = piece.bytes().len();
        Self { piece, start, end }
    }

    fn bytes(&self) -> &[u8] {
        &self.piece.bytes()[self.start..self.end]
    }
}

/// Bytes that were taken out of a buffer, in order, not yet joined.
///
/// ```
/// use antiphon_core::stream_buffer::StreamBuffer;
///
/// let mut buffer = StreamBuffer::new(100);
/// buffer.feed("whole");
/// let taken = buffer.take(9);
/// assert_eq!((taken.len(), taken.is_empty()), (5, false));
/// assert_eq!(taken.into_chunk().unwrap(), "whole"); // not copied
/// buffer.feed("part");
/// let taken = buffer.take(2);
/// assert_eq!(taken.parts().collect::<Vec<_>>(), [b"pa"]);
/// assert!(taken.into_chunk().is_err());
/// ```
#[derive(Debug)]
pub struct Taken<C> {
    /// The only part, as a rule.
    first: Option<Part<C>>,
    others: Vec<Part<C>>,
    len: usize,
}

impl<C: AsRef<[u8]> + Clone> Taken<C> {
    pub(super) fn new() -> Self {
        Self { first: None, others: Vec::new(), len: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, part: Part<C>) {
        self.len += part.end - part.start;
        match self.first {
            None => self.first = Some(part),
            Some(_) => self.others.push(part),
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in order, in as few runs as they are kept in.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.first.iter().chain(&self.others).map(Part::bytes)
    }

    /// The chunk that was fed, if this is one of them, whole.
    ///
    /// # Errors
    /// The bytes again, to be copied.
    #[inline]
    pub fn into_chunk(self) -> Result<C, Self> {
        match self.first {
            Some(Part { piece: Piece::Chunk(chunk), start: 0, end })
                if self.others.is_empty() && end == chunk.as_ref().len() =>
            {
                Ok(chunk)
            }
            first => Err(Self { first, ..self }),
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.parts().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }
}
