//! A task's name: most are never asked for, so the default ones are numbers until they are.

use std::ptr;

use pyo3::ffi;

use crate::ffi::Owned;

/// A name in one word: null, an odd address (the number of a default name), or a reference to a `str`.
pub(super) struct Name(*mut ffi::PyObject);

// SAFETY: a number, or a reference, which may go to any thread as an `Owned` may.
unsafe impl Send for Name {}

/// What a name is.
pub(super) enum NameIs {
    None,
    Number(u64),
    Text(Owned),
}

const NUMBER: usize = 1;

impl Name {
    /// The default name with this number.
    #[inline(always)]
    pub fn number(number: u64) -> Self {
        Self(ptr::without_provenance_mut((number as usize) << 1 | NUMBER))
    }

    /// A name that somebody has given.
    #[inline(always)]
    pub fn text(text: Owned) -> Self {
        Self(text.into_ptr())
    }

    /// The `str`, borrowed, if it is one.
    #[inline(always)]
    pub fn as_text(&self) -> Option<&Owned> {
        let is_text = !self.0.is_null() && self.0.addr() & NUMBER == 0;
        // SAFETY: the word owns a reference to an object, whose address is even.
        is_text.then(|| unsafe { Owned::borrowed(&self.0) })
    }

    /// What it is.
    pub fn get(&self) -> NameIs {
        match self.as_text() {
            Some(text) => NameIs::Text(text.clone()),
            None if self.0.is_null() => NameIs::None,
            None => NameIs::Number((self.0.addr() >> 1) as u64),
        }
    }
}

impl Default for Name {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

impl Drop for Name {
    #[inline(always)]
    fn drop(&mut self) {
        if self.as_text().is_some() {
            // SAFETY: the word owned one reference.
            unsafe { ffi::Py_DECREF(self.0) };
        }
    }
}
