//! What waits to be written: whole Python `bytes` objects, and how much of the first one is gone already.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use antiphon_engine::partial_writes::{allowance, shorten};
use pyo3::ffi;

use crate::ffi::{Owned, Raised, Result};
use crate::names::names;

/// The most buffers that one system call takes; the kernel's own limit (IOV_MAX) is 1024.
const MOST_BUFFERS: usize = 64;

/// Chunks in the order they were written.
#[derive(Default)]
pub struct WriteQueue {
    chunks: VecDeque<Owned>,
    /// Bytes of the first chunk that were sent.
    sent_of_first: usize,
    /// Bytes in all chunks that were not sent.
    len_bytes: usize,
}

/// Chunks that are gone, for the caller to drop outside of the queue's cell (F3); one needs no memory.
#[derive(Default)]
pub struct Done {
    one: Option<Owned>,
    more: Vec<Owned>,
}

impl Done {
    #[inline]
    fn add(&mut self, chunk: Owned) {
        match self.one {
            None => self.one = Some(chunk),
            Some(_) => self.more.push(chunk),
        }
    }
}

/// What one attempt to send came to.
pub enum Sent {
    /// Everything is gone.
    All,
    /// The kernel takes no more for now.
    Blocked,
    /// The connection is broken.
    Failed(io::Error),
}

/// What an exact `bytes` object holds.
#[inline]
pub fn bytes_of(chunk: &Owned) -> &[u8] {
    // SAFETY: exact `bytes` objects are immutable, and alive as long as the reference.
    unsafe {
        let start = ffi::PyBytes_AS_STRING(chunk.as_ptr()).cast::<u8>();
        std::slice::from_raw_parts(start, ffi::Py_SIZE(chunk.as_ptr()) as usize)
    }
}

impl WriteQueue {
    /// Bytes that wait.
    #[inline(always)]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether nothing waits.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends a `bytes` object.
    #[inline]
    pub fn push(&mut self, chunk: Owned) {
        self.len_bytes += bytes_of(&chunk).len();
        self.chunks.push_back(chunk);
    }

    /// How many chunks wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes of the first chunk that wait; 0 if there is none.
    #[inline]
    pub fn first_bytes(&self) -> usize {
        self.chunks.front().map_or(0, |first| bytes_of(first).len() - self.sent_of_first)
    }

    /// The first chunk, and how many bytes of it are gone already.
    #[inline]
    pub fn first(&self) -> Option<(Owned, usize)> {
        self.chunks.front().map(|first| (first.clone(), self.sent_of_first))
    }

    /// Copies bytes from the front into `joined` until it has `most`; they stay in the queue.
    pub fn join_into(&self, joined: &mut Vec<u8>, most: usize) {
        let mut skipped = self.sent_of_first;
        for chunk in &self.chunks {
            let bytes = &bytes_of(chunk)[skipped..];
            let count = bytes.len().min(most - joined.len());
            joined.extend_from_slice(&bytes[..count]);
            if joined.len() == most {
                return;
            }
            skipped = 0;
        }
    }

    /// Takes everything out, for the caller to drop.
    pub fn take_all(&mut self) -> VecDeque<Owned> {
        self.sent_of_first = 0;
        self.len_bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    /// What waits, for the collector.
    pub fn iter(&self) -> impl Iterator<Item = &Owned> {
        self.chunks.iter()
    }

    /// Sends as much as a socket takes, in as few calls as possible. Chunks that are gone go to `done`.
    pub fn send(&mut self, fd: RawFd, done: &mut Done) -> Sent {
        self.drain(done, |queue, first| {
            if queue.chunks.len() == 1 {
                send_one(fd, &first[queue.sent_of_first..])
            } else {
                queue.send_many(fd)
            }
        })
    }

    /// Writes as much as a pipe takes, in as few calls as possible. Chunks that are gone go to `done`.
    pub fn write(&mut self, fd: RawFd, done: &mut Done) -> Sent {
        self.drain(done, |queue, _| queue.write_many(fd))
    }

    fn drain(
        &mut self,
        done: &mut Done,
        mut try_some: impl FnMut(&Self, &[u8]) -> io::Result<usize>,
    ) -> Sent {
        while let Some(first) = self.chunks.front() {
            match try_some(self, bytes_of(first)) {
                Ok(count) => self.advance(count, done),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) => return Sent::Failed(error),
            }
        }
        Sent::All
    }

