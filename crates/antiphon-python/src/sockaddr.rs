//! Socket addresses: the kernel's bytes and Python's tuples.
//!
//! Source: CPython Modules/socketmodule.c (what `getsockname` and `accept` give); ip(7), ipv6(7), unix(7).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use antiphon_engine::switches::{Feature, is_disabled};
use pyo3::ffi;

use crate::ffi::{Owned, Result};

/// An address as the kernel wrote it.
#[derive(Clone)]
pub struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Address {
    /// Bytes that any address fits into.
    pub const ROOM: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

    /// No address: of no family and no length, with room for any.
    pub fn empty() -> Self {
        // SAFETY: all-zero bytes are a valid address of no family.
        unsafe { MaybeUninit::<Self>::zeroed().assume_init() }
    }

    /// An IPv4 address and port.
    pub fn inet(host: Ipv4Addr, port: u16) -> Self {
        let mut address = Self::empty();
        // SAFETY: the storage is large enough and aligned for an address of any family.
        let inet = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in>() };
        inet.sin_family = libc::AF_INET as libc::sa_family_t;
        inet.sin_port = port.to_be();
        inet.sin_addr.s_addr = u32::from(host).to_be();
        address.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        address
    }

    /// An IPv6 address and port, with flow label and scope.
    pub fn inet6(host: Ipv6Addr, port: u16, flowinfo: u32, scope_id: u32) -> Self {
        let mut address = Self::empty();
        // SAFETY: as above.
        let inet6 = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in6>() };
        inet6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        inet6.sin6_port = port.to_be();
        inet6.sin6_flowinfo = flowinfo.to_be();
        inet6.sin6_addr.s6_addr = host.octets();
        inet6.sin6_scope_id = scope_id;
        address.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        address
    }

    /// A Unix socket's path, or its abstract name (which begins with a zero byte); `None` if it is too long.
    pub fn unix(name: &[u8]) -> Option<Self> {
        let mut address = Self::empty();
        // SAFETY: as above.
        let unix = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_un>() };
        let is_path = !matches!(name.first(), None | Some(0));
        // A path ends with a zero byte, which counts; an abstract name is as long as it is.
        let len = name.len() + usize::from(is_path);
        if len > unix.sun_path.len() {
            return None;
        }
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in unix.sun_path.iter_mut().zip(name) {
            *place = *byte as libc::c_char;
        }
        address.length = (std::mem::offset_of!(libc::sockaddr_un, sun_path) + len) as libc::socklen_t;
        Some(address)
    }

    /// The address as system calls read it.
    pub fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    /// The place that a system call fills in, [`Self::ROOM`] bytes; [`Self::set_len`] tells how many of them count.
    pub fn as_place(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    /// Tells how many bytes were filled in.
    pub fn set_len(&mut self, length: libc::socklen_t) {
        self.length = length.min(Self::ROOM);
    }

    /// The bytes that count; two addresses are the same where these are.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the length is never more than the storage has.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), self.length as usize) }
    }

    /// Has the kernel fill an address in. `fill` gets the buffer and its size, and returns the call's own result.
    pub fn fill<R>(fill: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> R) -> (R, Self) {
        let mut address = Self::empty();
        address.length = Self::ROOM;
        let result = fill((&raw mut address.storage).cast(), &raw mut address.length);
        address.set_len(address.length);
        (result, address)
    }

    /// The address a socket is bound to.
    pub fn local(fd: RawFd) -> io::Result<Self> {
        // SAFETY: the pointers belong to the address that is being filled.
        let (status, address) =
            Self::fill(|storage, length| unsafe { libc::getsockname(fd, storage, length) });
        if status == 0 { Ok(address) } else { Err(io::Error::last_os_error()) }
    }

    /// The address a socket is connected to.
    pub fn peer(fd: RawFd) -> io::Result<Self> {
        // SAFETY: as above.
        let (status, address) =
            Self::fill(|storage, length| unsafe { libc::getpeername(fd, storage, length) });
        if status == 0 { Ok(address) } else { Err(io::Error::last_os_error()) }
    }

    /// `AF_…`.
    pub fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    /// Whether a listener bound to it accepts on every address of the host, or has no name at all: then its connections
    /// have addresses of their own.
    pub fn is_wildcard(&self) -> bool {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says what the bytes are.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                address.sin_addr.s_addr == libc::INADDR_ANY
            }
            libc::AF_UNIX => false,
            // Scopes and mapped addresses make an IPv6 connection's own address a different one.
            _ => true,
        }
    }

    /// What Python's socket module shows for it; `None` for families that this file does not know.
    pub fn to_python(&self) -> Result<Option<Owned>> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says what the bytes are, and the storage is large enough for any of them.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).to_string();
                let port = u16::from_be(address.sin_port);
                Owned::tuple([Owned::str(&host)?, Owned::int(port.into())?]).map(Some)
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let host = Ipv6Addr::from(address.sin6_addr.s6_addr).to_string();
                Owned::tuple([
                    Owned::str(&host)?,
                    Owned::int(u16::from_be(address.sin6_port).into())?,
                    Owned::int(u32::from_be(address.sin6_flowinfo).into())?,
                    Owned::int(address.sin6_scope_id.into())?,
                ])
                .map(Some)
            }
            libc::AF_UNIX => self.unix_path().map(Some),
            _ => Ok(None),
        }
    }

    /// A path as `str` in the file system's encoding, an abstract name as `bytes`, nothing as an empty `str`.
    fn unix_path(&self) -> Result {
        // SAFETY: the family says what the bytes are.
        let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_un>() };
        let used = (self.length as usize).saturating_sub(std::mem::offset_of!(libc::sockaddr_un, sun_path));
        let path = &address.sun_path[..used.min(address.sun_path.len())];
        // SAFETY: characters are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), path.len()) };
        match bytes.first() {
            Some(0) => Owned::bytes(bytes),
            None => Owned::str(""),
            Some(_) => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                // SAFETY: F1; pointer and length belong to `bytes`.
                unsafe {
                    Owned::from_new(ffi::PyUnicode_DecodeFSDefaultAndSize(
                        bytes.as_ptr().cast(),
                        end as isize,
                    ))
                }
            }
        }
    }
}

/// An integer socket option.
pub fn option(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a live local.
    let status = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) };
    if status == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// accept4(2) for a non-blocking, close-on-exec descriptor; where the kernel has none, accept(2) and then both flags.
/// # Safety
/// `storage` and `length` are those of [`Address::fill`].
#[inline]
pub unsafe fn accept(fd: RawFd, storage: *mut libc::sockaddr, length: *mut libc::socklen_t) -> libc::c_int {
    if is_disabled(Feature::Accept4) {
        // SAFETY: by the caller's word.
        return unsafe { accept_without_flags(fd, storage, length) };
    }
    // SAFETY: the kernel writes at most `length` bytes to `storage`.
    unsafe { libc::accept4(fd, storage, length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) }
}

#[cold]
unsafe fn accept_without_flags(
    fd: RawFd,
    storage: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> libc::c_int {
    // SAFETY: as above; the other calls take integers only.
    unsafe {
        let accepted = libc::accept(fd, storage, length);
        if accepted >= 0 {
            libc::fcntl(accepted, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(accepted, libc::F_SETFL, libc::fcntl(accepted, libc::F_GETFL) | libc::O_NONBLOCK);
        }
        accepted
    }
}

/// Sets an integer socket option.
pub fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a live local.
    let status = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
