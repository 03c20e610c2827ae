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

use super::asleep::cancelled_error;
use crate::coroutine::{self, Class, Coroutine, Delegate, Operation, Resume, Step};
use crate::event_loop::{EventLoop, running, schedule};
use crate::ffi::raise::{raise_object, runtime_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, Instance, Owned, Payload, Result, call};
use crate::future::FutureRef;
use crate::future::sleeping::SleepingFuture;
use crate::names::{import, names};
use crate::work::{Kind, Work};

/// How long, as it was said.
pub(super) enum Delay {
    Seconds(f64),
    /// An integer that a float can have, too.
    Whole(i64),
    /// Anything else, asyncio's business.
    Given(Owned),
}

/// A sleep that its task waits for without a future ([`super::asleep`]).
#[derive(Clone)]
pub(super) enum Nap {
    /// Its timer is armed, or due in this turn.
    Asleep(TimerKey),
    /// Its time has come.
    Over,
    /// With what `cancel` was given; and its timer, if that could not be taken back yet.
    Cancelled { message: Option<Owned>, timer: Option<TimerKey> },
}

/// Where the coroutine is.
pub(super) enum State {
    /// Nobody has awaited it yet.
    Created(Delay),
    /// It has yielded for one turn.
    Yielding,
    /// Its future is in the timer heap.
    Sleeping { future: SleepingFuture, key: Option<TimerKey> },
    /// Its task is.
    Napping(Nap),
    /// asyncio's own.
    Foreign(Delegate),
}

/// The body of `sleep`.
pub struct Sleep {
    state: State,
    result: Option<Owned>,
}

/// A sleep as an object.
pub(super) type SleepObject = Instance<Coroutine<Sleep>>;

/// The object as a sleep.
#[inline(always)]
pub(super) fn cast(object: &Owned) -> Option<&SleepObject> {
    SleepObject::downcast(object)
}

/// What a sleep that waits is to give, if that was said.
pub fn result_of(object: &Owned) -> Option<Owned> {
    cast(object)?.while_suspended(|sleep| sleep.result.clone())?
}

impl SleepObject {
    /// Has its future name it, where it waits by one again.
    pub(super) fn name_to_future(&self) {
        self.while_suspended(|sleep| sleep.suspended(self));
        self.rest_tracked();
    }
}

static CLASS: Class = Class::new();
/// The number 0, which every `sleep(0)` is called with.
static ZERO: OnceLock<Owned> = OnceLock::new();
/// asyncio's `sleep`, as it was when the module was loaded.
static ASYNCIO: OnceLock<Owned> = OnceLock::new();

/// Integers up to here are floats, too.
const MOST_WHOLE: u64 = 1 << 53;

impl Delay {
    /// Takes the number out where that needs no Python code.
    #[inline]
    fn new(given: Owned) -> Self {
        // SAFETY: F1; the types are compared before the objects are read as such.
        unsafe {
            if ffi::PyFloat_CheckExact(given.as_ptr()) != 0 {
                let seconds = ffi::PyFloat_AS_DOUBLE(given.as_ptr());
                if !seconds.is_nan() {
                    return Self::Seconds(seconds);
                }
            } else if ffi::PyLong_CheckExact(given.as_ptr()) != 0 {
                let mut overflow = 0;
                let whole = ffi::PyLong_AsLongLongAndOverflow(given.as_ptr(), &raw mut overflow);
                if overflow == 0 && whole.unsigned_abs() <= MOST_WHOLE {
                    return Self::Whole(whole);
                }
            }
        }
        Self::Given(given)
    }

    /// As a number, if it is one of those.
    #[inline]
    fn seconds(&self) -> Option<f64> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::Whole(whole) => Some(*whole as f64),
            Self::Given(_) => None,
        }
    }

    /// As it was given.
    fn object(&self) -> Result {
        match self {
            Self::Seconds(seconds) => Owned::float(*seconds),
            Self::Whole(whole) => Owned::int(*whole),
            Self::Given(given) => Ok(given.clone()),
        }
    }
}

impl Operation for Sleep {
    const TYPE_NAME: &'static std::ffi::CStr = c"antiphon._antiphon.Sleep";
    type Binding = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline]
    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match &self.state {
            State::Created(delay) => match delay.seconds() {
                Some(seconds) if seconds <= 0.0 => {
                    self.state = State::Yielding;
                    Ok(Step::Yielded(Owned::none()))
                }
                _ => self.fall_asleep(),
            },
            State::Yielding => resume.check().map(|()| Step::Returned(self.take_result())),
            State::Sleeping { .. } => self.wake(resume),
            State::Napping(Nap::Over) => resume.check().map(|()| Step::Returned(self.take_result())),
            State::Napping(_) => self.disturbed(resume),
            State::Foreign(delegate) => delegate.step(resume),
        }
    }

    #[inline(always)]
    fn refers(&self) -> bool {
        self.result.is_some()
            || matches!(
                self.state,
                State::Created(Delay::Given(_)) | State::Sleeping { .. } | State::Foreign(_)
            )
    }

    #[inline(always)]
    fn suspended(&self, this: &Instance<Coroutine<Self>>) {
        if let State::Sleeping { future, .. } = &self.state {
            future.name(this.as_ptr());
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let status = match &self.state {
            State::Created(Delay::Given(delay)) => visitor.all([delay]),
            State::Sleeping { future, .. } => visitor.all([future.object()]),
            State::Napping(Nap::Cancelled { message, .. }) => visitor.all(message),
            State::Foreign(delegate) => delegate.traverse(visitor),
            State::Created(_) | State::Yielding | State::Napping(_) => 0,
        };
        if status != 0 { status } else { visitor.all(&self.result) }
    }
}

