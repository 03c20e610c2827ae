//! `read`, `readexactly`, `readuntil`, `readline` and iteration, as native coroutines.
//!
//! A read that finds what it wants in the buffer is done in its first step. Else it waits for one future, and looks again
//! each time that something has come.
//!
//! Source: CPython Lib/asyncio/streams.py.

use std::ffi::{CStr, c_int};

use antiphon_core::stream_buffer::{Outcome, Overrun, Search, Taken};
use pyo3::ffi;

use super::bytes::{Bytes, joined, joined_parts};
use super::reader::StreamReader;
use super::separators::{search_for, search_for_newline};
use super::wait::Waiting;
use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::raise::{self, value_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Raised, Result, call};
use crate::names::names;

/// What is to be read, as the program has put it.
pub enum Request {
    /// `read(n)`
    Some(Owned),
    /// `readexactly(n)`
    Exactly(Owned),
    /// `readuntil(separator)`
    Until(Owned),
    /// `readline()`
    Line,
    /// `__anext__()`: a line, or the end of the iteration.
    Item,
    /// `_wait_for_data(name)`: no bytes, only the wait for them.
    Nothing(String),
}

/// What is to be read, in numbers.
enum Goal {
    Some(usize),
    /// Up to the end; what has come so far.
    All(Vec<Taken<Bytes>>),
    Exactly(usize),
    Until(Search<Bytes>),
    Line(Search<Bytes>),
    Item(Search<Bytes>),
    Nothing,
}

/// The body of the reading coroutines.
pub struct Read {
    reader: Typed<StreamReader>,
    request: Request,
    /// None before the first step.
    goal: Option<Goal>,
    waiting: Option<Waiting>,
}

static CLASS: Class = Class::new();

/// A coroutine of `reader`, which is called `qualified_name`.
#[inline]
pub fn make(reader: &Instance<StreamReader>, qualified_name: &'static str, request: Request) -> Result {
    // SAFETY: of this payload.
    let reader = unsafe { Typed::new_unchecked(reader.owned()) };
    coroutine::make(qualified_name, Read { reader, request, goal: None, waiting: None })
}

/// What a number of bytes comes to for slices: huge ones are as good as any.
fn number(given: &Owned) -> Result<isize> {
    // SAFETY: F1; a living object; without a class of errors it is clipped.
    unsafe {
        let number = ffi::PyNumber_AsSsize_t(given.as_ptr(), std::ptr::null_mut());
        if number == -1 && !ffi::PyErr_Occurred().is_null() { Err(Raised) } else { Ok(number) }
    }
}

/// `None`: nothing is to be read, which is the result.
type Begun = Result<Option<Goal>>;

impl Read {
    /// Looks at the arguments, in asyncio's order.
    fn begin(&self) -> Begun {
        let reader = &*self.reader;
        let goal = match &self.request {
            Request::Some(given) => {
                reader.check_exception()?;
                match number(given)? {
                    0 => return Ok(None),
                    count if count < 0 => Goal::All(Vec::new()),
                    count => Goal::Some(count as usize),
                }
            }
            Request::Exactly(given) => {
                let count = number(given)?;
                if count < 0 {
                    return Err(value_error("readexactly size can not be less than zero"));
                }
                reader.check_exception()?;
                if count == 0 {
                    return Ok(None);
                }
                Goal::Exactly(count as usize)
            }
            Request::Until(separator) => {
                let search = search_for(separator)?;
                reader.check_exception()?;
                Goal::Until(search)
            }
            Request::Line => {
                reader.check_exception()?;
                Goal::Line(search_for_newline()?)
            }
            Request::Item => {
                reader.check_exception()?;
                Goal::Item(search_for_newline()?)
            }
            Request::Nothing(_) => Goal::Nothing,
        };
        Ok(Some(goal))
    }

    /// The method that asyncio's error names.
    fn method(&self) -> &str {
        match &self.request {
            Request::Some(_) => "read",
            Request::Exactly(_) => "readexactly",
            Request::Until(_) | Request::Line | Request::Item => "readuntil",
            Request::Nothing(name) => name,
        }
    }

