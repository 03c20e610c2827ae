//! A future's life as an object: allocation, the collector's questions, the report at its end, the free list.
//!
//! Futures die young and in crowds, so the loop keeps some whole: untracked, emptied, with one reference. One whose
//! finalizer ran is not kept, because the interpreter would not run it again.
//!
//! Source: CPython Modules/_asynciomodule.c (`FutureObj_finalize`, `FutureObj_dealloc`); PEP 442.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::{BASE, FutureData, FutureObject, Inner, Rare, future_type};
use crate::event_loop::{Core, EventLoop};
use crate::ffi::derived::{Derived, DerivedPayload, allocate, clear_weak_references};
use crate::ffi::raise;
use crate::ffi::{Args, HeapType, Instance, Owned, Raised, Result, This, call_method, guard, guard_int};
use crate::names::names;

/// Futures, and tasks, that a loop keeps for later: about half a megabyte, and less than one.
const MOST_KEPT: usize = 2048;

/// A pending future of the loop.
#[inline]
pub(super) fn create(owner: &Instance<EventLoop>) -> Result {
    let kept = owner.seat().with(|core| core.free_futures.pop()).flatten();
    let future = match kept {
        Some(future) => {
            // SAFETY: a whole future, untracked since it was put away.
            unsafe { ffi::PyObject_GC_Track(future.as_ptr().cast()) };
            future
        }
        None => allocate(future_type(), FutureData::default())?,
    };
    // SAFETY: a future in either case.
    let this: &FutureObject = unsafe { This::from_ptr(future.as_ptr()) };
    this.bind(owner);
    Ok(future)
}

unsafe extern "C" fn new(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| allocate(kind, FutureData::default()))
}

/// `Future(*, loop=None)`.
unsafe extern "C" fn init(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    guard_int(|| {
        // SAFETY: F2; the interpreter passes a tuple, and a dict or null.
        let (this, owner) = unsafe {
            let [owner] = Args::of_init(c"Future", args, keywords, 0, [&names().loop_])?;
            (FutureObject::from_ptr(this), owner.and_then(|owner| Owned::from_optional(owner)))
        };
        this.initialise(owner)?;
        Ok(0)
    })
}

impl FutureObject {
    /// What `__init__` does for futures and tasks.
    ///
    /// # Errors
    /// `RuntimeError` from 3.15 on if it was done before; what finding the loop raises.
    pub fn initialise(&self, owner: Option<Owned>) -> Result<()> {
        if cfg!(Py_3_15) && self.is_initialised() {
            return Err(self.already_initialised());
        }
        let owner = match owner {
            Some(owner) => owner,
            None => current_loop()?,
        };
        drop(self.inner.take());
        self.set_owner(owner);
        let debug = match self.native_owner() {
            Some(owner) => owner.debug(),
            None => call_method(&self.owner_or_none(), &names().get_debug, [])?.truth()?,
        };
        if debug { self.remember_origin() } else { Ok(()) }
    }

    #[cold]
    fn already_initialised(&self) -> Raised {
        // SAFETY: F1; a living object's type has a name.
        let name = unsafe { CStr::from_ptr((*ffi::Py_TYPE(self.as_ptr())).tp_name) };
        raise::runtime_error(&format!("{} object is already initialized", name.to_string_lossy()))
    }

    /// Visits what the payload refers to.
    pub fn traverse_payload(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let owner = self.owner.load(Ordering::Relaxed);
        if !owner.is_null() {
            // SAFETY: called from a traverse slot with its own visitor; the future keeps its loop alive.
            let status = unsafe { visit(owner, arg) };
            if status != 0 {
                return status;
            }
        }
        // Every collection comes here several times for each task, most of which have nothing of this: no iterators.
        self.inner.with(|inner| {
            if let Some(outcome) = &inner.outcome {
                // SAFETY: as above.
                let status = unsafe { visit(outcome.as_ptr(), arg) };
                if status != 0 {
                    return status;
                }
            }
            let status = inner.rare.as_deref().map_or(0, |rare| rare.traverse(visit, arg));
            if status != 0 || inner.callbacks.is_empty() {
                return status;
            }
            let mut visited = inner.callbacks.iter().map(|callback| callback.traverse(visit, arg));
            visited.find(|status| *status != 0).unwrap_or(0)
        })
    }

