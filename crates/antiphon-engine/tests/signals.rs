//! Signals through a pipe. Dispositions belong to the whole process, so each test has a signal of its own.

#![allow(unsafe_code)] // signals are raised and dispositions looked up

use antiphon_engine::{Driver, EngineError, Epoll, Interest, SignalPipe, Token};
use std::mem::MaybeUninit;

/// Delivers `signum` to this thread before it returns.
fn raise(signum: i32) {
    // SAFETY: raise(3) touches no memory; the tests raise only signals with a handler.
    assert_eq!(unsafe { libc::raise(signum) }, 0);
}

fn drain(pipe: &SignalPipe) -> Vec<u8> {
    let mut arrived = Vec::new();
    pipe.drain(&mut arrived);
    arrived
}

fn handler_of(signum: i32) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: sigaction(2) writes the present action through the pointer, which is to a live local.
    assert_eq!(unsafe { libc::sigaction(signum, std::ptr::null(), action.as_mut_ptr()) }, 0);
    // SAFETY: the call succeeded, so it has written the action.
    unsafe { action.assume_init() }.sa_sigaction
}

#[test]
fn watched_signal_arrives_as_a_byte_and_makes_the_pipe_readable() {
    let mut pipe = SignalPipe::new().unwrap();
    pipe.watch(libc::SIGUSR1).unwrap();
    let mut driver = Epoll::new().unwrap();
    driver.add(pipe.read_fd(), Token(1), Interest { readable: true, ..Interest::default() }).unwrap();
    raise(libc::SIGUSR1);
    let mut events = Vec::new();
    while driver.wait(None, &mut events).is_err() {} // another test's signal may interrupt
    assert_eq!(events[0].token, Token(1));
    assert_eq!(drain(&pipe), [libc::SIGUSR1 as u8]);
    assert_eq!(drain(&pipe), []);
}

#[test]
fn signals_arrive_in_the_order_they_were_raised() {
    let mut pipe = SignalPipe::new().unwrap();
    let (first, second) = (libc::SIGRTMIN(), libc::SIGRTMIN() + 1);
    pipe.watch(first).unwrap();
    pipe.watch(second).unwrap();
    [second, first, second].into_iter().for_each(raise);
    assert_eq!(drain(&pipe), [second as u8, first as u8, second as u8]);
}

#[test]
fn signals_that_find_the_pipe_full_arrive_behind_the_others() {
    let (often, rare, never) = (libc::SIGRTMIN() + 5, libc::SIGRTMIN() + 6, libc::SIGRTMIN() + 7);
    let mut pipe = SignalPipe::new().unwrap();
    for signum in [often, rare, never] {
        pipe.watch(signum).unwrap();
    }
    for _ in 0..70_000 {
        raise(often); // more than a pipe takes
    }
    raise(rare);
    raise(rare);
    let arrived = drain(&pipe);
    assert!(arrived.len() < 70_000);
    assert_eq!(arrived[arrived.len() - 2..], [often as u8, rare as u8]);
    assert_eq!(arrived.iter().filter(|byte| **byte == rare as u8).count(), 1);
    assert!(drain(&pipe).is_empty());
    raise(rare);
    assert_eq!(drain(&pipe), [rare as u8]);
}

#[test]
fn last_signal_of_all_can_be_watched() {
    let mut pipe = SignalPipe::new().unwrap();
    pipe.watch(libc::SIGRTMAX()).unwrap();
    raise(libc::SIGRTMAX());
    assert_eq!(drain(&pipe), [libc::SIGRTMAX() as u8]);
}

#[test]
fn every_pipe_that_watches_gets_the_signal() {
    let signum = libc::SIGRTMIN() + 2;
    let mut pipes = [(); 3].map(|()| SignalPipe::new().unwrap());
    pipes.iter_mut().for_each(|pipe| pipe.watch(signum).unwrap());
    raise(signum);
    assert!(pipes.iter().all(|pipe| drain(pipe) == [signum as u8]));

    assert!(pipes[1].unwatch(signum));
    raise(signum);
    assert_eq!(pipes.each_ref().map(|pipe| drain(pipe).len()), [1, 0, 1]);
}

#[test]
fn former_disposition_comes_back_when_the_last_pipe_stops_watching() {
    let signum = libc::SIGCONT; // whose default is to do nothing
    let found = handler_of(signum);
    let mut pipes = [(); 2].map(|()| SignalPipe::new().unwrap());
    pipes.iter_mut().for_each(|pipe| pipe.watch(signum).unwrap());
    let [mut first, second] = pipes;
    assert!(first.unwatch(signum));
    assert!(!first.unwatch(signum), "it watches no longer");
    assert_ne!(handler_of(signum), found);
    drop(second);
    assert_eq!(handler_of(signum), found);
}

#[test]
fn signal_watched_twice_is_watched_once() {
    let signum = libc::SIGWINCH;
    let found = handler_of(signum);
    let mut pipe = SignalPipe::new().unwrap();
    pipe.watch(signum).unwrap();
    pipe.watch(signum).unwrap();
    raise(signum);
    assert_eq!(drain(&pipe), [signum as u8]);
    assert!(pipe.unwatch(signum));
    assert_eq!(handler_of(signum), found);
}

#[test]
fn handler_leaves_errno_alone() {
    let signum = libc::SIGRTMIN() + 3;
    let mut pipe = SignalPipe::new().unwrap();
    pipe.watch(signum).unwrap();
    // A full pipe makes the handler's write fail, which sets errno.
    let (mut poll, byte) =
        (libc::pollfd { fd: pipe.write_fd(), events: libc::POLLOUT, revents: 0 }, [0_u8; 4096]);
    // SAFETY: poll(2) reads and writes the one pollfd, write(2) reads the bytes; both are live locals.
    while unsafe {
        libc::poll(&raw mut poll, 1, 0) == 1 && libc::write(pipe.write_fd(), byte.as_ptr().cast(), 4096) > 0
    } {}
    // SAFETY: errno's address is valid for the life of the thread.
    unsafe { *libc::__errno_location() = libc::EXDEV };
    raise(signum);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EXDEV));
    assert_eq!(drain(&pipe).iter().filter(|byte| **byte != 0).collect::<Vec<_>>(), [&(signum as u8)]);
}

#[test]
fn what_cannot_be_watched_is_an_error() {
    let mut pipe = SignalPipe::new().unwrap();
    for signum in [-1, 0, 65, i32::MAX, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL] {
        let error = pipe.watch(signum).unwrap_err();
        assert!(matches!(error, EngineError::Signal { signum: named, .. } if named == signum));
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(!pipe.unwatch(signum));
    }
}

#[test]
fn pipes_come_and_go_under_fire() {
    let signum = libc::SIGRTMIN() + 4;
    let mut lasting = SignalPipe::new().unwrap();
    lasting.watch(signum).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                raise(signum);
            }
        });
        for _ in 0..500 {
            let mut pipe = SignalPipe::new().unwrap();
            pipe.watch(signum).unwrap();
            drop(pipe);
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
    drain(&lasting);
    raise(signum);
    assert_eq!(drain(&lasting), [signum as u8]);
}
