//! A loop on each of several threads, which end together.
//!
//! The rules are a task group's: the first loop that fails cancels the others' main futures, all of them are waited for, and
//! all errors are kept. What the loops share is what threads can share; [`channel`](crate::channel) carries messages between them.

mod error;
mod registry;

pub use error::{CoreError, CoreErrorKind, CoresError};

use crate::net::TcpListener;
use crate::runtime::Loop;
use crate::{Failure, RunError, Runner, SlowStep};
use error::Ended;
use registry::Registry;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Loops on `count` threads; zero means as many as the process may use processors.
///
/// The article's countdowns, on every core:
///
/// ```
/// use antiphon::{Cancelled, channel, cores};
///
/// let (numbers, jobs) = channel(0);
/// (0..5_u64).for_each(|number| numbers.try_send(number).unwrap());
/// drop(numbers);
/// let done = cores(0).run(async |_core| {
///     let mut done = 0;
///     while let Ok(_number) = jobs.recv().await {
///         let mut n = 1000_u64;
///         while n > 0 {
///             n -= 1;
///         }
///         done += 1;
///     }
///     Ok::<_, Cancelled>(done)
/// })?;
/// assert_eq!(done.iter().sum::<i32>(), 5);
/// # Ok::<(), antiphon::CoresError<antiphon::Cancelled>>(())
/// ```
pub const fn cores(count: usize) -> Cores {
    Cores { count, pinned: false, runner: Runner::new() }
}

/// The settings of [`cores`].
///
/// ```
/// use antiphon::{Cancelled, cores};
/// use std::time::Duration;
///
/// let settings = cores(2)
///     .pinned() // each thread stays on a processor
///     .warn_after(Duration::from_millis(100))
///     .tell_after(Duration::from_millis(100), |slow| eprintln!("{slow}"));
/// assert_eq!(settings.run(async |core| Ok::<_, Cancelled>(core.index() * 10))?, [0, 10]);
/// # Ok::<(), antiphon::CoresError<antiphon::Cancelled>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "cores do nothing until run is called"]
pub struct Cores {
    count: usize,
    pinned: bool,
    runner: Runner,
}

impl Cores {
    /// Keeps each thread on one processor: the first on the first that the process may use, and so on, from the start again
    /// when there are more threads.
    pub fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// As [`Runner::warn_after`], for each loop.
    pub fn warn_after(mut self, limit: Duration) -> Self {
        self.runner = self.runner.warn_after(limit);
        self
    }

    /// As [`Runner::tell_after`], for each loop; `told` is called on their threads.
    pub fn tell_after(mut self, limit: Duration, told: impl Fn(&SlowStep) + Send + Sync + 'static) -> Self {
        self.runner = self.runner.tell_after(limit, told);
        self
    }

