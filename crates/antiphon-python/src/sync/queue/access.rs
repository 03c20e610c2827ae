//! Putting and getting without waiting, and what that depends on.

use antiphon_core::{Left, Turn};

use super::items::{self, Items};
use super::{Queue, State};
use crate::ffi::raise::raise;
use crate::ffi::{Instance, Owned, Raised, Result, call_method};
use crate::names::names;
use crate::sync::waiter::{self, Waiter};

/// What one look at the items was good for.
enum Look<T> {
    /// It is done.
    Done(T),
    /// It cannot be done now, or never.
    Not(Turn),
    /// The items are in this object: look there.
    Elsewhere(Owned),
}

/// How an attempt ended.
pub enum Attempt<T> {
    /// It is done.
    Done(T),
    /// It cannot be done now, or never.
    Not(Turn),
}

impl Instance<Queue> {
    /// Starts with no items, in the container that the order asks for.
    pub fn reset_items(&self) -> Result<()> {
        let order = self.order.get();
        let items = match order {
            items::Order::Priority => Items::Object(items::container(order)?),
            items::Order::First | items::Order::Last => Items::default(),
        };
        self.set_items(items);
        Ok(())
    }

    /// Replaces the items.
    pub fn set_items(&self, items: Items) {
        drop(self.state.with(|state| std::mem::replace(&mut state.items, items)));
    }

    /// `_queue`, a real container from here on.
    pub fn items_object(&self) -> Result {
        let order = self.order.get();
        let empty = items::container(order)?;
        let (object, ours) = self.state.with(|state| match &mut state.items {
            Items::Object(object) => (object.clone(), None),
            Items::Own(ours) => {
                let ours = std::mem::take(ours);
                state.items = Items::Object(empty.clone());
                (empty.clone(), Some(ours))
            }
        });
        for item in ours.into_iter().flatten() {
            items::put(&object, order, &item)?;
        }
        Ok(object)
    }

    /// `qsize()` as asyncio defines it.
    pub fn own_len(&self) -> Result<usize> {
        let elsewhere = self.state.with(|state| match &state.items {
            Items::Own(ours) => Ok(ours.len()),
            Items::Object(object) => Err(object.clone()),
        });
        elsewhere.or_else(|object| items::len(&object))
    }

    /// `empty()` as asyncio defines it.
    pub fn own_empty(&self) -> Result<bool> {
        let elsewhere = self.state.with(|state| match &state.items {
            Items::Own(ours) => Ok(ours.is_empty()),
            Items::Object(object) => Err(object.clone()),
        });
        elsewhere.or_else(|object| object.truth().map(|truth| !truth))
    }

    /// `full()` as asyncio defines it.
    pub fn own_full(&self) -> Result<bool> {
        let limit = self.state.with(|state| state.limit);
        if limit == 0 {
            return Ok(false);
        }
        if !self.is_by_name() {
            return self.own_len().map(|len| len >= limit);
        }
        let size = call_method(&self.owned(), &names().qsize, [])?;
        let limit = Owned::int(i64::try_from(limit).unwrap_or(i64::MAX))?;
        // SAFETY: F1; living objects.
        let full =
            unsafe { pyo3::ffi::PyObject_RichCompareBool(size.as_ptr(), limit.as_ptr(), pyo3::ffi::Py_GE) };
        crate::ffi::check(full).map(|full| full != 0)
    }

    /// `empty()`, a subclass's own if it has one.
    pub fn is_empty(&self) -> Result<bool> {
        if self.is_by_name() {
            call_method(&self.owned(), &names().empty, [])?.truth()
        } else {
            self.own_empty()
        }
    }

    /// `full()`, a subclass's own if it has one.
    pub fn is_full(&self) -> Result<bool> {
        if self.is_by_name() {
            call_method(&self.owned(), &names().full, [])?.truth()
        } else {
            self.own_full()
        }
    }

    /// `_put(item)` as asyncio defines it: without regard to limits and waiters.
    pub fn own_put(&self, item: &Owned) -> Result<()> {
        let order = self.order.get();
        let mut given = Some(item.clone());
        let elsewhere = self.state.with(|state| match &mut state.items {
            Items::Own(ours) => {
                ours.extend(given.take());
                None
            }
            Items::Object(object) => Some(object.clone()),
        });
        match elsewhere {
            None => Ok(()),
            Some(object) => items::put(&object, order, item),
        }
    }

    /// `_get()` as asyncio defines it.
    pub fn own_get(&self) -> Result {
        let order = self.order.get();
        let elsewhere = self.state.with(|state| match &mut state.items {
            Items::Own(ours) => Ok(items::next(ours, order)),
            Items::Object(object) => Err(object.clone()),
        });
        match elsewhere {
            Ok(Some(item)) => Ok(item),
            // SAFETY: the class is alive while the interpreter is.
            Ok(None) => Err(raise(unsafe { pyo3::ffi::PyExc_IndexError }, "pop from an empty deque")),
            Err(object) => items::get(&object, order),
        }
    }

