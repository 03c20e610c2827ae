//! What a child is to be, and its start.

use super::child::{Child, Output, Unclaimed};
use super::{ChildExit, ChildStderr, ChildStdin, ChildStdout};
use crate::runtime::Loop;
use crate::{Cancelled, JoinError, to_thread};
use antiphon_engine::{ChildCommand, EngineError, SignalMask};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the search for programs goes if the environment does not say: `os.defpath`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// What one of a child's standard streams is.
///
/// ```
/// use antiphon::process::{Command, Stdio};
///
/// antiphon::run(async {
///     let mut command = Command::new("cat");
///     command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
///     let mut child = command.spawn().await?;
///     let mut nothing = [0; 1];
///     assert_eq!(child.stdout.take().unwrap().read(&mut nothing).await?, 0);
///     assert!(child.wait().await?.success());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// The parent's own.
    #[must_use]
    pub const fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// Nothing to read; what is written is thrown away.
    #[must_use]
    pub const fn null() -> Self {
        Self(Kind::Null)
    }

    /// A pipe, whose other end the [`Child`] has.
    #[must_use]
    pub const fn piped() -> Self {
        Self(Kind::Piped)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Kind::Descriptor(descriptor))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self(Kind::Descriptor(file.into()))
    }
}

/// A child process to be started.
///
/// ```
/// use antiphon::StreamReader;
/// use antiphon::process::{ChildExit, Command, Stdio};
///
/// antiphon::run(async {
///     let mut command = Command::shell("echo $GREETING; exit 3");
///     let mut child = command.env("GREETING", "hello").stdout(Stdio::piped()).spawn().await?;
///     let mut reader = StreamReader::new(child.stdout.take().unwrap());
///     assert_eq!(reader.read_to_end().await?, b"hello\n");
///     assert_eq!(child.wait().await?, ChildExit::Exited(3));
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    /// What is set, and what is removed.
    variables: BTreeMap<OsString, Option<OsString>>,
    clear: bool,
    directory: Option<PathBuf>,
    stdio: [Stdio; 3],
    kill_on_drop: bool,
    new_session: bool,
    process_group: Option<i32>,
}

/// Our ends of the pipes.
#[derive(Default)]
struct Pipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
}

