//! `SocketOperation`: the awaitable that every `sock_*` method returns, and the coroutine protocol that it speaks.
//!
//! It can do what a coroutine can: be awaited, be made a task, be passed to `wait_for`, be sent, thrown and closed.
//!
//! **Invariant O2**: while a step or a try is on, the phase is [`Phase::Running`] and its parts are on the stack of who
//! took them, so nothing that runs meanwhile (a socket subclass's method, a collection) can start a second one.
//!
//! Source: PEP 492, PEP 342 (`send`, `throw`, `close`); CPython Objects/genobject.c (words of the errors).

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, runtime_error, type_error, value_error};
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call_method, guard_int};
use crate::io_table::{Direction, Mode};
use crate::names::names;
use crate::work::{Kind, Work};
use crate::{getter, method, method_noargs, method_one, unary_slot};

use super::action::Action;
use super::collect;
use super::future::{self, Step};
use super::socket::Socket;

/// Which of the loop's methods made the operation.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Method {
    /// `sock_recv`
    Recv,
    /// `sock_recv_into`
    RecvInto,
    /// `sock_recvfrom`
    RecvFrom,
    /// `sock_recvfrom_into`
    RecvFromInto,
    /// `sock_sendall`
    SendAll,
    /// `sock_sendto`
    SendTo,
    /// `sock_accept`
    Accept,
    /// `_sock_connect`
    Connect,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Recv => "sock_recv",
            Self::RecvInto => "sock_recv_into",
            Self::RecvFrom => "sock_recvfrom",
            Self::RecvFromInto => "sock_recvfrom_into",
            Self::SendAll => "sock_sendall",
            Self::SendTo => "sock_sendto",
            Self::Accept => "sock_accept",
            Self::Connect => "_sock_connect",
        }
    }
}

/// The arguments as they came: they are looked at in the first step only.
pub struct Request {
    /// Any object.
    pub socket: Owned,
    /// What follows it.
    pub arguments: [Option<Owned>; 2],
}

/// What a waiting operation has.
pub struct Waiting {
    /// What it waits for.
    pub socket: Socket,
    /// What is to be done; none once that is done and only the task's next step is missing.
    pub action: Option<Action>,
    /// Who wakes the task.
    pub future: Owned,
    /// The future's `__await__()`.
    pub iterator: Owned,
    /// The number under which the loop's table has it (O1).
    watched: Option<RawFd>,
}

/// Where in its life an operation is.
#[derive(Default)]
pub enum Phase {
    /// Made and not yet stepped.
    Created(Request),
    /// In a step or a try (O2).
    Running,
    /// The descriptor was not ready, or it was and the task has not yet heard of it.
    Waiting(Waiting),
    /// Returned, raised or closed.
    #[default]
    Finished,
}

/// The payload of `SocketOperation`.
pub struct SocketOperation {
    /// The loop.
    pub owner: Owned,
    method: Method,
    /// Where it is.
    pub phase: GilCell<Phase>,
}

static OPERATION: OnceLock<usize> = OnceLock::new();

impl Payload for SocketOperation {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        OPERATION.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Makes an operation for bound arguments, the socket first.
#[inline]
pub fn make<const N: usize>(
    owner: &Instance<EventLoop>,
    method: Method,
    bound: [Option<*mut ffi::PyObject>; N],
) -> Result {
    // SAFETY: the arguments are alive during the call.
    let mut given = bound.into_iter().map(|value| value.map(|value| unsafe { Owned::from_borrowed(value) }));
    let Some(socket) = given.next().flatten() else {
        return Err(type_error("a socket is missing"));
    };
    let arguments = [given.next().flatten(), given.next().flatten()];
    Instance::<SocketOperation>::create(SocketOperation {
        owner: owner.owned(),
        method,
        phase: GilCell::new(Phase::Created(Request { socket, arguments })),
    })
}

impl Instance<SocketOperation> {
    fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: operations are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    /// Enters a phase and drops what belonged to the one before.
    #[inline]
    fn enter(&self, phase: Phase) {
        drop(self.phase.replace(phase));
    }

    /// One step, as `coroutine.send(value)`.
    #[inline]
    fn step(&self, value: *mut ffi::PyObject) -> Result<Step> {
        match self.phase.replace(Phase::Running) {
            Phase::Created(request) => {
                // SAFETY: comparing addresses only.
                if value != unsafe { ffi::Py_None() } {
                    self.enter(Phase::Created(request));
                    return Err(type_error("can't send non-None value to a just-started coroutine"));
                }
                self.start(request)
            }
            Phase::Waiting(waiting) => self.resume(waiting, value),
            Phase::Running => Err(already_executing()),
            Phase::Finished => Err(self.already_awaited()),
        }
    }