    /// Lets go of what the payload refers to, the loop excepted.
    pub fn clear_payload(&self) {
        drop(self.inner.take());
    }

    /// Whether somebody has to be told if it is dropped now.
    fn is_worth_a_report(&self) -> bool {
        self.state().is_unretrieved()
    }

    /// Tells the loop's exception handler of an exception that nobody has seen.
    pub fn report_unretrieved(&self) -> Result<()> {
        let (unretrieved, exception, stack) = self.inner.with(|inner| {
            let unretrieved = inner.state.is_unretrieved();
            inner.state.retrieve();
            let stack = inner.rare.as_ref().and_then(|rare| rare.source_traceback.clone());
            (unretrieved, inner.outcome.clone(), stack)
        });
        if !unretrieved {
            return Ok(());
        }
        let names = names();
        // SAFETY: F1; the type of a living object.
        let class = unsafe { Owned::from_borrowed(ffi::Py_TYPE(self.as_ptr()).cast()) };
        // SAFETY: F1; the format takes an object.
        let message = unsafe {
            let name = class.attr(&names.__name__)?;
            Owned::from_new(ffi::PyUnicode_FromFormat(
                c"%S exception was never retrieved".as_ptr(),
                name.as_ptr(),
            ))?
        };
        let context = dictionary([
            (&names.message, Some(&message)),
            (&names.exception, exception.as_ref()),
            (&names.future, Some(&self.owned())),
            (&names.source_traceback, stack.as_ref()),
        ])?;
        call_method(&self.owner_or_none(), &names.call_exception_handler, [&context]).map(drop)
    }
}

/// A dict of those that are there.
pub fn dictionary<const N: usize>(entries: [(&Owned, Option<&Owned>); N]) -> Result {
    // SAFETY: F1; living objects.
    unsafe {
        let made = Owned::from_new(ffi::PyDict_New())?;
        for (key, value) in entries {
            if let Some(value) = value {
                crate::ffi::check(ffi::PyDict_SetItem(made.as_ptr(), key.as_ptr(), value.as_ptr()))?;
            }
        }
        Ok(made)
    }
}

/// The loop of a future that was made without one.
fn current_loop() -> Result {
    let names = names();
    let name = if cfg!(Py_3_12) { &names.get_event_loop } else { &names._get_event_loop };
    call_method(&names.events_module, name, [])
}

