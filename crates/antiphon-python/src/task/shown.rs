//! What tools outside of the process see of a task: `python -m asyncio ps` and its kin (from CPython 3.14 on).
//!
//! They follow the interpreter's own list of tasks and read the fields of `_asyncio.Task` from the process's memory; a task
//! in that list whose name or coroutine is missing ends their reading for all of them. `_asyncio` publishes where its fields
//! are in a table made for debuggers, in a section of its file. Our tasks derive from that class and fill the three fields
//! in. The base's own traversal, clear and deallocation know them, so they own references like any other.
//!
//! Without a table that fits the class nothing is filled in: then such tools fail, and all else works.
//!
//! Source: CPython Modules/_asynciomodule.c (`Py_AsyncioModuleDebugOffsets`); elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;

use super::{NameIs, TaskObject};
use crate::ffi::{Owned, Raised, Result, raise};
use crate::names::{import, names};

/// Where `_asyncio.Task` keeps what is shown, in bytes from the object's beginning.
struct Offsets {
    name: usize,
    is_task: usize,
    coro: usize,
}

static OFFSETS: OnceLock<Option<Offsets>> = OnceLock::new();

/// Reads the table.
pub fn load() -> Result<()> {
    if OFFSETS.get().is_none() {
        let path = module_file()?;
        // SAFETY: a class object.
        let size = unsafe { (*names().base_task_class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize };
        let table = section(&path, b".AsyncioDebug");
        let _ = OFFSETS.set(table.and_then(|table| Offsets::from_table(&table, size as usize)));
    }
    Ok(())
}

/// The file that has `_asyncio` in it: the interpreter's own where the module is built in.
fn module_file() -> Result<String> {
    let Ok(path) = import("_asyncio", "__file__") else {
        drop(raise::take());
        return Ok("/proc/self/exe".to_owned());
    };
    let mut len = 0;
    // SAFETY: F1; a string, whose bytes live as long as it.
    unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(path.as_ptr(), &raw mut len);
        if start.is_null() {
            return Err(Raised);
        }
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), len as usize);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Offsets {
    /// `table`: 64-bit words, first those on tasks: size, name, awaited_by, is_task, awaited_by_is_set, coro.
    fn from_table(table: &[u8], size: usize) -> Option<Self> {
        let word = |place: usize| {
            let bytes = table.get(place * 8..place * 8 + 8)?;
            usize::try_from(u64::from_ne_bytes(bytes.try_into().ok()?)).ok()
        };
        let pointer = |place: usize| word(place).filter(|offset| offset % 8 == 0 && offset + 8 <= size);
        // A table of another layout than this one hardly begins with the size of this very class.
        if word(0)? != size {
            return None;
        }
        let is_task = word(3).filter(|offset| *offset < size)?;
        Some(Self { name: pointer(1)?, is_task, coro: pointer(5)? })
    }
}

/// The contents of a section of a 64-bit ELF file; `None`: there is none, or this is no such file.
fn section(path: &str, name: &[u8]) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let read = |offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    };
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(bytes.get(at..at + len)?);
        Some(u64::from_le_bytes(word))
    };
    let header = read(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry) = (number(&header, 0x28, 8)?, number(&header, 0x3a, 2)?);
    let (count, names_at) = (number(&header, 0x3c, 2)?, number(&header, 0x3e, 2)?);
    let entry_of = |index: u64| read(table + index * entry, 64);
    let place_of = |header: &[u8]| Some((number(header, 0x18, 8)?, number(header, 0x20, 8)?));
    let (names, names_len) = place_of(&entry_of(names_at)?)?;
    // Sections that matter are small; a broken file must not ask for gigabytes.
    const MOST: u64 = 1 << 20;
    let names = read(names, usize::try_from(names_len.min(MOST)).ok()?)?;
    for index in 0..count {
        let header = entry_of(index)?;
        let start = usize::try_from(number(&header, 0, 4)?).ok()?;
        let named = names
            .get(start..)
            .is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)));
        if named {
            let (offset, len) = place_of(&header)?;
            return read(offset, usize::try_from(len.min(MOST)).ok()?);
        }
    }
    None
}

/// Puts a reference into a field of the base, for the caller to drop what was there.
fn put(task: &TaskObject, offset: usize, value: Owned) -> Option<Owned> {
    // SAFETY: the table says that a reference of the base's is there, and the class has its size.
    unsafe {
        let field = AtomicPtr::from_ptr(task.as_ptr().byte_add(offset).cast());
        Owned::from_new(field.swap(value.into_ptr(), Ordering::AcqRel)).ok()
    }
}

/// Shows a task that has just got its coroutine; to be done before the interpreter lists it.
pub fn fill(task: &TaskObject) -> Result<()> {
    let Some(Some(offsets)) = OFFSETS.get() else {
        return Ok(());
    };
    // SAFETY: as in `put`; the byte is the base's flag.
    unsafe { task.as_ptr().cast::<u8>().add(offsets.is_task).write(1) };
    if let Some(coro) = task.inner.with(|inner| inner.coro.clone()) {
        drop(put(task, offsets.coro, coro));
    }
    fill_name(task)
}

/// Shows a task's name. Default names stay numbers, as in CPython's own tasks, until somebody asks.
pub fn fill_name(task: &TaskObject) -> Result<()> {
    let Some(Some(offsets)) = OFFSETS.get() else {
        return Ok(());
    };
    let name = match task.inner.with(|inner| inner.name.get()) {
        NameIs::None => return Ok(()),
        NameIs::Text(text) => text,
        NameIs::Number(number) => Owned::int(number as i64)?,
    };
    drop(put(task, offsets.name, name));
    Ok(())
}
