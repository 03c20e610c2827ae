//! `async with`: the short way, and by the methods of a subclass or of another lock.
//!
//! Source: CPython Lib/asyncio/locks.py (`_ContextManagerMixin`).

use std::ffi::{CStr, c_int};

use crate::coroutine::special::Special;
use crate::coroutine::{self, Class, Delegate, Operation, Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result, call_method};
use crate::names::names;

use super::acquire::{Acquirable, EnterOperation, ExitOperation};

/// `await object.method()`, and its result or nothing.
pub struct CallOperation {
    object: Owned,
    method: &'static Owned,
    gives_result: bool,
    delegate: Option<Delegate>,
}

static CALL: Class = Class::new();

impl Operation for CallOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.CallOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &CALL
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        if self.delegate.is_none() {
            self.delegate = Some(Delegate::new(call_method(&self.object, self.method, [])?)?);
        }
        match &self.delegate {
            Some(delegate) => match delegate.step(resume)? {
                Step::Returned(_) if !self.gives_result => Ok(Step::Returned(Owned::none())),
                step => Ok(step),
            },
            None => Ok(Step::Returned(Owned::none())),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match visitor.all([&self.object]) {
            0 => self.delegate.as_ref().map_or(0, |delegate| delegate.traverse(visitor)),
            status => status,
        }
    }
}

/// `__aenter__` by the object's own `acquire()`.
pub fn enter_by_method(name: &'static str, object: Owned) -> Result {
    let method = &names().acquire;
    coroutine::make(name, CallOperation { object, method, gives_result: false, delegate: None })
}

/// `__aenter__` by the object's own `wait()`, whose result it gives.
pub fn enter_by_waiting(name: &'static str, object: Owned) -> Result {
    let method = &names().wait;
    coroutine::make(name, CallOperation { object, method, gives_result: true, delegate: None })
}

/// The body of `__aexit__()` by the object's own `release()`.
pub struct ReleaseOperation {
    object: Owned,
}

static RELEASE: Class = Class::new();

impl Operation for ReleaseOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.ReleaseOperation";
    type Binding = ();

    fn class() -> &'static Class {
        &RELEASE
    }

    fn step(&mut self, _: Resume<'_>) -> Result<Step> {
        release_by_method(&self.object)?;
        Ok(Step::Returned(Owned::none()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.object])
    }
}

/// `__aexit__` by the object's own `release()`.
pub fn exit_by_method(name: &'static str, object: Owned) -> Result {
    coroutine::make(name, ReleaseOperation { object })
}

/// The object's own `release()`.
pub fn release_by_method(object: &Owned) -> Result<()> {
    call_method(object, &names().release, []).map(drop)
}

/// The names of a type's coroutines for `async with`.
#[derive(Copy, Clone)]
pub struct BlockNames {
    /// `Lock.__aenter__`
    pub enter: &'static str,
    /// `Lock.__aexit__`
    pub exit: &'static str,
}

/// `async with` of one type: who goes the short way, and the names.
pub trait Block {
    /// What is acquired.
    type Lock: Acquirable;
    /// The names.
    const NAMES: BlockNames;
    /// What to acquire where nothing has to be called by name.
    fn short_way(object: &Owned) -> Option<Owned>;
}

/// Gives a type the methods of `async with`.
#[cfg(not(Py_3_14))]
pub fn add_block<B: Block>(class: *mut pyo3::ffi::PyTypeObject) -> Result<()> {
    use crate::coroutine::special;
    fn bind_enter<B: Block>(object: &Owned) -> Result<Option<Owned>> {
        let lock = B::short_way(object);
        lock.map(|lock| special::bind::<EnterOperation<B::Lock>>(B::NAMES.enter, lock)).transpose()
    }
    fn bind_exit<B: Block>(object: &Owned) -> Result<Option<Owned>> {
        let lock = B::short_way(object);
        lock.map(|lock| special::bind::<ExitOperation<B::Lock>>(B::NAMES.exit, lock)).transpose()
    }
    special::add_method(class, "__aenter__", bind_enter::<B>, |object, _| enter::<B>(object))?;
    special::add_method(class, "__aexit__", bind_exit::<B>, |object, _| exit::<B>(object))
}

/// `__aenter__()`
pub fn enter<B: Block>(object: &Owned) -> Result {
    match B::short_way(object).and_then(|lock| EnterOperation::<B::Lock>::of(&lock)) {
        Some(operation) => coroutine::make(B::NAMES.enter, operation),
        None => enter_by_method(B::NAMES.enter, object.clone()),
    }
}

/// `__aexit__()`
pub fn exit<B: Block>(object: &Owned) -> Result {
    match B::short_way(object).and_then(|lock| ExitOperation::<B::Lock>::of(&lock)) {
        Some(operation) => coroutine::make(B::NAMES.exit, operation),
        None => exit_by_method(B::NAMES.exit, object.clone()),
    }
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<CallOperation>(module)?;
    coroutine::load::<ReleaseOperation>(module)
}