    /// One try to put.
    #[inline]
    pub fn try_put(&self, item: &Owned) -> Result<Attempt<()>> {
        if self.is_by_name() {
            return self.try_put_by_name(item);
        }
        let mut given = Some(item.clone());
        let look = self.state.with(|state| {
            let State { rules, items, limit } = state;
            match items {
                Items::Own(ours) => match rules.may_put(*limit > 0 && ours.len() >= *limit) {
                    Turn::Now => {
                        ours.extend(given.take());
                        Look::Done(rules.added())
                    }
                    turn => Look::Not(turn),
                },
                Items::Object(object) => Look::Elsewhere(object.clone()),
            }
        });
        let left = match look {
            Look::Done(left) => left,
            Look::Not(turn) => return Ok(Attempt::Not(turn)),
            Look::Elsewhere(object) => {
                let full = self.own_full()?;
                let turn = self.state.with(|state| state.rules.may_put(full));
                if turn != Turn::Now {
                    return Ok(Attempt::Not(turn));
                }
                items::put(&object, self.order.get(), item)?;
                self.state.with(|state| state.rules.added())
            }
        };
        self.note_added(left);
        Ok(Attempt::Done(()))
    }

    fn try_put_by_name(&self, item: &Owned) -> Result<Attempt<()>> {
        let full = self.is_full()?;
        let turn = self.state.with(|state| state.rules.may_put(full));
        if turn != Turn::Now {
            return Ok(Attempt::Not(turn));
        }
        call_method(&self.owned(), &names()._put, [item])?;
        let left = self.state.with(|state| state.rules.added());
        self.note_added(left);
        Ok(Attempt::Done(()))
    }

    #[inline]
    fn note_added(&self, left: Left<Waiter>) {
        if let Some(event) = self.finished.get() {
            event.reset();
        }
        self.wake_getter(left);
    }

    /// One try to get.
    #[inline]
    pub fn try_get(&self) -> Result<Attempt<Owned>> {
        let (item, left) = if self.is_by_name() {
            let empty = self.is_empty()?;
            let turn = self.state.with(|state| state.rules.may_get(empty));
            if turn != Turn::Now {
                return Ok(Attempt::Not(turn));
            }
            let item = call_method(&self.owned(), &names()._get, [])?;
            (item, self.state.with(|state| state.rules.removed()))
        } else {
            let order = self.order.get();
            let look = self.state.with(|state| {
                let State { rules, items, .. } = state;
                match items {
                    Items::Own(ours) => match items::next(ours, order) {
                        Some(item) => Look::Done((item, rules.removed())),
                        None => Look::Not(rules.may_get(true)),
                    },
                    Items::Object(object) => Look::Elsewhere(object.clone()),
                }
            });
            match look {
                Look::Done(done) => done,
                Look::Not(turn) => return Ok(Attempt::Not(turn)),
                Look::Elsewhere(object) => {
                    let empty = !object.truth()?;
                    let turn = self.state.with(|state| state.rules.may_get(empty));
                    if turn != Turn::Now {
                        return Ok(Attempt::Not(turn));
                    }
                    (items::get(&object, order)?, self.state.with(|state| state.rules.removed()))
                }
            }
        };
        self.wake_putter(left);
        Ok(Attempt::Done(item))
    }

    /// Wakes getters that left the list.
    #[inline]
    pub fn wake_getter(&self, left: Left<Waiter>) {
        if !(left.removed.is_empty() && left.wake.is_empty()) {
            waiter::settle(left, &Owned::none(), || self.state.with(|state| state.rules.next_getter()));
        }
    }

    /// Wakes putters that left the list.
    #[inline]
    pub fn wake_putter(&self, left: Left<Waiter>) {
        if !(left.removed.is_empty() && left.wake.is_empty()) {
            waiter::settle(left, &Owned::none(), || self.state.with(|state| state.rules.next_putter()));
        }
    }

    /// Queues up to get, unless there is an item by now; whether it queued up.
    pub fn wait_to_get(&self, waiter: Waiter) -> bool {
        let mut waiter = Some(waiter);
        let by_name = self.is_by_name();
        self.state.with(|state| {
            let now = matches!(&state.items, Items::Own(ours) if !ours.is_empty()) && !by_name;
            match waiter.take_if(|_| !now) {
                Some(waiter) => {
                    state.rules.wait_to_get(waiter);
                    true
                }
                None => false,
            }
        })
    }

    /// Queues up to put, unless there is room by now; whether it queued up.
    pub fn wait_to_put(&self, waiter: Waiter) -> bool {
        let mut waiter = Some(waiter);
        let by_name = self.is_by_name();
        self.state.with(|state| {
            let limit = state.limit;
            let now = matches!(&state.items, Items::Own(ours) if ours.len() < limit) && !by_name;
            match waiter.take_if(|_| !now) {
                Some(waiter) => {
                    state.rules.wait_to_put(waiter);
                    true
                }
                None => false,
            }
        })
    }
}

/// The exception of one who would not or cannot wait.
///
/// `class` is the one for who would have to.
#[cold]
pub fn refused(turn: Turn, class: &Owned) -> Raised {
    let class = if turn == Turn::Never { super::methods::shut_down_class() } else { Some(class) };
    // SAFETY: F1; living classes.
    unsafe {
        pyo3::ffi::PyErr_SetNone(class.map_or(pyo3::ffi::PyExc_RuntimeError, Owned::as_ptr));
    }
    Raised
}
