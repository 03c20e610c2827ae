//! Who waits, in the order of arrival.
//!
//! asyncio's primitives keep a deque of futures. A waiter stays in it until its own task runs again and takes it out,
//! whether it was woken or cancelled, so a list holds pending waiters and such that are done and not yet gone. Who wakes
//! looks for the first that is pending.
//!
//! Source: CPython Lib/asyncio/locks.py, queues.py.

use std::collections::VecDeque;

/// One who waits, as far as the rules ask. Copies are names of the same waiter, and only they are equal.
///
/// ```
/// use antiphon_core::{Waiter, Waiters};
/// use std::{cell::Cell, rc::Rc};
///
/// #[derive(Clone)]
/// struct Ticket(Rc<Cell<bool>>);
///
/// impl PartialEq for Ticket {
///     fn eq(&self, other: &Self) -> bool {
///         Rc::ptr_eq(&self.0, &other.0)
///     }
/// }
///
/// impl Waiter for Ticket {
///     fn is_done(&self) -> bool {
///         self.0.get()
///     }
///     fn is_cancelled(&self) -> bool {
///         false
///     }
/// }
///
/// let mut waiters = Waiters::default();
/// let ticket = Ticket(Rc::default());
/// waiters.push(ticket.clone());
/// assert!(waiters.first_pending(1).into_iter().all(|first| first == ticket));
/// ticket.0.set(true);
/// assert!(waiters.first_pending(1).is_empty());
/// ```
pub trait Waiter: Clone + PartialEq {
    /// Whether it was woken or cancelled.
    fn is_done(&self) -> bool;
    /// Whether it was cancelled before anybody woke it.
    fn is_cancelled(&self) -> bool;
}

/// A list of waiters. It never drops one: whoever is taken out is given back.
///
/// ```
/// # use antiphon_core::Waiter;
/// # use std::{cell::Cell, rc::Rc};
/// # #[derive(Clone)]
/// # struct Task(&'static str, Rc<Cell<bool>>);
/// # impl PartialEq for Task {
/// #     fn eq(&self, other: &Self) -> bool { Rc::ptr_eq(&self.1, &other.1) }
/// # }
/// # impl Waiter for Task {
/// #     fn is_done(&self) -> bool { self.1.get() }
/// #     fn is_cancelled(&self) -> bool { false }
/// # }
/// # fn task(name: &'static str) -> Task { Task(name, Rc::default()) }
/// # /// Wakes them; their names.
/// # fn wake(tasks: impl IntoIterator<Item = Task>) -> Vec<&'static str> {
/// #     tasks.into_iter().map(|task| { task.1.set(true); task.0 }).collect()
/// # }
/// use antiphon_core::Waiters;
///
/// let mut waiters = Waiters::default();
/// let tasks = ["one", "two", "three"].map(task);
/// tasks.iter().for_each(|task| waiters.push(task.clone()));
/// assert_eq!(wake(waiters.first_pending(2)), ["one", "two"]); // they stay until they leave
/// assert_eq!(waiters.len(), 3);
/// assert!(waiters.remove(&tasks[1]).is_some() && waiters.remove(&tasks[1]).is_none());
/// assert!(!waiters.all_cancelled());
/// assert_eq!(waiters.pop().map(|first| first.0), Some("one"));
/// assert_eq!(waiters.iter().map(|left| left.0).collect::<Vec<_>>(), ["three"]);
/// assert_eq!(waiters.take().len(), 1);
/// assert!(waiters.is_empty());
/// ```
#[derive(Debug)]
pub struct Waiters<W>(VecDeque<W>);

impl<W> Default for Waiters<W> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<W: Waiter> Waiters<W> {
    /// Adds one at the end.
    pub fn push(&mut self, waiter: W) {
        self.0.push_back(waiter);
    }

