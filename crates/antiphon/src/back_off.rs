//! Pauses before asking again, for what the kernel tells nobody of.

use crate::{Cancelled, sleep};
use std::io;
use std::time::Duration;

/// Waits longer each time, up to 64 ms.
pub(crate) struct BackOff(Duration);

impl BackOff {
    const LONGEST: Duration = Duration::from_millis(64);

    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(1))
    }

    pub(crate) async fn wait(&mut self) -> Result<(), Cancelled> {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        sleep(pause).await
    }
}

/// Makes `call` until it says something else than that it would block.
pub(crate) async fn until_it_would_not_block<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut back_off = BackOff::new();
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => back_off.wait().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
