//! A group of tasks that end together: the state of `TaskGroup`.
//!
//! The first child that raises aborts the group: its siblings are cancelled, and so is the parent if it is still in the
//! block. That last cancellation is the group's own, and the group takes it back when the block is left; a cancellation
//! from elsewhere stays and passes on.
//!
//! ```text
//!            enter            leave              last child done
//! Unentered ──────▶ In block ──────▶ Leaving ───────────────────▶ Left
//!                      └─ a child raises, or the block does ─▶ aborting ─┘
//! ```
//!
//! The machine counts and decides; children and exceptions are the caller's. Editions of CPython differ in details, see
//! [`Edition`].
//!
//! Source: CPython Lib/asyncio/taskgroups.py.

use crate::Ended;

/// In which of its editions asyncio's rules are wanted.
///
/// ```
/// use antiphon_core::group::Edition;
///
/// assert!(Edition::of_minor(12).uncancels_early);
/// assert!(Edition::of_minor(13).recancels_parent);
/// assert!(!Edition::of_minor(14).keeps_late_cancellation);
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Edition {
    /// The group's own cancellation of the parent is taken back as soon as the block is left (up to 3.12), not when the last
    /// child is done.
    pub uncancels_early: bool,
    /// A parent that others want cancelled as well is cancelled anew when the group raises (from 3.13).
    pub recancels_parent: bool,
    /// A cancellation that came while the group waited is passed on even if the group was aborting (from 3.15).
    pub keeps_late_cancellation: bool,
}

impl Edition {
    /// CPython 3.`minor`.
    #[must_use]
    pub const fn of_minor(minor: u32) -> Self {
        Self {
            uncancels_early: minor < 13,
            recancels_parent: minor >= 13,
            keeps_late_cancellation: minor >= 15,
        }
    }
}

/// Why a child cannot be added.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Refusal {
    /// The block was not entered.
    NotEntered,
    /// The block was left and no child runs any more.
    Finished,
    /// The group is aborting.
    ShuttingDown,
}

/// What a child's end asks for.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct ChildEnd {
    /// Wake the parent, which waits for the last child.
    pub wake_parent: bool,
    /// Keep the child's exception as one of the group's errors.
    pub keep_error: bool,
    /// Nobody will ask for the group's errors: report this one.
    pub report: bool,
    /// Cancel the siblings and the parent.
    pub abort_and_cancel_parent: bool,
}

/// How a block was left.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Left {
    /// At its end.
    Normally,
    /// By a cancellation.
    Cancelled,
    /// By `KeyboardInterrupt` or `SystemExit`.
    BaseError,
    /// By another exception.
    Raised,
}

/// What the group raises once the last child is done.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Verdict {
    /// The first `KeyboardInterrupt` or `SystemExit`, alone.
    BaseError,
    /// The cancellation that came through the block or while the group waited.
    Cancellation,
    /// All errors as one group; the block's own exception is the last of them if `with_blocks_own`. Cancel the parent anew
    /// if `recancel_parent` and others want it cancelled.
    Errors {
        /// The block raised, too.
        with_blocks_own: bool,
        /// From 3.13 on.
        recancel_parent: bool,
    },
    /// Nothing.
    Nothing,
}

/// The state of one group.
///
/// ```
/// use antiphon_core::group::{Edition, Group, Left, Refusal, Verdict};
/// use antiphon_core::Ended;
///
/// let mut group = Group::new(Edition::of_minor(14));
/// assert_eq!(group.check_open(), Err(Refusal::NotEntered));
/// assert!(!group.enter());
/// (0..2).for_each(|_| group.add_child());
/// let end = group.child_done(Ended::Raised, true, false, false);
/// assert!(end.keep_error && end.abort_and_cancel_parent);
/// assert_eq!(group.check_open(), Err(Refusal::ShuttingDown));
/// assert!(!group.leave(Left::Cancelled), "the siblings are cancelled already");
/// group.wait();
/// assert!(group.child_done(Ended::Cancelled, true, false, false).wake_parent);
/// assert!(!group.waited(false));
/// assert!(group.uncancels_at_end());
/// group.uncancelled(0); // the cancellation was the group's own
/// assert_eq!(group.verdict(), Verdict::Errors { with_blocks_own: false, recancel_parent: true });
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    edition: Edition,
    entered: bool,
    exiting: bool,
    aborting: bool,
    parent_cancel_requested: bool,
    cancel_on_enter: bool,
    parent_waits: bool,
    has_errors: bool,
    has_base_error: bool,
    /// The parent was cancelled by others, in the block or while the group waited.
    cancellation: bool,
    /// It was cancelled while the group waited, aborting or not.
    late_cancellation: bool,
    left: Left,
    children: usize,
}

impl Group {
    /// Not entered yet.
    #[must_use]
    pub const fn new(edition: Edition) -> Self {
        Self {
            edition,
            entered: false,
            exiting: false,
            aborting: false,
            parent_cancel_requested: false,
            cancel_on_enter: false,
            parent_waits: false,
            has_errors: false,
            has_base_error: false,
            cancellation: false,
            late_cancellation: false,
            left: Left::Normally,
            children: 0,
        }
    }

    /// Whether the block was entered.
    #[must_use]
    pub const fn is_entered(&self) -> bool {
        self.entered
    }