/// Runs a finalizer's body: an exception that is on its way must stay, and none may come out.
pub fn finalizing(object: *mut ffi::PyObject, body: impl FnOnce() -> Result<()>) {
    let pending = raise::take();
    if body().is_err() {
        // SAFETY: the finalizer's object is alive.
        raise::write_unraisable(Some(&unsafe { Owned::from_borrowed(object) }));
    }
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { FutureObject::from_ptr(object) };
    if this.is_worth_a_report() {
        finalizing(object, || this.report_unretrieved());
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and the visitor is the collector's own.
    unsafe {
        let base = BASE.get().map_or(0, |base| base.traverse(object, visit, arg));
        if base != 0 { base } else { FutureObject::from_ptr(object).traverse_payload(visit, arg) }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe {
        if let Some(base) = BASE.get() {
            base.clear(object);
        }
        FutureObject::from_ptr(object).clear_payload();
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable, unless its finalizer, which needs it tracked, makes it reachable again.
    unsafe {
        let this = FutureObject::from_ptr(object);
        if this.is_worth_a_report() && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        clear_weak_references(object);
        clear(object);
        end::<FutureData>(object, future_type(), this.unbind(), free_list);
    }
}

fn free_list(core: &mut Core) -> &mut Vec<Owned> {
    &mut core.free_futures
}

/// Which of a loop's free lists an object goes to.
pub type FreeList = fn(&mut Core) -> &mut Vec<Owned>;

/// The last lines of a dealloc slot: an object of exactly `kind` goes to its loop's free list, others are freed.
/// # Safety
/// The object is unreachable, untracked, cleared, without weak references, its payload a `T`; `owner` is what it was bound to.
pub unsafe fn end<T: DerivedPayload>(
    object: *mut ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    owner: Option<(Owned, bool)>,
    list: FreeList,
) {
    // SAFETY: by the caller's word.
    unsafe {
        let own = ffi::Py_TYPE(object);
        let kept =
            own == kind && owner.as_ref().is_some_and(|(owner, native)| *native && keep(owner, object, list));
        if !kept {
            ptr::drop_in_place(Derived::<T>::payload_of(object));
            if let Some(free) = (*own).tp_free {
                free(object.cast());
            }
            ffi::Py_DECREF(own.cast());
        }
    }
    drop(owner);
}

/// Puts an empty, unreachable object into its loop's free list; false: there is no room, or the list is not ours to touch.
unsafe fn keep(owner: &Owned, object: *mut ffi::PyObject, list: FreeList) -> bool {
    // SAFETY: F1; the loop is alive, and of ours. An object that the list takes is alive again, with one reference.
    unsafe {
        let home = Instance::<EventLoop>::from_ptr(owner.as_ptr());
        if cfg!(Py_GIL_DISABLED) || !home.seat().is_mine() || ffi::PyObject_GC_IsFinalized(object) != 0 {
            return false;
        }
        if home.seat().enter(|core| list(core).len()) >= MOST_KEPT {
            return false;
        }
        ffi::Py_INCREF(object); // from zero
        if let Ok(kept) = Owned::from_new(object) {
            home.seat().enter(|core| list(core).push(kept));
        }
        true
    }
}

/// Adds the slots of this file and of awaiting.
pub fn add_slots(kind: HeapType) -> HeapType {
    let kind = kind
        .base()
        .collected()
        .doc(c"Future(*, loop=None)\n--\n\nA result that is to come; asyncio's Future.")
        .slot(ffi::Py_tp_new, new as *mut c_void)
        .slot(ffi::Py_tp_init, init as *mut c_void)
        .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
        .slot(ffi::Py_tp_clear, clear as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void);
    super::awaiting::add_slots(kind)
}

impl Rare {
    /// Visits what it refers to.
    fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let objects = [&self.cancel_message, &self.cancelled_error, &self.traceback, &self.source_traceback];
        // SAFETY: called from a traverse slot with its own visitor.
        let mut visited = objects.into_iter().flatten().map(|object| unsafe { visit(object.as_ptr(), arg) });
        visited.find(|status| *status != 0).unwrap_or(0)
    }
}

impl Inner {
    /// In debug mode, the stack of the code that made the future.
    pub(super) fn source_traceback(&self) -> Option<Owned> {
        self.rare.as_ref().and_then(|rare| rare.source_traceback.clone())
    }
}

impl Args<'_> {
    /// The arguments of `tp_init`, bound to `names`, of which the first `positional` may be given by place.
    /// # Safety
    /// `args` is a tuple, `keywords` a dict or null, as the interpreter passes them.
    pub unsafe fn of_init<const N: usize>(
        function: &std::ffi::CStr,
        args: *mut ffi::PyObject,
        keywords: *mut ffi::PyObject,
        positional: usize,
        names: [&Owned; N],
    ) -> Result<[Option<*mut ffi::PyObject>; N]> {
        let function = function.to_string_lossy();
        let mut bound = [None; N];
        // SAFETY: F1; by the caller's word. What is borrowed is kept alive by the tuple and the dict.
        unsafe {
            let given = ffi::PyTuple_GET_SIZE(args) as usize;
            if given > positional {
                return Err(raise::type_error(&format!(
                    "{function}() takes at most {positional} positional arguments ({given} given)"
                )));
            }
            for (place, value) in bound.iter_mut().enumerate().take(given) {
                *value = Some(ffi::PyTuple_GET_ITEM(args, place as isize));
            }
            if keywords.is_null() {
                return Ok(bound);
            }
            let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while ffi::PyDict_Next(keywords, &mut position, &mut key, &mut value) != 0 {
                let place = names.iter().position(|name| ffi::PyUnicode_Compare(key, name.as_ptr()) == 0);
                match place {
                    Some(place) if bound[place].is_none() => bound[place] = Some(value),
                    Some(_) => {
                        return Err(raise::type_error(&format!(
                            "{function}() got multiple values for an argument"
                        )));
                    }
                    None => {
                        ffi::PyErr_Format(
                            ffi::PyExc_TypeError,
                            c"%U() got an unexpected keyword argument '%U'".as_ptr(),
                            Owned::str(&function)?.as_ptr(),
                            key,
                        );
                        return Err(Raised);
                    }
                }
            }
        }
        Ok(bound)
    }
}
