//! Who is to hear that a future is done: Python callbacks with their contexts, and native observers without.
//!
//! Two words each. An observer is an object of one of our own types; a function registered for its type is called with it,
//! and no Python code runs for the call.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use pyo3::ffi;

use super::FutureRef;
use crate::ffi::derived::{BoundMethod, bind, bound_method};
use crate::ffi::raise::runtime_error;
use crate::ffi::{Owned, Result, This, guard};
use crate::task::TaskObject;

/// What [`FutureRef::watch`] calls in the loop's turn, dispatched by the observer's type.
pub type Observer = fn(observer: &Owned, done: &FutureRef) -> Result<()>;

/// What a callback's object is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Callee {
    /// Any callable, to be called in a context.
    Function = 0,
    /// An object of ours whose type has an [`Observer`].
    Observer = 1,
    /// A task of ours that waits: its turn comes, without a call.
    Task = 2,
}

const TAG: usize = 7;

/// One entry of a future's callbacks. Dropping it drops references, so never inside a cell (F3).
pub struct Callback {
    /// The object's address, tagged with the [`Callee`].
    callee: NonZeroUsize,
    context: Option<Owned>,
}

impl Callback {
    fn new(callee: Callee, object: Owned, context: Option<Owned>) -> Self {
        let address = object.into_ptr() as usize | callee as usize;
        // SAFETY: a reference is never null; objects are aligned to 8 bytes at least.
        Self { callee: unsafe { NonZeroUsize::new_unchecked(address) }, context }
    }

    /// A Python callable, to be called in `context`.
    pub fn function(callable: Owned, context: Owned) -> Self {
        Self::new(Callee::Function, callable, Some(context))
    }

    /// A native observer.
    pub fn observer(object: Owned) -> Self {
        Self::new(Callee::Observer, object, None)
    }

    /// A task that waits.
    pub fn task(object: Owned) -> Self {
        Self::new(Callee::Task, object, None)
    }

    /// What kind of object it is.
    #[inline(always)]
    pub fn callee(&self) -> Callee {
        match self.callee.get() & TAG {
            0 => Callee::Function,
            1 => Callee::Observer,
            _ => Callee::Task,
        }
    }

    /// The object, borrowed.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        (self.callee.get() & !TAG) as *mut ffi::PyObject
    }

    /// The object.
    pub fn object(&self) -> Owned {
        // SAFETY: alive as long as this entry.
        unsafe { Owned::from_borrowed(self.as_ptr()) }
    }

    /// The task that waits, if it is one.
    #[cfg(Py_3_14)]
    pub fn waiting_task(&self) -> Option<Owned> {
        (self.callee() == Callee::Task).then(|| self.object())
    }

    /// The context of a function.
    pub fn context(&self) -> Option<&Owned> {
        self.context.as_ref()
    }

    /// Object and context, given away.
    pub fn into_parts(self) -> (Callee, Owned, Option<Owned>) {
        let mut this = ManuallyDrop::new(self);
        let context = this.context.take();
        // SAFETY: the entry owned one reference, which is given away.
        (this.callee(), unsafe { Owned::from_new(this.as_ptr()).unwrap_unchecked() }, context)
    }

    /// The task that it is.
    fn as_task(&self) -> &TaskObject {
        debug_assert_eq!(self.callee(), Callee::Task);
        // SAFETY: such entries are made from tasks only, and keep them alive.
        unsafe { This::from_ptr(self.as_ptr()) }
    }

    fn own_context(&self) -> Option<Owned> {
        match self.callee() {
            Callee::Task => self.as_task().context(),
            _ => self.context.clone(),
        }
    }

    /// It as Python code sees it: a callable and a context.
    pub fn shown(&self) -> Result<(Owned, Owned)> {
        let callable = match self.callee() {
            Callee::Function => self.object(),
            Callee::Observer => bind(&OBSERVE, &self.object())?,
            Callee::Task => self.as_task().wake_up()?,
        };
        let context = match self.own_context() {
            Some(context) => context,
            // SAFETY: F1; gives a new reference or null.
            None => unsafe { Owned::from_new(ffi::PyContext_CopyCurrent())? },
        };
        Ok((callable, context))
    }

    /// Visits what it refers to.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        // SAFETY: called from a traverse slot with its own visitor.
        unsafe {
            match visit(self.as_ptr(), arg) {
                0 => self.context.as_ref().map_or(0, |context| visit(context.as_ptr(), arg)),
                status => status,
            }
        }
    }
}

