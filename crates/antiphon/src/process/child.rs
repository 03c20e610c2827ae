//! A child that was started: its end, its streams, and signals to it.
//!
//! Every child is reaped: by who waits for it, by a task if it is dropped before its end, or, if the loop ends before the child, when
//! the next child is started.

use super::{ChildExit, ChildStderr, ChildStdin, ChildStdout};
use crate::back_off::until_it_would_not_block;
use crate::runtime::Direction;
use crate::signal::Signal;
use crate::watched::Watched;
use crate::{Cancelled, StreamReader, try_spawn};
use antiphon_engine::{EngineError, PidFd, Spawned, try_wait, wait_blocking};
use rustix::io::Errno;
use rustix::process::{Pid, kill_process};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// A child process: `asyncio.subprocess.Process`.
///
/// ```
/// use antiphon::process::Command;
///
/// antiphon::run(async {
///     let mut child = Command::new("sleep").arg("1000").spawn().await?;
///     assert_eq!(child.try_wait()?, None);
///     child.terminate()?;
///     assert_eq!(child.wait().await?.returncode(), -15);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropped before the child's end, it leaves it to itself, unless
/// [`kill_on_drop`](super::Command::kill_on_drop) says otherwise.
#[derive(Debug)]
pub struct Child {
    /// What it reads from, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// What it writes to, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// What it complains to, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    pid: u32,
    /// `None` once it was reaped.
    living: Option<Living>,
    exit: Option<ChildExit>,
    kill_on_drop: bool,
}

/// What a child wrote, and how it ended.
///
/// ```
/// use antiphon::process::Command;
///
/// antiphon::run(async {
///     let output = Command::shell("echo out; echo err >&2; exit 3").output(b"").await?;
///     assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
///     assert!(!output.exit.success());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Output {
    /// How it ended.
    pub exit: ChildExit,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// Children that outlived their loops.
static ORPHANS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn orphans() -> MutexGuard<'static, Vec<u32>> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps those children of former loops that have ended.
pub(super) fn reap_orphans() {
    orphans().retain(|pid| matches!(try_wait(*pid), Ok(None)));
}

/// A child that was started for somebody who may be gone by now: then it is killed.
pub(super) struct Unclaimed(Option<Spawned>);

impl Unclaimed {
    pub(super) const fn new(spawned: Spawned) -> Self {
        Self(Some(spawned))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let Some(spawned) = self.0.take() else { return };
        let _ = kill(spawned.pid, Signal::KILL);
        let _ = wait_blocking(spawned.pid);
    }
}

/// A child that was not reaped.
#[derive(Debug)]
struct Living {
    pid: u32,
    /// `None` where the kernel has no pidfd.
    pidfd: Option<Watched<PidFd>>,
    reaped: bool,
}

impl Living {
    async fn wait(&mut self) -> io::Result<ChildExit> {
        let exit = match &self.pidfd {
            Some(pidfd) => {
                pidfd.perform(Direction::Read, "a child's end", |pidfd| ended(pidfd.try_wait())).await
            }
            None => until_it_would_not_block(|| ended(try_wait(self.pid))).await,
        }?;
        self.reaped = true;
        Ok(exit)
    }

    fn try_wait(&mut self) -> io::Result<Option<ChildExit>> {
        let exit = match &self.pidfd {
            Some(pidfd) => pidfd.get().try_wait(),
            None => try_wait(self.pid),
        }?;
        self.reaped = exit.is_some();
        Ok(exit)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        if !self.reaped && matches!(self.try_wait(), Ok(None)) {
            orphans().push(self.pid);
        }
    }
}

fn ended(outcome: Result<Option<ChildExit>, EngineError>) -> io::Result<ChildExit> {
    outcome?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

/// Its number is the child's own, since nobody else reaps it.
fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let signal = rustix::process::Signal::from_named_raw(signal.as_raw()).ok_or(Errno::INVAL)?;
    Ok(kill_process(pid, signal)?)
}

