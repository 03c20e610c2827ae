//! What waits to be sent: whole datagrams with their targets, in order.
//!
//! Datagrams for different targets leave together by sendmmsg(2). The call stops at the first one that the kernel refuses;
//! with nothing sent before it, the error is told, and it belongs to the first. A connected socket is never sent to that
//! way: an error that an earlier datagram caused (`ECONNREFUSED`) is told once, and a call that has sent something before it
//! hits upon that error swallows it.
//!
//! Source: sendmmsg(2), udp(7); net/socket.c of Linux.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use antiphon_engine::partial_writes::allowance_of_messages;
use pyo3::ffi;

use crate::ffi::Owned;
use crate::sockaddr::Address;

/// The most datagrams that one call sends.
pub const MOST: usize = 32;
/// Bytes that a datagram counts in the queue beside its own; from 3.13 on, so that empty ones count at all.
#[cfg(Py_3_13)]
const HEADER_LEN: usize = 8;
#[cfg(not(Py_3_13))]
const HEADER_LEN: usize = 0;
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Where a datagram goes.
pub enum Target {
    /// To the peer that the socket is connected to.
    Peer,
    /// To an address in the kernel's form.
    Address(Address),
    /// To what only the socket's own method understands: a name, or an error.
    Object(Owned),
}

/// A datagram on its way.
pub struct Outgoing {
    /// Exact `bytes`.
    pub data: Owned,
    /// Where it goes.
    pub target: Target,
}

/// The bytes of an exact `bytes` object.
#[inline]
pub fn contents(data: &Owned) -> &[u8] {
    // SAFETY: an exact `bytes` object, immutable and alive.
    unsafe {
        let start = ffi::PyBytes_AsString(data.as_ptr()).cast::<u8>();
        std::slice::from_raw_parts(start, ffi::PyBytes_Size(data.as_ptr()) as usize)
    }
}

impl Outgoing {
    /// Bytes that it counts in the queue.
    pub fn counted(&self) -> usize {
        contents(&self.data).len() + HEADER_LEN
    }

    /// Sends it alone.
    ///
    /// # Errors
    /// What the kernel says, never `EINTR`. Objects as targets are not for the kernel: `EINVAL`.
    #[inline]
    pub fn send(&self, fd: RawFd) -> io::Result<()> {
        let data = contents(&self.data);
        let (address, address_len) = match &self.target {
            Target::Peer => (std::ptr::null(), 0),
            Target::Address(address) => address.as_raw(),
            Target::Object(_) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        loop {
            allowance_of_messages(1)?;
            // SAFETY: pointers and lengths belong to living values, which the kernel only reads.
            let sent =
                unsafe { libc::sendto(fd, data.as_ptr().cast(), data.len(), FLAGS, address, address_len) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// What an attempt to send the queue came to.
pub enum Sent {
    /// Everything is gone.
    All,
    /// The kernel takes no more for now.
    Blocked,
    /// The kernel refused the first datagram, which left the queue; the others wait.
    Refused(io::Error),
    /// The first datagram must go through the socket's own method.
    ByMethod,
}

/// Datagrams in the order in which they were given.
#[derive(Default)]
pub struct Outbound {
    queue: VecDeque<Outgoing>,
    len_bytes: usize,
}

impl Outbound {
    /// Bytes that wait, headers included.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Datagrams that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Appends a datagram.
    #[inline]
    pub fn push(&mut self, datagram: Outgoing) {
        self.len_bytes += datagram.counted();
        self.queue.push_back(datagram);
    }

    /// Puts back what was taken out first.
    pub fn push_front(&mut self, datagram: Outgoing) {
        self.len_bytes += datagram.counted();
        self.queue.push_front(datagram);
    }

    /// Takes the first datagram out.
    pub fn pop(&mut self) -> Option<Outgoing> {
        let first = self.queue.pop_front()?;
        self.len_bytes -= first.counted();
        Some(first)
    }

    /// Appends everything of `later`, which is empty afterwards.
    pub fn append(&mut self, later: &mut Self) {
        self.queue.append(&mut later.queue);
        self.len_bytes += std::mem::take(&mut later.len_bytes);
    }

    /// What waits, for the collector.
    pub fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.queue.iter()
    }

    /// Sends as much as the kernel takes, in as few calls as possible. What is sent is dropped, so not inside a cell (F3).
    pub fn send(&mut self, fd: RawFd) -> Sent {
        while let Some(first) = self.queue.front() {
            if matches!(first.target, Target::Object(_)) {
                return Sent::ByMethod;
            }
            let addressed = self
                .queue
                .iter()
                .take(MOST)
                .take_while(|next| matches!(next.target, Target::Address(_)))
                .count();
            let sent = if addressed > 1 { self.send_many(fd, addressed) } else { first.send(fd).map(|()| 1) };
            match sent {
                Ok(count) => (0..count).for_each(|_| drop(self.pop())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) => {
                    drop(self.pop());
                    return Sent::Refused(error);
                }
            }
        }
        Sent::All
    }

    /// Sends the first `count` datagrams, which have addresses, in one call; returns how many are gone.
    fn send_many(&self, fd: RawFd, count: usize) -> io::Result<usize> {
        let count = allowance_of_messages(count)?;
        // SAFETY: all-zero is a valid vector and a valid header.
        let (mut vectors, mut headers): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        for ((datagram, vector), header) in self.queue.iter().zip(&mut vectors).zip(&mut headers).take(count)
        {
            let data = contents(&datagram.data);
            *vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            if let Target::Address(address) = &datagram.target {
                let (start, len) = address.as_raw();
                header.msg_hdr.msg_name = start.cast_mut().cast();
                header.msg_hdr.msg_namelen = len;
            }
        }
        // SAFETY: the first `count` headers point at living values, which the kernel only reads.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as _, FLAGS as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
