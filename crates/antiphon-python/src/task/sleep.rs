//! `sleep`: a coroutine without a frame, whose timer is an entry of the heap without a handle.
//!
//! The future that the task waits for goes into the timer heap itself; when its time has come it has its turn and is
//! finished ([`crate::future::schedule`]). A delay of zero or less is one bare yield. Loops that are not ours, and delays
//! that are neither `float` nor `int`, are asyncio's own `sleep`'s business.
//!
//! Source: CPython Lib/asyncio/tasks.py (`sleep`, `__sleep0`).

use std::ffi::c_int;
use std::sync::OnceLock;

use antiphon_engine::TimerKey;
use pyo3::ffi;

use crate::coroutine::{self, Class, Delegate, Operation, Resume, Step};
use crate::event_loop::{EventLoop, running, schedule};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, Instance, Owned, Payload, Result, call};
use crate::future::FutureRef;
use crate::names::{import, names};
use crate::work::{Kind, Work};

/// Where the coroutine is.
enum State {
    /// Nobody has awaited it yet.
    Created { delay: Owned },
    /// Nor this one, whose delay is the number 0.
    Zero,
    /// It has yielded for one turn.
    Yielding,
    /// Its future is in the timer heap.
    Sleeping { future: FutureRef, key: Option<TimerKey> },
    /// asyncio's own.
    Foreign(Delegate),
}

/// The body of `sleep`.
pub struct Sleep {
    state: State,
    result: Option<Owned>,
}

static CLASS: Class = Class::new();
/// The number 0, which every `sleep(0)` is called with.
static ZERO: OnceLock<Owned> = OnceLock::new();
/// asyncio's `sleep`, as it was when the module was loaded.
static ASYNCIO: OnceLock<Owned> = OnceLock::new();

/// The delay as a number, where telling needs no Python code.
#[inline]
fn plain_number(delay: &Owned) -> Option<f64> {
    // SAFETY: F1; the types are compared before the objects are read as such.
    unsafe {
        if ffi::PyFloat_CheckExact(delay.as_ptr()) != 0 {
            let seconds = ffi::PyFloat_AS_DOUBLE(delay.as_ptr());
            return (!seconds.is_nan()).then_some(seconds);
        }
        if ffi::PyLong_CheckExact(delay.as_ptr()) != 0 {
            let mut overflow = 0;
            let seconds = ffi::PyLong_AsLongLongAndOverflow(delay.as_ptr(), &raw mut overflow);
            return (overflow == 0).then_some(seconds as f64);
        }
    }
    None
}

impl Operation for Sleep {
    const TYPE_NAME: &'static std::ffi::CStr = c"antiphon._antiphon.Sleep";

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match &self.state {
            State::Zero => {
                self.state = State::Yielding;
                Ok(Step::Yielded(Owned::none()))
            }
            State::Created { delay } => match plain_number(delay) {
                Some(seconds) if seconds <= 0.0 => {
                    self.state = State::Yielding;
                    Ok(Step::Yielded(Owned::none()))
                }
                Some(seconds) => self.fall_asleep(Some(seconds), delay.clone()),
                None => self.fall_asleep(None, delay.clone()),
            },
            State::Yielding => resume.check().map(|()| Step::Returned(self.take_result())),
            State::Sleeping { .. } => self.wake(resume),
            State::Foreign(delegate) => delegate.step(resume),
        }
    }

    #[inline(always)]
    fn refers(&self) -> bool {
        self.result.is_some() || !matches!(self.state, State::Zero | State::Yielding)
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let status = match &self.state {
            State::Created { delay } => visitor.all([delay]),
            State::Zero | State::Yielding => 0,
            State::Sleeping { future, .. } => visitor.all([future.object()]),
            State::Foreign(delegate) => delegate.traverse(visitor),
        };
        if status != 0 { status } else { visitor.all(&self.result) }
    }
}

