//! The epoll driver with real descriptors. Signals of one test interrupt waits of another, hence [`wait`].

#![allow(unsafe_code)] // descriptors are duplicated and a thread is signalled

use antiphon_engine::{Driver, Epoll, Event, Interest, Token};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const READ: Interest = Interest { readable: true, writable: false, oneshot: false };
const WRITE: Interest = Interest { readable: false, writable: true, oneshot: false };
const BOTH: Interest = Interest { readable: true, writable: true, oneshot: false };

/// Waits, again after a signal.
fn wait(driver: &mut Epoll, timeout: Option<Duration>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match driver.wait(timeout, &mut events) {
            Ok(count) => {
                assert_eq!(count, events.len());
                return events;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
}

fn poll(driver: &mut Epoll) -> Vec<Event> {
    wait(driver, Some(Duration::ZERO))
}

fn tokens(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.token.0).collect()
}

#[test]
fn readiness_is_reported_with_every_wait_until_it_is_used_up() {
    let mut driver = Epoll::new().unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    driver.add(ours.as_raw_fd(), Token(1), READ).unwrap();
    assert!(poll(&mut driver).is_empty());
    theirs.write_all(b"x").unwrap();
    for _ in 0..3 {
        let events = poll(&mut driver);
        assert_eq!(tokens(&events), [1]);
        assert!(events[0].readable && !events[0].writable && !events[0].hangup && !events[0].error);
    }
    ours.read_exact(&mut [0]).unwrap();
    assert!(poll(&mut driver).is_empty());
}

#[test]
fn interest_can_be_changed_and_the_token_with_it() {
    let mut driver = Epoll::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    driver.add(ours.as_raw_fd(), Token(1), READ).unwrap();
    assert!(poll(&mut driver).is_empty());
    driver.modify(ours.as_raw_fd(), Token(2), BOTH).unwrap();
    let events = poll(&mut driver);
    assert_eq!(tokens(&events), [2]);
    assert!(events[0].writable && !events[0].readable);
}

#[test]
fn oneshot_interest_is_silent_after_its_event_until_modified() {
    let mut driver = Epoll::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let once = Interest { oneshot: true, ..WRITE };
    driver.add(ours.as_raw_fd(), Token(1), once).unwrap();
    assert_eq!(tokens(&poll(&mut driver)), [1]);
    assert!(poll(&mut driver).is_empty());
    driver.modify(ours.as_raw_fd(), Token(2), once).unwrap();
    assert_eq!(tokens(&poll(&mut driver)), [2]);
}

#[test]
fn half_close_by_the_peer_makes_readable() {
    let mut driver = Epoll::new().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    driver.add(ours.as_raw_fd(), Token(1), READ).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let events = poll(&mut driver);
    assert!(events[0].readable && !events[0].hangup);
}

#[test]
fn hang_up_makes_readable_and_writable_whatever_the_interest() {
    for interest in [READ, WRITE] {
        let mut driver = Epoll::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        driver.add(ours.as_raw_fd(), Token(1), interest).unwrap();
        drop(theirs);
        let events = poll(&mut driver);
        assert!(events[0].readable && events[0].writable && events[0].hangup);
    }
}

#[test]
fn removed_descriptor_is_silent() {
    let mut driver = Epoll::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    driver.add(ours.as_raw_fd(), Token(1), READ).unwrap();
    theirs.write_all(b"x").unwrap();
    driver.remove(ours.as_raw_fd()).unwrap();
    assert!(poll(&mut driver).is_empty());
}

#[test]
fn errors_are_the_kernels_own() {
    let mut driver = Epoll::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let file = File::open("/proc/self/exe").unwrap();
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(errno(driver.add(file.as_raw_fd(), Token(1), READ)), libc::EPERM);
    assert_eq!(errno(driver.add(-1, Token(1), READ)), libc::EBADF);
    assert_eq!(errno(driver.modify(ours.as_raw_fd(), Token(1), READ)), libc::ENOENT);
    assert_eq!(errno(driver.remove(ours.as_raw_fd())), libc::ENOENT);
    driver.add(ours.as_raw_fd(), Token(1), READ).unwrap();
    assert_eq!(errno(driver.add(ours.as_raw_fd(), Token(1), READ)), libc::EEXIST);
}

/// Makes `number` a second name of what `source` names, as if a new descriptor had been given that number.
fn take_number(source: &impl AsRawFd, number: RawFd) {
    // SAFETY: dup2(2) touches no memory; `number` belongs to the caller, who owns it before and after.
    assert_eq!(unsafe { libc::dup2(source.as_raw_fd(), number) }, number);
}

#[test]
fn number_used_again_after_removal_brings_only_the_new_token() {
    let mut driver = Epoll::new().unwrap();
    let (old, mut old_peer) = UnixStream::pair().unwrap();
    let (new, mut new_peer) = UnixStream::pair().unwrap();
    driver.add(old.as_raw_fd(), Token(1), READ).unwrap();
    old_peer.write_all(b"x").unwrap();
    driver.remove(old.as_raw_fd()).unwrap();

    take_number(&new, old.as_raw_fd()); // closes the old connection
    driver.add(old.as_raw_fd(), Token(2), READ).unwrap();
    assert!(poll(&mut driver).is_empty());
    new_peer.write_all(b"x").unwrap();
    assert_eq!(tokens(&poll(&mut driver)), [2]);
}

#[test]
fn number_used_again_without_removal_can_be_added_and_the_duplicate_keeps_the_old_token() {
    let mut driver = Epoll::new().unwrap();
    let (old, mut old_peer) = UnixStream::pair().unwrap();
    let duplicate = old.try_clone().unwrap();
    let (new, mut new_peer) = UnixStream::pair().unwrap();
    driver.add(old.as_raw_fd(), Token(1), READ).unwrap();

    take_number(&new, old.as_raw_fd());
    driver.add(old.as_raw_fd(), Token(2), READ).unwrap();
    old_peer.write_all(b"x").unwrap();
    new_peer.write_all(b"x").unwrap();
    let mut seen = tokens(&poll(&mut driver));
    seen.sort_unstable();
    assert_eq!(seen, [1, 2], "the open file lives on in its duplicate: contract D4");
    drop(duplicate);
    assert_eq!(tokens(&poll(&mut driver)), [2]);
}

#[test]
fn notification_ends_one_wait_and_is_no_event() {
    let mut driver = Epoll::new().unwrap();
    let notifier = driver.notifier();
    let notifying = std::thread::spawn(move || notifier.notify());
    assert!(wait(&mut driver, None).is_empty());
    notifying.join().unwrap();
}

#[test]
fn notification_before_the_wait_ends_it_at_once() {
    let mut driver = Epoll::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    for _ in 0..3 {
        (0..10).for_each(|_| driver.notifier().notify());
        assert!(wait(&mut driver, None).is_empty());
    }
    // Used up: the next wait ends for another reason.
    driver.add(ours.as_raw_fd(), Token(1), WRITE).unwrap();
    assert_eq!(tokens(&wait(&mut driver, None)), [1]);
}

#[test]
fn notifier_outlives_its_driver() {
    let driver = Epoll::new().unwrap();
    let notifier = driver.notifier();
    drop(driver);
    notifier.notify();
}

#[test]
fn sub_millisecond_timeout_ends_without_events() {
    let mut driver = Epoll::new().unwrap();
    assert!(wait(&mut driver, Some(Duration::from_nanos(1))).is_empty());
    assert!(wait(&mut driver, Some(Duration::from_micros(300))).is_empty());
}

extern "C" fn ignore(_: i32) {}

#[test]
fn signal_ends_a_wait_with_an_interruption() {
    // SAFETY: signal(2) installs a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR2, ignore as extern "C" fn(i32) as libc::sighandler_t) };
    let mut driver = Epoll::new().unwrap();
    // SAFETY: takes nothing and cannot fail.
    let waiter = unsafe { libc::pthread_self() };
    let interrupted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Nobody can tell from outside when a thread has begun to wait; so signals come until one has met a wait.
            while !interrupted.load(Ordering::Acquire) {
                // SAFETY: the waiting thread lives until this scope has ended.
                unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
                std::thread::yield_now();
            }
        });
        let error = driver.wait(None, &mut Vec::new()).unwrap_err();
        interrupted.store(true, Ordering::Release);
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    });
}

#[test]
fn descriptor_of_the_notifier_survives_a_thousand_wakes() {
    let mut driver = Epoll::new().unwrap();
    for _ in 0..1000 {
        driver.notifier().notify();
        assert!(wait(&mut driver, None).is_empty());
    }
}

#[test]
fn owned_descriptors_are_left_open() {
    let mut driver = Epoll::new().unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    // SAFETY: dup(2) touches no memory.
    let raw = unsafe { libc::dup(ours.as_raw_fd()) };
    // SAFETY: the descriptor is new, and nobody else knows it.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    driver.add(raw, Token(1), READ).unwrap();
    driver.remove(raw).unwrap();
    drop(driver);
    // SAFETY: fcntl(2) with F_GETFD touches no memory.
    assert!(unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_GETFD) } >= 0);
}
