//! Child processes: pipes, ends, signals to them, and what is left of them.

use antiphon::process::{ChildExit, Command, Stdio};
use antiphon::signal::Signal;
use antiphon::{JoinError, ReadError, Runner, StreamReader, StreamWriter, run, sleep, spawn, yield_now};
use std::io::{self, ErrorKind};
use std::time::Duration;

fn on_a_loop<T>(main: impl Future<Output = io::Result<T>>) -> T {
    run(main).expect("a loop").expect("no error of I/O")
}

/// What the kernel says of a process: `R`, `S`, `Z` … or `None` if there is no such.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn output_collects_both_streams_and_the_exit_code() {
    on_a_loop(async {
        let output = Command::shell("cat; echo sorry >&2; exit 7").output(b"to be copied").await?;
        assert_eq!(output.stdout, b"to be copied");
        assert_eq!(output.stderr, b"sorry\n");
        assert_eq!(output.exit, ChildExit::Exited(7));
        assert_eq!(output.exit.to_string(), "exit code 7");
        Ok(())
    });
}

#[test]
fn much_data_in_both_directions_does_not_lock_up() {
    on_a_loop(async {
        let input = vec![b'x'; 2_000_000];
        let output = Command::new("cat").output(&input).await?;
        assert_eq!(output.stdout.len(), input.len());
        // One that does not read its input is no error.
        assert!(Command::new("true").output(&input).await?.exit.success());
        Ok(())
    });
}

#[test]
fn streams_talk_to_a_child_line_by_line() {
    let outcome = run(async {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await?;
        let writer = StreamWriter::new(child.stdin.take().unwrap());
        let mut reader = StreamReader::new(child.stdout.take().unwrap());
        for line in ["one\n", "two\n"] {
            writer.write(line.as_bytes())?;
            assert_eq!(reader.read_line().await?, line.as_bytes());
        }
        assert_eq!(child.try_wait()?, None);
        writer.close(); // the end of its input
        writer.wait_closed().await?;
        assert_eq!(reader.read_to_end().await?, b"");
        assert_eq!(child.wait().await?, ChildExit::Exited(0));
        assert_eq!(child.wait().await?, ChildExit::Exited(0), "as often as it is asked");
        Ok::<_, ReadError>(())
    });
    outcome.unwrap().unwrap();
}

#[test]
fn environment_directory_and_standard_streams_are_as_told() {
    on_a_loop(async {
        let mut command = Command::shell("pwd; echo \"$ONE-$TWO-$HOME\"");
        command.env("TWO", "gone").env_clear().env("ONE", "1").env("TWO", "2").env_remove("TWO");
        let output = command.current_dir("/").output(b"").await?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/\n1--\n");
        let path = std::env::temp_dir().join(format!("antiphon-{}-output", std::process::id()));
        let exit = Command::new("echo").arg("kept").stdout(std::fs::File::create(&path)?).status().await?;
        assert!(exit.success());
        assert_eq!(std::fs::read(&path)?, b"kept\n");
        std::fs::remove_file(path)?;
        assert!(Command::new("cat").stdin(Stdio::null()).status().await?.success());
        Ok(())
    });
}

#[test]
fn program_that_cannot_be_started_is_told() {
    on_a_loop(async {
        let error = Command::new("no such program of antiphon's").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("/etc/passwd").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Command::new("true").current_dir("/nonexistent").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("true").arg("a\0b").spawn().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        Ok(())
    });
}

#[test]
fn signals_end_a_child_and_miss_one_that_was_reaped() {
    on_a_loop(async {
        for (signal, number) in [(Signal::TERM, 15), (Signal::KILL, 9)] {
            let mut child = Command::new("sleep").arg("1000").spawn().await?;
            child.send_signal(signal)?;
            let exit = child.wait().await?;
            assert_eq!(exit, ChildExit::Killed { signum: number, core_dumped: false });
            assert_eq!(exit.returncode(), -number);
            let error = child.kill().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::SRCH.raw_os_error()));
        }
        Ok(())
    });
}

#[test]
fn cancelled_wait_can_be_made_again() {
    on_a_loop(async {
        let mut child = Command::new("sleep").arg("1000").spawn().await?;
        let waiting = spawn(async move {
            let outcome = child.wait().await;
            assert!(outcome.is_err());
            Ok::<_, io::Error>(child)
        });
        yield_now().await?;
        waiting.cancel();
        let mut child = waiting.await.unwrap();
        child.kill()?;
        assert!(!child.wait().await?.success());
        Ok(())
    });
}

#[test]
fn child_that_is_dropped_is_reaped_when_it_ends() {
    on_a_loop(async {
        let mut command = Command::shell("read line");
        let mut child = command.stdin(Stdio::piped()).spawn().await?;
        let (pid, stdin) = (child.id(), child.stdin.take());
        drop(child);
        yield_now().await?;
        assert!(state(pid).is_some_and(|state| state != 'Z'), "it waits for a line");
        drop(stdin); // the end of what it reads is its own
        while state(pid).is_some() {
            sleep(Duration::from_millis(1)).await?;
        }
        Ok(())
    });
}

#[test]
fn killed_on_drop_or_with_the_task_that_waits_for_its_output() {
    on_a_loop(async {
        let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().await?;
        let pid = child.id();
        drop(child);
        while state(pid).is_some() {
            sleep(Duration::from_millis(1)).await?;
        }
        let path = std::env::temp_dir().join(format!("antiphon-{}-pid", std::process::id()));
        let line = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", path.display());
        let task = spawn(async move { Command::shell(line).output(b"").await });
        let pid = loop {
            sleep(Duration::from_millis(1)).await?;
            if let Ok(text) = std::fs::read_to_string(&path) {
                break text.trim().parse().unwrap();
            }
        };
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
        while state(pid).is_some() {
            sleep(Duration::from_millis(1)).await?;
        }
        std::fs::remove_file(path)
    });
}

#[test]
fn child_that_outlives_its_loop_is_reaped_by_a_later_one() {
    let mut command = Command::shell("read line");
    let (pid, stdin) = on_a_loop(async {
        let child = command.stdin(Stdio::piped()).spawn().await?;
        let stdin = rustix::io::fcntl_dupfd_cloexec(child.stdin.as_ref().unwrap(), 3)?;
        Ok((child.id(), stdin))
    });
    assert!(matches!(state(pid), Some('R' | 'S')));
    drop(stdin);
    while state(pid) != Some('Z') {
        std::thread::yield_now();
        if state(pid).is_none() {
            return; // a loop of another test has reaped it: they share a process
        }
    }
    on_a_loop(async { Command::new("true").status().await });
    assert_eq!(state(pid), None);
}

#[test]
fn many_children_at_once_are_waited_for_without_threads() {
    on_a_loop(async {
        let tasks: Vec<_> = (0..40_u8)
            .map(|code| spawn(async move { Command::shell(format!("exit {code}")).status().await }))
            .collect();
        for (code, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), ChildExit::Exited(code as i32));
        }
        Ok(())
    });
}

#[test]
fn children_end_in_the_systems_time_on_a_virtual_clock() {
    let exit = Runner::new().virtual_clock().run(Command::shell("exit 4").status());
    assert_eq!(exit.unwrap().unwrap(), ChildExit::Exited(4));
}
