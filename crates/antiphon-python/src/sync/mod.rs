//! `Lock`, `Event`, `Condition`, `Semaphore`, `Barrier` and the queues: asyncio's, over the machines of `antiphon-core`.
//!
//! The machines decide, this folder translates: a waiter is a native future, what a machine says is to be woken is woken
//! outside of its cell (F3), and each `async def` of asyncio's is an operation of [`crate::coroutine`]. What need not wait
//! makes no future and asks for no loop.
//!
//! A plain object goes the short way. In an instance of a Python subclass, whatever asyncio's own code would call by name
//! is called by name, so that overriding it works.
//!
//! | module | is |
//! |---|---|
//! | [`object`] | the types' common slots; `__init__`; representations |
//! | [`bound`] | which loop a primitive belongs to |
//! | [`waiter`] | who waits, and the waking |
//! | [`view`] | `_waiters`: a machine's list as Python sees it |
//! | [`acquire`], [`context`] | `acquire()`, `async with` |
//! | [`lock`], [`semaphore`], [`event`], [`condition`], [`barrier`] | the primitives |
//! | [`queue`] | the queues |

pub mod acquire;
pub mod barrier;
pub mod bound;
pub mod condition;
pub mod condition_wait;
pub mod context;
pub mod event;
pub mod lock;
pub mod object;
pub mod queue;
pub mod semaphore;
pub mod view;
pub mod waiter;

use crate::ffi::{Owned, Result};

/// `_loop` and `_get_loop` of a type whose payload has a `bound` field.
macro_rules! loop_attributes {
    ($payload:ty) => {
        fn get_loop(this: &$crate::ffi::Instance<$payload>) -> $crate::ffi::Result {
            Ok(this.bound.get().unwrap_or_else($crate::ffi::Owned::none))
        }

        fn set_loop(
            this: &$crate::ffi::Instance<$payload>,
            owner: Option<&$crate::ffi::Owned>,
        ) -> $crate::ffi::Result<()> {
            this.bound.set(owner.filter(|owner| !owner.is_none()).cloned());
            Ok(())
        }

        fn get_running(this: &$crate::ffi::Instance<$payload>) -> $crate::ffi::Result {
            this.bound.get_loop(&this.owned())
        }
    };
}
pub(crate) use loop_attributes;

/// `__aenter__` and `__aexit__` of a type that is a [`context::Block`], as plain methods where they serve (from 3.14).
macro_rules! block_methods {
    ($kind:expr, $payload:ty) => {{
        #[cfg(Py_3_14)]
        {
            fn enter(this: &$crate::ffi::Instance<$payload>) -> $crate::ffi::Result {
                $crate::sync::context::enter::<$payload>(&this.owned())
            }
            fn exit(this: &$crate::ffi::Instance<$payload>, _: $crate::ffi::Args<'_>) -> $crate::ffi::Result {
                $crate::sync::context::exit::<$payload>(&this.owned())
            }
            $kind.method_noargs(c"__aenter__", $crate::method_noargs!(enter), c"Acquire it.").method(
                c"__aexit__",
                $crate::method!(c"__aexit__", exit),
                c"Release it.",
            )
        }
        #[cfg(not(Py_3_14))]
        {
            $kind
        }
    }};
}
pub(crate) use block_methods;

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    view::load()?;
    context::load(module)?;
    lock::load(module)?;
    semaphore::load(module)?;
    event::load(module)?;
    condition::load(module)?;
    barrier::load(module)?;
    queue::load(module)
}
