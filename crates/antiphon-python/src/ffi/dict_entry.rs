//! Writing to an entry of a dict that is known to be there, without looking it up.
//!
//! The interpreter's own `PyDict_SetItem` of a key that is there costs some 200 instructions, most of them for finding the
//! place that the last call found. The place is the caller's to remember here; every write checks that the entry there
//! still is that key's, and fails where anything is otherwise: then the caller goes by `PyDict_SetItem`.
//!
//! The layout is that of CPython 3.11 to 3.13, whose last feature release is out; [`calibrate`] tries it on a dict of its
//! own and, if anything is not as expected, no entry is ever written here. From 3.14 on nothing needs this file.
//!
//! A write changes a value alone: no key, no hash, no size, so an iteration that is under way goes on. What the interpreter
//! does beside it in such a case is to tell watchers of the dict (one with a watcher is left to it), to have the collector
//! know the dict (it does since the key, itself known to the collector, came in by `PyDict_SetItem`), and to give the dict a
//! new version tag, by which nothing but caches of module and class namespaces goes.
//!
//! Source: CPython Include/internal/pycore_dict.h; Objects/dictobject.c (`insertdict`).

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Result, check};

/// `PyDictKeysObject` up to its table of indices, behind which the entries are.
#[repr(C)]
struct Keys {
    references: isize,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    version: u32,
    usable: isize,
    /// How many entries are or were in use.
    count: isize,
}

/// `DICT_KEYS_GENERAL`: entries have a hash each, keys are of any type.
const GENERAL: u8 = 0;
/// The bits of the version tag that say who watches the dict (from 3.12 on).
const WATCHERS: u64 = 0xff;

/// Whether somebody is to be told of changes.
///
/// # Safety
/// `dict` is a dict.
#[inline(always)]
unsafe fn is_watched(dict: *mut ffi::PyDictObject) -> bool {
    #[allow(deprecated, reason = "the watchers have no other interface")]
    // SAFETY: by the caller's word; the head is public.
    let tag = unsafe { (*dict).ma_version_tag };
    cfg!(Py_3_12) && tag & WATCHERS != 0
}

/// `PyDictKeyEntry`
#[repr(C)]
struct Entry {
    hash: isize,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
}

/// Whether the layout was found to be as described.
static AS_DESCRIBED: AtomicBool = AtomicBool::new(false);

/// The entries of a dict, null where they are not laid out as described; and how many.
#[inline(always)]
fn entries(dict: &Owned) -> (*mut Entry, usize) {
    let nothing = (ptr::null_mut(), 0);
    // SAFETY: F1; the caller's object is a dict. Its head is public, and has a table of keys, whose head has this size.
    unsafe {
        let dict = dict.as_ptr().cast::<ffi::PyDictObject>();
        if !(*dict).ma_values.is_null() || is_watched(dict) {
            return nothing;
        }
        let keys = (*dict).ma_keys.cast::<Keys>();
        if (*keys).kind != GENERAL {
            return nothing;
        }
        let behind_indices = size_of::<Keys>() + (1 << (*keys).log2_index_bytes);
        (keys.byte_add(behind_indices).cast::<Entry>(), (*keys).count as usize)
    }
}

/// The place of `key`'s entry, to be given to [`replace`]; the newest are looked at first.
pub fn place_of(dict: &Owned, key: *mut ffi::PyObject) -> Option<usize> {
    if !AS_DESCRIBED.load(Ordering::Relaxed) {
        return None;
    }
    let (entries, count) = entries(dict);
    // SAFETY: so many entries are there.
    (0..count).rev().find(|place| unsafe { (*entries.add(*place)).key == key })
}

/// `key`'s entry, if it is still at this place.
#[inline(always)]
fn entry(dict: &Owned, place: usize, key: *mut ffi::PyObject) -> Option<*mut Entry> {
    if !AS_DESCRIBED.load(Ordering::Relaxed) {
        return None;
    }
    let (entries, count) = entries(dict);
    if place >= count {
        return None;
    }
    // SAFETY: so many entries are there.
    unsafe {
        let entry = entries.add(place);
        ((*entry).key == key && !(*entry).value.is_null()).then_some(entry)
    }
}

/// The value of `key`, if its entry is still at this place.
#[inline(always)]
pub fn read(dict: &Owned, place: usize, key: *mut ffi::PyObject) -> Option<Owned> {
    // SAFETY: the entry has a value.
    entry(dict, place, key).map(|entry| unsafe { Owned::from_borrowed((*entry).value) })
}

/// Puts `value` into `key`'s entry; false: it is not at this place any more.
#[inline(always)]
pub fn replace(dict: &Owned, place: usize, key: *mut ffi::PyObject, value: &Owned) -> bool {
    let Some(entry) = entry(dict, place, key) else {
        return false;
    };
    // SAFETY: the entry owns a reference to its value, which is the caller's from here on. It is dropped when the entry is
    // whole again, since that may run Python code.
    unsafe {
        if (*entry).value != value.as_ptr() {
            drop(Owned::from_new(ptr::replace(&raw mut (*entry).value, value.clone().into_ptr())));
        }
    }
    true
}

/// Tries the layout on a dict of its own; at import. `for_whom`: the object whose entries are to be written; if it is no
/// plain dict, none ever are. Without a GIL none are either: other loops' threads write to the dict at the same time.
///
/// # Errors
/// What making a dict raises.
pub fn calibrate(for_whom: &Owned) -> Result<()> {
    if cfg!(Py_GIL_DISABLED) || !for_whom.is_exactly(&raw mut ffi::PyDict_Type) {
        return Ok(());
    }
    // SAFETY: F1; living objects; the classes are alive while the interpreter is, and are no strings.
    unsafe {
        let dict = Owned::from_new(ffi::PyDict_New())?;
        let classes = [ffi::PyExc_KeyError, ffi::PyExc_ValueError, ffi::PyExc_TypeError];
        for class in classes {
            check(ffi::PyDict_SetItem(dict.as_ptr(), class, class))?;
        }
        check(ffi::PyDict_DelItem(dict.as_ptr(), classes[0]))?;
        let (found, count) = entries(&dict);
        let keys = (*dict.as_ptr().cast::<ffi::PyDictObject>()).ma_keys.cast::<Keys>();
        // The smallest table: eight indices of a byte each, five usable entries.
        let head = (*keys).log2_size == 3 && (*keys).log2_index_bytes == 3 && (*keys).usable == 2;
        if found.is_null() || !head || count != 3 {
            return Ok(());
        }
        let is = |place: usize, key: *mut ffi::PyObject| {
            let entry = &*found.add(place);
            entry.key == key && entry.value == key
        };
        let hash = ffi::PyObject_Hash(classes[1]);
        let described =
            is(1, classes[1]) && is(2, classes[2]) && is(0, ptr::null_mut()) && (*found.add(1)).hash == hash;
        AS_DESCRIBED.store(described, Ordering::Relaxed);
    }
    Ok(())
}
