//! Where datagrams land: many at once with one system call, in memory that every socket of the loop shares.
//!
//! Each datagram has a slot of its own, as large as the largest that the socket can bring; only pages that were written to
//! take memory. Slots begin at different cache sets, or small datagrams would evict each other from them.
//!
//! Source: recvmmsg(2), udp(7).

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::address::Senders;
use crate::ffi::{Owned, Result};
use crate::sockaddr::Address;

/// The most datagrams that one call receives.
pub const MOST: usize = 32;
/// Bytes between the places of two slots beyond their length: two cache lines.
const STAGGER: usize = 128;
/// Slots of this size are for UDP, whose length field has 16 bits.
const INET_SLOT: usize = 64 * 1024;
/// What asyncio receives at most, for every other kind of socket.
const LARGEST_SLOT: usize = 256 * 1024;
const BUFFER_LEN: usize = MOST * (INET_SLOT + STAGGER);

/// How many slots of which size a socket of a family needs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Layout {
    slot_len: usize,
    slots: usize,
}

impl Layout {
    fn of(family: i32) -> Self {
        let slot_len =
            if matches!(family, libc::AF_INET | libc::AF_INET6) { INET_SLOT } else { LARGEST_SLOT };
        Self { slot_len, slots: (BUFFER_LEN / (slot_len + STAGGER)).min(MOST) }
    }
}

/// Received datagrams, until the next receive.
pub struct Batch {
    buffer: Vec<u8>,
    layout: Option<Layout>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    addresses: Box<[Address]>,
    senders: Senders,
}

// SAFETY: the headers point into the other fields' heap memory, which moves with them; nothing else knows of it.
unsafe impl Send for Batch {}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: all-zero is a valid header and a valid vector.
        let (header, vector) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            buffer: Vec::with_capacity(BUFFER_LEN),
            layout: None,
            headers: vec![header; MOST].into(),
            vectors: vec![vector; MOST].into(),
            addresses: vec![Address::empty(); MOST].into(),
            senders: Senders::default(),
        }
    }
}

impl Batch {
    fn slot(&self, place: usize, layout: Layout) -> *const u8 {
        self.buffer.as_ptr().wrapping_add(place * (layout.slot_len + STAGGER))
    }

    /// Points every header at its slot and its address.
    fn arrange(&mut self, layout: Layout) {
        for place in 0..layout.slots {
            let iov_base = self.slot(place, layout).cast_mut().cast();
            self.vectors[place] = libc::iovec { iov_base, iov_len: layout.slot_len };
            let header = &mut self.headers[place].msg_hdr;
            header.msg_iov = &raw mut self.vectors[place];
            header.msg_iovlen = 1;
            header.msg_name = self.addresses[place].as_place().cast();
            header.msg_namelen = Address::ROOM;
        }
        self.layout = Some(layout);
    }

    /// Receives without waiting; returns how many datagrams came, 0 where there was none.
    ///
    /// `family` is the socket's; `many`: as many as there are slots, else one, which costs less where one is all there is.
    ///
    /// # Errors
    /// What the kernel says of the socket (`ECONNREFUSED` for what was sent before), never `EINTR` or `EAGAIN`.
    #[inline]
    pub fn receive(&mut self, fd: RawFd, family: i32, many: bool) -> io::Result<usize> {
        let layout = Layout::of(family);
        if self.layout != Some(layout) {
            self.arrange(layout);
        }
        loop {
            let received = if many { self.receive_many(fd, layout) } else { self.receive_one(fd, layout) };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                received => return received,
            }
        }
    }

    fn receive_one(&mut self, fd: RawFd, layout: Layout) -> io::Result<usize> {
        let mut address_len = Address::ROOM;
        // SAFETY: the slot and the address have room for as many bytes as the call is told.
        let len = unsafe {
            libc::recvfrom(
                fd,
                self.slot(0, layout).cast_mut().cast(),
                layout.slot_len,
                libc::MSG_DONTWAIT,
                self.addresses[0].as_place(),
                &raw mut address_len,
            )
        };
        if len < 0 {
            return Err(io::Error::last_os_error());
        }
        self.headers[0].msg_len = len as u32;
        self.addresses[0].set_len(address_len);
        Ok(1)
    }

    fn receive_many(&mut self, fd: RawFd, layout: Layout) -> io::Result<usize> {
        // SAFETY: the headers point at slots and addresses with room for as many bytes as they say.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                layout.slots as _,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, address) in self.headers.iter_mut().zip(&mut self.addresses).take(count) {
            address.set_len(header.msg_hdr.msg_namelen);
            header.msg_hdr.msg_namelen = Address::ROOM;
        }
        Ok(count)
    }

    /// A datagram of the last receive as `bytes`, and its sender as Python shows it.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub fn take(&mut self, place: usize) -> Result<(Owned, Owned)> {
        let Some(layout) = self.layout else {
            return Err(crate::ffi::raise::runtime_error("nothing was received"));
        };
        let len = self.headers[place].msg_len as usize;
        // SAFETY: the kernel has written that many bytes to the slot.
        let data = Owned::bytes(unsafe { std::slice::from_raw_parts(self.slot(place, layout), len) })?;
        Ok((data, self.senders.object(&self.addresses[place])?))
    }
}

/// Whether to ask for many datagrams at once: a socket that brings them one by one is asked for one, and for many now and
/// then, to learn when that changes.
#[derive(Debug, Default)]
pub struct Pace {
    /// Receives of one datagram left until many are asked for.
    singles: u8,
}

impl Pace {
    const SINGLES: u8 = 8;

    /// Whether the next receive should ask for many.
    #[inline]
    pub fn many(&self) -> bool {
        self.singles == 0
    }

    /// Tells how many datagrams came.
    #[inline]
    pub fn received(&mut self, count: usize) {
        self.singles = match self.singles {
            0 if count > 1 => 0,
            0 => Self::SINGLES,
            singles => singles - 1,
        };
    }
}
