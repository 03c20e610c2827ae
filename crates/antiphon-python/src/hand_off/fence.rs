//! The fence: a thread whose step lost the seat stops before its next Python instruction (P2).
//!
//! From 3.12 on that is an event of `sys.monitoring`: instruction events, on the code objects of the blocked thread's frames
//! alone. Others who run the same code pay some 20 ns an instruction meanwhile. The callback is native: a thread that has lost
//! no seat goes on at once.
//!
//! What the fence cannot stop is Python code that is not on the stack as it is armed and that the blocked call itself starts:
//! signal handlers, callbacks called for the first time, finalizers. It runs without the seat, and whatever it does to the
//! loop goes through the inbox.
//!
//! Source: PEP 669, "sys.monitoring" of the library reference.

use pyo3::ffi;

use super::call_sites;
use super::claim::Blocked;
use crate::child::process::integer;
use crate::ffi::frames::CallSite;
use crate::ffi::function::{Function, add_functions};
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{Args, GilCell, Owned, Raised, Result, call};
use crate::names::import;
use std::sync::Arc;

/// Our registration with `sys.monitoring`.
struct Tool {
    set_local_events: Owned,
    free_tool_id: Owned,
    number: Owned,
    /// What code needs that is not armed and has no learned places, that is armed, that has such places, and both.
    events: [Owned; 4],
    /// The instructions that make calls.
    calls: Vec<u8>,
    /// What a callback returns that is not to be called again for the same instruction.
    disable: Owned,
    /// How many loops use it.
    users: usize,
}

static TOOL: GilCell<Option<Tool>> = GilCell::new(None);
/// Armed code objects, with how many blocked steps need each to be.
static ARMED: GilCell<Vec<(Owned, usize)>> = GilCell::new(Vec::new());
/// Steps behind the fence.
static FENCED: GilCell<Vec<Arc<Blocked>>> = GilCell::new(Vec::new());

/// Tools 0 to 2 and 5 have owners by convention; 3 and 4 are free, and the others better than nothing.
const CANDIDATES: [i64; 6] = [4, 3, 1, 2, 5, 0];

/// One more loop needs the fence.
///
/// # Errors
/// `RuntimeError`: this interpreter has no `sys.monitoring`, or all its tools are taken.
pub fn acquire() -> Result<()> {
    let known = TOOL.with(|tool| tool.as_mut().map(|tool| tool.users += 1));
    if known.is_some() {
        return Ok(());
    }
    if cfg!(Py_GIL_DISABLED) {
        return Err(runtime_error("on_block=\"handoff\" is not available on free-threaded builds yet"));
    }
    if cfg!(not(Py_3_12)) {
        return Err(runtime_error("on_block=\"handoff\" needs Python 3.12 or later (sys.monitoring)"));
    }
    let made = register()?;
    let surplus = TOOL.with(|tool| tool.replace(made));
    drop(surplus);
    Ok(())
}

fn register() -> Result<Tool> {
    let monitoring = import("sys", "monitoring")?;
    let method = |name: &str| monitoring.attr(&Owned::str(name)?);
    let (use_tool_id, name) = (method("use_tool_id")?, Owned::str("antiphon")?);
    let mut number = None;
    for candidate in CANDIDATES {
        let candidate = Owned::int(candidate)?;
        match call(&use_tool_id, [&candidate, &name]) {
            Ok(_) => {
                number = Some(candidate);
                break;
            }
            // SAFETY: the class is alive while the interpreter is.
            Err(Raised) if raise::matches(unsafe { ffi::PyExc_ValueError }) => drop(raise::take()),
            Err(raised) => return Err(raised),
        }
    }
    let Some(number) = number else {
        return Err(runtime_error(
            "on_block=\"handoff\" needs a tool of sys.monitoring, and all six are in use",
        ));
    };
    let (kinds, register) = (method("events")?, method("register_callback")?);
    let event = |name: &str| kinds.attr(&Owned::str(name)?);
    let (instruction, begin) = (event("INSTRUCTION")?, event("CALL")?);
    let (fence, give) =
        (import("antiphon._antiphon", "_fence")?, import("antiphon._antiphon", "_give_away")?);
    call(&register, [&number, &begin, &give])?;
    // Events of returns come with those of calls.
    for stop in [&instruction, &event("C_RETURN")?, &event("C_RAISE")?] {
        call(&register, [&number, stop, &fence])?;
    }
    let (stop, watch) = (i64::from(integer(&instruction)?), i64::from(integer(&begin)?));
    Ok(Tool {
        set_local_events: method("set_local_events")?,
        free_tool_id: method("free_tool_id")?,
        number,
        events: [Owned::int(0)?, instruction, begin, Owned::int(stop | watch)?],
        calls: call_instructions()?,
        disable: method("DISABLE")?,
        users: 1,
    })
}

/// One loop less needs it; the tool is given back with the last, unless steps are still behind the fence.
pub fn release() {
    let is_fenced = FENCED.with(|fenced| !fenced.is_empty());
    let is_last = TOOL.with(|tool| tool.as_ref().is_some_and(|tool| tool.users == 1));
    if is_last && !is_fenced {
        for code in call_sites::forget_all() {
            refresh(&code);
        }
    }
    let last = TOOL.with(|place| {
        let tool = place.as_mut()?;
        tool.users -= 1;
        if tool.users == 0 && !is_fenced { place.take() } else { None }
    });
    if let Some(tool) = last
        && call(&tool.free_tool_id, [&tool.number]).is_err()
    {
        raise::write_unraisable(None);
    }
}

