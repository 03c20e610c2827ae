//! Generators that several owners can resume, also the generator itself.

use crate::{Exception, Generator, ProtocolError, Resume, StepOf};
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// A generator behind a shared handle, as every generator is in Python.
///
/// A generator that resumes itself, directly or through others, gets [`ProtocolError::AlreadyExecuting`].
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, ProtocolError, SharedGenerator, Step, Yielder};
/// use std::cell::OnceCell;
/// use std::rc::Rc;
///
/// let own = Rc::new(OnceCell::<SharedGenerator<BoxedGenerator<u32>>>::new());
/// let seen = Rc::clone(&own);
/// let generator = SharedGenerator::new(BoxedGenerator::new(async move |y: Yielder<'_, u32>| {
///     let mut itself = seen.get().unwrap().clone();
///     assert_eq!(itself.next(), Step::Raised(Exception::Protocol(ProtocolError::AlreadyExecuting)));
///     y.yield_(1).await
/// }));
/// own.set(generator.clone()).unwrap();
/// assert_eq!(generator.clone().next(), Step::Yielded(1));
/// # generator.clone().close().unwrap();
/// ```
#[derive(Debug)]
pub struct SharedGenerator<G> {
    generator: Rc<RefCell<G>>,
}

impl<G> SharedGenerator<G> {
    /// A first handle.
    #[must_use]
    pub fn new(generator: G) -> Self {
        Self { generator: Rc::new(RefCell::new(generator)) }
    }

    /// A handle that does not keep the generator, for its own body.
    #[must_use]
    pub fn downgrade(&self) -> Weak<RefCell<G>> {
        Rc::downgrade(&self.generator)
    }
}

impl<G> From<Rc<RefCell<G>>> for SharedGenerator<G> {
    fn from(generator: Rc<RefCell<G>>) -> Self {
        Self { generator }
    }
}

impl<G> Clone for SharedGenerator<G> {
    fn clone(&self) -> Self {
        Self { generator: Rc::clone(&self.generator) }
    }
}

impl<G: Generator> Generator for SharedGenerator<G> {
    type Yield = G::Yield;
    type Sent = G::Sent;
    type Return = G::Return;
    type Error = G::Error;

    fn resume(&mut self, with: Resume<Self::Sent, Exception<Self::Error>>) -> StepOf<Self> {
        match self.generator.try_borrow_mut() {
            Ok(mut generator) => generator.resume(with),
            Err(_) => StepOf::<Self>::Raised(Exception::Protocol(ProtocolError::AlreadyExecuting)),
        }
    }
}
