//! Who of the loops runs, and how one stops the others.

use crate::Remote;
use crate::net::{ListenOptions, TcpListener};
use crate::runtime::Loop;
use crate::task::cancel;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Registry {
    count: usize,
    state: Mutex<State>,
    /// The address that each port of the system's choosing was asked for with, and the whole one.
    chosen: Mutex<Vec<(SocketAddr, SocketAddr)>>,
}

struct State {
    members: Vec<Member>,
    /// The first has failed, or somebody stops all: whoever has not begun does not.
    stopping: bool,
    /// Who has ended, in this order.
    order: Vec<usize>,
}

enum Member {
    Starting,
    /// The way in is kept as long as there is somebody else who could use it: with it the loop cannot be deadlocked.
    Running(Option<Remote>),
    Ended,
}

impl Registry {
    pub(super) fn new(count: usize) -> Self {
        let members = (0..count).map(|_| Member::Starting).collect();
        let state = State { members, stopping: false, order: Vec::new() };
        Self { count, state: Mutex::new(state), chosen: Mutex::default() }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// A loop begins, on its thread; false if it must not.
    pub(super) fn enter(&self, index: usize) -> bool {
        let remote = Remote::new().ok().filter(|_| self.count > 1);
        let mut state = self.lock();
        if state.stopping {
            return false;
        }
        state.members[index] = Member::Running(remote);
        state.release_last();
        true
    }

    /// A loop has ended; a failure stops the others.
    pub(super) fn leave(&self, index: usize, failed: bool) {
        let mut state = self.lock();
        state.members[index] = Member::Ended;
        state.order.push(index);
        if failed {
            state.stop(); // before the last one is let go of
        }
        state.release_last();
    }

    /// Cancels the main futures of all loops that run, and lets no other begin.
    pub(super) fn stop(&self) {
        self.lock().stop();
    }

    /// Listens at `address`, where others may listen as well; the first to ask for any port chooses it for all.
    pub(super) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let options = ListenOptions::new().reuse_port(true);
        if address.port() != 0 {
            return options.bind_to(address);
        }
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, whole)) = chosen.iter().find(|(asked, _)| *asked == address) {
            return options.bind_to(*whole);
        }
        let listener = options.bind_to(address)?;
        chosen.push((address, listener.local_addr()?));
        Ok(listener)
    }

    /// Who has ended, in this order.
    pub(super) fn order(&self) -> Vec<usize> {
        self.lock().order.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stop(&mut self) {
        self.stopping = true;
        for member in &self.members {
            if let Member::Running(Some(remote)) = member {
                let _ended = remote.call(cancel_main);
            }
        }
    }

    /// Nobody is left to stop the last one: lets go of the way into it, and lets it see that.
    fn release_last(&mut self) {
        let ended = self.members.iter().filter(|member| matches!(member, Member::Ended)).count();
        if ended + 1 < self.members.len() {
            return;
        }
        for member in &mut self.members {
            if let Member::Running(remote) = member
                && let Some(remote) = remote.take()
            {
                remote.release();
            }
        }
    }
}

/// Cancels the main future of this thread's loop.
pub(super) fn cancel_main() {
    if let Ok(own) = Loop::running()
        && let Some(main) = own.main_task()
    {
        cancel(&main);
    }
}