impl Sleep {
    fn take_result(&mut self) -> Owned {
        self.result.take().unwrap_or_else(Owned::none)
    }

    /// The first step of a sleep that takes time.
    fn fall_asleep(&mut self, seconds: Option<f64>, delay: Owned) -> Result<Step> {
        let owner = running()?;
        // SAFETY: F1; a living object, whose type is compared.
        let native = unsafe { ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) } != 0;
        let Some(seconds) = seconds.filter(|_| native) else {
            return self.sleep_by_asyncio(&delay);
        };
        // SAFETY: `LoopBase` or a subclass.
        let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(owner.as_ptr()) };
        owner.check_open()?;
        let future = FutureRef::new(owner)?;
        let due = schedule::instant(owner.now_seconds()? + seconds);
        let mut work = Some(Work::new(Kind::Advance, future.object().clone()));
        let key =
            owner.with_core(|core| work.take().map(|work| core.engine.timers.push(due, work))).flatten();
        let yielded = future.awaited();
        self.state = State::Sleeping { future, key };
        Ok(Step::Yielded(yielded))
    }

    fn sleep_by_asyncio(&mut self, delay: &Owned) -> Result<Step> {
        let result = self.take_result();
        let asyncio = match ASYNCIO.get() {
            Some(asyncio) => asyncio.clone(),
            None => import("asyncio.tasks", "sleep")?,
        };
        let delegate = Delegate::new(call(&asyncio, [delay, &result])?)?;
        let step = delegate.step(Resume::Send(None));
        self.state = State::Foreign(delegate);
        step
    }

    /// The wait is over: its time has come, it was cancelled, or the coroutine is being closed.
    fn wake(&mut self, resume: Resume<'_>) -> Result<Step> {
        let State::Sleeping { future, key } = &mut self.state else {
            return resume.check().map(|()| Step::Returned(Owned::none()));
        };
        let outcome = resume.check();
        if outcome.is_ok() && future.is_done() {
            drop(future.result()?);
            return Ok(Step::Returned(self.take_result()));
        }
        // Before its time: the timer goes.
        let pending = if outcome.is_err() { crate::ffi::raise::take() } else { None };
        if let Some(key) = key.take() {
            let owner = future.owner();
            // SAFETY: sleeping futures belong to loops of ours.
            let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(owner.as_ptr()) };
            let cancelled = owner.with_core(|core| core.engine.timers.cancel(key));
            drop(cancelled);
        }
        match pending {
            Some(exception) => Err(crate::ffi::raise::restore(exception)),
            None => Err(crate::ffi::raise::runtime_error("await wasn't used with future")),
        }
    }
}

fn sleep(args: Args<'_>) -> Result {
    if let [delay] = args.values()
        && !args.has_keywords()
        && ZERO.get().is_some_and(|zero| zero.as_ptr() == *delay)
    {
        return coroutine::make("sleep", Sleep { state: State::Zero, result: None });
    }
    let names = names();
    let [delay, result] = args.bind([&names.delay, &names.result], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (delay, result) = unsafe {
        let delay = delay.map_or_else(Owned::none, |delay| Owned::from_borrowed(delay));
        (delay, result.and_then(|result| Owned::from_optional(result)))
    };
    coroutine::make("sleep", Sleep { state: State::Created { delay }, result })
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"sleep",
    crate::function!(c"sleep", sleep),
    c"sleep(delay, result=None)\n--\n\nCome back with `result` after `delay` seconds.",
)];

/// Makes the type, and keeps asyncio's own function.
pub fn load(module: &Owned) -> Result<()> {
    if ASYNCIO.get().is_none() {
        let _ = ASYNCIO.set(import("asyncio.tasks", "sleep")?);
    }
    if ZERO.get().is_none() {
        let _ = ZERO.set(Owned::int(0)?);
    }
    coroutine::load::<Sleep>(module)?;
    crate::ffi::function::add_functions(module, FUNCTIONS)
}
