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
    /// For whom somebody else waits, by this method's name.
    Nothing(String),
}

impl Goal {
    /// The method that asyncio's error names.
    fn method(&self) -> &str {
        match self {
            Self::Some(_) | Self::All(_) => "read",
            Self::Exactly(_) => "readexactly",
            Self::Until(_) | Self::Line(_) | Self::Item(_) => "readuntil",
            Self::Nothing(name) => name,
        }
    }
}

/// What is to be done, before the first step and from then on.
enum Task {
    Asked(Request),
    Begun(Goal),
}

/// The body of the reading coroutines.
pub struct Read {
    reader: Typed<StreamReader>,
    task: Task,
    waiting: Option<Waiting>,
}

static CLASS: Class = Class::new();

/// A coroutine of `reader`, which is called `qualified_name`.
#[inline]
pub fn make(reader: &Instance<StreamReader>, qualified_name: &'static str, request: Request) -> Result {
    // SAFETY: of this payload.
    let reader = unsafe { Typed::new_unchecked(reader.owned()) };
    coroutine::make(qualified_name, Read { reader, task: Task::Asked(request), waiting: None })
}

/// What a number of bytes comes to for slices: huge ones are as good as any.
fn number(given: &Owned) -> Result<isize> {
    // SAFETY: F1; a living object; without a class of errors it is clipped.
    unsafe {
        let number = ffi::PyNumber_AsSsize_t(given.as_ptr(), std::ptr::null_mut());
        if number == -1 && !ffi::PyErr_Occurred().is_null() { Err(Raised) } else { Ok(number) }
    }
}

/// Looks at the arguments, in asyncio's order. `None`: nothing is to be read, which is the result.
fn begin(reader: &Instance<StreamReader>, request: &Request) -> Result<Option<Goal>> {
    let goal = match request {
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
        Request::Nothing(name) => Goal::Nothing(name.clone()),
    };
    Ok(Some(goal))
}

/// Tries once. `None`: it has to wait.
#[inline]
fn attempt(reader: &Instance<StreamReader>, goal: &mut Goal) -> Result<Option<Owned>> {
    let outcome = match goal {
        Goal::Some(most) => reader.with_buffer(|buffer| buffer.read(*most)),
        Goal::Exactly(count) => reader.with_buffer(|buffer| buffer.read_exactly(*count)),
        Goal::Until(search) => reader.with_buffer(|buffer| buffer.read_until(search)),
        Goal::Line(search) | Goal::Item(search) => reader.with_buffer(|buffer| buffer.read_line(search)),
        Goal::All(blocks) => return read_on(reader, blocks),
        Goal::Nothing(_) => return Ok(None),
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
        Outcome::Incomplete(taken) => Err(incomplete(goal, taken)),
        Outcome::Overrun(overrun) => Err(overrun_error(reader, goal, overrun)),
    }
}

#[cold]
fn incomplete(goal: &Goal, taken: Taken<Bytes>) -> Raised {
    let raised = || {
        let expected = match goal {
            Goal::Exactly(count) => Owned::int(*count as i64)?,
            _ => Owned::none(),
        };
        call(&names().incomplete_read_error, [&joined(taken)?, &expected])
    };
    raised().map_or_else(|raised| raised, |error| raise::raise_object(&error))
}

#[cold]
fn overrun_error(reader: &Instance<StreamReader>, goal: &Goal, overrun: Overrun<Bytes>) -> Raised {
    let message = if overrun.found {
        "Separator is found, but chunk is longer than limit"
    } else {
        "Separator is not found, and chunk exceed the limit"
    };
    drop(overrun.discarded);
    if !matches!(goal, Goal::Until(_)) {
        return match reader.maybe_resume_transport() {
            Ok(()) => value_error(message),
            Err(raised) => raised,
        };
    }
    let error = Owned::str(message).and_then(|message| {
        call(&names().limit_overrun_error, [&message, &Owned::int(overrun.consumed as i64)?])
    });
    error.map_or_else(|raised| raised, |error| raise::raise_object(&error))
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

impl Read {
    /// Tries, and waits if it has to.
    #[inline]
    fn go_on(&mut self) -> Result<Step> {
        let Task::Begun(goal) = &mut self.task else {
            return Owned::bytes(b"").map(Step::Returned);
        };
        loop {
            if let Some(bytes) = attempt(&self.reader, goal)? {
                return Ok(Step::Returned(bytes));
            }
            let waiting = self.reader.begin_wait(goal.method())?;
            let started = waiting.start();
            if let Ok(Step::Yielded(_)) = started {
                self.waiting = Some(waiting);
                return started;
            }
            // Done already: a loop that is none of ours may give such futures.
            self.reader.end_wait(&waiting);
            started?;
            if matches!(goal, Goal::Nothing(_)) {
                return Ok(Step::Returned(Owned::none()));
            }
        }
    }
}

impl Operation for Read {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.StreamRead";
    type Binding = ();

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
            if matches!(self.task, Task::Begun(Goal::Nothing(_))) {
                return Ok(Step::Returned(Owned::none()));
            }
        } else if let Task::Asked(request) = &self.task {
            match begin(&self.reader, request)? {
                Some(goal) => self.task = Task::Begun(goal),
                None => return Owned::bytes(b"").map(Step::Returned),
            }
        }
        self.go_on()
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let given = match &self.task {
            Task::Asked(Request::Some(given) | Request::Exactly(given) | Request::Until(given)) => {
                Some(given)
            }
            _ => None,
        };
        let status = visitor.all(std::iter::once(self.reader.object()).chain(given));
        if status != 0 {
            return status;
        }
        self.waiting.as_ref().map_or(0, |waiting| waiting.traverse(visitor))
    }
}
