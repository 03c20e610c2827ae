//! The blocking pool: threads for work that would stop a loop.
//!
//! A thread is started when work comes and none is idle, up to a limit; beyond it work waits in line. The thread that
//! became idle last is used first, since its stack and caches are warm; so in quiet times the others age, and a thread that
//! has been idle for the keep-alive time ends.
//!
//! Invariant P1: a job is in the line only while every thread of the pool is at work, about to look at the line, or
//! the pool is at its limit. So no job waits while a thread idles.
//! Invariant P2: a thread in the idle list waits for its condition variable; whoever takes it from the list signals it.
//!
//! Source: CPython's `concurrent.futures.thread` for what shutting down means.

use crate::{EngineError, SignalMask};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A piece of blocking work. A panic ends the job and not its thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// How a pool is made.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct PoolOptions {
    /// Threads are named `{name}_{number}`.
    pub name: String,
    /// How many threads there can be at once; zero counts as one.
    pub thread_limit: usize,
    /// How long a thread stays idle before it ends.
    pub keep_alive: Duration,
}

impl Default for PoolOptions {
    /// At most 32 threads and 4 more than there are cores, which end after ten idle seconds.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            name: "blocking".to_owned(),
            thread_limit: 32.min(cores + 4),
            keep_alive: Duration::from_secs(10),
        }
    }
}

/// Threads for blocking work; they block all signals. Dropping the pool is `shutdown(false)`.
///
/// ```
/// use antiphon_engine::{BlockingPool, PoolOptions};
/// use std::sync::mpsc::channel;
///
/// let pool = BlockingPool::new(PoolOptions::default());
/// let (result, results) = channel();
/// pool.submit(Box::new(move || result.send(6 * 7).unwrap()))?;
/// assert_eq!(results.recv(), Ok(42));
/// pool.shutdown(true);
/// # Ok::<(), antiphon_engine::EngineError>(())
/// ```
#[derive(Debug)]
pub struct BlockingPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PoolOptions,
    state: Mutex<State>,
}

struct State {
    line: VecDeque<Job>,
    /// The idle threads, the one that became so last at the end.
    idle: Vec<Arc<Condvar>>,
    /// All threads that have not ended, by number.
    threads: HashMap<u64, JoinHandle<()>>,
    next_number: u64,
    shut_down: bool,
}

impl BlockingPool {
    /// A pool without threads.
    #[must_use]
    pub fn new(options: PoolOptions) -> Self {
        let state = State {
            line: VecDeque::new(),
            idle: Vec::new(),
            threads: HashMap::new(),
            next_number: 0,
            shut_down: false,
        };
        Self { shared: Arc::new(Shared { options, state: Mutex::new(state) }) }
    }

    /// Lets some thread run `job`, in the order of submission.
    ///
    /// # Errors
    /// [`EngineError::PoolShutDown`] after [`shutdown`](Self::shutdown). [`EngineError::Thread`]: there is no thread and
    /// none can be started. The job is dropped in both cases.
    pub fn submit(&self, job: Job) -> Result<(), EngineError> {
        let mut state = self.shared.lock();
        if state.shut_down {
            return Err(EngineError::PoolShutDown);
        }
        if let Some(idle) = state.idle.pop() {
            idle.notify_one(); // invariant P2
        } else if state.threads.len() < self.shared.options.thread_limit.max(1) {
            // With a thread left, a failure to start another one only means that the job waits.
            if let (Err(source), true) = (self.start_thread(&mut state), state.threads.is_empty()) {
                return Err(EngineError::Thread { source });
            }
        }
        state.line.push_back(job);
        Ok(())
    }

    /// How many jobs wait for a thread.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.shared.lock().line.len()
    }

    /// How many threads there are, idle or not.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// How many threads wait for work.
    #[must_use]
    pub fn idle_count(&self) -> usize {
        self.shared.lock().idle.len()
    }

    /// Takes no more jobs; those submitted are still run, and then the threads end.
    ///
    /// `wait`: come back only when they have ended. A job may call this, too; its own thread is not waited for. Calling
    /// again waits for no thread that another call waits for.
    pub fn shutdown(&self, wait: bool) {
        let mut state = self.shared.lock();
        state.shut_down = true;
        state.idle.drain(..).for_each(|idle| idle.notify_one());
        if !wait {
            return;
        }
        let own = thread::current().id();
        let threads: Vec<_> = state.threads.drain().map(|(_, handle)| handle).collect();
        drop(state);
        for handle in threads.into_iter().filter(|handle| handle.thread().id() != own) {
            // A thread of the pool catches its jobs' panics, so there is no result to look at.
            let _ = handle.join();
        }
    }

    /// Starts a thread while the state is locked, so that the thread cannot end before its handle is in there.
    fn start_thread(&self, state: &mut State) -> std::io::Result<()> {
        let number = state.next_number;
        let member = Member { number, shared: Arc::clone(&self.shared) };
        let builder = thread::Builder::new().name(format!("{}_{number}", self.shared.options.name));
        let handle = builder.spawn(move || member.work())?;
        state.next_number += 1;
        state.threads.insert(number, handle);
        Ok(())
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.shutdown(false);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock, so nothing can panic there halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("line", &self.line.len())
            .field("idle", &self.idle.len())
            .field("threads", &self.threads.len())
            .field("shut_down", &self.shut_down)
            .finish_non_exhaustive()
    }
}

/// One thread of the pool, seen from inside.
struct Member {
    number: u64,
    shared: Arc<Shared>,
}

impl Member {
    fn work(self) {
        // A signal that is sent to the process goes to some thread that does not block it: to one of the program's own,
        // which may have to be woken by it.
        SignalMask::block_all();
        let wake = Arc::new(Condvar::new());
        let mut state = self.shared.lock();
        loop {
            if let Some(job) = state.line.pop_front() {
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.shared.lock();
            } else if state.shut_down {
                break;
            } else {
                let woken;
                (state, woken) = self.idle(state, &wake);
                if !woken {
                    break;
                }
            }
        }
        state.threads.remove(&self.number);
    }

    /// Waits in the idle list. Returns false when the keep-alive time is over and nobody wanted this thread.
    fn idle<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        wake: &Arc<Condvar>,
    ) -> (MutexGuard<'a, State>, bool) {
        state.idle.push(Arc::clone(wake));
        let is_in_list = |state: &mut State| state.idle.iter().any(|idle| Arc::ptr_eq(idle, wake));
        let keep_alive = self.shared.options.keep_alive;
        let (mut state, _) =
            wake.wait_timeout_while(state, keep_alive, is_in_list).unwrap_or_else(PoisonError::into_inner);
        let unwanted = is_in_list(&mut state);
        if unwanted {
            state.idle.retain(|idle| !Arc::ptr_eq(idle, wake));
        }
        (state, !unwanted)
    }
}
