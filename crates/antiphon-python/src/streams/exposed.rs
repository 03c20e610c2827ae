//! The buffer of a reader as programs see it when they reach for `_buffer`: a real `bytearray`.
//!
//! asyncio's readers keep their data in one, and programs look at it, empty it and take from it. So from the moment somebody
//! asks for it until nobody has it any more, that `bytearray` is where the data is: every operation takes it from there and
//! puts back what it leaves. Who does not ask pays for none of it.

use std::sync::atomic::Ordering;

use antiphon_core::stream_buffer::StreamBuffer;
use pyo3::ffi;

use super::bytes::{Bytes, joined};
use super::reader::StreamReader;
use crate::ffi::raise::type_error;
use crate::ffi::{Instance, Owned, Result, call_method, check};
use crate::names::names;

impl Instance<StreamReader> {
    /// Short access to the buffer, up to date with what the program did to it. As for cells, no Python code in `f` (F3).
    ///
    /// # Errors
    /// `BufferError`: the program has a view of it that forbids changes.
    #[inline(always)]
    pub fn with_buffer<R>(&self, f: impl FnOnce(&mut StreamBuffer<Bytes>) -> R) -> Result<R> {
        if !self.is_exposed.load(Ordering::Relaxed) {
            return Ok(self.buffer.with(f));
        }
        let array = self.take_back()?;
        let result = self.buffer.with(f);
        match array {
            Some(array) => self.write_through(&array).map(|()| result),
            None => Ok(result),
        }
    }

    /// Puts the `bytearray`'s content into the buffer; gives the `bytearray` if the program still has it.
    #[cold]
    fn take_back(&self) -> Result<Option<Owned>> {
        let Some(array) = self.exposed.get() else {
            return Ok(None);
        };
        let content = Bytes::of(&array)?;
        let before = self.buffer.with(|buffer| (buffer.take_all(), buffer.feed(content)));
        drop(before);
        // Ours and the one in this function. Without a GIL counts tell nothing, and it stays exposed.
        // SAFETY: F1; a living object.
        if cfg!(not(Py_GIL_DISABLED)) && unsafe { ffi::Py_REFCNT(array.as_ptr()) } == 2 {
            self.is_exposed.store(false, Ordering::Relaxed);
            drop(self.exposed.take());
            return Ok(None);
        }
        Ok(Some(array))
    }

    fn write_through(&self, array: &Owned) -> Result<()> {
        let content = self.content()?;
        call_method(array, &names().clear, [])?;
        call_method(array, &names().extend, [&content]).map(drop)
    }

    /// All that waits as one `bytes` object, which is the buffer's only chunk from then on.
    fn content(&self) -> Result {
        // Nobody comes in between: making `bytes` runs no Python code.
        let content = joined(self.buffer.with(StreamBuffer::take_all))?;
        let chunk = Bytes::of(&content)?;
        let spare = self.buffer.with(|buffer| buffer.feed(chunk));
        drop(spare);
        Ok(content)
    }

    /// The getter of `_buffer`.
    pub fn expose(&self) -> Result {
        if let Some(array) = self.exposed.get() {
            return Ok(array);
        }
        let content = self.content()?;
        // SAFETY: F1; gives a new `bytearray` or null.
        let array = unsafe { Owned::from_new(ffi::PyByteArray_FromObject(content.as_ptr()))? };
        drop(self.exposed.replace(Some(array.clone())));
        self.is_exposed.store(true, Ordering::Relaxed);
        Ok(array)
    }

    /// The setter of `_buffer`.
    ///
    /// # Errors
    /// `TypeError` unless it is a `bytearray`.
    pub fn set_exposed(&self, array: Option<&Owned>) -> Result<()> {
        let Some(array) = array else {
            return Err(type_error("_buffer cannot be deleted"));
        };
        // SAFETY: F1; a living object.
        if check(unsafe { ffi::PyByteArray_Check(array.as_ptr()) })? == 0 {
            return Err(type_error("_buffer is a bytearray"));
        }
        drop(self.exposed.replace(Some(array.clone())));
        self.is_exposed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
