//! References of the loop's thread: handles.

use super::pool;
use super::running::{here, with_running};
use super::vtable::{TaskCell, VTable};
use super::waker;
use super::word::{Dropped, Word};
use crate::runtime::{Loop, Work};
use crate::task::Header;
use crate::{Failure, JoinError, Panic};
use antiphon_engine::Inbox;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Waker};

/// What every cell begins with: its type, its loop, and its counts.
pub(crate) struct Base {
    pub(super) vtable: &'static VTable,
    /// The loop's inbox. The loop keeps it while the cell is attached; a detached cell has a count of its own.
    pub(super) inbox: *const Inbox<Work>,
    pub(super) word: Word,
    /// References to the memory that this thread counts; zero: the cell is detached (invariant Q2).
    local: Cell<u32>,
    handles: Cell<u32>,
    /// Where it is in its loop's roster.
    pub(crate) place: Cell<u32>,
}

impl Base {
    fn new(vtable: &'static VTable, inbox: &Arc<Inbox<Work>>) -> Self {
        Self {
            vtable,
            inbox: Arc::as_ptr(inbox),
            word: Word::new(),
            local: Cell::new(1), // all handles together
            handles: Cell::new(1),
            place: Cell::new(0),
        }
    }

    /// Whether there is a waker that somebody may use, at any time and from any thread.
    pub(crate) fn is_watched(&self) -> bool {
        self.local.get() > 1 || self.word.has_counts()
    }

    pub(super) fn has_handles(&self) -> bool {
        self.handles.get() > 0
    }

    /// The task has ended, and gives out no more wakers: detaches its cell if there are any (invariant Q2).
    pub(super) fn settle(&self) {
        if self.is_watched() {
            // SAFETY: the loop has it still, for the task has only just ended.
            unsafe { Arc::increment_strong_count(self.inbox) };
            self.word.detach(self.local.take());
        }
    }

    /// One more reference to the memory, made on the loop's thread.
    pub(super) fn add_here(&self) {
        match self.local.get() {
            0 => self.word.add(),
            u32::MAX => std::process::abort(),
            local => self.local.set(local + 1),
        }
    }
}

/// The part of a cell that any reference to the memory may look at (invariant Q4).
///
/// # Safety
/// There is a reference to the memory while the result is in use.
#[inline]
pub(super) unsafe fn base_of<'a>(task: NonNull<Header>) -> &'a Base {
    // SAFETY: by the caller. A reference to the base alone: the loop's thread may be changing the rest.
    unsafe { &(*task.as_ptr()).base }
}

/// Drops a reference to the memory on the loop's thread.
///
/// # Safety
/// It is the caller's, and this is the loop's thread.
#[inline]
pub(super) unsafe fn release_here(task: NonNull<Header>) {
    // SAFETY: the caller's reference keeps the memory until it is counted off.
    let base = unsafe { base_of(task) };
    match base.local.get() {
        // SAFETY: by the caller.
        0 => unsafe { release_detached(task) },
        1 => {
            // Invariant Q1: the last that this thread knows of; others may have made more.
            let others = base.word.take();
            base.local.set(others);
            if others == 0 {
                // SAFETY: it was the last, and an attached cell has no count of the inbox. Any pool may
                // have it: the loop that runs here now, if not its own.
                unsafe {
                    let layout = base.vtable.layout;
                    let kept = with_running(|own| own.cells.put(task.cast(), layout));
                    if kept.is_none() {
                        pool::free(task.cast(), layout);
                    }
                }
            }
        }
        local => base.local.set(local - 1),
    }
}

/// # Safety
/// As [`release_here`]; the cell is detached, or the thread another.
#[cold]
pub(super) unsafe fn release_detached(task: NonNull<Header>) {
    // SAFETY: the caller's reference keeps the memory until it is counted off.
    let base = unsafe { base_of(task) };
    let inbox = base.inbox;
    loop {
        match base.word.drop_one() {
            Dropped::Counted => return,
            Dropped::Last => {
                // SAFETY: it was the last. Only a detached cell says so (Q1), and its count of the inbox is dropped once.
                unsafe {
                    pool::free(task.cast(), base.vtable.layout);
                    Arc::decrement_strong_count(inbox);
                }
                return;
            }
            Dropped::GiveBack => {
                // SAFETY: the reference goes along, or stays the caller's.
                if unsafe { waker::send(inbox, task) }.is_ok() {
                    return;
                }
                // The loop has ended, and before it closed its inbox it detached the cell (invariant Q2).
            }
        }
    }
}

/// A task of any type, on its loop's thread: keeps its future and its outcome.
pub(crate) struct TaskHandle {
    task: NonNull<Header>,
}

impl TaskHandle {
    /// One more handle, beside those that there are.
    ///
    /// # Safety
    /// There is a handle, or the loop's roster has one; this is the loop's thread.
    pub(super) unsafe fn another(task: NonNull<Header>) -> Self {
        // SAFETY: by the caller.
        let handles = unsafe { &base_of(task).handles };
        if handles.get() == u32::MAX {
            std::process::abort();
        }
        handles.set(handles.get() + 1);
        Self { task }
    }

