//! What the child does between clone(2) and execve(2), in the parent's memory.
//!
//! Invariant B1: nothing here allocates, locks, panics, unwinds or runs for long: the memory is the parent's, whose other
//! threads go on and may hold any lock; only system calls and the [`Plan`], made beforehand, are used.
//! Invariant B2: no signal handler of the parent's runs here: all signals are blocked from before clone(2), and become
//! unblocked only after every handler was replaced by the default action (the child's table of actions is its own).
//!
//! Source: signal-safety(7), vfork(2); CPython Modules/_posixsubprocess.c (`child_exec`) for the order of things.

use super::SpawnStage;
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// Signals are numbered from 1 to this, on Linux.
const LAST_SIGNAL: c_int = 64;
/// What nobody sees: the parent reads [`Plan::failure`] and reaps.
const EXIT_CODE: c_int = 127;

/// Everything that the child needs, and where it says what went wrong.
pub struct Plan {
    /// Paths, ended by null.
    pub programs: *const *const c_char,
    /// Arguments, ended by null.
    pub arguments: *const *const c_char,
    /// Variables, ended by null.
    pub environment: *const *const c_char,
    /// Null: stay.
    pub directory: *const c_char,
    /// -1: as in the parent.
    pub stdio: [c_int; 3],
    /// Sorted.
    pub keep: *const c_int,
    /// How many those are.
    pub keep_len: usize,
    /// Where closing one by one ends.
    pub descriptor_limit: c_int,
    pub close_others: bool,
    pub restore_signals: bool,
    pub new_session: bool,
    pub process_group: Option<i32>,
    pub umask: Option<u32>,
    pub signal_mask: libc::sigset_t,
    /// Written by the child: the stage and the error number.
    pub failure: Option<(SpawnStage, c_int)>,
}

/// The child's main function. It comes back only if something failed; the C library then ends the process.
pub extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes its plan, and is suspended while this runs.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let failure = match prepare(plan) {
        Ok(()) => (SpawnStage::Execute, execute(plan)),
        Err(failure) => failure,
    };
    plan.failure = Some(failure);
    EXIT_CODE
}

type Failure = (SpawnStage, c_int);

fn errno() -> c_int {
    // SAFETY: the thread's own; the suspended parent thread lends its.
    unsafe { *libc::__errno_location() }
}

/// -1 means that a call failed.
fn check(result: c_int) -> Result<c_int, Failure> {
    if result == -1 { Err((SpawnStage::Prepare, errno())) } else { Ok(result) }
}

fn prepare(plan: &Plan) -> Result<(), Failure> {
    keep_descriptors(plan)?;
    set_stdio(plan.stdio)?;
    // SAFETY: the path is null or ends in NUL, made by the parent.
    if !plan.directory.is_null() && unsafe { libc::chdir(plan.directory) } == -1 {
        return Err((SpawnStage::ChangeDirectory, errno()));
    }
    // SAFETY: these calls take integers only.
    unsafe {
        if let Some(umask) = plan.umask {
            libc::umask(umask as libc::mode_t);
        }
        if plan.restore_signals {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
        }
        if plan.new_session {
            check(libc::setsid())?;
        }
        if let Some(group) = plan.process_group {
            check(libc::setpgid(0, group))?;
        }
    }
    if plan.close_others {
        close_others(plan);
    }
    default_handlers();
    // SAFETY: the mask is a valid set; no old one is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.signal_mask, ptr::null_mut()) };
    Ok(())
}

/// The `place`th of the descriptors to keep.
fn kept(plan: &Plan, place: usize) -> Option<c_int> {
    // SAFETY: below the length there is one.
    (place < plan.keep_len).then(|| unsafe { *plan.keep.add(place) })
}

fn keep_descriptors(plan: &Plan) -> Result<(), Failure> {
    let mut place = 0;
    while let Some(fd) = kept(plan, place) {
        inherit(fd)?;
        place += 1;
    }
    Ok(())
}

/// Lets a descriptor outlive execve(2).
fn inherit(fd: c_int) -> Result<(), Failure> {
    // SAFETY: takes integers only.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    Ok(())
}

/// Puts descriptors in place as standard input, output and error.
fn set_stdio(mut stdio: [c_int; 3]) -> Result<(), Failure> {
    // A source among the places themselves would be overwritten before its turn.
    for (place, source) in (0..).zip(&mut stdio) {
        if (0..3).contains(source) && *source != place {
            // SAFETY: takes integers only.
            *source = check(unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, 3) })?;
        }
    }
    for (place, source) in (0..).zip(stdio) {
        if source == place {
            inherit(source)?;
        } else if source != -1 {
            // SAFETY: takes integers only.
            check(unsafe { libc::dup2(source, place) })?;
        }
    }
    Ok(())
}

/// Closes what lies between the descriptors to keep, from 3 on.
fn close_others(plan: &Plan) {
    let mut first = 3;
    let mut place = 0;
    while let Some(fd) = kept(plan, place) {
        if fd >= first {
            if fd > first {
                close_range(first, fd - 1, plan.descriptor_limit);
            }
            first = fd.saturating_add(1);
        }
        place += 1;
    }
    close_range(first, c_int::MAX, plan.descriptor_limit);
}

fn close_range(first: c_int, last: c_int, limit: c_int) {
    // SAFETY: closes descriptors of this process only, which are copies. By number, since the C library has it only since
    // glibc 2.34.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Before Linux 5.9: one by one.
    let mut fd = first;
    while fd <= last && fd < limit {
        // SAFETY: as above; most are not open.
        unsafe { libc::close(fd) };
        fd += 1;
    }
}

/// Invariant B2.
fn default_handlers() {
    let mut signum = 1;
    while signum <= LAST_SIGNAL {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the actions are live locals, zeroed, which is a valid value and means the default. Numbers that the
        // C library keeps for itself are an error, and the action stays zeroed.
        unsafe {
            libc::sigaction(signum, ptr::null(), action.as_mut_ptr());
            let handler = action.assume_init_ref().sa_sigaction;
            if handler != libc::SIG_DFL && handler != libc::SIG_IGN {
                let default = MaybeUninit::<libc::sigaction>::zeroed();
                libc::sigaction(signum, default.as_ptr(), ptr::null_mut());
            }
        }
        signum += 1;
    }
}

/// Tries the programs in turn; comes back with the error number of the first that is there, else of the last.
fn execute(plan: &Plan) -> c_int {
    let mut found = 0;
    let mut last = libc::ENOENT;
    let mut program = plan.programs;
    // SAFETY: the list of programs ends in null, and so do the other two; all strings end in NUL.
    unsafe {
        while !(*program).is_null() {
            libc::execve(*program, plan.arguments, plan.environment);
            last = errno();
            if found == 0 && !matches!(last, libc::ENOENT | libc::ENOTDIR) {
                found = last;
            }
            program = program.add(1);
        }
    }
    if found != 0 { found } else { last }
}
