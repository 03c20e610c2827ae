//! Sockets whose addresses are paths.

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{UnixIncoming, UnixListener};
pub use stream::UnixStream;

use crate::{Cancelled, sleep};
use std::io;
use std::time::Duration;

/// Waits longer each time, for what the kernel tells nobody of.
struct BackOff(Duration);

impl BackOff {
    const LONGEST: Duration = Duration::from_millis(64);

    const fn new() -> Self {
        Self(Duration::from_millis(1))
    }

    async fn wait(&mut self) -> Result<(), Cancelled> {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        sleep(pause).await
    }
}

/// Makes `call` until it succeeds or fails for another reason than a full queue.
async fn until_there_is_room<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut back_off = BackOff::new();
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => back_off.wait().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
