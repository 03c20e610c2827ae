//! Where a queue's items are, and in which order they come out.

use std::collections::VecDeque;
use std::ffi::c_int;

use pyo3::ffi;

use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Raised, Result, call, call_method};
use crate::names::{import, names};

/// Which item is next.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one that came first.
    #[default]
    First,
    /// The one that came last.
    Last,
    /// The least.
    Priority,
}

/// Where they are.
pub enum Items {
    /// With us; nobody has looked.
    Own(VecDeque<Owned>),
    /// In `_queue`.
    Object(Owned),
}

impl Default for Items {
    fn default() -> Self {
        Self::Own(VecDeque::new())
    }
}

impl Items {
    /// Shows every reference to the collector.
    pub fn visit(&self, visitor: Visitor) -> c_int {
        match self {
            Self::Own(items) => visitor.all(items),
            Self::Object(object) => visitor.all([object]),
        }
    }
}

/// Takes the next item of ours.
#[inline]
pub fn next(items: &mut VecDeque<Owned>, order: Order) -> Option<Owned> {
    if order == Order::Last { items.pop_back() } else { items.pop_front() }
}

/// An empty container of the kind that asyncio's queue has in `_queue`.
pub fn container(order: Order) -> Result {
    match order {
        Order::First => call(&import("collections", "deque")?, []),
        // SAFETY: F1; a new list.
        Order::Last | Order::Priority => unsafe { Owned::from_new(ffi::PyList_New(0)) },
    }
}

/// How many items `_queue` has.
pub fn len(container: &Owned) -> Result<usize> {
    // SAFETY: F1; a living object.
    usize::try_from(unsafe { ffi::PyObject_Size(container.as_ptr()) }).map_err(|_| Raised)
}

/// Puts an item into `_queue`.
pub fn put(container: &Owned, order: Order, item: &Owned) -> Result<()> {
    let names = names();
    match order {
        Order::Priority => call(&names.heappush, [container, item]),
        Order::First | Order::Last => call_method(container, &names.append, [item]),
    }
    .map(drop)
}

/// Takes the next item out of `_queue`.
pub fn get(container: &Owned, order: Order) -> Result {
    let names = names();
    match order {
        Order::Priority => call(&names.heappop, [container]),
        Order::First => call_method(container, &names.popleft, []),
        Order::Last => call_method(container, &names.pop, []),
    }
}
