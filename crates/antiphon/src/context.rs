//! Values that belong to a task: `contextvars`, after PEP 567.
//!
//! A task starts with a copy of the context of whoever spawned it. From then on the two are separate: neither sees what the
//! other sets. Copies share what they hold until one of them changes, and a task without values has no context at all.
//!
//! Contexts stay on their thread: [`to_thread`](crate::to_thread) and [`Remote`](crate::Remote) take none with them.
//!
//! Source: PEP 567; CPython's `Python/context.c`.

use crate::runtime::Loop;
use crate::task::Header;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A variable with a value for each context.
///
/// ```
/// use antiphon::{Cancelled, ContextVar, spawn};
///
/// static REQUEST: ContextVar<u32> = ContextVar::new("request");
///
/// antiphon::run(async {
///     REQUEST.set(1);
///     let child = spawn(async {
///         assert_eq!(REQUEST.get(), Some(1)); // a copy of its parent's
///         REQUEST.set(2);
///         Ok::<_, Cancelled>(())
///     });
///     child.await.unwrap();
///     assert_eq!(REQUEST.get(), Some(1)); // the child's change is the child's
/// })?;
/// assert_eq!(REQUEST.get(), None);
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct ContextVar<T: 'static> {
    name: &'static str,
    /// Zero until it is asked for: a variable is made in a constant.
    id: AtomicU64,
    default: Option<fn() -> T>,
}

impl<T: Clone + 'static> ContextVar<T> {
    /// A variable that has no value until it is set. `name` is for people.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, id: AtomicU64::new(0), default: None }
    }

    /// A variable whose value is what `default` makes, wherever it was not set.
    ///
    /// ```
    /// static LANGUAGE: antiphon::ContextVar<String> =
    ///     antiphon::ContextVar::with_default("language", || String::from("en"));
    /// assert_eq!(LANGUAGE.get().as_deref(), Some("en"));
    /// ```
    #[must_use]
    pub const fn with_default(name: &'static str, default: fn() -> T) -> Self {
        Self { name, id: AtomicU64::new(0), default: Some(default) }
    }

    /// What `name` was given.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A copy of its value in the running context, else its default.
    #[must_use]
    pub fn get(&self) -> Option<T> {
        match current(Missing::None) {
            Some(context) => context.get(self),
            None => self.default.map(|default| default()),
        }
    }

    /// Gives it a value in the running context: the running task's, or outside of tasks the thread's.
    ///
    /// What comes back restores by [`reset`](Self::reset) what was there; it may be ignored.
    pub fn set(&self, value: T) -> Token<T> {
        let context = current(Missing::Make).unwrap_or_default();
        let former = context.replace(self.id(), Some(Rc::new(value)));
        Token { variable: self.id(), context, former: former.and_then(downcast) }
    }

    /// Restores what was there before the `set` that `token` came from, no value included.
    ///
    /// ```
    /// static DEPTH: antiphon::ContextVar<u32> = antiphon::ContextVar::new("depth");
    /// let outer = DEPTH.set(1);
    /// let inner = DEPTH.set(2);
    /// assert_eq!(inner.old_value(), Some(&1));
    /// DEPTH.reset(inner)?;
    /// assert_eq!(DEPTH.get(), Some(1));
    /// DEPTH.reset(outer)?;
    /// assert_eq!(DEPTH.get(), None);
    /// # Ok::<(), antiphon::TokenError>(())
    /// ```
    ///
    /// # Errors
    /// [`TokenError`]: it is another variable's, or was made in another context. Nothing changes then.
    pub fn reset(&self, token: Token<T>) -> Result<(), TokenError> {
        if token.variable != self.id() {
            return Err(TokenError::OtherVariable);
        }
        let here = current(Missing::None).is_some_and(|context| context == token.context);
        if !here {
            return Err(TokenError::OtherContext);
        }
        let former = token.former.map(|former| -> Value { former });
        let replaced = token.context.replace(self.id(), former);
        drop(replaced);
        Ok(())
    }

    fn id(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.id.load(Ordering::Relaxed) {
            0 => {
                let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
                let own = self.id.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
                own.map_or_else(|own| own, |_| fresh)
            }
            own => own,
        }
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What [`ContextVar::set`] replaced, for [`ContextVar::reset`].
///
/// ```
/// use antiphon::ContextVar;
///
/// static DEPTH: ContextVar<u32> = ContextVar::new("depth");
///
/// antiphon::run(async {
///     DEPTH.set(1);
///     let token = DEPTH.set(2);
///     assert_eq!(token.old_value(), Some(&1));
///     DEPTH.reset(token).unwrap();
///     assert_eq!(DEPTH.get(), Some(1));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
pub struct Token<T> {
    variable: u64,
    context: Context,
    former: Option<Rc<T>>,
}

impl<T> Token<T> {
    /// The value that was replaced; `None` if there was none.
    #[must_use]
    pub fn old_value(&self) -> Option<&T> {
        self.former.as_deref()
    }
}

impl<T: fmt::Debug> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("old_value", &self.old_value()).finish_non_exhaustive()
    }
}

/// Why a variable cannot be reset.
///
/// ```
/// use antiphon::{ContextVar, TokenError, copy_context};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
/// static GROUP: ContextVar<&str> = ContextVar::new("group");
///
/// antiphon::run(async {
///     let token = USER.set("alice");
///     assert_eq!(GROUP.reset(token).unwrap_err(), TokenError::OtherVariable);
///     let token = USER.set("bob");
///     let elsewhere = copy_context().run(|| USER.reset(token));
///     assert_eq!(elsewhere.unwrap_err(), TokenError::OtherContext);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TokenError {
    /// The token was made by another variable.
    OtherVariable,
    /// The token was made in another context than the running one.
    OtherContext,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherVariable => "the token was made by another variable: reset the one whose set gave it",
            Self::OtherContext => "the token was made in another context: reset where the variable was set",
        })
    }
}

