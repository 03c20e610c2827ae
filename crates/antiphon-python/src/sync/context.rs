//! `async with` beyond the shortest way: leaving, and entering what a subclass or another lock's `acquire` decides.
//!
//! Source: CPython Lib/asyncio/locks.py (`_ContextManagerMixin`).

use std::ffi::{CStr, c_int};

use crate::coroutine::{self, Class, Delegate, Operation, Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result, call_method};
use crate::names::names;

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

/// The body of `__aexit__()`.
pub struct ExitOperation {
    object: Owned,
    release: fn(&Owned) -> Result<()>,
}

static EXIT: Class = Class::new();

impl Operation for ExitOperation {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.ExitOperation";

    fn class() -> &'static Class {
        &EXIT
    }

    #[inline]
    fn step(&mut self, _: Resume<'_>) -> Result<Step> {
        (self.release)(&self.object)?;
        Ok(Step::Returned(Owned::none()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.object])
    }
}

/// `__aexit__` that does this.
#[inline]
pub fn exit(name: &'static str, object: Owned, release: fn(&Owned) -> Result<()>) -> Result {
    coroutine::make(name, ExitOperation { object, release })
}

/// The object's own `release()`.
pub fn release_by_method(object: &Owned) -> Result<()> {
    call_method(object, &names().release, []).map(drop)
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<CallOperation>(module)?;
    coroutine::load::<ExitOperation>(module)
}
