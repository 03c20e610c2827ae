//! Starting child processes: from any thread, without copying the parent's memory, and without stopping its other threads.
//!
//! The child is made by clone(2) with `CLONE_VM | CLONE_VFORK`: it runs in the parent's memory while the calling thread, and
//! no other one, is suspended until the child has executed its program or failed to. So the cost does not grow with the
//! parent, and what went wrong is simply written down for the parent to read. What the child may do in borrowed memory is the
//! subject of [`in_child`].
//!
//! The thread that starts a child is its parent in one respect: a child that asked for it (`PR_SET_PDEATHSIG`) is sent a
//! signal when **that thread** ends. So a thread that starts children should outlive them.
//!
//! `unsafe` is for clone(2), waitpid(2) and pthread_sigmask(3).
//!
//! Source: clone(2), vfork(2), prctl(2); glibc's posix_spawn works the same way and reports less.

#![allow(unsafe_code)]

mod in_child;

use crate::switches::{Feature, is_disabled};
use crate::{EngineError, PidFd};
use in_child::Plan;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Stack of the child until it executes its program, in units of 16 bytes, which is a stack's alignment.
const STACK_LEN: usize = 64 * 1024 / size_of::<u128>();

/// How far a child came that could not be started.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum SpawnStage {
    /// There is no process: a limit was reached.
    Create,
    /// Descriptors, session, process group.
    Prepare,
    /// Changing to its directory.
    ChangeDirectory,
    /// None of the programs could be executed.
    Execute,
}

/// The signals that a thread blocks.
#[derive(Copy, Clone)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// What the calling thread blocks now.
    #[must_use]
    pub fn of_this_thread() -> Self {
        Self::exchange(None)
    }

    /// Blocks every signal in the calling thread; returns what it blocked before.
    pub fn block_all() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: sigfillset(3) fills the set, a live local.
        let all = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            all.assume_init()
        };
        Self::exchange(Some(Self(all)))
    }

    /// Lets the calling thread block these signals and no others.
    pub fn apply(self) {
        Self::exchange(Some(self));
    }

    fn exchange(mask: Option<Self>) -> Self {
        let new = mask.as_ref().map_or(ptr::null(), |mask| &raw const mask.0);
        let mut found = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `new` is null, which changes nothing, or a valid set; the present set is written to a live local, for
        // which zero is a valid value. The call cannot fail.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, new, found.as_mut_ptr());
            Self(found.assume_init())
        }
    }
}

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask")
    }
}

/// What a child is to be. The descriptors in here are borrowed: the parent closes its own copies when and if it wants.
#[derive(Clone, Debug)]
pub struct ChildCommand {
    /// Paths to try in turn; the first that can be executed is.
    pub programs: Vec<CString>,
    /// All arguments, the program's name first.
    pub arguments: Vec<CString>,
    /// All variables, as `NAME=value`.
    pub environment: Vec<CString>,
    /// Where the child begins; `None`: where the parent is.
    pub directory: Option<CString>,
    /// What becomes standard input, output and error; `None`: as in the parent.
    pub stdio: [Option<RawFd>; 3],
    /// Further descriptors that the child inherits under their numbers.
    pub keep: Vec<RawFd>,
    /// Close everything else above standard error, also what is not close-on-exec.
    pub close_others: bool,
    /// Give the signals their default action that Python ignores: `SIGPIPE` and `SIGXFSZ`.
    pub restore_signals: bool,
    /// Begin a session, without a terminal.
    pub new_session: bool,
    /// Join this process group; 0: begin one.
    pub process_group: Option<i32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// The signals that the child blocks.
    pub signal_mask: SignalMask,
}

/// A child that executes its program. It becomes a zombie when it ends, until it is waited for.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub pid: u32,
    /// The process as a descriptor, if the kernel has such.
    pub pidfd: Option<PidFd>,
}

