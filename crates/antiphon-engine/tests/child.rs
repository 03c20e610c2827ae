//! Real child processes, ended by real signals.

#![allow(clippy::zombie_processes)] // reaped through what is tested here

use antiphon_engine::{
    ChildExit, Driver, EngineError, Epoll, Interest, PidFd, Token, await_end, try_wait, wait_blocking,
};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap()
}

/// Waits with a driver until the child has ended.
fn exit_of(pidfd: &PidFd) -> ChildExit {
    let mut driver = Epoll::new().unwrap();
    let readable = Interest { readable: true, ..Interest::default() };
    driver.add(pidfd.as_fd().as_raw_fd(), Token(1), readable).unwrap();
    let mut events = Vec::new();
    driver.wait(None, &mut events).unwrap();
    assert!(events[0].readable);
    pidfd.try_wait().unwrap().unwrap()
}

#[test]
fn exit_code_comes_through_the_driver() {
    let child = shell("exit 7");
    let exit = exit_of(&PidFd::open(child.id()).unwrap());
    assert_eq!(exit, ChildExit::Exited(7));
    assert_eq!(exit.returncode(), 7);
}

#[test]
fn running_child_is_neither_readable_nor_reaped() {
    let mut child = shell("read line; exit 0");
    let pidfd = PidFd::open(child.id()).unwrap();
    assert_eq!(pidfd.pid(), child.id());
    let mut driver = Epoll::new().unwrap();
    let readable = Interest { readable: true, ..Interest::default() };
    driver.add(pidfd.as_fd().as_raw_fd(), Token(1), readable).unwrap();
    assert_eq!(driver.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap(), 0);
    assert_eq!(pidfd.try_wait().unwrap(), None);
    drop(child.stdin.take()); // the shell reads an end of file and goes on
    assert_eq!(exit_of(&pidfd), ChildExit::Exited(0));
}

#[test]
fn death_by_signal_is_told_from_exit() {
    let mut child = shell("read line");
    let pidfd = PidFd::open(child.id()).unwrap();
    child.kill().unwrap();
    let exit = exit_of(&pidfd);
    assert_eq!(exit, ChildExit::Killed { signum: libc::SIGKILL, core_dumped: false });
    assert_eq!(exit.returncode(), -libc::SIGKILL);
}

#[test]
fn child_that_has_ended_can_be_opened_until_it_is_reaped() {
    let child = shell("exit 3");
    await_end(child.id());
    let pidfd = PidFd::open(child.id()).unwrap();
    assert_eq!(exit_of(&pidfd), ChildExit::Exited(3));
    assert_eq!(PidFd::open(child.id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn child_reaped_by_somebody_else_is_an_error() {
    let child = shell("exit 0");
    let pidfd = PidFd::open(child.id()).unwrap();
    assert_eq!(wait_blocking(child.id()).unwrap(), ChildExit::Exited(0));
    let error = pidfd.try_wait().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
    assert!(matches!(error, EngineError::Child { pid, .. } if pid == child.id()));
}

#[test]
fn blocking_wait_tells_exit_from_death() {
    assert_eq!(wait_blocking(shell("exit 9").id()).unwrap(), ChildExit::Exited(9));
    let killed = wait_blocking(shell("kill -TERM $$; read line").id()).unwrap();
    assert_eq!(killed, ChildExit::Killed { signum: libc::SIGTERM, core_dumped: false });
}

#[test]
fn end_is_awaited_by_number_and_left_to_be_reaped() {
    let mut child = shell("read line; exit 5");
    assert_eq!(try_wait(child.id()).unwrap(), None);
    drop(child.stdin.take()); // the shell reads an end of file and goes on
    await_end(child.id());
    await_end(child.id());
    assert_eq!(try_wait(child.id()).unwrap(), Some(ChildExit::Exited(5)));
    assert_eq!(try_wait(child.id()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    await_end(child.id()); // nobody to wait for
}

#[test]
fn numbers_that_name_no_process_are_errors_and_no_groups() {
    for pid in [0, u32::MAX, i32::MAX as u32] {
        assert_eq!(PidFd::open(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
    for pid in [0, u32::MAX] {
        assert_eq!(wait_blocking(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
    assert_eq!(wait_blocking(1).unwrap_err().raw_os_error(), Some(libc::ECHILD));
}
