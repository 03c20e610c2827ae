//! Children that are really started; most are shells that tell what they found.

#![allow(unsafe_code)] // raw descriptors, signals

use antiphon_engine::{ChildCommand, ChildExit, EngineError, PidFd, SignalMask, SpawnStage, wait_blocking};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn shell(script: &str) -> ChildCommand {
    let arguments = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    ChildCommand::new(c"/bin/sh".into(), arguments)
}

/// A pipe of files: what is written to the second is read from the first.
fn pipe() -> (File, File) {
    let mut fds = [-1; 2];
    // SAFETY: pipe2(2) writes two integers to a live array.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: both descriptors are new.
    let [reader, writer] = fds.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
    (reader, writer)
}

/// What the child writes to its standard output; it must exit with 0.
fn output(mut command: ChildCommand) -> String {
    let (mut reader, writer) = pipe();
    command.stdio[1] = Some(writer.as_raw_fd());
    let child = command.spawn().unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(wait_blocking(child.pid).unwrap(), ChildExit::Exited(0), "it wrote {text:?}");
    text
}

fn failure(command: &ChildCommand) -> (SpawnStage, Option<i32>) {
    match command.spawn().unwrap_err() {
        error @ EngineError::Spawn { stage, .. } => (stage, error.raw_os_error()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn child_has_the_arguments_environment_directory_and_umask() {
    let mut command = shell("echo \"$0 $1 $FLOWER\"; pwd; umask");
    command.arguments.extend([c"zero".into(), c"one two".into()]);
    command.environment = vec![c"FLOWER=rose".into()];
    command.directory = Some(c"/usr".into());
    command.umask = Some(0o27);
    assert_eq!(output(command), "zero one two rose\n/usr\n0027\n");
}

#[test]
fn descriptor_of_the_child_comes_with_its_number() {
    let child = shell("exit 4").spawn().unwrap();
    let pidfd = child.pidfd.expect("this kernel has pidfd");
    assert_eq!(pidfd.pid(), child.pid);
    assert_eq!(wait_blocking(child.pid).unwrap(), ChildExit::Exited(4));
    assert_eq!(pidfd.send_signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn signal_goes_to_the_process_of_the_descriptor() {
    let (reader, writer) = pipe();
    let mut command = shell("read line");
    command.stdio[0] = Some(reader.as_raw_fd());
    let child = command.spawn().unwrap();
    PidFd::open(child.pid).unwrap().send_signal(libc::SIGKILL).unwrap();
    assert_eq!(wait_blocking(child.pid).unwrap().returncode(), -libc::SIGKILL);
    drop(writer);
}

#[test]
fn programs_are_tried_in_turn_and_the_telling_error_wins() {
    let mut command = shell("echo found");
    command.programs = vec![c"/nowhere/sh".into(), c"/etc/passwd/sh".into(), c"/bin/sh".into()];
    assert_eq!(output(command.clone()), "found\n");

    command.programs = vec![c"/etc/passwd".into(), c"/nowhere/sh".into()];
    assert_eq!(failure(&command), (SpawnStage::Execute, Some(libc::EACCES)));
    command.programs = vec![c"/nowhere/sh".into(), c"/etc/passwd/sh".into()];
    assert_eq!(failure(&command), (SpawnStage::Execute, Some(libc::ENOTDIR)));
    command.programs.clear();
    assert_eq!(failure(&command), (SpawnStage::Execute, Some(libc::ENOENT)));
}

#[test]
fn failure_names_its_stage_and_leaves_no_child() {
    let mut command = shell("exit 0");
    command.directory = Some(c"/nowhere".into());
    assert_eq!(failure(&command), (SpawnStage::ChangeDirectory, Some(libc::ENOENT)));

    let mut command = shell("exit 0");
    command.stdio[2] = Some(1_000_000);
    assert_eq!(failure(&command), (SpawnStage::Prepare, Some(libc::EBADF)));

    let mut command = shell("exit 0");
    command.process_group = Some(1);
    assert_eq!(failure(&command), (SpawnStage::Prepare, Some(libc::EPERM)));
}

#[test]
fn session_and_group_are_the_childs_own() {
    let ids = "set -- $(cat /proc/self/stat); echo $5 $6 $$"; // process group, session
    let mut command = shell(ids);
    command.environment = vec![c"PATH=/bin:/usr/bin".into()];
    command.new_session = true;
    let text = output(command.clone());
    let ids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!((ids[0], ids[1]), (ids[2], ids[2]), "the shell leads both");

    command.new_session = false;
    command.process_group = Some(0);
    let text = output(command);
    let ids: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[1], ids[2]);
}

#[test]
fn others_are_closed_and_kept_ones_stay() {
    let (_kept_reader, kept) = pipe();
    let (_lost_reader, lost) = pipe();
    // SAFETY: takes integers only: makes both inheritable.
    unsafe {
        libc::fcntl(kept.as_raw_fd(), libc::F_SETFD, 0);
        libc::fcntl(lost.as_raw_fd(), libc::F_SETFD, 0);
    }
    let probe = format!(
        "for n in {} {}; do test -e /proc/self/fd/$n && echo open || echo closed; done",
        kept.as_raw_fd(),
        lost.as_raw_fd()
    );
    let mut command = shell(&probe);
    command.keep = vec![kept.as_raw_fd()];
    command.close_others = true;
    assert_eq!(output(command.clone()), "open\nclosed\n");
    command.close_others = false;
    assert_eq!(output(command), "open\nopen\n");
}

#[test]
fn close_on_exec_is_lifted_for_what_is_kept() {
    let (_reader, writer) = pipe();
    let probe = format!("test -e /proc/self/fd/{} && echo open || echo closed", writer.as_raw_fd());
    let mut command = shell(&probe);
    assert_eq!(output(command.clone()), "closed\n");
    command.keep = vec![writer.as_raw_fd()];
    assert_eq!(output(command), "open\n");
}

#[test]
fn mask_and_actions_are_those_asked_for() {
    let (blocked, ignored) = ("SigBlk", "SigIgn");
    let mask = std::thread::spawn(|| {
        // SAFETY: the set is a live local, valid when zeroed.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        SignalMask::of_this_thread()
    })
    .join()
    .unwrap();
    // Like Rust's runtime, Python's ignores SIGPIPE. A shell would change the mask, so there is none in between.
    let arguments = vec![c"grep".into(), c"-E".into(), c"SigBlk|SigIgn".into(), c"/proc/self/status".into()];
    let mut command = ChildCommand::new(c"/bin/grep".into(), arguments);
    command.signal_mask = mask;
    let bit = |text: &str, name: &str, signum: i32| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let set = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        set & (1 << (signum - 1)) != 0
    };
    let text = output(command.clone());
    assert!(bit(&text, blocked, libc::SIGUSR1));
    assert!(!bit(&text, blocked, libc::SIGTERM));
    assert!(bit(&text, ignored, libc::SIGPIPE));
    command.restore_signals = true;
    assert!(!bit(&output(command), ignored, libc::SIGPIPE));
}

#[test]
fn threads_that_start_children_at_the_same_time_do_not_disturb_each_other() {
    let threads: Vec<_> = (0..8)
        .map(|number: usize| {
            std::thread::spawn(move || {
                for _ in 0..10 {
                    assert_eq!(output(shell(&format!("echo {number}"))), format!("{number}\n"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
