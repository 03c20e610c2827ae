//! A generator that is stepped once more than it yields: the third `next` raises.
//!
//! `examples/generator.py` in Rust; it prints 1 and 2, and ends with status 1 and the error.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon_core::{Exception, Generator, ProtocolError, Step, Yielder, generator};

async fn run(y: Yielder<'_, ()>) -> Result<(), Exception> {
    println!("1");
    y.yield_(()).await?;
    println!("2");
    y.yield_(()).await
}

fn main() -> Result<(), Exception> {
    generator!(let mut x = run);
    for _ in 0..3 {
        match x.next() {
            Step::Yielded(()) => {}
            // `next` in Python raises `StopIteration` for a return, too.
            Step::Returned(()) => return Err(Exception::Protocol(ProtocolError::Finished)),
            Step::Raised(exception) => return Err(exception),
        }
    }
    Ok(())
}
