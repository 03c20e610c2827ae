//! Where TLS records begin and end: tells how many have arrived whole, without opening them.
//!
//! OpenSSL says "not enough bytes" through an exception, which costs more than decrypting a small record. So the loop
//! counts records as their bytes pass by and asks OpenSSL for those that are there, and for no more.
//!
//! **Invariant L1**: this is a hint, never a verdict. Bytes that are no record make it say "unknown", and then OpenSSL is
//! asked every time, until it finds fault with them itself.
//!
//! Source: RFC 8446 section 5.1, RFC 5246 section 6.2.

/// Type, version and length.
const HEADER_BYTES: usize = 5;
/// The longest body that any version allows: 2^14 bytes and 2,048 of expansion (RFC 5246 section 6.2.3).
const MOST_BODY_BYTES: usize = (1 << 14) + 2048;
/// The longest plaintext of one record.
pub const MOST_PLAIN_BYTES: usize = 1 << 14;

/// Follows the records of one direction from the connection's first byte on.
#[derive(Default)]
pub struct Records {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have arrived.
    header_len: usize,
    /// The body's whole length.
    body_len: usize,
    /// Bytes of the body that have not arrived.
    missing_len: usize,
    /// Records that are whole and not yet read.
    whole: usize,
    /// Bytes in the bodies of those.
    whole_bytes: usize,
    /// What arrives is not made of records (L1).
    unknown: bool,
}

impl Records {
    /// `bytes` arrived.
    #[inline]
    pub fn arrived(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.unknown {
            if self.header_len < HEADER_BYTES {
                let count = bytes.len().min(HEADER_BYTES - self.header_len);
                self.header[self.header_len..self.header_len + count].copy_from_slice(&bytes[..count]);
                self.header_len += count;
                bytes = &bytes[count..];
                if self.header_len < HEADER_BYTES {
                    return;
                }
                self.begin_body();
            } else {
                let count = bytes.len().min(self.missing_len);
                self.missing_len -= count;
                bytes = &bytes[count..];
            }
            if self.missing_len == 0 {
                self.header_len = 0;
                self.whole += 1;
                self.whole_bytes += self.body_len;
            }
        }
    }

    fn begin_body(&mut self) {
        let [kind, major, _, high, low] = self.header;
        self.body_len = usize::from(u16::from_be_bytes([high, low]));
        self.missing_len = self.body_len;
        // change_cipher_spec, alert, handshake, application_data, heartbeat.
        let known = (20..=24).contains(&kind) && major == 3 && self.body_len <= MOST_BODY_BYTES;
        self.unknown |= !known;
    }

    /// Whether asking OpenSSL may bring anything.
    #[inline]
    pub fn may_be_read(&self) -> bool {
        self.whole > 0 || self.unknown
    }

    /// Whole records that were not read; `None` where nobody knows (L1).
    #[inline]
    pub fn whole(&self) -> Option<usize> {
        if self.unknown { None } else { Some(self.whole) }
    }

    /// As many bytes as all that can be read needs at most. Compression is the one exception that could need more; the
    /// reader looks for a rest.
    #[inline]
    pub fn plain_bytes_at_most(&self) -> usize {
        if self.unknown { self.whole_bytes.max(MOST_PLAIN_BYTES) } else { self.whole_bytes }
    }

    /// Bytes that arrived and were not read, headers apart.
    pub fn unread_bytes(&self) -> usize {
        let begun = if self.header_len == HEADER_BYTES { self.body_len - self.missing_len } else { 0 };
        self.whole_bytes + begun
    }

    /// A record was opened of which `len` bytes are left to read.
    pub fn left_over(&mut self, len: usize) {
        self.whole += 1;
        self.whole_bytes += len;
    }

    /// `count` records were read, which may have stood among others that carry no data.
    #[inline]
    pub fn read(&mut self, count: usize) {
        self.whole = self.whole.saturating_sub(count);
        if self.whole == 0 {
            self.whole_bytes = 0;
        }
    }

    /// OpenSSL has opened all that was whole.
    #[inline]
    pub fn all_read(&mut self) {
        self.whole = 0;
        self.whole_bytes = 0;
    }
}