    /// The first chunks as buffers for one call, and how many those are.
    fn gather(&self) -> ([libc::iovec; MOST_BUFFERS], usize) {
        let mut buffers = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MOST_BUFFERS];
        let mut skipped = self.sent_of_first;
        let count = self.chunks.len().min(MOST_BUFFERS);
        for (buffer, chunk) in buffers.iter_mut().zip(&self.chunks) {
            let bytes = &bytes_of(chunk)[skipped..];
            skipped = 0;
            *buffer = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        }
        (buffers, count)
    }

    fn write_many(&self, fd: RawFd) -> io::Result<usize> {
        let (mut buffers, count) = self.gather();
        let count = shorten(fd, &mut buffers[..count])?;
        // SAFETY: the buffers live during the call; the kernel only reads them.
        let written = unsafe { libc::writev(fd, buffers.as_ptr(), count as libc::c_int) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    fn send_many(&self, fd: RawFd) -> io::Result<usize> {
        let (mut buffers, count) = self.gather();
        let count = shorten(fd, &mut buffers[..count])?;
        // SAFETY: all-zero is a valid message header.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = buffers.as_mut_ptr();
        message.msg_iovlen = count as _;
        // SAFETY: the header and its buffers live during the call; the kernel only reads them.
        let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Takes `count` bytes from the front. Chunks that are gone go to `done`, for the caller to drop.
    pub fn advance(&mut self, mut count: usize, done: &mut Done) {
        self.len_bytes -= count;
        while let Some(first) = self.chunks.front() {
            let left = bytes_of(first).len() - self.sent_of_first;
            if count < left {
                self.sent_of_first += count;
                return;
            }
            count -= left;
            self.sent_of_first = 0;
            if let Some(first) = self.chunks.pop_front() {
                done.add(first);
            }
        }
    }
}

fn send_one(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let len = allowance(fd, bytes.len())?;
    // SAFETY: the pointer belongs to `bytes`, which are at least that long; the kernel only reads them.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// `data` as a `bytes` object that nobody can change: itself if it is one, else a copy.
///
/// # Errors
/// `TypeError` with asyncio's words unless it is `bytes`, `bytearray` or `memoryview`.
#[inline]
pub fn frozen(data: &Owned) -> Result {
    frozen_or(data, c"data argument must be a bytes-like object, not %R")
}

/// As [`frozen`]; `refusal` are the words of the error, with a place (`%R` or `%U`) for the name of the type.
#[inline]
pub fn frozen_or(data: &Owned, refusal: &CStr) -> Result {
    // SAFETY: F1; the type objects are static, the object is alive.
    unsafe {
        if ffi::PyBytes_CheckExact(data.as_ptr()) != 0 {
            return Ok(data.clone());
        }
        if ffi::PyBytes_Check(data.as_ptr()) != 0
            || ffi::PyByteArray_Check(data.as_ptr()) != 0
            || ffi::PyMemoryView_Check(data.as_ptr()) != 0
        {
            return Owned::from_new(ffi::PyBytes_FromObject(data.as_ptr()));
        }
        let kind = Owned::from_borrowed(ffi::Py_TYPE(data.as_ptr()).cast());
        let name = kind.attr(&names().__name__)?;
        ffi::PyErr_Format(ffi::PyExc_TypeError, refusal.as_ptr(), name.as_ptr());
    }
    Err(Raised)
}

/// Every chunk of an iterable, [`frozen`]; empty ones are left out.
pub fn freeze_all(chunks: &Owned) -> Result<Vec<Owned>> {
    // SAFETY: F1; a new reference or null.
    let iterator = unsafe { Owned::from_new(ffi::PyObject_GetIter(chunks.as_ptr()))? };
    let mut frozen_chunks = Vec::new();
    loop {
        // SAFETY: F1; null without an exception ends the iteration.
        match unsafe { Owned::from_new(ffi::PyIter_Next(iterator.as_ptr())) } {
            Ok(chunk) => frozen_chunks.push(frozen(&chunk)?),
            // SAFETY: F1.
            Err(Raised) if unsafe { ffi::PyErr_Occurred().is_null() } => break,
            Err(Raised) => return Err(Raised),
        }
    }
    frozen_chunks.retain(|chunk| !bytes_of(chunk).is_empty());
    Ok(frozen_chunks)
}
