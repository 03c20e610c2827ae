//! What Python sees of the queues.

use std::ptr;
use std::sync::OnceLock;

use antiphon_core::{NothingUnfinished, Waiter as _};
use pyo3::ffi;

use super::access::{Attempt, refused};
use super::items::Items;
use super::wait::{GetOperation, JoinOperation, PutOperation};
use super::{LIFO_QUEUE, PRIORITY_QUEUE, QUEUE, Queue, limit_of};
use crate::coroutine;
use crate::ffi::raise::{type_error, value_error};
use crate::ffi::{Args, Instance, Owned, Payload, Result, call, call_method, check};
use crate::names::{import, intern, names};
use crate::sync::object;
use crate::sync::view::{self, View};
use crate::sync::waiter::{self, Waiter};
use crate::{getter, method, method_noargs, method_one, setter, unary_slot};

static SHUT_DOWN: OnceLock<Owned> = OnceLock::new();

/// `QueueShutDown`, where the version has it.
pub fn shut_down_class() -> Option<&'static Owned> {
    SHUT_DOWN.get()
}

/// The one argument `item`.
#[inline]
fn item_of(args: Args<'_>) -> Result {
    let [item] = args.bind([&names().item], 1)?;
    let item = item.ok_or_else(|| type_error("item is missing"))?;
    // SAFETY: F1; the argument is alive during the call.
    Ok(unsafe { Owned::from_borrowed(item) })
}

fn put(this: &Instance<Queue>, args: Args<'_>) -> Result {
    coroutine::make("Queue.put", PutOperation::new(this.typed(), item_of(args)?))
}

fn get(this: &Instance<Queue>) -> Result {
    coroutine::make("Queue.get", GetOperation::new(this.typed()))
}

fn join(this: &Instance<Queue>) -> Result {
    coroutine::make("Queue.join", JoinOperation::new(this.typed()))
}

fn put_nowait(this: &Instance<Queue>, args: Args<'_>) -> Result {
    match this.try_put(&item_of(args)?)? {
        Attempt::Done(()) => Ok(Owned::none()),
        Attempt::Not(turn) => Err(refused(turn, &names().queue_full)),
    }
}

fn get_nowait(this: &Instance<Queue>) -> Result {
    match this.try_get()? {
        Attempt::Done(item) => Ok(item),
        Attempt::Not(turn) => Err(refused(turn, &names().queue_empty)),
    }
}

fn qsize(this: &Instance<Queue>) -> Result {
    Owned::int(this.own_len()? as i64)
}

fn empty(this: &Instance<Queue>) -> Result {
    this.own_empty().map(Owned::bool)
}

fn full(this: &Instance<Queue>) -> Result {
    this.own_full().map(Owned::bool)
}

fn task_done(this: &Instance<Queue>) -> Result {
    match this.state.with(|state| state.rules.task_done()) {
        Ok(last) => {
            if last && let Some(event) = this.finished.get() {
                event.set();
            }
            Ok(Owned::none())
        }
        Err(NothingUnfinished) => Err(value_error("task_done() called too many times")),
    }
}

fn init_items(this: &Instance<Queue>, _max_size: &Owned) -> Result {
    this.reset_items().map(|()| Owned::none())
}

fn put_item(this: &Instance<Queue>, item: &Owned) -> Result {
    this.own_put(item).map(|()| Owned::none())
}

fn get_item(this: &Instance<Queue>) -> Result {
    this.own_get()
}

/// `shutdown(immediate=False)`
#[cfg_attr(not(Py_3_13), allow(dead_code, reason = "queues cannot be shut down before 3.13"))]
fn shutdown(this: &Instance<Queue>, args: Args<'_>) -> Result {
    let [immediate] = args.bind([&names().immediate], 0)?;
    // SAFETY: F1; the argument is alive during the call.
    let immediate = immediate.map(|immediate| unsafe { Owned::from_borrowed(immediate) });
    this.state.with(|state| state.rules.shut_down());
    if let Some(immediate) = immediate
        && immediate.truth()?
    {
        while !this.is_empty()? {
            let item = if this.is_by_name() {
                call_method(&this.owned(), &names()._get, [])?
            } else {
                this.own_get()?
            };
            drop(item);
            this.state.with(|state| state.rules.discarded());
        }
        if this.state.with(|state| state.rules.unfinished()) == 0
            && let Some(event) = this.finished.get()
        {
            event.set();
        }
    }
    let everybody: Vec<Waiter> = this.state.with(|state| state.rules.everybody().collect());
    for waiter in everybody {
        if !waiter.is_done() {
            waiter::wake(Some(waiter).into(), &Owned::none(), waiter::nobody);
        }
    }
    Ok(Owned::none())
}

