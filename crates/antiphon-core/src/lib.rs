//! The rules of asyncio as state machines: what happens when, without I/O, threads, clocks or Python.
//!
//! The rules are written once, here; the Python door and the Rust door translate them. A machine is generic over who
//! waits, stores and gives back what it is handed, and calls nobody: its methods say what the caller has to do (wake this
//! one, drop those), so that no foreign code runs while a machine is borrowed.
//!
//! | module | is |
//! |---|---|
//! | [`stream_buffer`] | what has arrived on a stream and was not read yet |

#![forbid(unsafe_code)]

pub mod stream_buffer;