impl Command {
    /// Runs `program`, which is searched for in `PATH` unless it has a `/`: `create_subprocess_exec`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: BTreeMap::new(),
            clear: false,
            directory: None,
            stdio: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            kill_on_drop: false,
            new_session: false,
            process_group: None,
        }
    }

    /// Runs a line of the shell's language: `create_subprocess_shell`. Never put into it what others have written.
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        let mut command = Self::new("/bin/sh");
        command.arg("-c").arg(line);
        command
    }

    /// One more argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.variables.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Removes a variable of the environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.variables.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Removes all variables, also those that were set here before.
    pub fn env_clear(&mut self) -> &mut Self {
        self.variables.clear();
        self.clear = true;
        self
    }

    /// Where the child begins.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// What it reads from.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// What it writes to.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// What it complains to.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// Whether a [`Child`] that is dropped is killed, rather than left to itself.
    pub const fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Begins a session of its own, without a terminal.
    pub const fn new_session(&mut self, begin: bool) -> &mut Self {
        self.new_session = begin;
        self
    }

    /// Joins this process group; 0: begins one.
    pub const fn process_group(&mut self, group: i32) -> &mut Self {
        self.process_group = Some(group);
        self
    }

    /// Starts the child, on a thread of the loop's pool.
    ///
    /// # Errors
    /// What went wrong on the way to the program, such as [`NotFound`](io::ErrorKind::NotFound);
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): a NUL byte somewhere. With [`NoLoop`](crate::NoLoop) inside: no loop runs
    /// here.
    ///
    /// # Cancellation
    /// A child that is started all the same is killed.
    pub async fn spawn(&self) -> io::Result<Child> {
        Loop::running()?;
        super::child::reap_orphans();
        let mut command = self.to_engine()?;
        let (ours, theirs) = self.pipes()?;
        for (place, descriptor) in command.stdio.iter_mut().zip(&theirs) {
            *place = descriptor.as_ref().map(AsRawFd::as_raw_fd);
        }
        let started = to_thread(move || {
            let started = command.spawn().map(Unclaimed::new);
            drop(theirs); // the child has its own
            started
        });
        let started = started.await.map_err(join_error)??;
        let stdin = ours.stdin.map(ChildStdin::new).transpose()?;
        let stdout = ours.stdout.map(ChildStdout::new).transpose()?;
        let stderr = ours.stderr.map(ChildStderr::new).transpose()?;
        Child::new(started, stdin, stdout, stderr, self.kill_on_drop)
    }

    /// Starts the child and waits for its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancellation
    /// The child is killed.
    pub async fn status(&self) -> io::Result<ChildExit> {
        let mut child = self.spawn().await?;
        child.set_kill_on_drop(true);
        child.wait().await
    }

    /// Starts the child with pipes, gives it `input`, and waits for all that it writes and for its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancellation
    /// The child is killed.
    pub async fn output(&mut self, input: &[u8]) -> io::Result<Output> {
        self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn().await?;
        child.set_kill_on_drop(true);
        child.communicate(input).await
    }

    fn to_engine(&self) -> io::Result<ChildCommand> {
        let environment = self.environment();
        let path = environment.get(OsStr::new("PATH")).cloned();
        let programs = if self.program.as_bytes().contains(&b'/') {
            vec![c_string(&self.program)?]
        } else {
            let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
            std::env::split_paths(&path)
                .map(|directory| c_string(directory.join(&self.program).as_os_str()))
                .collect::<io::Result<_>>()?
        };
        let arguments = std::iter::once(&self.program).chain(&self.arguments);
        let mut command = ChildCommand::new(
            c_string(&self.program)?,
            arguments.map(|argument| c_string(argument)).collect::<io::Result<_>>()?,
        );
        command.programs = programs;
        command.environment = environment
            .into_iter()
            .map(|(name, value)| {
                let mut pair = name.into_vec();
                pair.push(b'=');
                pair.extend(value.into_vec());
                c_string(&OsString::from_vec(pair))
            })
            .collect::<io::Result<_>>()?;
        command.directory = self.directory.as_ref().map(|path| c_string(path.as_os_str())).transpose()?;
        command.restore_signals = true;
        command.new_session = self.new_session;
        command.process_group = self.process_group;
        command.signal_mask = SignalMask::of_this_thread();
        Ok(command)
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        let inherited = std::env::vars_os().filter(|_| !self.clear);
        let mut environment: BTreeMap<_, _> = inherited.collect();
        for (name, value) in &self.variables {
            match value {
                Some(value) => environment.insert(name.clone(), value.clone()),
                None => environment.remove(name),
            };
        }
        environment
    }

    /// Our ends, and the descriptors that the child gets; `None`: the parent's own.
    fn pipes(&self) -> io::Result<(Pipes, [Option<OwnedFd>; 3])> {
        let mut ours = Pipes::default();
        let mut theirs = [None, None, None];
        for (number, (stdio, descriptor)) in self.stdio.iter().zip(&mut theirs).enumerate() {
            *descriptor = match &stdio.0 {
                Kind::Inherit => None,
                Kind::Null => Some(File::options().read(true).write(true).open("/dev/null")?.into()),
                Kind::Descriptor(descriptor) => Some(descriptor.try_clone()?),
                Kind::Piped => {
                    let (reader, writer) = io::pipe()?;
                    Some(match number {
                        0 => {
                            ours.stdin = Some(writer);
                            reader.into()
                        }
                        1 => {
                            ours.stdout = Some(reader);
                            writer.into()
                        }
                        _ => {
                            ours.stderr = Some(reader);
                            writer.into()
                        }
                    })
                }
            };
        }
        Ok((ours, theirs))
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

fn join_error(error: JoinError<EngineError>) -> io::Error {
    match error {
        JoinError::Cancelled => Cancelled.into(),
        JoinError::Failed(error) => error.into(),
        error => io::Error::other(error.to_string()),
    }
}