impl Sleep {
    fn take_result(&mut self) -> Owned {
        self.result.take().unwrap_or_else(Owned::none)
    }

    /// The first step of a sleep that takes time.
    fn fall_asleep(&mut self) -> Result<Step> {
        let State::Created(delay) = &self.state else {
            return Ok(Step::Returned(Owned::none()));
        };
        let owner = running()?;
        // SAFETY: F1; a living object, whose type is compared.
        let native = unsafe { ffi::PyObject_TypeCheck(owner.as_ptr(), EventLoop::type_object()) } != 0;
        let Some(seconds) = delay.seconds().filter(|_| native) else {
            let delay = delay.object()?;
            return self.sleep_by_asyncio(&delay);
        };
        // SAFETY: `LoopBase` or a subclass.
        let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(owner.as_ptr()) };
        owner.check_open()?;
        let future = SleepingFuture::new(owner)?;
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

    /// Somebody else than the task that waits for it goes on with it.
    #[cold]
    fn disturbed(&mut self, resume: Resume<'_>) -> Result<Step> {
        resume.check()?;
        if let Some((message, _)) = self.take_cancellation() {
            return Err(raise_object(&cancelled_error(message)?));
        }
        Err(runtime_error("await wasn't used with future"))
    }

    /// Its timer, armed or not, if its future is in the heap.
    #[inline(always)]
    pub(super) fn timer(&self) -> Option<TimerKey> {
        if let State::Sleeping { key, .. } = self.state { key } else { None }
    }

    /// Its timer, armed or not, if its task is in the heap.
    #[inline(always)]
    pub(super) fn nap_timer(&self) -> Option<TimerKey> {
        if let State::Napping(Nap::Asleep(key)) = self.state { Some(key) } else { None }
    }

    /// Goes on without a future; where it was before is for the caller to drop.
    #[inline(always)]
    pub(super) fn set_nap(&mut self, nap: Nap) -> State {
        std::mem::replace(&mut self.state, State::Napping(nap))
    }

    /// With what it was cancelled, and the timer that is left over.
    pub(super) fn take_cancellation(&mut self) -> Option<(Option<Owned>, Option<TimerKey>)> {
        match &mut self.state {
            State::Napping(Nap::Cancelled { message, timer }) => Some((message.take(), timer.take())),
            _ => None,
        }
    }

    /// Goes on with a future; how far it had come without.
    pub(super) fn wait_by(&mut self, future: FutureRef) -> Option<Nap> {
        let State::Napping(nap) = &self.state else {
            return None;
        };
        let nap = nap.clone();
        let key = if let Nap::Asleep(key) = nap { Some(key) } else { None };
        // What is replaced is a nap, whose message the caller has a reference to: nothing ends here.
        self.state = State::Sleeping { future: SleepingFuture::of(future), key };
        Some(nap)
    }

    /// The wait is over: its time has come, it was cancelled, or the coroutine is being closed.
    fn wake(&mut self, resume: Resume<'_>) -> Result<Step> {
        let State::Sleeping { future, key } = &mut self.state else {
            return resume.check().map(|()| Step::Returned(Owned::none()));
        };
        let outcome = resume.check();
        if outcome.is_ok() && future.is_done() {
            let given = future.result()?;
            // Without a GIL a future does not know its sleep, nor what that is to give.
            return Ok(Step::Returned(if cfg!(Py_GIL_DISABLED) { self.take_result() } else { given }));
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
            None => Err(runtime_error("await wasn't used with future")),
        }
    }
}

fn sleep(args: Args<'_>) -> Result {
    if let [delay] = args.values()
        && !args.has_keywords()
        && ZERO.get().is_some_and(|zero| zero.as_ptr() == *delay)
    {
        return coroutine::make("sleep", Sleep { state: State::Created(Delay::Whole(0)), result: None });
    }
    let names = names();
    let [delay, result] = args.bind([&names.delay, &names.result], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (delay, result) = unsafe {
        let delay = delay.map_or_else(Owned::none, |delay| Owned::from_borrowed(delay));
        (delay, result.and_then(|result| Owned::from_optional(result)))
    };
    coroutine::make("sleep", Sleep { state: State::Created(Delay::new(delay)), result })
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
