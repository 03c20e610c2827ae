//! Addresses of datagrams: Python's form to the kernel's where that needs no resolver, and back with a memory.
//!
//! Source: CPython Modules/socketmodule.c (`getsockaddrarg`, `makesockaddr`).

use std::net::{Ipv4Addr, Ipv6Addr};

use pyo3::ffi;

use crate::ffi::{Owned, Result, raise};
use crate::sockaddr::Address;

/// The most that the flow label of an IPv6 address may be.
const MOST_FLOWINFO: i64 = 0xf_ffff;

/// What `object` says for a socket of `family`, if that can be told without a resolver and is certainly no error.
///
/// Everything else (names, other types, numbers out of range) is left to the socket's own method, which resolves it or
/// knows the words to refuse it with.
#[inline]
pub fn from_python(family: i32, object: &Owned) -> Option<Address> {
    match family {
        libc::AF_INET => {
            let [host, port] = items(object)?;
            Some(Address::inet(text(host?)?.parse::<Ipv4Addr>().ok()?, self::port(port?)?))
        }
        libc::AF_INET6 => {
            let [host, port, flowinfo, scope_id] = items(object)?;
            let host = text(host?)?.parse::<Ipv6Addr>().ok()?;
            let flowinfo = flowinfo.map_or(Some(0), |number| within(number, MOST_FLOWINFO))?;
            let scope_id = scope_id.map_or(Some(0), |number| within(number, u32::MAX.into()))?;
            Some(Address::inet6(host, self::port(port?)?, flowinfo as u32, scope_id as u32))
        }
        libc::AF_UNIX => unix(object),
        _ => None,
    }
}

/// The items of a tuple that has at most `N`, borrowed; absent ones are `None`.
#[inline]
fn items<const N: usize>(object: &Owned) -> Option<[Option<*mut ffi::PyObject>; N]> {
    // SAFETY: a living object; the places asked for are below the tuple's length.
    unsafe {
        if ffi::PyTuple_CheckExact(object.as_ptr()) == 0 {
            return None;
        }
        let len = ffi::PyTuple_GET_SIZE(object.as_ptr()) as usize;
        if len > N {
            return None;
        }
        let mut items = [None; N];
        for (place, item) in items.iter_mut().take(len).enumerate() {
            *item = Some(ffi::PyTuple_GET_ITEM(object.as_ptr(), place as isize));
        }
        Some(items)
    }
}

/// An exact `str`'s text. It lives as long as the string, which the caller's tuple keeps.
#[inline]
fn text<'a>(object: *mut ffi::PyObject) -> Option<&'a str> {
    // SAFETY: F1; a living object; the interpreter gives UTF-8 of the length it tells.
    unsafe {
        if ffi::PyUnicode_CheckExact(object) == 0 {
            return None;
        }
        let mut len = 0;
        let start = ffi::PyUnicode_AsUTF8AndSize(object, &raw mut len);
        if start.is_null() {
            drop(raise::take());
            return None;
        }
        std::str::from_utf8(std::slice::from_raw_parts(start.cast(), len as usize)).ok()
    }
}

/// An exact `int` from 0 to `most`.
#[inline]
fn within(object: *mut ffi::PyObject, most: i64) -> Option<i64> {
    // SAFETY: F1; a living object, converted only if it is an `int`.
    let number = unsafe {
        if ffi::PyLong_CheckExact(object) == 0 {
            return None;
        }
        let mut overflow = 0;
        ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow)
    };
    // What overflows is -1 here.
    (0..=most).contains(&number).then_some(number)
}

#[inline]
fn port(object: *mut ffi::PyObject) -> Option<u16> {
    within(object, u16::MAX.into()).map(|port| port as u16)
}

/// A path (`str` in the file system's encoding, or `bytes`), or an abstract name.
fn unix(object: &Owned) -> Option<Address> {
    // SAFETY: F1; a living object of the types asked for; the encoded string is a new reference or null.
    unsafe {
        let encoded = if ffi::PyUnicode_CheckExact(object.as_ptr()) != 0 {
            Owned::from_new(ffi::PyUnicode_EncodeFSDefault(object.as_ptr()))
        } else if ffi::PyBytes_CheckExact(object.as_ptr()) != 0 {
            Ok(object.clone())
        } else {
            return None;
        };
        let Ok(encoded) = encoded else {
            drop(raise::take());
            return None;
        };
        let start = ffi::PyBytes_AsString(encoded.as_ptr()).cast::<u8>();
        Address::unix(std::slice::from_raw_parts(start, ffi::PyBytes_Size(encoded.as_ptr()) as usize))
    }
}

/// Who sent a datagram, as `socket.recvfrom` shows it: `None` for a sender without an address.
fn to_python(address: &Address) -> Result {
    if address.as_bytes().is_empty() {
        return Ok(Owned::none());
    }
    Ok(address.to_python()?.unwrap_or_else(Owned::none))
}

/// Senders seen lately, with the objects that stand for them: making a tuple costs more than receiving a datagram's bytes.
///
/// Each place belongs to the address that was hashed to it last; an object that two callers share cannot be told from one
/// of its own, for addresses are immutable.
#[derive(Default)]
pub struct Senders {
    places: Vec<Option<(Address, Owned)>>,
}

impl Senders {
    const PLACES: usize = 128;

    /// The object that stands for `address`.
    #[inline]
    pub fn object(&mut self, address: &Address) -> Result {
        let place = place_of(address.as_bytes());
        match self.places.get(place) {
            Some(Some((known, object))) if known.as_bytes() == address.as_bytes() => Ok(object.clone()),
            _ => self.learn(place, address),
        }
    }

    fn learn(&mut self, place: usize, address: &Address) -> Result {
        let object = to_python(address)?;
        if self.places.is_empty() {
            self.places.resize_with(Self::PLACES, || None);
        }
        self.places[place] = Some((address.clone(), object.clone()));
        Ok(object)
    }
}

/// Multiplicative hashing of the words (Knuth, volume 3, 6.4): the high bits depend on every byte.
#[inline]
fn place_of(bytes: &[u8]) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = 0u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(GOLDEN);
    }
    (hash >> (64 - Senders::PLACES.trailing_zeros())) as usize
}