/// The instructions after which `sys.monitoring` tells of a call's return.
fn call_instructions() -> Result<Vec<u8>> {
    let numbers = import("opcode", "opmap")?;
    let mut calls = Vec::new();
    for name in ["CALL", "CALL_KW", "CALL_FUNCTION_EX"] {
        // SAFETY: F1; a dict and a string; a borrowed reference or null.
        let number = unsafe { ffi::PyDict_GetItemWithError(numbers.as_ptr(), Owned::str(name)?.as_ptr()) };
        // SAFETY: null, or alive as long as the dict.
        if let Some(number) = unsafe { Owned::from_optional(number) } {
            calls.extend(u8::try_from(integer(&number)?));
        }
    }
    Ok(calls)
}

/// Whether there is a call, whose return `sys.monitoring` tells of.
pub fn is_call(site: &CallSite) -> bool {
    let Some(opcode) = site.opcode() else {
        return false;
    };
    TOOL.with(|tool| tool.as_ref().is_some_and(|tool| tool.calls.contains(&opcode)))
}

/// What a callback returns that needs no events of the same instruction any more, until the code's events are set anew.
pub fn no_more_events_here() -> Owned {
    TOOL.with(|tool| tool.as_ref().map(|tool| tool.disable.clone())).unwrap_or_else(Owned::none)
}

/// Sets the events of a code object to what is needed of it now.
fn set_events(code: &Owned) -> Result<()> {
    set_events_to(code, call_sites::is_watched(code))
}

/// Takes the events of calls from a code object, for [`refresh`] to give them back, to all its calls.
pub fn take_call_events(code: &Owned) {
    if set_events_to(code, false).is_err() {
        drop(raise::take());
    }
}

fn set_events_to(code: &Owned, calls: bool) -> Result<()> {
    let armed = ARMED.with(|armed| armed.iter().any(|(known, _)| known.as_ptr() == code.as_ptr()));
    let which = usize::from(armed) | usize::from(calls) << 1;
    let parts = TOOL.with(|tool| {
        let tool = tool.as_ref()?;
        let events = &tool.events[which];
        Some((tool.set_local_events.clone(), tool.number.clone(), events.clone()))
    });
    match parts {
        Some((set, number, events)) => call(&set, [&number, code, &events]).map(drop),
        None => Ok(()),
    }
}

/// The same where a failure means that the tool is gone, and its events with it.
pub fn refresh(code: &Owned) {
    if set_events(code).is_err() {
        drop(raise::take());
    }
}

/// Arms the code objects. The interpreter is not given away meanwhile: no Python code runs for this.
///
/// # Errors
/// Somebody has taken our tool away; then none is armed.
pub fn arm(codes: &[Owned]) -> Result<()> {
    for (place, code) in codes.iter().enumerate() {
        let is_new =
            ARMED.with(|armed| match armed.iter_mut().find(|(known, _)| known.as_ptr() == code.as_ptr()) {
                Some((_, count)) => {
                    *count += 1;
                    false
                }
                None => {
                    armed.push((code.clone(), 1));
                    true
                }
            });
        if is_new && let Err(Raised) = set_events(code) {
            let raised = raise::take();
            disarm(&codes[..=place]);
            return Err(raised.map_or(Raised, raise::restore));
        }
    }
    Ok(())
}

/// Takes [`arm`] back.
pub fn disarm(codes: &[Owned]) {
    for code in codes {
        let unused = ARMED.with(|armed| {
            let place = armed.iter().position(|(known, _)| known.as_ptr() == code.as_ptr())?;
            armed[place].1 -= 1;
            (armed[place].1 == 0).then(|| armed.swap_remove(place))
        });
        if unused.is_some() {
            refresh(code);
        }
    }
}

/// Puts a step behind the fence, whose code is armed.
pub fn put(blocked: Arc<Blocked>) {
    FENCED.with(|fenced| fenced.push(blocked));
}

/// Takes this thread's step out, if it is behind the fence.
pub fn take_mine() -> Option<Arc<Blocked>> {
    let here = crate::words::this_thread();
    FENCED.with(|fenced| {
        let place = fenced.iter().position(|blocked| blocked.is_of(here))?;
        Some(fenced.swap_remove(place))
    })
}

/// `_fence(code, offset, …)`: called before each instruction of armed code, and after each call in code with learned places.
fn fence(_args: Args<'_>) -> Result {
    if let Some(mine) = take_mine() {
        mine.come_back()?;
    }
    Ok(Owned::none())
}

/// In the child of a fork the other threads are gone, and with them who was behind the fence.
pub fn forget_all() {
    let fenced = FENCED.take();
    for blocked in &fenced {
        blocked.disarm();
    }
}

const FUNCTIONS: [Function; 1] = [(
    c"_fence",
    crate::function!(c"_fence", fence),
    c"_fence(code, offset): what sys.monitoring calls before each instruction of a step that has lost the seat.",
)];

/// Adds the function.
pub fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