    /// Takes this one out. `None`: it is not here.
    pub fn remove(&mut self, waiter: &W) -> Option<W> {
        // Most often it is the first.
        if self.0.front() == Some(waiter) {
            return self.0.pop_front();
        }
        let place = self.0.iter().position(|other| other == waiter)?;
        self.0.remove(place)
    }

    /// Takes the first one out.
    pub fn pop(&mut self) -> Option<W> {
        self.0.pop_front()
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> VecDeque<W> {
        std::mem::take(&mut self.0)
    }

    /// How many there are, done ones included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &W> {
        self.0.iter()
    }

    /// Whether nobody is left whose turn it could be: all are cancelled, or there is none.
    pub fn all_cancelled(&self) -> bool {
        self.0.iter().all(W::is_cancelled)
    }

    /// The first `most` that are pending.
    pub fn first_pending(&self, most: usize) -> Wake<W> {
        let mut wake = Few::nobody();
        if most > 0 {
            self.0.iter().filter(|waiter| !waiter.is_done()).take(most).for_each(|w| wake.add(w.clone()));
        }
        wake
    }
}

/// A few waiters in order. One is the rule, and needs no memory of its own.
///
/// ```
/// use antiphon_core::Few;
///
/// let mut few = Few::nobody();
/// assert!(few.is_empty());
/// few.add("one");
/// few.add("two");
/// assert_eq!(few.len(), 2);
/// assert_eq!(few.into_iter().collect::<Vec<_>>(), ["one", "two"]);
/// ```
#[derive(Debug)]
#[must_use = "references go outside of the machine, and who is woken goes on"]
pub struct Few<W> {
    first: Option<W>,
    others: Vec<W>,
}

/// Who is to be woken, in this order, by the caller and outside of the machine.
pub type Wake<W> = Few<W>;

impl<W> Few<W> {
    /// Nobody.
    #[inline]
    pub fn nobody() -> Self {
        Self { first: None, others: Vec::new() }
    }

    /// Adds one at the end.
    #[inline]
    pub fn add(&mut self, waiter: W) {
        match self.first {
            None => self.first = Some(waiter),
            Some(_) => self.others.push(waiter),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Whether there is nobody.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<W> From<Option<W>> for Few<W> {
    fn from(first: Option<W>) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl<W> IntoIterator for Few<W> {
    type Item = W;
    type IntoIter = std::iter::Chain<std::option::IntoIter<W>, std::vec::IntoIter<W>>;
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

/// Waiters left a list: their names there, for the caller to drop, and who is to be woken now.
///
/// ```
/// # use antiphon_core::Waiter;
/// # use std::{cell::Cell, rc::Rc};
/// # #[derive(Clone)]
/// # struct Task(&'static str, Rc<Cell<bool>>);
/// # impl PartialEq for Task {
/// #     fn eq(&self, other: &Self) -> bool { Rc::ptr_eq(&self.1, &other.1) }
/// # }
/// # impl Waiter for Task {
/// #     fn is_done(&self) -> bool { self.1.get() }
/// #     fn is_cancelled(&self) -> bool { false }
/// # }
/// # fn task(name: &'static str) -> Task { Task(name, Rc::default()) }
/// # /// Wakes them; their names.
/// # fn wake(tasks: impl IntoIterator<Item = Task>) -> Vec<&'static str> {
/// #     tasks.into_iter().map(|task| { task.1.set(true); task.0 }).collect()
/// # }
/// use antiphon_core::{Left, Lock};
///
/// let mut lock = Lock::default();
/// let (one, other) = (task("one"), task("other"));
/// lock.wait(one.clone());
/// lock.wait(other);
/// let Left { removed, wake: woken } = lock.abandon(&one);
/// assert_eq!(removed.len(), 1); // dropped where that may run foreign code
/// assert_eq!(wake(woken), ["other"]);
/// ```
#[derive(Debug)]
#[must_use = "somebody may wait for this"]
pub struct Left<W> {
    /// The list's own names of them.
    pub removed: Few<W>,
    /// Who is to be woken.
    pub wake: Wake<W>,
}