impl Clone for Callback {
    fn clone(&self) -> Self {
        Self::new(self.callee(), self.object(), self.context.clone())
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        // SAFETY: the entry owned one reference.
        unsafe { ffi::Py_DECREF(self.as_ptr()) }
    }
}

/// A future's callbacks in their order: the first in place, since most futures have one.
#[derive(Default)]
pub struct Callbacks {
    first: Option<Callback>,
    // Boxed twice over, so that a future without further ones keeps one word for them.
    others: Option<Box<Others>>,
}

#[derive(Default)]
struct Others(VecDeque<Callback>);

impl Callbacks {
    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_none()
    }

    /// Adds one at the end.
    #[inline(always)]
    pub fn push(&mut self, callback: Callback) {
        if self.is_empty() {
            self.first = Some(callback);
        } else {
            self.others.get_or_insert_default().0.push_back(callback);
        }
    }

    /// Takes the only one out if it is a task; otherwise leaves them all.
    #[inline(always)]
    pub fn take_only_task(&mut self) -> Option<Owned> {
        if self.others.is_some() || self.first.as_ref()?.callee() != Callee::Task {
            return None;
        }
        self.first.take().map(|callback| callback.into_parts().1)
    }

    /// Takes the first one out.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Callback> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let others = self.others.as_mut()?;
        let next = others.0.pop_front();
        if others.0.is_empty() {
            self.others = None;
        }
        next
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Callback> {
        self.first.iter().chain(self.others.iter().flat_map(|others| &others.0))
    }

    /// Takes out the first one that has this very object, for the caller to drop.
    pub fn remove(&mut self, object: *mut ffi::PyObject) -> Option<Callback> {
        if self.first.as_ref().is_some_and(|first| first.as_ptr() == object) {
            return self.first.take();
        }
        let others = self.others.as_mut()?;
        let place = others.0.iter().position(|callback| callback.as_ptr() == object)?;
        let removed = others.0.remove(place);
        if others.0.is_empty() {
            self.others = None;
        }
        removed
    }
}

const MOST_OBSERVERS: usize = 32;
static OBSERVERS: [OnceLock<(usize, Observer)>; MOST_OBSERVERS] = [const { OnceLock::new() }; MOST_OBSERVERS];

/// Registers what is called for observers of exactly the type `kind`; at import.
///
/// # Errors
/// `RuntimeError`: more types than the table has places for; raise its size.
pub fn register_observer(kind: *mut ffi::PyTypeObject, run: Observer) -> Result<()> {
    for place in &OBSERVERS {
        if place.get_or_init(|| (kind as usize, run)).0 == kind as usize {
            return Ok(());
        }
    }
    Err(crate::ffi::raise::runtime_error("antiphon: more types of observers than places"))
}

/// Tells an observer.
#[inline]
pub fn observe(observer: &Owned, done: &FutureRef) -> Result<()> {
    // SAFETY: a living object.
    let kind = unsafe { ffi::Py_TYPE(observer.as_ptr()) } as usize;
    for place in &OBSERVERS {
        match place.get() {
            Some((registered, run)) if *registered == kind => return run(observer, done),
            Some(_) => {}
            None => break,
        }
    }
    Err(runtime_error("antiphon: an observer of a type that was never registered"))
}

/// The observer as a Python callable: for loops that are not ours, and for who looks at `_callbacks`.
static OBSERVE: BoundMethod = bound_method(c"observe", observe_from_python, ffi::METH_O);

unsafe extern "C" fn observe_from_python(
    observer: *mut ffi::PyObject,
    done: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F1; both are alive during the call.
        let (observer, done) = unsafe { (Owned::from_borrowed(observer), Owned::from_borrowed(done)) };
        let Some(done) = FutureRef::cast(&done) else {
            return Err(runtime_error("antiphon: an observer was called with something that is no future"));
        };
        observe(&observer, done).map(|()| Owned::none())
    })
}
