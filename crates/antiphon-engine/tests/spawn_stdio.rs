//! Standard descriptors that change places. The only test of its program, since it changes those of the whole process.

#![allow(unsafe_code)] // dup2(2)

use antiphon_engine::{ChildCommand, wait_blocking};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const NAMES: [&str; 3] = ["zero", "one", "two"];

/// Opens three files as 0, 1 and 2, runs `body`, and puts everything back.
fn with_known_files<R>(body: impl FnOnce() -> R) -> R {
    let directory = std::env::temp_dir().join(format!("antiphon-spawn-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    // SAFETY: these calls take integers only; the saved copies are closed when they were put back.
    let saved = [0, 1, 2].map(|place| unsafe { libc::fcntl(place, libc::F_DUPFD_CLOEXEC, 10) });
    for (place, name) in (0..).zip(NAMES) {
        let file = File::create(directory.join(name)).unwrap();
        // SAFETY: as above.
        unsafe { libc::dup2(file.as_raw_fd(), place) };
    }
    let result = body();
    for (place, copy) in (0..).zip(saved) {
        // SAFETY: as above.
        unsafe {
            libc::dup2(copy, place);
            libc::close(copy);
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
    result
}

/// Which files a child has as 0, 1 and 2 that was given these.
fn files_of_child(stdio: [Option<RawFd>; 3]) -> String {
    let mut fds = [-1; 2];
    // SAFETY: pipe2(2) writes two integers to a live array.
    assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: both descriptors are new.
    let [mut reader, writer] = fds.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
    let report = writer.as_raw_fd();
    let script = format!(
        "for n in 0 1 2; do names=\"$names $(basename $(readlink /proc/$$/fd/$n))\"; done; echo $names >&{report}"
    );
    let arguments = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    let mut command = ChildCommand::new(c"/bin/sh".into(), arguments);
    command.environment = vec![c"PATH=/bin:/usr/bin".into()];
    command.stdio = stdio;
    command.keep = vec![report];
    let child = command.spawn().unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    wait_blocking(child.pid).unwrap();
    text.trim_end().to_owned()
}

#[test]
fn standard_descriptors_can_change_places() {
    let cases = [
        ([None, None, None], "zero one two"),
        ([Some(0), Some(1), Some(2)], "zero one two"),
        ([Some(2), Some(0), Some(1)], "two zero one"),
        ([Some(1), Some(0), Some(2)], "one zero two"),
        ([Some(0), Some(0), Some(0)], "zero zero zero"),
        ([None, Some(2), Some(1)], "zero two one"),
        ([Some(2), None, None], "two one two"),
    ];
    let found = with_known_files(|| cases.map(|(stdio, _)| files_of_child(stdio)));
    assert_eq!(found.each_ref().map(String::as_str), cases.map(|(_, names)| names));
}
