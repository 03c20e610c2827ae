//! What became of the loops.

use crate::{Cancelled, Failure, RunError};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

/// What [`Cores::run`](crate::Cores::run) fails with.
///
/// ```
/// use antiphon::{CoresError, cores};
///
/// let failed = cores(1).run(async |_| Err::<(), _>("no such file"));
/// let Err(CoresError::Errors(errors)) = &failed else { panic!() };
/// assert_eq!(errors[0].core, 0);
/// assert_eq!(failed.unwrap_err().to_string(), "1 error on several cores\n    core 0: no such file");
/// ```
#[derive(Debug)]
pub enum CoresError<E> {
    /// None has failed, and some were cancelled.
    Cancelled,
    /// All errors, in the order in which the loops ended.
    Errors(Vec<CoreError<E>>),
}

/// One loop's error.
///
/// ```
/// use antiphon::{CoresError, cores};
///
/// let failed = cores(2).run(async |core| if core.index() == 1 { Err("no such file") } else { Ok(()) });
/// let Err(CoresError::Errors(errors)) = failed else { panic!() };
/// assert_eq!(errors[0].to_string(), "core 1: no such file");
/// ```
#[derive(Debug)]
pub struct CoreError<E> {
    /// Which one.
    pub core: usize,
    /// What it was.
    pub kind: CoreErrorKind<E>,
}

/// What became of a loop.
///
/// ```
/// use antiphon::{CoreErrorKind, CoresError, cores};
///
/// let panicked = cores(1).run(async |_| -> Result<(), String> { panic!("on purpose") });
/// let Err(CoresError::Errors(errors)) = panicked else { panic!() };
/// assert!(matches!(&errors[0].kind, CoreErrorKind::Panicked(message) if message == "on purpose"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CoreErrorKind<E> {
    /// Its main future failed.
    Failed(E),
    /// Its main future panicked, with this message.
    Panicked(String),
    /// The loop could not run, or not to the end.
    Loop(RunError),
    /// Its thread could not be started, or not be pinned.
    NotStarted(io::Error),
}

impl<E> CoresError<E> {
    /// An error before any loop runs.
    pub(super) fn before(kind: CoreErrorKind<E>) -> Self {
        Self::Errors(vec![CoreError { core: 0, kind }])
    }
}

impl<E> Failure for CoresError<E> {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl<E: fmt::Display> fmt::Display for CoresError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => Cancelled.fmt(f),
            Self::Errors(errors) => {
                let plural = if errors.len() == 1 { "" } else { "s" };
                write!(f, "{} error{plural} on several cores", errors.len())?;
                errors.iter().try_for_each(|error| write!(f, "\n    {error}"))
            }
        }
    }
}

impl<E: fmt::Display> fmt::Display for CoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}: ", self.core)?;
        match &self.kind {
            CoreErrorKind::Failed(error) => error.fmt(f),
            CoreErrorKind::Panicked(message) => write!(f, "panicked: {message}"),
            CoreErrorKind::Loop(error) => error.fmt(f),
            CoreErrorKind::NotStarted(error) => write!(f, "its thread cannot be started: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for CoresError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled => Some(&Cancelled),
            Self::Errors(_) => None,
        }
    }
}

impl<E: Error + 'static> Error for CoreError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            CoreErrorKind::Failed(error) => Some(error),
            CoreErrorKind::Loop(error) => Some(error),
            CoreErrorKind::NotStarted(error) => Some(error),
            CoreErrorKind::Panicked(_) => None,
        }
    }
}

/// How one loop ended.
pub(super) enum Ended<T, E> {
    Returned(T),
    Cancelled,
    Error(CoreErrorKind<E>),
}

impl<T, E> Ended<T, E> {
    pub(super) fn panicked(payload: &(dyn Any + Send)) -> Self {
        Self::Error(CoreErrorKind::Panicked(crate::error::panic_message(payload).to_owned()))
    }

    pub(super) const fn is_failure(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// All results, or all errors in the given `order`.
pub(super) fn gather<T, E>(ended: Vec<Ended<T, E>>, order: &[usize]) -> Result<Vec<T>, CoresError<E>> {
    let (mut values, mut errors, mut cancelled) = (Vec::with_capacity(ended.len()), Vec::new(), false);
    for (core, ended) in ended.into_iter().enumerate() {
        match ended {
            Ended::Returned(value) => values.push(value),
            Ended::Cancelled => cancelled = true,
            Ended::Error(kind) => errors.push(CoreError { core, kind }),
        }
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| order.iter().position(|core| *core == error.core));
        return Err(CoresError::Errors(errors));
    }
    if cancelled { Err(CoresError::Cancelled) } else { Ok(values) }
}