    /// The first step: tries at once, and waits only if that would block.
    #[inline]
    fn start(&self, request: Request) -> Result<Step> {
        let owner = self.owner();
        let tried = Action::prepare(owner, self.method, request).and_then(|(socket, mut action)| {
            let done = action.attempt(owner, &socket)?;
            Ok((socket, action, done))
        });
        let begun = match tried {
            Ok((.., Some(value))) => Ok(Step::Returned(value)),
            Ok((socket, action, None)) => return self.begin_wait(socket, action),
            Err(raised) => Err(raised),
        };
        self.enter(Phase::Finished);
        begun
    }

    #[inline]
    fn begin_wait(&self, socket: Socket, action: Action) -> Result<Step> {
        let waiting = self.make_future().and_then(|(future, iterator)| {
            let yielded = future::step(&iterator, Owned::none().as_ptr())?;
            let fd = socket.descriptor_to_watch()?;
            self.owner().check_no_transport(fd)?;
            // From here on an event may come, on another thread if this one does not run the loop.
            let waiting = Waiting { socket, action: Some(action), future, iterator, watched: Some(fd) };
            self.enter(Phase::Waiting(waiting));
            self.watch(fd)?;
            Ok(yielded)
        });
        if waiting.is_err() {
            self.enter(Phase::Finished);
        }
        waiting
    }

    #[inline]
    fn make_future(&self) -> Result<(Owned, Owned)> {
        let future = self.owner().new_future()?;
        let iterator = future::iterator(&future)?;
        Ok((future, iterator))
    }

    #[inline]
    fn watch(&self, fd: RawFd) -> Result<()> {
        let owner = self.owner();
        owner.check_open()?;
        let direction = self.method.direction();
        let kind = if direction == Direction::Read { Kind::Readable } else { Kind::Writable };
        owner.watch(fd, direction, Mode::Once, Work::new(kind, self.owned()))
    }

    /// Takes the wait back, unless it is another's by now (O1).
    fn leave(&self, waiting: &mut Waiting) {
        let Some(fd) = waiting.watched.take() else {
            return;
        };
        let direction = self.method.direction();
        let taken = self.owner().seat().with(|core| {
            let ours = core.io.waits(fd, direction, self.as_ptr());
            if ours { core.io.unwatch(&mut core.engine.driver, fd, direction) } else { None }
        });
        drop(taken);
    }

    /// A later step: the future knows what became of the wait.
    #[inline]
    fn resume(&self, mut waiting: Waiting, value: *mut ffi::PyObject) -> Result<Step> {
        let outcome = future::step(&waiting.iterator, value);
        if matches!(outcome, Ok(Step::Yielded(_))) {
            self.enter(Phase::Waiting(waiting));
        } else {
            self.leave(&mut waiting);
            self.enter(Phase::Finished);
        }
        outcome
    }

    /// The descriptor is ready: tries again, and wakes the task if that is done.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` only.
    #[inline]
    pub fn on_ready(&self) -> Result<()> {
        let mut waiting = match self.phase.replace(Phase::Running) {
            Phase::Waiting(waiting) => waiting,
            other => {
                // Closed or cancelled while the event was under way.
                self.enter(other);
                return Ok(());
            }
        };
        // The event took the wait with it.
        waiting.watched = None;
        let outcome = self.retry(&mut waiting);
        let (future, watched) = (waiting.future.clone(), waiting.watched);
        self.enter(Phase::Waiting(waiting));
        match outcome {
            Ok(Some(value)) => settled(&future, future::set_result(&future, &value)),
            Ok(None) => match watched.map_or(Ok(()), |fd| self.watch(fd)) {
                Ok(()) => Ok(()),
                Err(raised) => self.fail(&future, raised),
            },
            Err(raised) => self.fail(&future, raised),
        }
    }

    /// One try more. `None`: there is no result; `waiting.watched` says what to wait for now.
    #[inline]
    fn retry(&self, waiting: &mut Waiting) -> Result<Option<Owned>> {
        let Some(action) = waiting.action.as_mut() else {
            return Ok(None);
        };
        if future::is_done(&waiting.future)? {
            // Cancelled; the task's next step, which is queued, will say so.
            return Ok(None);
        }
        let outcome = action.attempt(self.owner(), &waiting.socket);
        match &outcome {
            Ok(None) => waiting.watched = Some(waiting.socket.descriptor_to_watch()?),
            // The data goes back to its owner now, not when the task gets its turn.
            _ => waiting.action = None,
        }
        outcome
    }

