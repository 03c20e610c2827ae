//! Partial writes on purpose: behind the switch `ANTIPHON_FORCE=partial-writes`, what is written is cut short before the
//! kernel sees it.
//!
//! A kernel with room for everything is what tests meet and what users of slow networks do not. With the switch every
//! write draws from a fixed sequence, which begins anew with each loop ([`restart`]): one in three finds no room at all, the others offer some of what there is. So whatever
//! follows a partial write happens all the time, and a peer still gets every byte, after more turns.
//!
//! Messages (datagrams, sequenced packets) and writes of up to 128 bytes are never cut, only held back: no kernel cuts
//! what is that small.
//!
//! `unsafe` is for getsockopt(2).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::switches::{Behaviour, is_forced};

const NEVER_CUT: usize = 128;

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// How many of `len` bytes the next write to `fd` may offer: all of them, unless the switch is on.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: none for now. Whoever waits for the descriptor to be writable is woken at once.
#[inline]
pub fn allowance(fd: RawFd, len: usize) -> io::Result<usize> {
    if is_forced(Behaviour::PartialWrites) { allowed_bytes(fd, len) } else { Ok(len) }
}

/// How many of `count` messages the next write may offer.
///
/// # Errors
/// As [`allowance`].
#[inline]
pub fn allowance_of_messages(count: usize) -> io::Result<usize> {
    if is_forced(Behaviour::PartialWrites) { drawn(next(), count) } else { Ok(count) }
}

/// Cuts `buffers` down to what the next write to `fd` may offer; gives how many of them that is.
///
/// # Errors
/// As [`allowance`].
#[inline]
pub fn shorten(fd: RawFd, buffers: &mut [libc::iovec]) -> io::Result<usize> {
    if is_forced(Behaviour::PartialWrites) {
        shortened(buffers, |len| allowed_bytes(fd, len))
    } else {
        Ok(buffers.len())
    }
}

#[cold]
fn allowed_bytes(fd: RawFd, len: usize) -> io::Result<usize> {
    match kind(fd) {
        // Closed: the kernel is to say so.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(len),
        Ok(kind) if kind != libc::SOCK_STREAM => drawn(next(), len).map(|_| len),
        _ if len <= NEVER_CUT => drawn(next(), len).map(|_| len),
        _ => drawn(next(), len),
    }
}

/// The kind of a socket.
fn kind(fd: RawFd) -> io::Result<i32> {
    let (mut kind, mut size) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: getsockopt(2) writes at most `size` bytes to `kind`, and to `size` how many; what is no socket is an error.
    let status = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut size)
    };
    if status == 0 { Ok(kind) } else { Err(io::Error::last_os_error()) }
}

#[cold]
fn shortened(
    buffers: &mut [libc::iovec],
    allowance: impl Fn(usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut room = allowance(buffers.iter().map(|buffer| buffer.iov_len).sum())?;
    for (place, buffer) in buffers.iter_mut().enumerate() {
        buffer.iov_len = buffer.iov_len.min(room);
        room -= buffer.iov_len;
        if room == 0 {
            return Ok(place + 1);
        }
    }
    Ok(buffers.len())
}

/// Begins the sequence anew, so that what happens to one loop does not depend on those before it.
pub fn restart() {
    DRAWN.store(0, Ordering::Relaxed);
}

fn next() -> u64 {
    DRAWN.fetch_add(1, Ordering::Relaxed)
}

/// The draw of that number.
#[cold]
fn drawn(number: u64, len: usize) -> io::Result<usize> {
    let random = mixed(number);
    if random.is_multiple_of(3) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let part = (random >> 32) as usize % len.max(1) + 1;
    Ok(part.min(len))
}

/// A number's bits in disorder. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn draws_hold_back_cut_and_sometimes_take_all() {
        let draws: Vec<_> = (0..1000).map(|number| drawn(number, 4).ok()).collect();
        for part in [None, Some(1), Some(2), Some(3), Some(4)] {
            assert!(draws.iter().filter(|draw| **draw == part).count() > 100, "{part:?}");
        }
        assert!(draws.iter().flatten().all(|part| (1..=4).contains(part)));
    }

    #[test]
    fn nothing_to_write_is_not_cut() {
        assert!((0..100).filter_map(|number| drawn(number, 0).ok()).all(|part| part == 0));
    }

    #[test]
    fn buffers_are_cut_in_the_midst_and_between() {
        for (room, expected) in
            [(1, vec![1]), (3, vec![3]), (4, vec![3, 1]), (9, vec![3, 5, 1]), (10, vec![3, 5, 2])]
        {
            let mut bytes = [0_u8; 5];
            let mut buffers =
                [3, 5, 2].map(|len| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len });
            let count = shortened(&mut buffers, |_| Ok(room)).unwrap();
            assert_eq!(buffers[..count].iter().map(|buffer| buffer.iov_len).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn messages_are_held_back_and_never_cut() {
        let (message, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let parts = |fd: RawFd| (0..100).filter_map(|_| allowed_bytes(fd, 500).ok()).collect::<Vec<_>>();
        assert!(parts(message.as_raw_fd()).iter().all(|part| *part == 500));
        assert!(parts(stream.as_raw_fd()).iter().any(|part| *part < 500));
    }

    #[test]
    fn without_the_switch_everything_is_offered() {
        assert!((0..100).all(|_| allowance(0, 7).is_ok_and(|part| part == 7)));
    }
}
