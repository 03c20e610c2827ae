//! A string literal's address and length in twelve bytes: native coroutines have one each, and there are crowds of them.

use std::ptr::NonNull;

/// A `&'static str` that needs less room and alignment.
#[derive(Copy, Clone)]
#[repr(C, packed(4))]
pub struct StaticStr {
    start: NonNull<u8>,
    len: u32,
}

// SAFETY: it refers to text that never changes.
unsafe impl Send for StaticStr {}
// SAFETY: as above.
unsafe impl Sync for StaticStr {}

impl StaticStr {
    /// The text, of which no more than 4 GiB are kept.
    #[inline(always)]
    pub fn new(text: &'static str) -> Self {
        let len = text.len() as u32;
        debug_assert!(len as usize == text.len(), "too long");
        Self { start: NonNull::from(text).cast(), len }
    }

    /// The text.
    #[inline(always)]
    pub fn get(self) -> &'static str {
        let (start, len) = (self.start, self.len);
        // SAFETY: both are a literal's.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start.as_ptr(), len as usize)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        assert_eq!(StaticStr::new("Lock.acquire").get(), "Lock.acquire");
        assert_eq!(StaticStr::new("").get(), "");
        assert_eq!(size_of::<StaticStr>(), 12);
    }
}
