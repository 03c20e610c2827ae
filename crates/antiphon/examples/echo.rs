//! A server that sends every line back, until it is stopped: `cargo run --example echo -- 127.0.0.1:7000`.

use antiphon::{ReadError, TcpReader, TcpWriter, start_server};

#[antiphon::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let server = start_server(address, echo).await?;
    println!("listening at {}", server.addresses()[0]);
    server.serve_forever().await
}

/// Serves one client; each has a task of its own.
async fn echo(mut reader: TcpReader, writer: TcpWriter) -> Result<(), ReadError> {
    loop {
        let line = reader.read_line().await?;
        if line.is_empty() {
            return Ok(()); // the client has gone
        }
        writer.write(&line)?;
        writer.drain().await?; // waits if the client does not read
    }
}
