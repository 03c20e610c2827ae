//! A span of `tracing` for each task, entered in its steps; without the feature, nothing.

use std::panic::Location;

#[cfg(feature = "tracing")]
pub(crate) struct TaskSpan(tracing::Span);

#[cfg(not(feature = "tracing"))]
pub(crate) struct TaskSpan;

#[cfg(feature = "tracing")]
impl TaskSpan {
    /// A child of the span in which the task is spawned.
    pub(crate) fn new(number: u64, location: &'static Location<'static>) -> Self {
        let name = tracing::field::Empty;
        Self(tracing::info_span!(target: "antiphon::task", "task", name, number, spawned_at = %location))
    }

    pub(crate) fn set_name(&self, name: &str) {
        self.0.record("name", name);
    }

    /// Makes a step inside of the span.
    pub(crate) fn enter<R>(&self, step: impl FnOnce() -> R) -> R {
        self.0.in_scope(step)
    }
}

#[cfg(not(feature = "tracing"))]
impl TaskSpan {
    #[inline]
    pub(crate) fn new(_: u64, _: &'static Location<'static>) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn set_name(&self, _: &str) {}

    #[inline]
    pub(crate) fn enter<R>(&self, step: impl FnOnce() -> R) -> R {
        step()
    }
}
