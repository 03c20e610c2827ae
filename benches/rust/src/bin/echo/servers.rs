//! The same server on every runtime: a task per connection, which reads into a buffer of its own and writes all of it back.

use std::io::Write;
use std::net::SocketAddr;

pub const NAMES: [&str; 4] = ["antiphon", "tokio", "monoio, epoll", "monoio, io_uring"];

/// As much as the bare server reads at once.
const BUFFER_BYTES: usize = 256 * 1024;
const LOCAL: &str = "127.0.0.1:0";

/// Serves until killed; says nothing if the runtime cannot run here.
pub fn serve(name: &str) {
    match name {
        "antiphon" => antiphon_server(),
        "tokio" => tokio_server(),
        "monoio, epoll" => {
            monoio_server(monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build().expect("a runtime"))
        }
        "monoio, io_uring" => {
            if let Ok(runtime) = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build() {
                monoio_server(runtime);
            }
        }
        other => panic!("there is no server {other:?}"),
    }
}

fn ready(address: SocketAddr) {
    println!("READY {} {}", address.port(), std::process::id());
    std::io::stdout().flush().expect("somebody reads it");
}

fn antiphon_server() {
    use antiphon::net::{ListenOptions, TcpStream};

    async fn echo(stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                len => stream.write_all(&buffer[..len]).await?,
            }
        }
    }
    let ended = antiphon::run(async {
        let listener = ListenOptions::new().backlog(4096).bind(LOCAL).await?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            antiphon::spawn(async move {
                let _ = echo(stream).await; // a client that is gone is no failure here
                Ok::<_, antiphon::Cancelled>(())
            });
        }
    });
    let _: std::io::Result<()> = ended.expect("a loop");
}

fn tokio_server() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                len => stream.write_all(&buffer[..len]).await?,
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(LOCAL).await.expect("a port");
        ready(listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(echo(stream));
        }
    });
}

fn monoio_server<D: monoio::Driver>(mut runtime: monoio::Runtime<D>) {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    use monoio::net::{ListenerOpts, TcpListener, TcpStream};

    async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            let (read, filled) = stream.read(buffer).await;
            if read? == 0 {
                return Ok(());
            }
            let (written, emptied) = stream.write_all(filled).await;
            written?;
            buffer = emptied;
            buffer.clear();
        }
    }
    runtime.block_on(async {
        let options = ListenerOpts::new().backlog(4096);
        let listener = TcpListener::bind_with_config(LOCAL, &options).expect("a port");
        ready(listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            monoio::spawn(echo(stream));
        }
    });
}
