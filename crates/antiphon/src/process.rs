//! Child processes: started without stopping the loop, waited for by descriptor, and reaped whatever happens.
//!
//! ```
//! use antiphon::process::Command;
//!
//! antiphon::run(async {
//!     let output = Command::new("tr").args(["a-z", "A-Z"]).output(b"hello").await?;
//!     assert!(output.exit.success());
//!     assert_eq!(output.stdout, b"HELLO");
//!     Ok::<_, std::io::Error>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On a loop with a [virtual clock](crate::Runner::virtual_clock) children live in the system's time, as the peers of sockets do.

mod child;
mod command;
mod pipes;

pub use antiphon_engine::ChildExit;
pub use child::{Child, Output};
pub use command::{Command, Stdio};
pub use pipes::{ChildStderr, ChildStdin, ChildStdout};
