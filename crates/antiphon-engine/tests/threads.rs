//! Real threads hand work to a loop that really sleeps.

use antiphon_engine::{
    Clock, Core, Driver, Epoll, Event, Host, Inbox, Instant, Monotonic, Notify, Simulated, Virtual, run_once,
};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

struct Counting {
    count: Arc<AtomicUsize>,
    inner: Arc<dyn Notify + Send + Sync>,
}

impl Notify for Counting {
    fn notify(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.inner.notify();
    }
}

/// A loop that collects numbers and counts its sleeps and how often it was notified.
struct Collector {
    core: Core<usize, Epoll>,
    items: Vec<usize>,
    sleeps: usize,
    notifications: Arc<AtomicUsize>,
}

impl Collector {
    fn new() -> Self {
        let mut core = Core::new(Epoll::new().unwrap()).unwrap();
        let notifications = Arc::new(AtomicUsize::new(0));
        let counting = Counting { count: Arc::clone(&notifications), inner: core.driver.notifier() };
        core.inbox = Arc::new(Inbox::new(Box::new(counting)));
        Self { core, items: Vec::new(), sleeps: 0, notifications }
    }

    fn notification_count(&self) -> usize {
        self.notifications.load(Ordering::SeqCst)
    }
}

impl Host for Collector {
    type Work = usize;
    type Driver = Epoll;

    fn core<R>(&mut self, f: impl FnOnce(&mut Core<usize, Epoll>) -> R) -> R {
        f(&mut self.core)
    }

    fn now(&mut self) -> Instant {
        Monotonic.now()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.sleeps += usize::from(timeout != Some(Duration::ZERO));
        self.core.wait(timeout)
    }

    fn dispatch(&mut self, event: Event) {
        panic!("the notifier is not to be seen: {event:?}");
    }

    fn run(&mut self, work: usize) {
        self.items.push(work);
    }
}

#[test]
fn flood_from_four_threads_loses_nothing_and_notifies_at_most_once_per_sleep() {
    const EACH: usize = 20_000;
    let mut host = Collector::new();
    let start = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (inbox, start) = (Arc::clone(&host.core.inbox), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                (0..EACH).for_each(|item| assert!(inbox.push(number * EACH + item).is_none()));
            })
        })
        .collect();
    start.wait();
    while host.items.len() < 4 * EACH {
        run_once(&mut host).unwrap();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(host.notification_count() <= host.sleeps);
    for number in 0..4 {
        let own = (number * EACH..(number + 1) * EACH).collect::<Vec<_>>();
        let seen = host.items.iter().copied().filter(|item| own[0] <= *item && *item < own[0] + EACH);
        assert!(seen.eq(own.iter().copied()), "the items of one thread keep their order");
    }
}

#[test]
fn pushes_to_an_awake_loop_do_not_notify() {
    let mut host = Collector::new();
    let inbox = Arc::clone(&host.core.inbox);
    thread::spawn(move || (0..1000).for_each(|item| assert!(inbox.push(item).is_none()))).join().unwrap();
    run_once(&mut host).unwrap();
    assert_eq!(host.items.len(), 1000);
    assert_eq!((host.notification_count(), host.sleeps), (0, 0));
}

#[test]
fn every_ping_pong_with_a_sleeping_loop_is_one_notification() {
    const ROUNDS: usize = 200;
    let mut host = Collector::new();
    // The loop announces each sleep before the other thread pushes, so every push meets a sleeper.
    for round in 0..ROUNDS {
        assert!(host.core.inbox.prepare_sleep());
        let inbox = Arc::clone(&host.core.inbox);
        let pusher = thread::spawn(move || (0..10).for_each(|item| assert!(inbox.push(item).is_none())));
        host.core.wait(None).unwrap();
        host.core.inbox.awake();
        pusher.join().unwrap();
        // Of the ten, the first found a sleeper.
        assert_eq!(host.notification_count(), round + 1);
        run_once(&mut host).unwrap();
        assert_eq!(host.items.len(), (round + 1) * 10);
    }
}

#[test]
fn timers_fire_in_real_time_without_spinning() {
    let mut host = Collector::new();
    let start = Monotonic.now();
    for item in 1..=5_u32 {
        host.core.timers.push(start.saturating_add(Duration::from_micros(400) * item), item as usize);
    }
    let mut turns = 0;
    while host.items.len() < 5 {
        run_once(&mut host).unwrap();
        turns += 1;
    }
    assert_eq!(host.items, [1, 2, 3, 4, 5]);
    assert!(turns <= 5, "a wait that is over early makes the loop spin: {turns} turns for five timers");
}

#[test]
fn patient_simulated_driver_hears_a_thread_before_its_clock_moves() {
    let clock = Arc::new(Virtual::new());
    let mut driver = Simulated::new(Arc::clone(&clock));
    driver.set_patience(Duration::from_secs(60));
    let notifier = driver.notifier();
    let thread = thread::spawn(move || notifier.notify());
    let waited = driver.wait(Some(Duration::from_secs(3600)), &mut Vec::new());
    thread.join().unwrap();
    assert_eq!(waited.unwrap(), 0);
    assert_eq!(clock.now(), Instant::from_ns(0));
}

#[test]
fn patient_simulated_driver_is_interrupted_where_an_impatient_one_fails() {
    let mut driver = Simulated::new(Arc::new(Virtual::new()));
    assert_eq!(driver.wait(None, &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::Deadlock);
    driver.set_patience(Duration::from_millis(1));
    assert_eq!(driver.wait(None, &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::Interrupted);
}
