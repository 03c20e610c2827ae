//! `SocketOperation`: the awaitable that every `sock_*` method returns, its phases and the ways between them.
//!
//! **Invariant O2**: while a step or a try is on, the phase is [`Phase::Running`] and its parts are on the stack of who
//! took them, so nothing that runs meanwhile (a socket subclass's method, a collection) can start a second one.
//!
//! Source: CPython Lib/asyncio/selector_events.py.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::ffi::raise::{self, runtime_error, type_error, value_error};
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result};
use crate::io_table::{Direction, Mode};
use crate::names::names;
use crate::work::{Kind, Work};

use super::action::Action;
use super::socket::Socket;
use super::waiter::{self, WaiterRef};

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
    /// What is to be done; none once that is done.
    pub action: Option<Action>,
    /// How it ended: the value, or the exception. None as long as it did not.
    pub outcome: Option<std::result::Result<Owned, Owned>>,
    /// What the task blocks on.
    pub waiter: WaiterRef,
    /// The number under which the loop's table has it (O1).
    watched: Option<RawFd>,
}

/// What one step gave.
pub enum Step {
    /// It waits for this.
    Yielded(Owned),
    /// It is finished.
    Returned(Owned),
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

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    let _ = OPERATION.set(kind as usize);
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
    pub fn step(&self, value: *mut ffi::PyObject) -> Result<Step> {
        match self.phase.replace(Phase::Running) {
            Phase::Created(request) => {
                // SAFETY: comparing addresses only.
                if value != unsafe { ffi::Py_None() } {
                    self.enter(Phase::Created(request));
                    return Err(type_error("can't send non-None value to a just-started coroutine"));
                }
                self.start(request)
            }
            Phase::Waiting(waiting) => self.resume(waiting),
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
        let begun = self.prepare_wait(&socket).and_then(|(waiter, fd)| {
            let yielded = waiter.object().clone();
            // From here on an event may come, on another thread if this one does not run the loop.
            let waiting = Waiting { socket, action: Some(action), outcome: None, waiter, watched: Some(fd) };
            self.enter(Phase::Waiting(waiting));
            self.watch(fd)?;
            Ok(Step::Yielded(yielded))
        });
        if begun.is_err() {
            self.enter(Phase::Finished);
        }
        begun
    }

    #[inline]
    fn prepare_wait(&self, socket: &Socket) -> Result<(WaiterRef, RawFd)> {
        let owner = self.owner();
        let fd = socket.descriptor_to_watch()?;
        owner.check_no_transport(fd)?;
        Ok((waiter::make(owner)?, fd))
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
        let taken = self.owner().with_core(|core| {
            let ours = core.io.waits(fd, direction, self.as_ptr());
            ours.then(|| core.io.unwatch(&mut core.engine.driver, fd, direction))
        });
        drop(taken);
    }

    /// A later step: the wait is over, or who steps is mistaken.
    #[inline]
    fn resume(&self, mut waiting: Waiting) -> Result<Step> {
        let outcome = match waiting.outcome.take() {
            Some(Ok(value)) => Ok(Step::Returned(value)),
            Some(Err(exception)) => Err(raise::restore(exception)),
            None => Err(match waiting.waiter.check_not_cancelled() {
                Ok(()) => runtime_error("await wasn't used with future"),
                Err(raised) => raised,
            }),
        };
        self.leave(&mut waiting);
        self.enter(Phase::Finished);
        outcome
    }

    /// The descriptor is ready: tries again, and wakes the task if that is done. On the loop's thread only.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` only.
    #[inline]
    pub fn on_ready(&self) -> Result<()> {
        let mut waiting = match self.phase.replace(Phase::Running) {
            Phase::Waiting(waiting) => waiting,
            other => {
                // Closed while the event was under way.
                self.enter(other);
                return Ok(());
            }
        };
        // The event took the wait with it.
        waiting.watched = None;
        let waiter = waiting.waiter.clone();
        // A cancelled one does nothing more: its task's next step, which is queued, throws.
        let tried = if waiter.is_pending() { self.retry(&mut waiting) } else { Ok(()) };
        let left = tried.or_else(|raised| self.note_failure(&mut waiting, raised));
        if waiting.outcome.is_some() {
            // The data goes back to its owner now, not when the task gets its turn.
            waiting.action = None;
        }
        let done = waiting.outcome.is_some();
        self.enter(Phase::Waiting(waiting));
        left?;
        if done { waiter.wake() } else { Ok(()) }
    }

    #[inline]
    fn retry(&self, waiting: &mut Waiting) -> Result<()> {
        let Some(action) = waiting.action.as_mut() else {
            return Ok(());
        };
        match action.attempt(self.owner(), &waiting.socket)? {
            Some(value) => waiting.outcome = Some(Ok(value)),
            None => self.watch_again(waiting)?,
        }
        Ok(())
    }

    fn watch_again(&self, waiting: &mut Waiting) -> Result<()> {
        let fd = waiting.socket.descriptor_to_watch()?;
        self.watch(fd)?;
        waiting.watched = Some(fd);
        Ok(())
    }

    /// What the try raised is the operation's outcome, unless it has to leave the loop: then the wait goes on.
    #[cold]
    fn note_failure(&self, waiting: &mut Waiting, Raised: Raised) -> Result<()> {
        let Some(exception) = raise::take() else {
            return Ok(());
        };
        if !raise::leaves_loop(&exception) {
            waiting.outcome = Some(Err(exception));
            return Ok(());
        }
        if let Err(Raised) = self.watch_again(waiting) {
            drop(raise::take());
        }
        Err(raise::restore(exception))
    }

    /// Ends it where it is: what it was to do is not done, and the socket is left alone from then on.
    ///
    /// # Errors
    /// `ValueError` during a step, `RuntimeError` after the end.
    pub fn end(&self) -> Result<()> {
        match self.phase.replace(Phase::Running) {
            Phase::Running => return Err(already_executing()),
            Phase::Finished => return Err(self.already_awaited()),
            Phase::Waiting(mut waiting) => {
                self.leave(&mut waiting);
                // What it waited with goes when it has ended: that may be the last that keeps who awaits it.
                self.enter(Phase::Finished);
            }
            Phase::Created(_) => self.enter(Phase::Finished),
        }
        Ok(())
    }

    /// Whether it returned, raised or was closed.
    pub fn is_finished(&self) -> bool {
        self.phase.with(|phase| matches!(phase, Phase::Finished))
    }

    /// Whether a step or a try is on.
    pub fn is_running(&self) -> bool {
        self.phase.with(|phase| matches!(phase, Phase::Running))
    }

    /// Whether somebody awaits it already.
    pub fn is_begun(&self) -> bool {
        self.phase.with(|phase| matches!(phase, Phase::Waiting(_) | Phase::Running))
    }

    #[cold]
    fn already_awaited(&self) -> Raised {
        self.enter(Phase::Finished);
        runtime_error("cannot reuse already awaited coroutine")
    }

    /// The loop's method that made it.
    pub fn method_name(&self) -> &'static str {
        self.method.name()
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

#[cold]
fn already_executing() -> Raised {
    value_error("coroutine already executing")
}
