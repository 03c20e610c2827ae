//! `_waiters` and the like: a machine's list of waiters as programs see it that look there.
//!
//! asyncio has a deque of futures in that place. This is a window on the machine's own list: it counts, shows and changes
//! what is in it. It is never `None`, where asyncio's locks begin with that.

use std::ffi::{c_int, c_void};

use antiphon_core::Waiters;
use pyo3::ffi;

use crate::ffi::derived::TypeCell;
use crate::ffi::raise::{raise, value_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{HeapType, Instance, Owned, Payload, Raised, Result, guard};
use crate::{method_noargs, method_one, unary_slot};

use super::waiter::Waiter;

/// Reaches the list of an object that is of the right type, inside of its cell (F3).
pub type Reach = fn(&Owned, &mut dyn FnMut(&mut Waiters<Waiter>));

/// The payload of a view.
pub struct View {
    owner: Owned,
    reach: Reach,
}

static VIEW: TypeCell = TypeCell::new();

impl Payload for View {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    fn type_object() -> *mut ffi::PyTypeObject {
        VIEW.get()
    }
}

/// A view on the list of `owner` that `reach` reaches.
pub fn make(owner: Owned, reach: Reach) -> Result {
    Instance::<View>::create(View { owner, reach })
}

impl View {
    /// What `f` makes of the list; no Python code may run in it (F3).
    pub fn with<R>(&self, mut f: impl FnMut(&mut Waiters<Waiter>) -> R) -> Option<R> {
        let mut result = None;
        (self.reach)(&self.owner, &mut |waiters| result = Some(f(waiters)));
        result
    }

    fn objects(&self) -> Vec<Owned> {
        self.with(|waiters| waiters.iter().map(|waiter| waiter.object().clone()).collect())
            .unwrap_or_default()
    }

    fn list(&self) -> Result {
        // SAFETY: F1; each place is filled once.
        unsafe {
            let objects = self.objects();
            let list = Owned::from_new(ffi::PyList_New(objects.len() as isize))?;
            for (place, object) in objects.into_iter().enumerate() {
                ffi::PyList_SET_ITEM(list.as_ptr(), place as isize, object.into_ptr());
            }
            Ok(list)
        }
    }
}

unsafe extern "C" fn len(this: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: F2.
    let this = unsafe { Instance::<View>::from_ptr(this) };
    this.with(|waiters| waiters.len()).unwrap_or_default() as ffi::Py_ssize_t
}

fn index_error(text: &str) -> Raised {
    // SAFETY: the class is alive while the interpreter is.
    raise(unsafe { ffi::PyExc_IndexError }, text)
}

unsafe extern "C" fn item(this: *mut ffi::PyObject, place: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2.
        let this = unsafe { Instance::<View>::from_ptr(this) };
        let found = usize::try_from(place)
            .ok()
            .and_then(|place| this.with(|waiters| waiters.iter().nth(place).map(|w| w.object().clone())))
            .flatten();
        found.ok_or_else(|| index_error("deque index out of range"))
    })
}

fn iter(this: &Instance<View>) -> Result {
    // SAFETY: F1; a living object.
    unsafe { Owned::from_new(ffi::PyObject_GetIter(this.list()?.as_ptr())) }
}

fn repr(this: &Instance<View>) -> Result {
    // SAFETY: F1; the format takes one object.
    unsafe { Owned::from_new(ffi::PyUnicode_FromFormat(c"deque(%R)".as_ptr(), this.list()?.as_ptr())) }
}

fn append(this: &Instance<View>, object: &Owned) -> Result {
    let mut waiter = Some(Waiter::of(object.clone()));
    this.with(|waiters| {
        if let Some(waiter) = waiter.take() {
            waiters.push(waiter);
        }
    });
    Ok(Owned::none())
}

fn remove(this: &Instance<View>, object: &Owned) -> Result {
    let waiter = Waiter::of(object.clone());
    match this.with(|waiters| waiters.remove(&waiter)).flatten() {
        Some(removed) => {
            drop(removed);
            Ok(Owned::none())
        }
        None => Err(value_error("deque.remove(x): x not in deque")),
    }
}

fn popleft(this: &Instance<View>) -> Result {
    let first = this.with(Waiters::pop).flatten();
    first.map(|first| first.object().clone()).ok_or_else(|| index_error("pop from an empty deque"))
}

fn clear_list(this: &Instance<View>) -> Result {
    drop(this.with(Waiters::take));
    Ok(Owned::none())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        Visitor::new(visit, arg).all([&Instance::<View>::from_ptr(object).owner])
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<View>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load() -> Result<()> {
    if VIEW.get().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.Waiters", Instance::<View>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"Who waits, in order.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .slot(ffi::Py_tp_iter, unary_slot!(iter))
            .slot(ffi::Py_sq_length, len as *mut c_void)
            .slot(ffi::Py_sq_item, item as *mut c_void)
            .method_one(c"append", method_one!(append), c"Add one at the end.")
            .method_one(c"remove", method_one!(remove), c"Take this one out.")
            .method_noargs(c"popleft", method_noargs!(popleft), c"Take the first one out.")
            .method_noargs(c"clear", method_noargs!(clear_list), c"Take all of them out.")
            .build(None, Instance::<View>::PAYLOAD_OFFSET)?;
        VIEW.set(made);
    }
    Ok(())
}