impl ChildCommand {
    /// `program` with `arguments` (the program's name first) and without variables; everything else as in the parent.
    #[must_use]
    pub fn new(program: CString, arguments: Vec<CString>) -> Self {
        Self {
            programs: vec![program],
            arguments,
            environment: Vec::new(),
            directory: None,
            stdio: [None; 3],
            keep: Vec::new(),
            close_others: false,
            restore_signals: false,
            new_session: false,
            process_group: None,
            umask: None,
            signal_mask: SignalMask::of_this_thread(),
        }
    }

    /// Starts the child; returns when it executes its program, which suspends this thread for a fraction of a millisecond,
    /// or for as long as the file system takes to read the program.
    ///
    /// ```
    /// use antiphon_engine::{ChildCommand, ChildExit, wait_blocking};
    ///
    /// let command = ChildCommand::new(c"/bin/sh".into(), vec![c"sh".into(), c"-c".into(), c"exit 3".into()]);
    /// let child = command.spawn()?;
    /// assert_eq!(wait_blocking(child.pid)?, ChildExit::Exited(3));
    /// # Ok::<(), antiphon_engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Spawn`]; nothing of the child is left then.
    pub fn spawn(&self) -> Result<Spawned, EngineError> {
        let programs = pointers(&self.programs);
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        let mut keep = self.keep.clone();
        keep.sort_unstable();
        let mut plan = Plan {
            programs: programs.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            directory: self.directory.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
            stdio: self.stdio.map(|fd| fd.unwrap_or(-1)),
            keep: keep.as_ptr(),
            keep_len: keep.len(),
            descriptor_limit: descriptor_limit(),
            close_others: self.close_others,
            restore_signals: self.restore_signals,
            new_session: self.new_session,
            process_group: self.process_group,
            umask: self.umask,
            signal_mask: self.signal_mask.0,
            failure: None,
        };
        let made = clone_process(&mut plan, !is_disabled(Feature::PidFd));
        let child = made.map_err(|source| EngineError::Spawn { stage: SpawnStage::Create, source })?;
        match plan.failure {
            None => Ok(child),
            Some((stage, errno)) => {
                reap_failed(child.pid);
                Err(EngineError::Spawn { stage, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }
}

/// The strings as execve(2) wants them. They must outlive the result.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Numbers of descriptors end here, as far as one can tell.
fn descriptor_limit() -> c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes to a live local.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX)
}

/// Makes the process; when this returns the child has executed its program, or written down why not and ended.
fn clone_process(plan: &mut Plan, with_pidfd: bool) -> io::Result<Spawned> {
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK_LEN);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let flags = if with_pidfd { flags | libc::CLONE_PIDFD } else { flags };
    let mut pidfd: RawFd = -1;
    let found = SignalMask::block_all();
    // SAFETY: the child runs `in_child::run` on a stack of its own, whose end is passed since stacks grow down, and ends
    // with it; this thread is suspended meanwhile, so `plan` and what it points to stay as they are. No handler of the
    // parent's runs in the child, since every signal is blocked. With `CLONE_PIDFD` the kernel writes a descriptor to the
    // fifth argument, else it does not look at it.
    let pid = unsafe {
        libc::clone(
            in_child::run,
            stack.as_mut_ptr().add(STACK_LEN).cast(),
            flags,
            ptr::from_mut(plan).cast(),
            &raw mut pidfd,
        )
    };
    let error = io::Error::last_os_error();
    found.apply();
    match u32::try_from(pid) {
        Ok(pid) => {
            // SAFETY: a descriptor that the kernel wrote is new, and nobody else knows it. (An old kernel knows no such
            // flag and writes nothing.)
            let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Spawned { pid, pidfd: pidfd.map(|fd| PidFd::from_parts(fd, pid)) })
        }
        // Some sandboxes refuse what they do not know.
        Err(_) if with_pidfd && error.raw_os_error() == Some(libc::EINVAL) => clone_process(plan, false),
        Err(_) => Err(error),
    }
}

/// Takes away what is left of a child that never executed anything.
fn reap_failed(pid: u32) {
    // SAFETY: waitpid(2) without a place for the status touches no memory of ours.
    while unsafe { libc::waitpid(pid as libc::pid_t, ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