    /// Whether the block was left.
    #[must_use]
    pub const fn is_exiting(&self) -> bool {
        self.exiting
    }

    /// Whether the siblings were cancelled.
    #[must_use]
    pub const fn is_aborting(&self) -> bool {
        self.aborting
    }

    /// Whether the group has cancelled its parent.
    #[must_use]
    pub const fn is_parent_cancel_requested(&self) -> bool {
        self.parent_cancel_requested
    }

    /// How many children are not done.
    #[must_use]
    pub const fn children(&self) -> usize {
        self.children
    }

    /// The block begins. Returns whether [`Group::cancel`] was called before, and has to be called again now.
    pub fn enter(&mut self) -> bool {
        self.entered = true;
        std::mem::take(&mut self.cancel_on_enter)
    }

    /// Asks whether a child may be added.
    ///
    /// # Errors
    /// Before the block, after the group, and while it is aborting.
    #[inline]
    pub const fn check_open(&self) -> Result<(), Refusal> {
        if !self.entered {
            Err(Refusal::NotEntered)
        } else if self.exiting && self.children == 0 {
            Err(Refusal::Finished)
        } else if self.aborting {
            Err(Refusal::ShuttingDown)
        } else {
            Ok(())
        }
    }

    /// One more child.
    #[inline]
    pub fn add_child(&mut self) {
        self.children += 1;
    }

    /// A child is done. `is_member`: it was added (a child that was done when it was made is judged without being
    /// added); `is_base`: it raised `KeyboardInterrupt` or `SystemExit`; `parent_done`: the parent has ended.
    #[inline]
    pub fn child_done(
        &mut self,
        ended: Ended,
        is_member: bool,
        is_base: bool,
        parent_done: bool,
    ) -> ChildEnd {
        if is_member {
            self.children -= 1;
        }
        let mut end =
            ChildEnd { wake_parent: self.parent_waits && self.children == 0, ..ChildEnd::default() };
        if ended != Ended::Raised {
            return end;
        }
        end.keep_error = true;
        self.has_errors = true;
        self.has_base_error |= is_base;
        if parent_done {
            end.report = true;
        } else if !self.aborting && !self.parent_cancel_requested {
            self.aborting = true;
            self.parent_cancel_requested = true;
            end.abort_and_cancel_parent = true;
        }
        end
    }

    /// From 3.15: ends the group from within or without. Returns whether the children are to be cancelled, and whether the
    /// parent is.
    pub fn cancel(&mut self) -> (bool, bool) {
        if !self.entered {
            self.cancel_on_enter = true;
            return (false, false);
        }
        if (self.exiting && self.children == 0) || self.aborting {
            return (false, false);
        }
        self.aborting = true;
        (true, !std::mem::replace(&mut self.parent_cancel_requested, true))
    }

    /// Everything but the parent is cancelled, for whoever calls asyncio's `_abort` himself.
    pub fn abort(&mut self) {
        self.aborting = true;
    }

    /// The block is left. Returns whether the children are to be cancelled.
    pub fn leave(&mut self, left: Left) -> bool {
        self.exiting = true;
        self.left = left;
        self.has_base_error |= left == Left::BaseError;
        self.cancellation = left == Left::Cancelled;
        left != Left::Normally && !std::mem::replace(&mut self.aborting, true)
    }

    /// Whether the group's own cancellation of the parent is to be taken back right after [`Group::leave`]; the requests
    /// that are left go to [`Group::uncancelled`].
    #[must_use]
    pub const fn uncancels_on_leaving(&self) -> bool {
        self.parent_cancel_requested && self.edition.uncancels_early
    }

    /// As [`Group::uncancels_on_leaving`], once the last child is done and no base error is to be raised.
    #[must_use]
    pub const fn uncancels_at_end(&self) -> bool {
        self.parent_cancel_requested && !self.edition.uncancels_early && !self.has_base_error
    }

    /// One cancellation request of the parent was taken back, and so many are left: with none left, the cancellation was
    /// the group's own and goes no further.
    pub fn uncancelled(&mut self, requests_left: u32) {
        if requests_left == 0 {
            self.cancellation = false;
        } else if self.edition.keeps_late_cancellation {
            self.cancellation |= self.late_cancellation;
        }
    }

    /// The parent waits for the last child.
    pub fn wait(&mut self) {
        self.parent_waits = true;
    }

    /// The parent goes on; whether the children are to be cancelled. `cancelled`: by a cancellation.
    pub fn waited(&mut self, cancelled: bool) -> bool {
        self.parent_waits = false;
        if !cancelled {
            return false;
        }
        self.late_cancellation = true;
        if std::mem::replace(&mut self.aborting, true) {
            return false;
        }
        self.cancellation = true;
        true
    }

    /// What the group raises; asked once, after the last child and after [`Group::uncancelled`] where that was due.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        let with_blocks_own = matches!(self.left, Left::Raised);
        if self.has_base_error {
            Verdict::BaseError
        } else if self.cancellation && !self.has_errors {
            Verdict::Cancellation
        } else if self.has_errors || with_blocks_own {
            Verdict::Errors { with_blocks_own, recancel_parent: self.edition.recancels_parent }
        } else {
            Verdict::Nothing
        }
    }
}
