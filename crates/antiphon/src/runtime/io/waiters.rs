//! Who waits for one direction of a descriptor.
//!
//! Mostly that is one task, which is kept in place: with thousands of connections each list on the heap is one more line of memory
//! that is not in the cache.

use crate::wait_node::Who;
use std::cell::{Cell, RefCell};
use std::task::Waker;

/// Names one who waits for a descriptor.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Ticket(u32);

impl Ticket {
    /// Whoever polls by a trait, of whom there is one: a later one takes his place.
    pub(crate) const TRAIT: Self = Self(0);
}

/// Those who wait, in the order in which they came. None of the methods runs code of wakers while it borrows them.
pub(super) struct Waiters {
    waiting: RefCell<Waiting>,
    next_ticket: Cell<u32>,
}

#[derive(Default)]
struct Waiting {
    first: Option<(Ticket, Who)>,
    /// Empty if there is no first.
    others: Vec<(Ticket, Who)>,
}

impl Waiting {
    fn find(&mut self, ticket: Ticket) -> Option<&mut Who> {
        let mut all = self.first.iter_mut().chain(&mut self.others);
        all.find(|(known, _)| *known == ticket).map(|(_, who)| who)
    }
}

impl Waiters {
    pub(super) const fn new() -> Self {
        let waiting = RefCell::new(Waiting { first: None, others: Vec::new() });
        Self { waiting, next_ticket: Cell::new(1) }
    }

    pub(super) fn new_ticket(&self) -> Ticket {
        let number = self.next_ticket.get();
        self.next_ticket.set(number.checked_add(1).unwrap_or(1));
        Ticket(number)
    }

    /// Lets the one with this ticket wait; whether nobody with it did before.
    #[inline]
    pub(super) fn enter(&self, ticket: Ticket, waker: &Waker) -> bool {
        let who = Who::of(waker);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.first.is_none() {
            waiting.first = Some((ticket, who));
            return true;
        }
        drop(waiting);
        self.enter_crowd(ticket, who)
    }

    #[cold]
    fn enter_crowd(&self, ticket: Ticket, mut who: Who) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let known = waiting.find(ticket).map(|former| std::mem::swap(former, &mut who)).is_some();
        if !known {
            waiting.others.push((ticket, who));
            return true;
        }
        drop(waiting);
        drop(who); // the former
        false
    }

    /// The one with this ticket waits no more; whether he did.
    #[inline]
    pub(super) fn leave(&self, ticket: Ticket) -> bool {
        // Mostly it has been woken.
        self.waiting.borrow().first.is_some() && self.leave_crowd(ticket)
    }

    #[cold]
    fn leave_crowd(&self, ticket: Ticket) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let left = match &waiting.first {
            None => return false,
            Some((first, _)) if *first == ticket => waiting.first.take(),
            Some(_) => None,
        };
        let left = match left {
            Some(left) => {
                if !waiting.others.is_empty() {
                    waiting.first = Some(waiting.others.remove(0));
                }
                left
            }
            None => {
                let Some(place) = waiting.others.iter().position(|(known, _)| *known == ticket) else {
                    return false;
                };
                waiting.others.remove(place)
            }
        };
        drop(waiting);
        drop(left);
        true
    }

    /// Wakes everybody; how many that were.
    #[inline]
    pub(super) fn wake(&self) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let Some((_, first)) = waiting.first.take() else { return 0 };
        if waiting.others.is_empty() {
            drop(waiting);
            first.wake();
            return 1;
        }
        let others = std::mem::take(&mut waiting.others);
        drop(waiting);
        first.wake();
        let count = 1 + others.len();
        others.into_iter().for_each(|(_, who)| who.wake());
        count
    }

    /// Forgets everybody; how many that were.
    pub(super) fn clear(&self) -> usize {
        let all = self.waiting.take();
        usize::from(all.first.is_some()) + all.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    /// Notes in which order wakers are used.
    struct Noted {
        name: usize,
        woken: Arc<Mutex<Vec<usize>>>,
    }

    impl Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.woken.lock().unwrap().push(self.name);
        }
    }

    struct Crowd {
        waiters: Waiters,
        woken: Arc<Mutex<Vec<usize>>>,
        names: AtomicUsize,
    }

    impl Crowd {
        fn new() -> Self {
            Self { waiters: Waiters::new(), woken: Arc::default(), names: AtomicUsize::new(0) }
        }

        fn enter(&self) -> Ticket {
            let ticket = self.waiters.new_ticket();
            assert!(self.waiters.enter(ticket, &self.waker()));
            ticket
        }

        fn waker(&self) -> Waker {
            let name = self.names.fetch_add(1, Ordering::Relaxed);
            Waker::from(Arc::new(Noted { name, woken: Arc::clone(&self.woken) }))
        }

        fn woken(&self) -> Vec<usize> {
            std::mem::take(&mut self.woken.lock().unwrap())
        }
    }

    #[test]
    fn all_are_woken_in_the_order_in_which_they_came_whoever_left_before() {
        for leaves in 0..4 {
            let crowd = Crowd::new();
            let tickets: Vec<_> = (0..4).map(|_| crowd.enter()).collect();
            assert!(crowd.waiters.leave(tickets[leaves]));
            assert!(!crowd.waiters.leave(tickets[leaves]));
            crowd.enter();
            assert_eq!(crowd.waiters.wake(), 4);
            assert_eq!(crowd.woken(), (0..5).filter(|name| *name != leaves).collect::<Vec<_>>());
            assert_eq!(crowd.waiters.wake(), 0);
            assert!(tickets.iter().all(|ticket| !crowd.waiters.leave(*ticket)));
        }
    }

    #[test]
    fn later_waker_takes_the_place_of_the_former() {
        let crowd = Crowd::new();
        let tickets = [crowd.enter(), crowd.enter()];
        let [first, second] = [crowd.waker(), crowd.waker()];
        assert!(!crowd.waiters.enter(tickets[0], &first));
        assert!(!crowd.waiters.enter(tickets[1], &second));
        assert!(!crowd.waiters.enter(tickets[1], &second));
        assert_eq!(crowd.waiters.wake(), 2);
        assert_eq!(crowd.woken(), [2, 3]);
    }

    #[test]
    fn forgotten_ones_are_not_woken() {
        let crowd = Crowd::new();
        let tickets = [crowd.enter(), crowd.enter(), crowd.enter()];
        assert_eq!(crowd.waiters.clear(), 3);
        assert_eq!(crowd.waiters.wake(), 0);
        assert!(tickets.iter().all(|ticket| !crowd.waiters.leave(*ticket)));
        assert!(crowd.woken().is_empty());
    }
}
