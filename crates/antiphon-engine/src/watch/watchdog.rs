//! The watchdog: looks at all watched loops, tick by tick, and sleeps while they all do.

use super::sampler::{Sampler, Watched};
use crate::{Clock, Monotonic};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Watches loops from the one thread that [runs](Self::run) it.
#[derive(Default)]
pub struct Watchdog {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    watched: Vec<Arc<Watched>>,
    /// Whether `watched` has changed since the thread looked.
    changed: bool,
    woken: bool,
    stopping: bool,
    /// How often the thread has looked.
    looks: u64,
}

impl Watchdog {
    /// A watchdog without loops; nothing happens before somebody runs it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches one more loop.
    pub fn watch(&self, watched: Arc<Watched>) {
        let mut state = self.lock();
        state.watched.push(watched);
        state.changed = true;
        self.wake.notify_all();
    }

    /// Watches a loop no more. A hook of its that runs at this moment goes on to its end.
    pub fn forget(&self, watched: &Arc<Watched>) {
        let mut state = self.lock();
        state.watched.retain(|other| !Arc::ptr_eq(other, watched));
        state.changed = true;
        self.wake.notify_all();
    }

    /// Ends a wait of the thread; called by a loop whose [`StepWord::awake`](super::StepWord::awake) says so.
    #[cold]
    pub fn wake(&self) {
        self.lock().woken = true;
        self.wake.notify_all();
    }

    /// Ends [`run`](Self::run), for good.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// How often the loops have been looked at.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// Watches until [`stop`](Self::stop); hooks are called from here.
    pub fn run(&self) {
        let mut samplers = Vec::new();
        while self.prepare(&mut samplers) {
            let now = Monotonic.now();
            // Each is looked at: no short-circuit.
            let next = samplers.iter_mut().filter_map(|sampler| sampler.look(now)).min();
            // All rest; unless one has gone on before it could be marked (H2).
            let all_parked = next.is_none() && samplers.iter().all(Sampler::park);
            let state = self.lock();
            let sleeps = |state: &mut State| !(state.woken || state.changed || state.stopping);
            if all_parked {
                drop(self.wake.wait_while(state, sleeps).unwrap_or_else(PoisonError::into_inner));
            } else {
                let tick = next.unwrap_or(super::sampler::SHORTEST_TICK);
                let waited = self.wake.wait_timeout_while(state, tick, sleeps);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Takes changes in; false when it is time to stop.
    fn prepare(&self, samplers: &mut Vec<Sampler>) -> bool {
        let mut state = self.lock();
        state.woken = false;
        state.looks += 1;
        if std::mem::take(&mut state.changed) {
            let now = Monotonic.now();
            samplers.retain(|sampler| state.watched.iter().any(|watched| sampler.watches(watched)));
            for watched in &state.watched {
                if !samplers.iter().any(|sampler| sampler.watches(watched)) {
                    samplers.push(Sampler::new(Arc::clone(watched), now));
                }
            }
        }
        !state.stopping
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