/// `_wakeup_next(waiters)`: for subclasses that call it.
fn wakeup_next(_: &Instance<Queue>, waiters: &Owned) -> Result {
    let Some(view) = Instance::<View>::downcast(waiters) else {
        return Err(type_error("_wakeup_next() takes _getters or _putters"));
    };
    let next = || {
        let mut done = Vec::new();
        let next = view.with(|waiters| {
            loop {
                match waiters.pop() {
                    Some(waiter) if waiter.is_done() => done.push(waiter),
                    next => return next,
                }
            }
        });
        drop(done);
        next.flatten().into()
    };
    waiter::wake(next(), &Owned::none(), next);
    Ok(Owned::none())
}

fn get_max_size(this: &Instance<Queue>) -> Result {
    this.max_size.get().map_or_else(|| Owned::int(0), Ok)
}

fn set_max_size(this: &Instance<Queue>, value: Option<&Owned>) -> Result<()> {
    let value = value.ok_or_else(|| type_error("_maxsize cannot be deleted"))?;
    let limit = limit_of(value)?;
    this.state.with(|state| state.limit = limit);
    drop(this.max_size.replace(Some(value.clone())));
    Ok(())
}

fn get_queue(this: &Instance<Queue>) -> Result {
    this.items_object()
}

fn set_queue(this: &Instance<Queue>, value: Option<&Owned>) -> Result<()> {
    let value = value.ok_or_else(|| type_error("_queue cannot be deleted"))?;
    this.set_items(Items::Object(value.clone()));
    Ok(())
}

fn get_unfinished(this: &Instance<Queue>) -> Result {
    Owned::int(this.state.with(|state| state.rules.unfinished()) as i64)
}

fn set_unfinished(this: &Instance<Queue>, value: Option<&Owned>) -> Result<()> {
    let value = value.ok_or_else(|| type_error("_unfinished_tasks cannot be deleted"))?;
    // SAFETY: F1; living objects.
    let count = unsafe {
        let count = ffi::PyNumber_AsSsize_t(value.as_ptr(), ptr::null_mut());
        if count == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(crate::ffi::Raised);
        }
        usize::try_from(count).unwrap_or(0)
    };
    this.state.with(|state| state.rules.set_unfinished(count));
    Ok(())
}

fn get_finished(this: &Instance<Queue>) -> Result {
    this.finished_event().map(crate::ffi::instance::Typed::into_object)
}

#[cfg_attr(not(Py_3_13), allow(dead_code, reason = "queues cannot be shut down before 3.13"))]
fn get_shut_down(this: &Instance<Queue>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_shut_down())))
}

fn get_getters(this: &Instance<Queue>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for queues alone.
        let queue = unsafe { Instance::<Queue>::from_ptr(owner.as_ptr()) };
        queue.state.with(|state| change(state.rules.getters_mut()));
    })
}

fn get_putters(this: &Instance<Queue>) -> Result {
    view::make(this.owned(), |owner, change| {
        // SAFETY: made for queues alone.
        let queue = unsafe { Instance::<Queue>::from_ptr(owner.as_ptr()) };
        queue.state.with(|state| change(state.rules.putters_mut()));
    })
}

