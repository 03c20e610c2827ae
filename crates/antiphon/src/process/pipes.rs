//! Our ends of a child's standard streams.

use crate::watched::{Watched, reading_methods, reading_traits, writing_methods, writing_traits};
use rustix::io::ioctl_fionbio;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};

/// What a child reads from. Dropping it is the end of the child's input.
///
/// ```
/// use antiphon::process::{Command, Stdio};
///
/// antiphon::run(async {
///     let mut command = Command::shell("tr a-z A-Z");
///     command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
///     let mut child = command.spawn().await?;
///     let input = child.stdin.take().unwrap();
///     input.write_all(b"hello").await?;
///     drop(input); // the end
///     let mut answer = [0; 5];
///     child.stdout.take().unwrap().read_exact(&mut answer).await?;
///     assert_eq!(&answer, b"HELLO");
///     assert!(child.wait().await?.success());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChildStdin {
    socket: Watched<PipeWriter>,
}

/// What a child writes to.
///
/// ```
/// use antiphon::process::{Command, Stdio};
///
/// antiphon::run(async {
///     let mut command = Command::shell("tr a-z A-Z");
///     command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
///     let mut child = command.spawn().await?;
///     let input = child.stdin.take().unwrap();
///     input.write_all(b"hello").await?;
///     drop(input); // the end
///     let mut answer = [0; 5];
///     child.stdout.take().unwrap().read_exact(&mut answer).await?;
///     assert_eq!(&answer, b"HELLO");
///     assert!(child.wait().await?.success());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChildStdout {
    socket: Watched<PipeReader>,
}

/// What a child complains to.
///
/// ```
/// use antiphon::process::{Command, Stdio};
///
/// antiphon::run(async {
///     let mut command = Command::shell("tr a-z A-Z >&2");
///     command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
///     let mut child = command.spawn().await?;
///     let input = child.stdin.take().unwrap();
///     input.write_all(b"hello").await?;
///     drop(input); // the end
///     let mut answer = [0; 5];
///     child.stderr.take().unwrap().read_exact(&mut answer).await?;
///     assert_eq!(&answer, b"HELLO");
///     assert!(child.wait().await?.success());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChildStderr {
    socket: Watched<PipeReader>,
}

impl ChildStdin {
    pub(super) fn new(pipe: PipeWriter) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { socket: Watched::new(pipe)? })
    }
}

impl ChildStdout {
    pub(super) fn new(pipe: PipeReader) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { socket: Watched::new(pipe)? })
    }
}

impl ChildStderr {
    pub(super) fn new(pipe: PipeReader) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { socket: Watched::new(pipe)? })
    }
}

writing_methods!(ChildStdin);
// A pipe's direction ends when it is dropped, which a StreamWriter does when it is closed.
writing_traits!(|_| Ok(()); ChildStdin, &ChildStdin);
reading_methods!(ChildStdout);
reading_traits!(ChildStdout, &ChildStdout);
reading_methods!(ChildStderr);
reading_traits!(ChildStderr, &ChildStderr);

impl AsFd for ChildStdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}

impl AsFd for ChildStdout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}

impl AsFd for ChildStderr {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}
