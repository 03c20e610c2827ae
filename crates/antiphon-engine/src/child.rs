//! Child processes: a descriptor that becomes readable when one has ended, and its exit status.
//!
//! A [`PidFd`] names one process for good, also after its number has been given to another one. Registered with a driver it
//! is readable once the process has ended, which takes no thread, no `SIGCHLD` and no search through all children.
//! A kernel without pidfd (before Linux 5.4) or a sandbox that forbids it makes [`PidFd::open`] fail with `ENOSYS` or `EPERM`;
//! then [`await_end`] on a thread of the [`BlockingPool`](crate::BlockingPool) and [`try_wait`] afterwards do the same.
//!
//! Whoever starts a child must not let anybody else reap it: not `SIGCHLD` set to `SIG_IGN`, no `waitpid(-1)`.
//!
//! `unsafe` is for pidfd_open(2), pidfd_send_signal(2), waitid(2) and waitpid(2).
//!
//! Source: pidfd_open(2), waitid(2).

#![allow(unsafe_code)]

use crate::EngineError;
use crate::switches::{Feature, is_disabled};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How a process ended.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum ChildExit {
    /// By `exit`, or by returning from its main function, with this code.
    Exited(i32),
    /// By this signal.
    Killed {
        /// The signal's number.
        signum: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
}

impl ChildExit {
    /// Whether it exited with code 0.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// The exit code, or the signal's number negated; as `returncode` in Python's `subprocess`.
    #[must_use]
    pub const fn returncode(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed { signum, .. } => -signum,
        }
    }
}

impl std::fmt::Display for ChildExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed { signum, core_dumped: false } => write!(f, "killed by signal {signum}"),
            Self::Killed { signum, core_dumped: true } => write!(f, "killed by signal {signum}, core dumped"),
        }
    }
}

/// A child process as a descriptor.
///
/// ```
/// use antiphon_engine::{ChildExit, Driver, Epoll, Interest, PidFd, Token};
/// use std::os::fd::{AsFd, AsRawFd};
///
/// # #[expect(clippy::zombie_processes, reason = "reaped through its descriptor")]
/// let child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn()?;
/// let pidfd = PidFd::open(child.id())?;
/// let mut driver = Epoll::new()?;
/// driver.add(pidfd.as_fd().as_raw_fd(), Token(0), Interest { readable: true, ..Interest::default() })?;
/// driver.wait(None, &mut Vec::new())?;
/// assert_eq!(pidfd.try_wait()?, Some(ChildExit::Exited(3)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: u32,
}

impl PidFd {
    /// Opens the process `pid`, a child that has not been reaped yet; it may have ended.
    ///
    /// # Errors
    /// [`EngineError::Child`]: no such process (`ESRCH`), no pidfd here (`ENOSYS`, `EPERM`), or out of descriptors.
    pub fn open(pid: u32) -> Result<Self, EngineError> {
        let raw_pid = process_id(pid)?;
        if is_disabled(Feature::PidFd) {
            return Err(EngineError::Child { pid, source: io::Error::from_raw_os_error(libc::ENOSYS) });
        }
        // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours. The C library has it only since glibc
        // 2.36, hence by number.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, raw_pid, 0) };
        if fd < 0 {
            return Err(last_error(pid));
        }
        // SAFETY: the descriptor is new (close-on-exec by definition), and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self { fd, pid })
    }

    /// A descriptor of `pid` that came from elsewhere.
    pub(crate) fn from_parts(fd: OwnedFd, pid: u32) -> Self {
        Self { fd, pid }
    }

    /// The process that this descriptor names.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Reaps the child if it has ended; `None` while it runs.
    ///
    /// # Errors
    /// [`EngineError::Child`] with `ECHILD`: not a child of this process, or reaped before.
    pub fn try_wait(&self) -> Result<Option<ChildExit>, EngineError> {
        // Zeroed, since waitid(2) may leave it as it is while the child runs.
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let id = self.fd.as_raw_fd() as libc::id_t;
        // SAFETY: waitid(2) writes one siginfo_t through the pointer, which is to a live local.
        let result =
            unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) };
        if result < 0 {
            return Err(last_error(self.pid));
        }
        // SAFETY: all-zero is a valid siginfo_t, and what the kernel writes over it is one, too.
        let info = unsafe { info.assume_init() };
        // SAFETY: waitid(2) fills the fields of SIGCHLD, or leaves zeros.
        let pid = unsafe { info.si_pid() };
        // SAFETY: the same.
        let status = unsafe { info.si_status() };
        Ok((pid != 0).then_some(match info.si_code {
            libc::CLD_EXITED => ChildExit::Exited(status),
            code => ChildExit::Killed { signum: status, core_dumped: code == libc::CLD_DUMPED },
        }))
    }
}

impl PidFd {
    /// Sends a signal to this very process, never to a later one with its number.
    ///
    /// # Errors
    /// [`EngineError::Child`]: `ESRCH` once the child was reaped, `EPERM` if it runs as somebody else, `EINVAL`: no signal.
    pub fn send_signal(&self, signum: i32) -> Result<(), EngineError> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) takes integers and, here, no pointer.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signum, no_info, 0) };
        if result < 0 { Err(last_error(self.pid)) } else { Ok(()) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reaps the child `pid` if it has ended; `None` while it runs.
///
/// # Errors
/// [`EngineError::Child`] with `ECHILD`: not a child of this process, or reaped before.
pub fn try_wait(pid: u32) -> Result<Option<ChildExit>, EngineError> {
    wait(pid, libc::WNOHANG)
}

/// Blocks until the child `pid` has ended, and reaps it.
///
/// # Errors
/// [`EngineError::Child`] with `ECHILD`: not a child of this process, or reaped before.
pub fn wait_blocking(pid: u32) -> Result<ChildExit, EngineError> {
    loop {
        if let Some(exit) = wait(pid, 0)? {
            return Ok(exit);
        }
    }
}

fn wait(pid: u32, options: i32) -> Result<Option<ChildExit>, EngineError> {
    let raw_pid = process_id(pid)?;
    let mut status = 0;
    loop {
        // SAFETY: waitpid(2) writes one integer through the pointer, which is to a live local.
        let reaped = unsafe { libc::waitpid(raw_pid, &raw mut status, options) };
        if reaped >= 0 {
            return Ok((reaped == raw_pid).then(|| decode(status)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(EngineError::Child { pid, source: error });
        }
    }
}

/// Blocks until the child `pid` has ended, and leaves it to be reaped; comes back at once if there is no such child. For
/// kernels without pidfd, on a thread that may block: whoever sends the child signals by its number must also be the one
/// who reaps it, or the number may have become another process's.
pub fn await_end(pid: u32) {
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: waitid(2) writes one siginfo_t through the pointer, which is to a live local.
    while unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

fn decode(status: i32) -> ChildExit {
    if libc::WIFEXITED(status) {
        ChildExit::Exited(libc::WEXITSTATUS(status))
    } else {
        ChildExit::Killed { signum: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    }
}

/// `pid` for the kernel. Zero and negative numbers mean groups of processes there, and no process here.
fn process_id(pid: u32) -> Result<libc::pid_t, EngineError> {
    match libc::pid_t::try_from(pid) {
        Ok(raw_pid) if raw_pid > 0 => Ok(raw_pid),
        _ => Err(EngineError::Child { pid, source: io::Error::from_raw_os_error(libc::ESRCH) }),
    }
}

fn last_error(pid: u32) -> EngineError {
    EngineError::Child { pid, source: io::Error::last_os_error() }
}
