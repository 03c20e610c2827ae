//! What can go wrong beside the driver, whose errors are plain [`io::Error`]s.

use crate::SpawnStage;
use std::fmt;
use std::io;

/// An error of the engine; keeps the operating system's own.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// The signal cannot be watched.
    Signal {
        /// The signal's number.
        signum: i32,
        /// `EINVAL`: not a signal, or one that cannot be caught.
        source: io::Error,
    },
    /// The child process cannot be watched or reaped.
    Child {
        /// The process.
        pid: u32,
        /// `ECHILD`: no child, or reaped by somebody else. `ESRCH`: no process. `ENOSYS`: the kernel has no pidfd.
        source: io::Error,
    },
    /// The child process cannot be started.
    Spawn {
        /// How far it came.
        stage: SpawnStage,
        /// What the system call said that failed.
        source: io::Error,
    },
    /// The blocking pool takes no more work.
    PoolShutDown,
    /// The blocking pool has no thread and can start none.
    Thread {
        /// `EAGAIN`: a limit on threads or memory.
        source: io::Error,
    },
}

impl EngineError {
    /// The operating system's error number, if the error came from there.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Signal { source, .. }
            | Self::Child { source, .. }
            | Self::Spawn { source, .. }
            | Self::Thread { source } => source.raw_os_error(),
            Self::PoolShutDown => None,
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { signum, source } => write!(f, "signal {signum} cannot be watched: {source}"),
            Self::Child { pid, source } => write!(f, "child process {pid} cannot be waited for: {source}"),
            Self::Spawn { stage, source } => write!(f, "child process failed to start ({stage:?}): {source}"),
            Self::PoolShutDown => f.write_str("the blocking pool has been shut down"),
            Self::Thread { source } => write!(f, "no thread could be started for blocking work: {source}"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Signal { source, .. }
            | Self::Child { source, .. }
            | Self::Spawn { source, .. }
            | Self::Thread { source } => Some(source),
            Self::PoolShutDown => None,
        }
    }
}

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Signal { source, .. }
            | EngineError::Child { source, .. }
            | EngineError::Spawn { source, .. }
            | EngineError::Thread { source } => source,
            EngineError::PoolShutDown => Self::other(error),
        }
    }
}