/// The items in a list, for the representation.
fn listed(this: &Instance<Queue>) -> Result<Option<Owned>> {
    let ours = this.state.with(|state| match &state.items {
        Items::Own(ours) => Ok(ours.iter().cloned().collect::<Vec<_>>()),
        Items::Object(object) => Err(object.clone()),
    });
    match ours {
        Ok(ours) if ours.is_empty() => Ok(None),
        // SAFETY: F1; each place is filled once.
        Ok(ours) => unsafe {
            let list = Owned::from_new(ffi::PyList_New(ours.len() as isize))?;
            for (place, item) in ours.into_iter().enumerate() {
                ffi::PyList_SET_ITEM(list.as_ptr(), place as isize, item.into_ptr());
            }
            Ok(Some(list))
        },
        // SAFETY: F1; a living object.
        Err(object) if object.truth()? => unsafe {
            Owned::from_new(ffi::PySequence_List(object.as_ptr())).map(Some)
        },
        Err(_) => Ok(None),
    }
}

/// `_format()`: what `repr` and `str` say after the class.
fn format_(this: &Instance<Queue>) -> Result {
    let (getters, putters, unfinished, shut_down) = this.state.with(|state| {
        let rules = &state.rules;
        (rules.getters().len(), rules.putters().len(), rules.unfinished(), rules.is_shut_down())
    });
    let mut rest = String::new();
    for (count, name) in [(getters, " _getters["), (putters, " _putters[")] {
        if count > 0 {
            rest.push_str(&format!("{name}{count}]"));
        }
    }
    if unfinished > 0 {
        rest.push_str(&format!(" tasks={unfinished}"));
    }
    if shut_down {
        rest.push_str(" shutdown");
    }
    let rest = Owned::str(&rest)?;
    let size = get_max_size(this)?;
    // SAFETY: F1; the formats take these objects.
    unsafe {
        Owned::from_new(match listed(this)? {
            Some(items) => ffi::PyUnicode_FromFormat(
                c"maxsize=%R _queue=%R%S".as_ptr(),
                size.as_ptr(),
                items.as_ptr(),
                rest.as_ptr(),
            ),
            None => ffi::PyUnicode_FromFormat(c"maxsize=%R%S".as_ptr(), size.as_ptr(), rest.as_ptr()),
        })
    }
}

/// The class's name, and what `_format` says, a subclass's own if it has one.
fn description(this: &Instance<Queue>) -> Result<(Owned, Owned)> {
    let object = this.owned();
    // SAFETY: F1; a living type.
    let class = unsafe { Owned::from_borrowed(ffi::Py_TYPE(object.as_ptr()).cast()) };
    Ok((class.attr(&names().__name__)?, call_method(&object, &names()._format, [])?))
}

fn repr(this: &Instance<Queue>) -> Result {
    let (class, text) = description(this)?;
    let address = format!("{:#x}", this.as_ptr() as usize);
    let address = Owned::str(&address)?;
    // SAFETY: F1; the format takes three objects.
    unsafe {
        Owned::from_new(ffi::PyUnicode_FromFormat(
            c"<%S at %S %S>".as_ptr(),
            class.as_ptr(),
            address.as_ptr(),
            text.as_ptr(),
        ))
    }
}

fn str_(this: &Instance<Queue>) -> Result {
    let (class, text) = description(this)?;
    // SAFETY: F1; the format takes two objects.
    unsafe { Owned::from_new(ffi::PyUnicode_FromFormat(c"<%S %S>".as_ptr(), class.as_ptr(), text.as_ptr())) }
}

crate::sync::loop_attributes!(Queue);