    #[cold]
    fn fail(&self, future: &Owned, Raised: Raised) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if raise::leaves_loop(&exception) {
            return Err(raise::restore(exception));
        }
        settled(future, future::set_exception(future, &exception))
    }

    #[cold]
    fn already_awaited(&self) -> Raised {
        self.enter(Phase::Finished);
        runtime_error("cannot reuse already awaited coroutine")
    }

    /// `Loop.sock_recv` and the like, as tasks show it.
    pub fn qualified_name(&self) -> Result {
        // SAFETY: F1; the loop is alive, and so is its type; the format takes an object and a C string.
        unsafe {
            let kind = ffi::Py_TYPE(self.owner.as_ptr());
            let class = Owned::from_borrowed(kind.cast()).attr(&names().__name__)?;
            Owned::str(self.method.name()).and_then(|method| {
                Owned::from_new(ffi::PyUnicode_FromFormat(c"%S.%S".as_ptr(), class.as_ptr(), method.as_ptr()))
            })
        }
    }
}

/// After a future was told: that it was done already may only be the work of what ran during the try.
fn settled(future: &Owned, outcome: Result<()>) -> Result<()> {
    if outcome.is_err() {
        if raise::matches(names().invalid_state_error.as_ptr()) {
            drop(raise::take());
        } else {
            raise::write_unraisable(Some(future));
        }
    }
    Ok(())
}

#[cold]
fn already_executing() -> Raised {
    value_error("coroutine already executing")
}

/// `StopIteration(value)`, made here: the interpreter would take a tuple for several arguments and an exception for itself.
fn stop_iteration(value: &Owned) -> Raised {
    // SAFETY: F1; the class is alive while the interpreter is.
    let made = unsafe { Owned::from_new(ffi::PyObject_CallOneArg(ffi::PyExc_StopIteration, value.as_ptr())) };
    match made {
        Ok(exception) => raise::restore(exception),
        Err(raised) => raised,
    }
}

/// `__await__`: an operation is its own iterator.
fn await_(this: &Instance<SocketOperation>) -> Result {
    if this.phase.with(|phase| matches!(phase, Phase::Waiting(_) | Phase::Running)) {
        return Err(runtime_error("coroutine is being awaited already"));
    }
    Ok(this.owned())
}

fn iter(this: &Instance<SocketOperation>) -> Result {
    Ok(this.owned())
}

/// `tp_iternext`: to return `None` is to end without an exception.
fn next(this: &Instance<SocketOperation>) -> Result {
    match this.step(Owned::none().as_ptr())? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) if value.is_none() => Err(Raised),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

/// `am_send`: a value without an exception around it.
unsafe extern "C" fn send_slot(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let status = guard_int(|| {
        // SAFETY: F2; the result's place is the caller's.
        unsafe {
            *result = ptr::null_mut();
            match Instance::<SocketOperation>::from_ptr(this).step(value)? {
                Step::Yielded(yielded) => {
                    *result = yielded.into_ptr();
                    Ok(ffi::PySendResult::PYGEN_NEXT as c_int)
                }
                Step::Returned(returned) => {
                    *result = returned.into_ptr();
                    Ok(ffi::PySendResult::PYGEN_RETURN as c_int)
                }
            }
        }
    });
    match status {
        0 => ffi::PySendResult::PYGEN_RETURN,
        1 => ffi::PySendResult::PYGEN_NEXT,
        _ => ffi::PySendResult::PYGEN_ERROR,
    }
}