    /// Runs a loop on each thread with the future that `make` makes there, and blocks this thread until all have ended. Gives
    /// what the futures returned, in the order of the threads.
    ///
    /// The futures stay on their threads and need not be `Send`; they may borrow what outlives the call.
    ///
    /// ```
    /// use antiphon::{CoreErrorKind, CoresError, cores, sleep};
    /// use std::time::Duration;
    ///
    /// let failed = cores(2).run(async |core| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     if core.index() == 1 {
    ///         return Err("no such thing".into());
    ///     }
    ///     sleep(Duration::from_secs(3600)).await?; // is cancelled
    ///     Ok(())
    /// });
    /// let Err(CoresError::Errors(errors)) = failed else { panic!() };
    /// assert_eq!(errors.len(), 1);
    /// assert!(matches!(&errors[0].kind, CoreErrorKind::Failed(error) if error.to_string() == "no such thing"));
    /// ```
    ///
    /// # Errors
    /// [`CoresError::Errors`]: some have failed, or panicked, or could not run. [`CoresError::Cancelled`]: none has, and some were
    /// cancelled.
    pub fn run<T, E>(&self, make: impl AsyncFn(Core) -> Result<T, E> + Sync) -> Result<Vec<T>, CoresError<E>>
    where
        T: Send,
        E: Failure + Send,
    {
        if Loop::running().is_ok() {
            return Err(CoresError::before(CoreErrorKind::Loop(RunError::Nested)));
        }
        let processors = antiphon_engine::allowed_processors();
        let count = match self.count {
            0 => processors.as_ref().map_or_else(|_| available(), Vec::len),
            count => count,
        };
        let processors = match (self.pinned, processors) {
            (false, _) => Vec::new(),
            (true, Ok(processors)) => processors,
            (true, Err(error)) => return Err(CoresError::before(CoreErrorKind::NotStarted(error))),
        };
        let registry = Arc::new(Registry::new(count));
        let ended: Vec<Ended<T, E>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|index| {
                    let (registry, make) = (&registry, &make);
                    let processor = (!processors.is_empty()).then(|| processors[index % processors.len()]);
                    let thread = move || {
                        let ended = self.run_one(index, processor, registry, make);
                        registry.leave(index, ended.is_failure());
                        ended
                    };
                    let named = std::thread::Builder::new().name(format!("antiphon-core-{index}"));
                    named.spawn_scoped(scope, thread).map_err(|error| {
                        registry.leave(index, true);
                        Ended::Error(CoreErrorKind::NotStarted(error))
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|payload| Ended::panicked(&*payload))
            };
            threads.into_iter().map(|thread| thread.map_or_else(|ended| ended, join)).collect()
        });
        error::gather(ended, &registry.order())
    }

    /// One loop, on its thread.
    fn run_one<T, E: Failure>(
        &self,
        index: usize,
        processor: Option<usize>,
        registry: &Arc<Registry>,
        make: &impl AsyncFn(Core) -> Result<T, E>,
    ) -> Ended<T, E> {
        if let Some(Err(error)) = processor.map(antiphon_engine::pin_to) {
            return Ended::Error(CoreErrorKind::NotStarted(error));
        }
        let main = async {
            if !registry.enter(index) {
                return None; // cancelled before it began: it never does
            }
            Some(make(Core { place: Rc::new(Place { index, registry: Arc::clone(registry) }) }).await)
        };
        // What the futures share is theirs to judge: the panic is told.
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.runner.run(main))) {
            Ok(Ok(Some(Ok(value)))) => Ended::Returned(value),
            Ok(Ok(Some(Err(error)))) if !error.is_cancelled() => Ended::Error(CoreErrorKind::Failed(error)),
            Ok(Ok(_)) => Ended::Cancelled,
            Ok(Err(error)) => Ended::Error(CoreErrorKind::Loop(error)),
            Err(payload) => Ended::panicked(&*payload),
        }
    }
}

/// How many processors the process may use, if the system does not name them.
fn available() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// One of the loops that [`Cores::run`] runs; it belongs to that loop's thread.
///
/// ```
/// use antiphon::{Cancelled, cores};
///
/// let names = cores(2).run(async |core| Ok::<_, Cancelled>(format!("{} of {}", core.index(), core.count())))?;
/// assert_eq!(names, ["0 of 2", "1 of 2"]);
/// # Ok::<(), antiphon::CoresError<antiphon::Cancelled>>(())
/// ```
#[derive(Clone)]
pub struct Core {
    place: Rc<Place>,
}

struct Place {
    index: usize,
    registry: Arc<Registry>,
}

impl Core {
    /// Which one this is, from zero.
    #[must_use]
    pub fn index(&self) -> usize {
        self.place.index
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.place.registry.count()
    }

    /// Listens at `address` together with all cores that do: the kernel gives each new connection to one of them, and it stays
    /// there. With port 0 the first one's port, of the system's choosing, is everybody's.
    ///
    /// A core whose listener is dropped before the others' drops with it the connections that it had not yet accepted.
    ///
    /// ```
    /// use antiphon::cores;
    /// use std::io;
    ///
    /// let ports = cores(2).run(async |core| {
    ///     let listener = core.listen(([127, 0, 0, 1], 0).into())?;
    ///     // Here it would accept, until it is cancelled.
    ///     Ok::<_, io::Error>(listener.local_addr()?.port())
    /// })?;
    /// assert_eq!(ports[0], ports[1]);
    /// # Ok::<(), antiphon::CoresError<std::io::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ListenOptions::bind_to`](crate::net::ListenOptions::bind_to).
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.place.registry.listen(address)
    }

    /// Asks the main futures of all of them to stop, this one's included.
    ///
    /// ```
    /// use antiphon::{Cancelled, CoresError, cores, sleep};
    /// use std::time::Duration;
    ///
    /// let ended = cores(2).run(async |core| {
    ///     if core.index() == 0 {
    ///         core.cancel_all(); // say, after Ctrl-C
    ///     }
    ///     match sleep(Duration::from_secs(3600)).await {
    ///         Err(Cancelled) => Ok::<_, Cancelled>("stopped"),
    ///         Ok(()) => Ok("slept"),
    ///     }
    /// });
    /// // A core that had not begun never does, so there may be no list of results.
    /// assert!(matches!(ended, Err(CoresError::Cancelled)) || ended.unwrap() == ["stopped", "stopped"]);
    /// ```
    pub fn cancel_all(&self) {
        self.place.registry.stop();
        registry::cancel_main();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("index", &self.index())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
