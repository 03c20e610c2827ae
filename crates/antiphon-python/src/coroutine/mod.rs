//! Native coroutine objects: what Python sees where asyncio has an `async def`.
//!
//! An [`Operation`] is the body: one function that is resumed with a value or an exception and yields, returns or raises.
//! [`Coroutine`] around it keeps the coroutine protocol: nothing happens before the first step, `send`, `throw` and
//! `close` as PEP 342 has them, one step at a time, no step after the end, "never awaited". What awaits it, a task of
//! ours, of CPython's or a coroutine, cannot tell it from an `async def`; no Python frame is made.
//!
//! ```text
//! Created ──first step──▶ Running ──returns, raises──▶ Finished
//!    │                     │   ▲
//!    │                yields   resumed
//!    │                     ▼   │
//!    └─close, throw─▶   Suspended ──close──▶ Ending ──▶ Finished      (the operation is resumed with Close)
//! ```
//!
//! **Invariant N1**: while a step is on, the operation belongs to that step alone ([`crate::ffi::step_cell`]). So nothing
//! that the step runs (a user's method, a collection, a finalizer) can start a second one or meet it half done.
//!
//! | module | is |
//! |---|---|
//! | [`life`] | the phases and the ways between them |
//! | [`protocol`] | the same in Python's words, and the making of the types |
//! | [`collect`] | its end: the cycle collector, "never awaited", suspended ones closed |
//! | [`class`] | an operation's type object, and memory at rest |
//! | [`exceptions`] | `StopIteration` for a result, the exception that `throw` is given |
//! | [`special`], [`binding`] | `__aenter__` and `__aexit__` without bound methods, until 3.13 |
//! | [`function`] | what makes coroutines, as `inspect` knows coroutine functions |
//! | [`delegate`] | `await` of any Python awaitable, for operations that call back into Python |
//!
//! Source: PEP 342, PEP 380, PEP 492; CPython Objects/genobject.c.

mod binding;
mod class;
pub mod collect;
mod delegate;
pub mod exceptions;
pub mod function;
mod life;
mod protocol;
#[cfg_attr(Py_3_14, allow(dead_code, reason = "`async with` calls plain methods there"))]
pub mod special;

use std::ffi::{CStr, c_int};

use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Result};

pub use binding::{Binding, LookedUp};
pub use class::Class;
pub use delegate::Delegate;
pub use life::{Coroutine, make};
pub use protocol::{load, load_special};

/// How an operation is resumed.
pub enum Resume<'a> {
    /// With this value; none is Python's `None`, as a rule and in the first step.
    Send(Option<&'a Owned>),
    /// With this exception, which it raises where it waits unless it has other plans.
    Throw(Owned),
    /// To clean up and end: it must not yield.
    Close,
}

impl Resume<'_> {
    /// What the `await` where the operation waits would do: nothing, or raise.
    ///
    /// # Errors
    /// The exception thrown; `GeneratorExit` on close.
    #[inline]
    pub fn check(self) -> Result<()> {
        match self {
            Resume::Send(_) => Ok(()),
            Resume::Throw(exception) => Err(raise::restore(exception)),
            Resume::Close => Err(exceptions::generator_exit()),
        }
    }
}

/// What one step gave.
pub enum Step {
    /// It waits for this: a future on its way to the task, or `None`.
    Yielded(Owned),
    /// It is finished.
    Returned(Owned),
}

/// The body of a native coroutine.
pub trait Operation: Sized + Send + 'static {
    /// The dotted name of its coroutines' type; `_antiphon` has it under the last part.
    const TYPE_NAME: &'static CStr;

    /// [`LookedUp`] for operations of special methods, `()` for all others.
    type Binding: Binding;

    /// Its coroutines' type object and memory: a static of the implementing module.
    fn class() -> &'static Class;

    /// Goes on from where it is until it yields, returns or raises. The first call is a [`Resume::Send`] of none.
    ///
    /// Python code may run in it. It is not called again after it returned or raised.
    ///
    /// # Errors
    /// What the coroutine raises.
    fn step(&mut self, resume: Resume<'_>) -> Result<Step>;

    /// It has yielded, and waits from here on: `this` is its coroutine. Runs no Python code.
    #[inline(always)]
    fn suspended(&self, _this: &Instance<Coroutine<Self>>) {}

    /// Whether it holds references, so that the collector has to know its coroutine; asked when it is made and whenever
    /// it yields.
    #[inline(always)]
    fn refers(&self) -> bool {
        true
    }

    /// Shows every reference that it holds to the collector.
    fn traverse(&self, visitor: Visitor) -> c_int;
}
