//! `StreamWriter.drain` and `wait_closed`, as native coroutines.
//!
//! Source: CPython Lib/asyncio/streams.py.

use std::ffi::{CStr, c_int};

use super::protocol::StreamReaderProtocol;
use super::reader::StreamReader;
use super::wait::Waiting;
use super::writer::StreamWriter;
use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::raise::raise_object;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Result, call_method};
use crate::names::names;

/// Where a drain is.
enum Stage {
    /// Not begun.
    Fresh,
    /// It let the loop take a turn, in which a closing transport may get to its end.
    Turned,
    /// It waits for `resume_writing`.
    Paused(Typed<StreamReaderProtocol>, Waiting),
    /// A protocol that is none of ours waits in its own way.
    Foreign(Waiting),
}

/// The body of `drain()` and `_drain_helper()`.
pub struct Drain {
    /// None for `_drain_helper()`.
    writer: Option<Typed<StreamWriter>>,
    protocol: Owned,
    stage: Stage,
}

static DRAIN: Class = Class::new();

/// `StreamWriter.drain()`.
#[inline]
pub fn of_writer(writer: &Instance<StreamWriter>) -> Result {
    let protocol = writer.protocol.get().unwrap_or_else(Owned::none);
    // SAFETY: of this payload.
    let writer = Some(unsafe { Typed::new_unchecked(writer.owned()) });
    coroutine::make("StreamWriter.drain", Drain { writer, protocol, stage: Stage::Fresh })
}

/// `StreamReaderProtocol._drain_helper()`.
pub fn of_protocol(protocol: &Instance<StreamReaderProtocol>) -> Result {
    let drain = Drain { writer: None, protocol: protocol.owned(), stage: Stage::Fresh };
    coroutine::make("FlowControlMixin._drain_helper", drain)
}

impl Drain {
    /// Whether the connection is closing, after the reader's exception was raised.
    #[inline]
    fn begin(&self) -> Result<bool> {
        let Some(writer) = &self.writer else {
            return Ok(false);
        };
        if let Some(reader) = writer.reader.get() {
            if let Some(native) = Instance::<StreamReader>::downcast(&reader) {
                native.check_exception()?;
            } else {
                let exception = call_method(&reader, &names().exception, [])?;
                if !exception.is_none() {
                    return Err(raise_object(&exception));
                }
            }
        }
        writer.is_closing()
    }

    #[inline]
    fn wait_for_protocol(&mut self) -> Result<Step> {
        // `_drain_helper()` itself is asked of any instance; `drain()` calls what a subclass has made of it.
        let native = match Typed::<StreamReaderProtocol>::new(self.protocol.clone()) {
            None if self.writer.is_some() => {
                let waiting = Waiting::on(call_method(&self.protocol, &names()._drain_helper, [])?)?;
                let step = waiting.start()?;
                self.stage = Stage::Foreign(waiting);
                return Ok(step);
            }
            Some(native) => native,
            // SAFETY: made by this very payload's method.
            None => unsafe { Typed::new_unchecked(self.protocol.clone()) },
        };
        if native.check_drained()? {
            return Ok(Step::Returned(Owned::none()));
        }
        let waiting = Waiting::begin(&native.owner.get().unwrap_or_else(Owned::none))?;
        native.add_drain_waiter(waiting.future());
        let stepped = waiting.start();
        if matches!(stepped, Ok(Step::Yielded(_))) {
            self.stage = Stage::Paused(native, waiting);
        } else {
            native.remove_drain_waiter(waiting.future());
        }
        stepped
    }
}

impl Operation for Drain {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.StreamDrain";
    type Binding = ();

    fn class() -> &'static Class {
        &DRAIN
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match &self.stage {
            Stage::Fresh => {
                if self.begin()? {
                    // Whoever writes and drains in a loop hears of a lost connection by it.
                    self.stage = Stage::Turned;
                    return Ok(Step::Yielded(Owned::none()));
                }
                self.wait_for_protocol()
            }
            Stage::Turned => {
                resume.check()?;
                self.wait_for_protocol()
            }
            Stage::Paused(protocol, waiting) => {
                let stepped = waiting.resume(resume);
                if !matches!(stepped, Ok(Step::Yielded(_))) {
                    protocol.remove_drain_waiter(waiting.future());
                }
                stepped
            }
            Stage::Foreign(waiting) => waiting.resume(resume),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let writer = self.writer.as_ref().map(Typed::object);
        let status = visitor.all(std::iter::once(&self.protocol).chain(writer));
        if status != 0 {
            return status;
        }
        match &self.stage {
            Stage::Fresh | Stage::Turned => 0,
            Stage::Paused(protocol, waiting) => {
                let status = visitor.all([protocol.object()]);
                if status != 0 { status } else { waiting.traverse(visitor) }
            }
            Stage::Foreign(waiting) => waiting.traverse(visitor),
        }
    }
}

/// The body of `wait_closed()`.
pub struct WaitClosed {
    writer: Typed<StreamWriter>,
    waiting: Option<Waiting>,
}

static WAIT_CLOSED: Class = Class::new();

/// `StreamWriter.wait_closed()`.
pub fn wait_closed(writer: &Instance<StreamWriter>) -> Result {
    // SAFETY: of this payload.
    let writer = unsafe { Typed::new_unchecked(writer.owned()) };
    coroutine::make("StreamWriter.wait_closed", WaitClosed { writer, waiting: None })
}

impl Operation for WaitClosed {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.StreamWaitClosed";
    type Binding = ();

    fn class() -> &'static Class {
        &WAIT_CLOSED
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        let step = match &self.waiting {
            Some(waiting) => waiting.resume(resume)?,
            None => {
                let protocol = self.writer.protocol.get().unwrap_or_else(Owned::none);
                let closed = call_method(&protocol, &names()._get_close_waiter, [self.writer.object()])?;
                self.waiting.insert(Waiting::on(closed)?).start()?
            }
        };
        // What the future was completed with is its own business.
        Ok(if let Step::Returned(_) = step { Step::Returned(Owned::none()) } else { step })
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let status = visitor.all([self.writer.object()]);
        if status != 0 {
            return status;
        }
        self.waiting.as_ref().map_or(0, |waiting| waiting.traverse(visitor))
    }
}