impl Child {
    pub(super) fn new(
        mut started: Unclaimed,
        stdin: Option<ChildStdin>,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        kill_on_drop: bool,
    ) -> io::Result<Self> {
        let Some(spawned) = started.0.as_mut() else { return Err(Errno::SRCH.into()) };
        let pid = spawned.pid;
        let pidfd = spawned.pidfd.take().map(Watched::new).transpose()?;
        started.0 = None; // claimed
        let living = Some(Living { pid, pidfd, reaped: false });
        Ok(Self { stdin, stdout, stderr, pid, living, exit: None, kill_on_drop })
    }

    /// The process's number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. A child that waits for us to read from its pipes never ends: [`communicate`](Self::communicate)
    /// reads.
    ///
    /// # Errors
    /// As waitid(2): somebody else has reaped it. With [`Cancelled`] inside: the task was cancelled; the child lives.
    pub async fn wait(&mut self) -> io::Result<ChildExit> {
        if let (None, Some(living)) = (self.exit, &mut self.living) {
            let exit = living.wait().await?;
            self.exit = Some(exit);
            self.living = None;
        }
        self.exit.ok_or_else(|| Errno::CHILD.into())
    }

    /// How it ended; `None` while it lives.
    ///
    /// # Errors
    /// As waitid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ChildExit>> {
        if let (None, Some(living)) = (self.exit, &mut self.living) {
            self.exit = living.try_wait()?;
            if self.exit.is_some() {
                self.living = None;
            }
        }
        Ok(self.exit)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As kill(2): `ESRCH` once it was waited for.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        match &self.living {
            Some(Living { pidfd: Some(pidfd), .. }) => Ok(pidfd.get().send_signal(signal.as_raw())?),
            Some(living) => kill(living.pid, signal),
            None => Err(Errno::SRCH.into()),
        }
    }

    /// Asks it to end: `SIGTERM`.
    ///
    /// # Errors
    /// As [`send_signal`](Self::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(Signal::TERM)
    }

    /// Ends it: `SIGKILL`.
    ///
    /// # Errors
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(Signal::KILL)
    }

    /// Gives it `input` and its end, reads all that it writes, and waits for its end. A child that does not read its input to the
    /// end is no error.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and what its pipes fail with.
    ///
    /// # Cancellation
    /// What was read is lost; the child lives.
    pub async fn communicate(&mut self, input: &[u8]) -> io::Result<Output> {
        let stdin = self.stdin.take();
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let mut feeding = pin!(async move {
            let Some(stdin) = stdin else { return Ok(()) };
            match stdin.write_all(input).await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                outcome => outcome,
            }
        });
        let mut reading = pin!(read_all(stdout));
        let mut complaints = pin!(read_all(stderr));
        let (mut fed, mut written, mut complained) = (None, None, None);
        let (stdout, stderr) = poll_fn(|context| {
            if fed.is_none()
                && let Poll::Ready(outcome) = feeding.as_mut().poll(context)
            {
                fed = Some(outcome?);
            }
            if written.is_none()
                && let Poll::Ready(outcome) = reading.as_mut().poll(context)
            {
                written = Some(outcome?);
            }
            if complained.is_none()
                && let Poll::Ready(outcome) = complaints.as_mut().poll(context)
            {
                complained = Some(outcome?);
            }
            match (fed, written.is_some(), complained.is_some()) {
                (Some(()), true, true) => {
                    Poll::Ready(Ok::<_, io::Error>((written.take(), complained.take())))
                }
                _ => Poll::Pending,
            }
        })
        .await?;
        let exit = self.wait().await?;
        Ok(Output { exit, stdout: stdout.unwrap_or_default(), stderr: stderr.unwrap_or_default() })
    }

    pub(super) const fn set_kill_on_drop(&mut self, kill: bool) {
        self.kill_on_drop = kill;
    }
}

async fn read_all(pipe: Option<impl futures_io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    match pipe {
        Some(pipe) => Ok(StreamReader::new(pipe).read_to_end().await?),
        None => Ok(Vec::new()),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop && self.living.is_some() {
            let _ = self.kill();
        }
        let Some(mut living) = self.living.take() else { return };
        if !matches!(living.try_wait(), Ok(None)) {
            return;
        }
        // With no loop left it is an orphan, and so it is if the loop ends before it.
        if let Ok(task) = try_spawn(async move {
            let _ = living.wait().await;
            Ok::<(), Cancelled>(())
        }) {
            task.set_name("reaper of a child");
        }
    }
}