fn send(this: &Instance<SocketOperation>, value: &Owned) -> Result {
    match this.step(value.as_ptr())? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

fn throw(this: &Instance<SocketOperation>, args: Args<'_>) -> Result {
    args.at_least(1, &["typ"])?;
    match this.phase.replace(Phase::Running) {
        Phase::Created(request) => {
            this.enter(Phase::Finished);
            drop(request);
            Err(raise_given(args.positional()))
        }
        Phase::Waiting(mut waiting) => {
            let outcome = args.forward(&waiting.iterator.attr(&names().throw)?);
            if outcome.is_ok() {
                this.enter(Phase::Waiting(waiting));
            } else {
                this.leave(&mut waiting);
                this.enter(Phase::Finished);
            }
            outcome
        }
        Phase::Running => Err(already_executing()),
        Phase::Finished => Err(this.already_awaited()),
    }
}

/// Raises what `throw(type, value, traceback)` or `throw(exception)` names.
fn raise_given(given: &[*mut ffi::PyObject]) -> Raised {
    let place = |index: usize| given.get(index).copied().unwrap_or(ptr::null_mut());
    // SAFETY: F1; the arguments are alive during the call.
    unsafe {
        let value = Owned::from_optional(place(1));
        if ffi::PyExceptionInstance_Check(given[0]) != 0 {
            if value.is_some() {
                return type_error("instance exception may not have a separate value");
            }
            ffi::PyErr_SetObject(ffi::Py_TYPE(given[0]).cast(), given[0]);
        } else if ffi::PyExceptionClass_Check(given[0]) != 0 {
            ffi::PyErr_SetObject(given[0], value.as_ref().map_or(ptr::null_mut(), Owned::as_ptr));
        } else {
            return type_error("exceptions must be classes or instances deriving from BaseException");
        }
        if let Some(traceback) = Owned::from_optional(place(2))
            && let Some(exception) = raise::take()
        {
            ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr());
            return raise::restore(exception);
        }
    }
    Raised
}

fn close(this: &Instance<SocketOperation>) -> Result {
    match this.phase.replace(Phase::Running) {
        Phase::Running => return Err(already_executing()),
        Phase::Waiting(mut waiting) => {
            this.leave(&mut waiting);
            this.enter(Phase::Finished);
        }
        Phase::Created(_) | Phase::Finished => this.enter(Phase::Finished),
    }
    Ok(Owned::none())
}

fn get_name(this: &Instance<SocketOperation>) -> Result {
    Owned::str(this.method.name())
}

fn get_qualified_name(this: &Instance<SocketOperation>) -> Result {
    this.qualified_name()
}

fn get_running(this: &Instance<SocketOperation>) -> Result {
    Ok(Owned::bool(this.phase.with(|phase| matches!(phase, Phase::Running))))
}

fn repr(this: &Instance<SocketOperation>) -> Result {
    // SAFETY: F1; the format takes an object and an address.
    unsafe {
        Owned::from_new(ffi::PyUnicode_FromFormat(
            c"<coroutine object %S at %p>".as_ptr(),
            this.qualified_name()?.as_ptr(),
            this.as_ptr(),
        ))
    }
}

/// Makes the type, adds it to the module, and has it counted among the coroutines.
pub fn load(module: &Owned) -> Result<()> {
    if OPERATION.get().is_none() {
        let made = HeapType::new(c"antiphon._antiphon.SocketOperation", Instance::<SocketOperation>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What the loop's sock_* methods return: to be awaited, like a coroutine.")
            .slot(ffi::Py_tp_traverse, collect::traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, collect::clear as *mut c_void)
            .slot(ffi::Py_tp_finalize, collect::finalize as *mut c_void)
            .slot(ffi::Py_tp_dealloc, collect::dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .slot(ffi::Py_am_await, unary_slot!(await_))
            .slot(ffi::Py_am_send, send_slot as *mut c_void)
            .slot(ffi::Py_tp_iter, unary_slot!(iter))
            .slot(ffi::Py_tp_iternext, unary_slot!(next))
            .weak_references(Instance::<SocketOperation>::WEAKREF_OFFSET)
            .method_one(
                c"send",
                method_one!(send),
                c"One step; what it waits for, or StopIteration with the result.",
            )
            .method(c"throw", method!(c"throw", throw), c"Raise an exception where it waits.")
            .method_noargs(
                c"close",
                method_noargs!(close),
                c"Give up; the socket is left alone from then on.",
            )
            .attribute(c"__name__", getter!(get_name), None, c"The loop's method.")
            .attribute(c"__qualname__", getter!(get_qualified_name), None, c"The loop's class and method.")
            .attribute(c"cr_running", getter!(get_running), None, c"Whether a step is under way.")
            .build(None, Instance::<SocketOperation>::PAYLOAD_OFFSET)?;
        let _ = OPERATION.set(made as usize);
        // SAFETY: a type object is an object.
        let class = unsafe { Owned::from_borrowed(made.cast()) };
        call_method(&names().coroutine_class, &names().register, [&class])?;
    }
    crate::add_type(module, c"SocketOperation", SocketOperation::type_object())
}