impl Error for TokenError {}

type Value = Rc<dyn Any>;

/// The values of variables, in the order of their ids.
type Values = Vec<(u64, Value)>;

/// A set of values for variables; clones are the same context, [copies](Self::copy) are not.
///
/// ```
/// use antiphon::{Cancelled, Context, ContextVar, spawn_in};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// antiphon::run(async {
///     let context = Context::new();
///     context.run(|| USER.set("alice"));
///     let task = spawn_in(&context, async { Ok::<_, Cancelled>(USER.get()) });
///     assert_eq!(task.await.unwrap(), Some("alice"));
///     assert_eq!(USER.get(), None);
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Clone, Default)]
pub struct Context {
    /// What copies share, until one of them changes.
    values: Rc<RefCell<Rc<Values>>>,
}

impl Context {
    /// A context without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy: neither sees what is set in the other. It takes the same time however many values there are.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { values: Rc::new(RefCell::new(Rc::clone(&self.values.borrow()))) }
    }

    /// Calls `f` in this context: what it sets stays in here. Unlike Python's, a context may be entered while it is entered.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave(Option<Context>);
        impl Drop for Leave {
            fn drop(&mut self) {
                // The same task runs as when it was entered: `f` has not given way.
                drop(swap(self.0.take()));
            }
        }
        let _leave = Leave(swap(Some(self.clone())));
        f()
    }

    /// A copy of a variable's value in here, else its default.
    pub fn get<T: Clone>(&self, variable: &ContextVar<T>) -> Option<T> {
        let value = {
            let values = self.values.borrow();
            find(&values, variable.id()).ok().map(|place| Rc::clone(&values[place].1))
        };
        match value.and_then(downcast::<T>) {
            Some(value) => Some(T::clone(&value)),
            None => variable.default.map(|default| default()),
        }
    }

    /// How many variables have a value in here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.borrow().len()
    }

    /// Whether no variable has a value in here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets or removes a value; the former one is for the caller to drop.
    fn replace(&self, id: u64, value: Option<Value>) -> Option<Value> {
        let mut values = self.values.borrow_mut();
        let values = Rc::make_mut(&mut values); // copies references, if anybody shares them
        match (find(values, id), value) {
            (Ok(place), Some(value)) => Some(std::mem::replace(&mut values[place].1, value)),
            (Ok(place), None) => Some(values.remove(place).1),
            (Err(place), Some(value)) => {
                values.insert(place, (id, value));
                None
            }
            (Err(_), None) => None,
        }
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.values, &other.values)
    }
}

impl Eq for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A copy of the running context: `contextvars.copy_context`.
///
/// ```
/// use antiphon::{ContextVar, copy_context};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// antiphon::run(async {
///     USER.set("alice");
///     let copy = copy_context();
///     USER.set("bob");
///     assert_eq!((copy.get(&USER), copy.len()), (Some("alice"), 1));
///     assert_eq!(copy.run(|| USER.get()), Some("alice"));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[must_use]
pub fn copy_context() -> Context {
    current(Missing::None).map(|context| context.copy()).unwrap_or_default()
}

fn find(values: &Values, id: u64) -> Result<usize, usize> {
    values.binary_search_by_key(&id, |(id, _)| *id)
}

/// A variable's value is of its type: ids are given out once.
fn downcast<T: 'static>(value: Value) -> Option<Rc<T>> {
    value.downcast().ok()
}

/// Where a task keeps its context: one pointer, which is null until there is something in it.
#[derive(Default)]
pub(crate) struct ContextSlot(Cell<Option<Context>>);

impl ContextSlot {
    pub(crate) fn replace(&self, context: Option<Context>) -> Option<Context> {
        self.0.replace(context)
    }

    fn get(&self, missing: Missing) -> Option<Context> {
        let own = self.0.take().or_else(|| match missing {
            Missing::None => None,
            Missing::Make => Some(Context::new()),
        });
        self.0.set(own.clone()); // what it replaces is nothing
        own
    }
}

/// What to do about a context that is not there.
#[derive(Copy, Clone)]
enum Missing {
    None,
    Make,
}

thread_local! {
    /// The context outside of tasks.
    static OF_THREAD: ContextSlot = const { ContextSlot(Cell::new(None)) };
}

/// The running context.
fn current(missing: Missing) -> Option<Context> {
    // A thread that is ending has none.
    let of_thread = || OF_THREAD.try_with(|slot| slot.get(missing)).ok().flatten();
    let of_task = |header: &Header| match (header.context(), missing) {
        (None, Missing::None) => None,
        (None, Missing::Make) => header.make_context().get(missing),
        (Some(slot), _) => slot.get(missing),
    };
    Loop::with_current(of_task).unwrap_or_else(of_thread)
}

/// Puts another context into the place of the running one.
fn swap(context: Option<Context>) -> Option<Context> {
    let mut context = context;
    Loop::with_current(|header| header.make_context().replace(context.take()))
        .unwrap_or_else(|| OF_THREAD.try_with(|slot| slot.replace(context.take())).ok().flatten())
}

/// What a task starts with that is spawned here: a copy of the running context.
#[inline]
pub(crate) fn inherited() -> Option<Context> {
    current(Missing::None).filter(|context| !context.is_empty()).map(|context| context.copy())
}
