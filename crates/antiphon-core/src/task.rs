//! The cancellation of a task: how often it was asked for, and whether it still has to be thrown in.
//!
//! A task that waits hands a request on to what it waits for. One that does not (its step is due, or running, or what it
//! waits for refused) is interrupted by its next step, or at the latest by the end of its coroutine.
//!
//! Source: CPython Lib/asyncio/tasks.py, class Task (`cancel`, `uncancel`, `__step`).

/// What a task knows about its cancellation.
///
/// ```
/// use antiphon_core::task::Cancellation;
///
/// let mut cancellation = Cancellation::default();
/// cancellation.request();
/// cancellation.set_due(); // what the task waits for did not take it
/// assert!(cancellation.take_due() && !cancellation.is_due());
/// assert_eq!(cancellation.requests(), 1);
/// assert_eq!(cancellation.uncancel(true), 0);
/// ```
#[derive(Copy, Clone, Debug, Default)]
pub struct Cancellation {
    /// The count, and [`DUE`]: one word, which every task has.
    word: u32,
}

/// The next step has to throw.
const DUE: u32 = 1 << 31;

impl Cancellation {
    /// Somebody asked. Before: hand it on to what the task waits for, and only if that refuses call [`Self::set_due`].
    #[inline]
    pub fn request(&mut self) {
        if self.requests() < DUE - 1 {
            self.word += 1;
        }
    }

    /// How many requests were not taken back (`cancelling()`).
    #[inline]
    pub fn requests(self) -> u32 {
        self.word & !DUE
    }

    /// Takes one request back; how many remain.
    ///
    /// `withdraws`: whether the last one takes an interruption back that is still due, as CPython does from 3.13 on.
    #[inline]
    pub fn uncancel(&mut self, withdraws: bool) -> u32 {
        if self.requests() > 0 {
            self.word -= 1;
            if self.requests() == 0 && withdraws {
                self.word &= !DUE;
            }
        }
        self.requests()
    }

    /// The next step has to throw.
    #[inline]
    pub fn set_due(&mut self) {
        self.word |= DUE;
    }

    /// Whether the next step has to throw (`_must_cancel`).
    #[inline]
    pub fn is_due(self) -> bool {
        self.word & DUE != 0
    }

    /// It is being thrown, or was handed on to what the task waits for now; whether it was due.
    #[inline]
    pub fn take_due(&mut self) -> bool {
        let due = self.is_due();
        self.word &= !DUE;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_taken_back_down_to_none() {
        let mut cancellation = Cancellation::default();
        cancellation.request();
        cancellation.request();
        assert_eq!(cancellation.requests(), 2);
        assert_eq!(cancellation.uncancel(true), 1);
        assert_eq!(cancellation.uncancel(true), 0);
        assert_eq!(cancellation.uncancel(true), 0);
    }

    #[test]
    fn an_interruption_is_thrown_once() {
        let mut cancellation = Cancellation::default();
        cancellation.request();
        cancellation.set_due();
        assert!(cancellation.take_due());
        assert!(!cancellation.take_due());
        assert_eq!(cancellation.requests(), 1);
    }

    #[test]
    fn the_last_uncancel_withdraws_what_is_due_by_the_newer_rule_alone() {
        for withdraws in [false, true] {
            let mut cancellation = Cancellation::default();
            cancellation.request();
            cancellation.request();
            cancellation.set_due();
            cancellation.uncancel(withdraws);
            assert!(cancellation.is_due(), "one request is left");
            cancellation.uncancel(withdraws);
            assert_eq!(cancellation.is_due(), !withdraws);
        }
    }

    #[test]
    fn what_is_due_without_a_request_survives_uncancel() {
        let mut cancellation = Cancellation::default();
        cancellation.set_due();
        assert_eq!(cancellation.uncancel(true), 0);
        assert!(cancellation.is_due());
    }
}
