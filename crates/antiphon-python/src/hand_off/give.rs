//! Giving the seat away of one's own accord: as a call begins at a learned place ([`call_sites`]).
//!
//! The thread leaves the seat as if it had lost it, and sends a sleeping spare. Until that one has come the seat is
//! *vacant*: a call that returns sooner takes it back without waiting for anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::call_sites::{self, Begin, Place};
use super::claim::Blocked;
use super::{HandOff, fence, spare, window};
use crate::event_loop::EventLoop;
use crate::ffi::function::{Function, add_functions};
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::words::this_thread;
use crate::{method_noargs, method_one};

impl HandOff {
    /// Whether places are learned and give the seat away.
    pub fn learns(&self) -> bool {
        self.learns.load(Ordering::Relaxed)
    }

    /// Says whether they are to.
    pub fn set_learns(&self, learns: bool) {
        self.learns.store(learns, Ordering::Relaxed);
    }

    /// How often steps have lost the seat, and how often they gave it away at a learned place.
    pub fn counts(&self) -> [u64; 2] {
        [&self.revoked, &self.given].map(|count| count.load(Ordering::Relaxed))
    }

    /// Gives this thread's seat to who waits for it, else to a spare, if there is somebody.
    fn give_away(&self, owner: &Instance<EventLoop>, place: Place) {
        if !self.learns() || !window::is_open(self.bell.window.load(Ordering::Relaxed)) {
            return;
        }
        let (driver, has_successor) =
            self.state.with(|state| (state.driver, !state.claimants.is_empty() || state.idle_main.is_some()));
        let Some(driver) = driver else { return };
        let spare = if has_successor { None } else { spare::take_idle() };
        if !has_successor && spare.is_none() {
            return; // the watchdog will find it
        }
        let blocked = Arc::new(Blocked::giving(driver, owner, place));
        call_sites::enter(place);
        self.given.fetch_add(1, Ordering::Relaxed);
        fence::put(Arc::clone(&blocked));
        self.move_window();
        owner.seat().reserve();
        blocked.take_current_task();
        let next = self.change(|state| {
            state.blocked.push(blocked);
            state.driver = None;
            let next = state.pass_seat(owner);
            state.vacant = next.is_none();
            next
        });
        if let Some(next) = next {
            self.tell(next);
        }
        if let Some(spare) = spare {
            spare.send_to_vacant_seat(self.bell.number);
        }
    }

    /// Takes the vacant seat for this thread, a spare; false: somebody was there before.
    pub(super) fn occupy(&self, owner: &Instance<EventLoop>) -> bool {
        let is_mine = self.change(|state| {
            let is_vacant = std::mem::take(&mut state.vacant);
            if is_vacant {
                owner.seat().hand_to(this_thread());
            }
            is_vacant
        });
        if is_mine {
            self.become_driver(owner, false);
        }
        is_mine
    }
}

/// `_give_away(code, offset, callable, argument)`: called before each call in code that has a learned place.
fn give(args: Args<'_>) -> Result {
    args.at_least(3, &["code", "offset", "callable"])?;
    // SAFETY: the arguments are alive during the call.
    let [code, offset, callable] =
        [0, 1, 2].map(|place| unsafe { Owned::from_borrowed(args.positional()[place]) });
    let place = (code.as_ptr() as usize, crate::child::process::integer(&offset)? as std::ffi::c_int);
    let begin = call_sites::begin(place, &callable);
    if begin == Begin::NeedsNoEvents {
        return Ok(fence::no_more_events_here());
    }
    if begin == Begin::Gives
        && let Some(object) = spare::find_driven_here()
    {
        // SAFETY: only loops of ours are announced.
        let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(object.as_ptr()) };
        if let Some(hand_off) = owner.hand_off() {
            hand_off.give_away(owner, place);
        }
    }
    Ok(Owned::none())
}

/// The life of a spare that was sent to a vacant seat.
pub(super) fn drive_vacant(number: u64) {
    let Some(object) = spare::find(number) else {
        return;
    };
    // SAFETY: only loops of ours are announced.
    let owner: &Instance<EventLoop> = unsafe { Instance::from_ptr(object.as_ptr()) };
    if let Some(hand_off) = owner.hand_off()
        && hand_off.occupy(owner)
    {
        crate::event_loop::run::drive_on_spare(owner, hand_off);
    }
}

const FUNCTIONS: [Function; 1] = [(
    c"_give_away",
    crate::function!(c"_give_away", give),
    c"_give_away(code, offset, callable, argument): what sys.monitoring calls before each call in code with learned places.",
)];

/// `_learn_call_sites(on)`.
fn learn_call_sites(this: &Instance<EventLoop>, on: &Owned) -> Result {
    if let Some(hand_off) = this.hand_off() {
        hand_off.set_learns(on.truth()?);
    }
    Ok(Owned::none())
}

/// `_hand_off_counts()`.
fn counts(this: &Instance<EventLoop>) -> Result {
    let [lost, given] = this.hand_off().map_or([0, 0], HandOff::counts);
    Owned::tuple([Owned::int(lost as i64)?, Owned::int(given as i64)?])
}

/// `_rescued_step(ident)`.
fn rescued_step(this: &Instance<EventLoop>, ident: &Owned) -> Result {
    // SAFETY: F1; a living object.
    let thread = unsafe { ffi::PyLong_AsUnsignedLongMask(ident.as_ptr()) };
    let Some((number, task, learned)) =
        this.hand_off().and_then(|hand_off| hand_off.rescued_step(thread as usize))
    else {
        return Ok(Owned::none());
    };
    Owned::tuple([Owned::int(number as i64)?, task.unwrap_or_else(Owned::none), Owned::bool(learned)])
}

/// Adds this file's methods to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method_one(
        c"_learn_call_sites",
        method_one!(learn_call_sites),
        c"Say whether places that block are learned, and give the loop away from then on.",
    )
    .method_one(
        c"_rescued_step",
        method_one!(rescued_step),
        c"The step of a thread that was blocked as another took the loop over, as (number, task, learned), or None.",
    )
    .method_noargs(
        c"_hand_off_counts",
        method_noargs!(counts),
        c"How often steps have lost the loop to another thread, and how often they gave it away at a learned place.",
    )
}

/// Adds the function.
pub fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