    /// A handle that is none: it is not counted.
    ///
    /// # Safety
    /// Another handle keeps the task meanwhile, and this one is not dropped.
    #[inline]
    pub(super) unsafe fn from_non_null(task: NonNull<Header>) -> Self {
        Self { task }
    }

    #[inline]
    pub(super) fn as_non_null(&self) -> NonNull<Header> {
        self.task
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self
    }

    /// Makes a step; whether the task has ended.
    #[inline]
    pub(crate) fn step(&self) -> bool {
        // SAFETY: invariant Q3, and this is a handle.
        self.with_context(|context| unsafe { (self.base.vtable.step)(self.task, context) })
    }

    /// Calls `f` with the task's own waker.
    #[inline]
    pub(crate) fn with_context<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        // SAFETY: the reference that it would own is the handles', and is not dropped here.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(waker::raw(self.task)) });
        f(&mut Context::from_waker(&waker))
    }

    /// Whether `waker` is the task's own.
    #[inline]
    pub(crate) fn has_waker(&self, waker: &Waker) -> bool {
        std::ptr::eq(waker.data(), self.task.as_ptr().cast()) && waker::is_own(waker)
    }

    /// Drops the future: the loop ends.
    pub(crate) fn discard(&self) {
        // SAFETY: invariant Q3, and this is a handle.
        unsafe { (self.base.vtable.discard)(self.task) }
    }

    /// What it panicked with.
    pub(crate) fn panic(&self) -> Option<Panic> {
        // SAFETY: invariant Q3, and this is a handle.
        unsafe { (self.base.vtable.panic)(self.task) }
    }
}

impl Deref for TaskHandle {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: a handle keeps the cell, and no exclusive reference to a header exists.
        unsafe { self.task.as_ref() }
    }
}

impl Clone for TaskHandle {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: this is one.
        unsafe { Self::another(self.task) }
    }
}

impl Drop for TaskHandle {
    #[inline]
    fn drop(&mut self) {
        let handles = &self.base.handles;
        handles.set(handles.get() - 1);
        if handles.get() == 0 {
            self.drop_last();
        }
    }
}

impl TaskHandle {
    fn drop_last(&self) {
        /// Also when a destructor of the user's panics.
        struct Release(NonNull<Header>);
        impl Drop for Release {
            fn drop(&mut self) {
                // SAFETY: the reference of all handles together; handles do not leave their thread.
                unsafe { release_here(self.0) };
            }
        }
        let release = Release(self.task);
        // SAFETY: invariant Q3; that was the last handle.
        unsafe { (self.base.vtable.drop_contents)(release.0) };
    }
}

impl PartialEq for TaskHandle {
    fn eq(&self, other: &Self) -> bool {
        self.task == other.task
    }
}

impl Eq for TaskHandle {}

/// A task whose outcome has these types.
pub(crate) struct JoinHandle<T, E> {
    task: TaskHandle,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> JoinHandle<T, E> {
    /// A task of the loop `own`, which has not been told of it.
    pub(crate) fn new<F>(own: &Loop, number: u64, location: &'static Location<'static>, future: F) -> Self
    where
        T: 'static,
        E: Failure + 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        let make = |vtable| Header::new(Base::new(vtable, &own.inbox), number, location);
        let task = TaskHandle { task: TaskCell::<F, T, E>::allocate(&own.cells, make, future) };
        Self { task, types: PhantomData }
    }

    pub(crate) fn task(&self) -> &TaskHandle {
        &self.task
    }

    /// The outcome, if there is one that nobody took.
    pub(crate) fn take_outcome(&self) -> Option<Result<T, JoinError<E>>> {
        let mut outcome = None::<Result<T, JoinError<E>>>;
        // SAFETY: invariant Q3, and this is a handle; it was made with the types of the cell.
        unsafe { (self.task.base.vtable.take_outcome)(self.task.task, (&raw mut outcome).cast()) };
        outcome
    }
}

/// A handle in a loop's ready queue or timers.
pub(crate) struct Due(ManuallyDrop<TaskHandle>);

// SAFETY: what the loop queues has a type that may cross threads, since some of it does. This does not: it is made on the
// loop's thread, opens for who has the loop, and elsewhere is leaked instead of dropped; nothing in between touches the cell.
unsafe impl Send for Due {}

impl Due {
    #[inline]
    pub(crate) fn new(task: TaskHandle) -> Self {
        Self(ManuallyDrop::new(task))
    }

    /// The handle, for its loop.
    ///
    /// # Panics
    /// When it is another loop's.
    #[inline]
    pub(crate) fn into_handle(self, own: &Loop) -> TaskHandle {
        assert!(own.owns(self.inbox()), "a loop queues its own tasks");
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is not dropped again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    fn inbox(&self) -> *const Inbox<Work> {
        // SAFETY: the handle keeps the cell, and any thread may read this field (invariant Q4).
        unsafe { base_of(self.0.task).inbox }
    }

    /// Whether it is this task's.
    pub(crate) fn is_of(&self, task: &TaskHandle) -> bool {
        self.0.task == task.task
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if here(self.inbox()) {
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
