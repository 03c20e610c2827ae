//! A server that Ctrl-C ends in good order: it takes nobody in any more, lets its clients finish what they are at, and cancels
//! those that take too long, who still clean up.

use antiphon::signal::{Signal, Signals};
use antiphon::{Failure, ReadError, TcpReader, TcpWriter, start_server, timeout};
use std::io;
use std::time::Duration;

/// So long clients may take to finish.
const PATIENCE: Duration = Duration::from_millis(200);

#[antiphon::main]
async fn main() -> io::Result<()> {
    let mut signals = Signals::new(&[Signal::INT, Signal::TERM])?;
    let server = start_server("127.0.0.1:0", greet).await?;
    println!("listening at {}", server.addresses()[0]);

    signals.recv().await?;
    println!("shutting down, {} clients left", server.client_count());
    server.close();
    if timeout(PATIENCE, server.wait_closed()).await.is_err() {
        println!("patience is over");
        server.cancel_clients();
        server.wait_closed().await?;
    }
    println!("goodbye");
    Ok(())
}

/// Greets whoever tells a name, until somebody does not.
async fn greet(mut reader: TcpReader, writer: TcpWriter) -> Result<(), ReadError> {
    loop {
        match reader.read_line().await {
            Ok(name) if name.is_empty() => return Ok(()),
            Ok(name) => writer.write_lines(&[b"hello ", &name])?,
            Err(error) => {
                if error.is_cancelled() {
                    writer.write(b"the server is shutting down\n")?;
                }
                return Err(error);
            }
        }
    }
}
