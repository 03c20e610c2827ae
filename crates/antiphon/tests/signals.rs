//! Signals to this process; each test has its own, since they reach every loop of the process that watches them.

use antiphon::signal::{Signal, Signals, ctrl_c};
use antiphon::{JoinError, run, spawn, yield_now};
use futures_core::Stream;
use rustix::process::{Signal as Raw, getpid, kill_process};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

fn on_a_loop<T>(main: impl Future<Output = io::Result<T>>) -> T {
    run(main).expect("a loop").expect("no error of I/O")
}

fn send(signal: Raw) {
    kill_process(getpid(), signal).unwrap();
}

#[test]
fn ctrl_c_is_waited_for() {
    on_a_loop(async {
        let waiting = spawn(ctrl_c());
        yield_now().await?;
        send(Raw::INT);
        waiting.await.map_err(|error| error.failed().unwrap())
    });
}

#[test]
fn signals_come_in_order_to_everybody_who_watches_them() {
    on_a_loop(async {
        let mut first = Signals::new(&[Signal::USR1, Signal::USR2])?;
        let mut second = Signals::new(&[Signal::USR2])?;
        let third = spawn(async move { Signals::new(&[Signal::USR2])?.recv().await });
        yield_now().await?;
        send(Raw::USR1);
        assert_eq!(first.recv().await?, Signal::USR1);
        send(Raw::USR2);
        assert_eq!(first.recv().await?, Signal::USR2);
        assert_eq!(second.recv().await?, Signal::USR2, "the first one has taken it from the pipe");
        assert_eq!(third.await.unwrap(), Signal::USR2);
        drop(first);
        send(Raw::USR2);
        let next = poll_fn(|context| Pin::new(&mut second).poll_next(context)).await;
        assert_eq!(next.unwrap()?, Signal::USR2, "it is still watched");
        Ok(())
    });
}

#[test]
fn cancelled_wait_loses_no_signal() {
    on_a_loop(async {
        let mut signals = Signals::new(&[Signal::WINCH])?;
        let waiting = spawn(async move {
            assert!(signals.recv().await.is_err());
            Ok::<_, io::Error>(signals)
        });
        yield_now().await?;
        waiting.cancel();
        let mut signals = waiting.await.unwrap();
        send(Raw::WINCH);
        assert_eq!(signals.recv().await?, Signal::WINCH);
        Ok(())
    });
}

/// Whether this process has a handler for a signal.
fn is_caught(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
}

#[test]
fn what_cannot_be_watched_is_told_and_nothing_stays_watched() {
    on_a_loop(async {
        let watched = Signals::new(&[Signal::CONT])?;
        assert!(is_caught(Signal::CONT));
        drop(watched);
        for bad in [Signal::KILL, Signal::from_raw(0), Signal::from_raw(999), Signal::from_raw(11)] {
            let error = Signals::new(&[Signal::CONT, bad]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::INVAL.raw_os_error()));
            assert!(!is_caught(Signal::CONT));
        }
        Ok(())
    });
    assert!(Signals::new(&[Signal::CONT]).is_err(), "no loop");
}

#[test]
fn more_waiters_than_the_process_has_pipes_for_share_one() {
    on_a_loop(async {
        let waiting: Vec<_> =
            (0..100).map(|_| spawn(async { Signals::new(&[Signal::HUP])?.recv().await })).collect();
        yield_now().await?;
        send(Raw::HUP);
        for waiter in waiting {
            match waiter.await {
                Ok(signal) => assert_eq!(signal, Signal::HUP),
                Err(error) => assert!(matches!(error, JoinError::Cancelled)),
            }
        }
        Ok(())
    });
}
