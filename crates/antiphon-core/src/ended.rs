//! How a child ended, as far as the rules of those who wait for it care.

/// The end of a future or task.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Ended {
    /// With a value.
    Returned,
    /// With an exception other than its cancellation.
    Raised,
    /// By cancellation.
    Cancelled,
}