    /// Tries once. `None`: it has to wait.
    #[inline]
    fn attempt(&mut self) -> Result<Option<Owned>> {
        let reader = &*self.reader;
        let Some(goal) = &mut self.goal else {
            return Ok(None);
        };
        let outcome = match goal {
            Goal::Some(most) => reader.with_buffer(|buffer| buffer.read(*most)),
            Goal::Exactly(count) => reader.with_buffer(|buffer| buffer.read_exactly(*count)),
            Goal::Until(search) => reader.with_buffer(|buffer| buffer.read_until(search)),
            Goal::Line(search) | Goal::Item(search) => reader.with_buffer(|buffer| buffer.read_line(search)),
            Goal::All(blocks) => return read_on(reader, blocks),
            Goal::Nothing => return Ok(None),
        }?;
        match outcome {
            Outcome::Ready(taken) => {
                if taken.is_empty() && matches!(goal, Goal::Item(_)) {
                    // SAFETY: F1; the class is alive while the interpreter is.
                    unsafe { ffi::PyErr_SetNone(ffi::PyExc_StopAsyncIteration) };
                    return Err(Raised);
                }
                let bytes = joined(taken)?;
                reader.maybe_resume_transport()?;
                Ok(Some(bytes))
            }
            Outcome::Wait => Ok(None),
            Outcome::Incomplete(taken) => Err(self.incomplete(taken)),
            Outcome::Overrun(overrun) => Err(self.overrun(overrun)),
        }
    }

    #[cold]
    fn incomplete(&self, taken: Taken<Bytes>) -> Raised {
        let expected = match &self.request {
            Request::Exactly(given) => given.clone(),
            _ => Owned::none(),
        };
        match joined(taken).and_then(|partial| call(&names().incomplete_read_error, [&partial, &expected])) {
            Ok(error) => raise::raise_object(&error),
            Err(raised) => raised,
        }
    }

    #[cold]
    fn overrun(&self, overrun: Overrun<Bytes>) -> Raised {
        let message = if overrun.found {
            "Separator is found, but chunk is longer than limit"
        } else {
            "Separator is not found, and chunk exceed the limit"
        };
        drop(overrun.discarded);
        if !matches!(self.request, Request::Until(_)) {
            return match self.reader.maybe_resume_transport() {
                Ok(()) => value_error(message),
                Err(raised) => raised,
            };
        }
        let error = Owned::str(message).and_then(|message| {
            call(&names().limit_overrun_error, [&message, &Owned::int(overrun.consumed as i64)?])
        });
        error.map_or_else(|raised| raised, |error| raise::raise_object(&error))
    }

    /// Tries, and waits if it has to.
    #[inline]
    fn go_on(&mut self) -> Result<Step> {
        loop {
            if let Some(bytes) = self.attempt()? {
                return Ok(Step::Returned(bytes));
            }
            let waiting = self.reader.begin_wait(self.method())?;
            match waiting.start() {
                Ok(Step::Yielded(yielded)) => {
                    self.waiting = Some(waiting);
                    return Ok(Step::Yielded(yielded));
                }
                other => {
                    // Done already: a loop that is none of ours may give such futures.
                    self.reader.end_wait(&waiting);
                    other?;
                    if matches!(self.goal, Some(Goal::Nothing)) {
                        return Ok(Step::Returned(Owned::none()));
                    }
                }
            }
        }
    }
}

/// `read(-1)`: takes what is there until the end has come.
fn read_on(reader: &Instance<StreamReader>, blocks: &mut Vec<Taken<Bytes>>) -> Result<Option<Owned>> {
    reader.check_exception()?;
    let (block, ended) = reader.with_buffer(|buffer| (buffer.take_all(), buffer.is_ended()))?;
    if !block.is_empty() {
        blocks.push(block);
        reader.maybe_resume_transport()?;
    }
    if !ended {
        return Ok(None);
    }
    if blocks.len() == 1
        && let Some(only) = blocks.pop()
    {
        return joined(only).map(Some);
    }
    let len = blocks.iter().map(Taken::len).sum();
    let all = joined_parts(len, blocks.iter().flat_map(Taken::parts))?;
    Ok(Some(all))
}

impl Operation for Read {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.StreamRead";

    fn class() -> &'static Class {
        &CLASS
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        if let Some(waiting) = &self.waiting {
            let stepped = waiting.resume(resume);
            if let Ok(Step::Yielded(_)) = stepped {
                return stepped;
            }
            self.reader.end_wait(waiting);
            drop(self.waiting.take());
            stepped?;
            if matches!(self.goal, Some(Goal::Nothing)) {
                return Ok(Step::Returned(Owned::none()));
            }
        } else {
            self.goal = self.begin()?;
            if self.goal.is_none() {
                return Owned::bytes(b"").map(Step::Returned);
            }
        }
        self.go_on()
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let given = match &self.request {
            Request::Some(given) | Request::Exactly(given) | Request::Until(given) => Some(given),
            Request::Line | Request::Item | Request::Nothing(_) => None,
        };
        let status = visitor.all(std::iter::once(self.reader.object()).chain(given));
        if status != 0 {
            return status;
        }
        self.waiting.as_ref().map_or(0, |waiting| waiting.traverse(visitor))
    }
}