fn make_queue() -> Result<*mut ffi::PyTypeObject> {
    let made = object::heap_type::<Queue>(
        c"antiphon._antiphon.Queue",
        c"Queue(maxsize=0): between producers and consumers; what came first leaves first.",
    )
    .slot(ffi::Py_tp_repr, unary_slot!(repr))
    .slot(ffi::Py_tp_str, unary_slot!(str_))
    .method(c"put", method!(c"put", put), c"put(item): wait for room, put the item.")
    .method_noargs(c"get", method_noargs!(get), c"Wait for an item, take it.")
    .method_noargs(c"join", method_noargs!(join), c"Wait until every item was said to be done.")
    .method(
        c"put_nowait",
        method!(c"put_nowait", put_nowait),
        c"put_nowait(item): put the item, or raise QueueFull.",
    )
    .method_noargs(c"get_nowait", method_noargs!(get_nowait), c"Take an item, or raise QueueEmpty.")
    .method_noargs(c"qsize", method_noargs!(qsize), c"How many items there are.")
    .method_noargs(c"empty", method_noargs!(empty), c"Whether there is none.")
    .method_noargs(c"full", method_noargs!(full), c"Whether there is no room.")
    .method_noargs(c"task_done", method_noargs!(task_done), c"Say that an item that was got is done with.")
    .method_one(c"_init", method_one!(init_items), c"Make the container.")
    .method_one(c"_put", method_one!(put_item), c"Put the item, whatever the limit.")
    .method_noargs(c"_get", method_noargs!(get_item), c"Take an item that must be there.")
    .method_noargs(c"_format", method_noargs!(format_), c"How things stand, for representations.")
    .method_one(c"_wakeup_next", method_one!(wakeup_next), c"Wake the first of _getters or _putters.")
    .method_noargs(c"_get_loop", method_noargs!(get_running), c"The running loop, which must be its own.")
    .attribute(c"maxsize", getter!(get_max_size), None, c"How many items there may be; 0: any number.")
    .attribute(c"_maxsize", getter!(get_max_size), Some(setter!(set_max_size)), c"The same, to be set.")
    .attribute(c"_queue", getter!(get_queue), Some(setter!(set_queue)), c"The items' container.")
    .attribute(
        c"_unfinished_tasks",
        getter!(get_unfinished),
        Some(setter!(set_unfinished)),
        c"How many items were put and not yet said to be done.",
    )
    .attribute(c"_finished", getter!(get_finished), None, c"The event that join() waits for.")
    .attribute(c"_getters", getter!(get_getters), None, c"The futures of those who wait to get.")
    .attribute(c"_putters", getter!(get_putters), None, c"The futures of those who wait to put.")
    .attribute(c"_loop", getter!(get_loop), Some(setter!(set_loop)), c"The loop, once somebody waited.");
    #[cfg(Py_3_13)]
    let made = made
        .method(
            c"shutdown",
            method!(c"shutdown", shutdown),
            c"shutdown(immediate=False): let nobody put any more; with `immediate`, throw the items away.",
        )
        .attribute(c"_is_shutdown", getter!(get_shut_down), None, c"Whether it was shut down.");
    made.build(None, Instance::<Queue>::PAYLOAD_OFFSET)
}

/// `Queue[int]`
fn make_generic(class: &Owned) -> Result<()> {
    let alias = import("types", "GenericAlias")?;
    let method = call(&import("builtins", "classmethod")?, [&alias])?;
    let name = intern("__class_getitem__")?;
    // SAFETY: F1; living objects.
    check(unsafe { ffi::PyObject_SetAttr(class.as_ptr(), name.as_ptr(), method.as_ptr()) }).map(drop)
}

/// Makes the types and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<GetOperation>(module)?;
    coroutine::load::<PutOperation>(module)?;
    coroutine::load::<JoinOperation>(module)?;
    if QUEUE.get().is_null() {
        #[cfg(Py_3_13)]
        let _ = SHUT_DOWN.set(import("asyncio", "QueueShutDown")?);
        let made = make_queue()?;
        QUEUE.set(made);
        // SAFETY: a type object is an object.
        let base = unsafe { Owned::from_borrowed(made.cast()) };
        make_generic(&base)?;
        let made = object::heap_type::<Queue>(
            c"antiphon._antiphon.PriorityQueue",
            c"PriorityQueue(maxsize=0): a Queue of which the least item leaves first.",
        )
        .build(Some(&base), Instance::<Queue>::SIZE)?;
        PRIORITY_QUEUE.set(made);
        let made = object::heap_type::<Queue>(
            c"antiphon._antiphon.LifoQueue",
            c"LifoQueue(maxsize=0): a Queue of which the last item leaves first.",
        )
        .build(Some(&base), Instance::<Queue>::SIZE)?;
        LIFO_QUEUE.set(made);
    }
    object::publish(module, Queue::type_object(), c"Queue")?;
    object::publish(module, PRIORITY_QUEUE.get(), c"PriorityQueue")?;
    object::publish(module, LIFO_QUEUE.get(), c"LifoQueue")
}
