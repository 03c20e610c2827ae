//! The same server on every runtime: a task per connection, which reads into a buffer of its own and writes all of it back.
//!
//! The bare server has one buffer for all of its connections, which stays in the cache. Two more servers have that, too: antiphon's
//! by [`antiphon::copy`], which reads to memory that the loop lends; tokio's by hand, since its `copy` has a buffer for each call.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;

pub const NAMES: [&str; 6] =
    ["antiphon", "tokio", "monoio, epoll", "monoio, io_uring", "antiphon, lent", "tokio, shared"];

/// As much as the bare server reads at once.
const BUFFER_BYTES: usize = 256 * 1024;
const LOCAL: &str = "127.0.0.1:0";

/// Serves until killed; says nothing if the runtime cannot run here.
pub fn serve(name: &str) {
    match name {
        "antiphon" => antiphon_server(antiphon_echo),
        "antiphon, lent" => antiphon_server(async |stream| antiphon::copy(&stream, &stream).await.map(drop)),
        "tokio" => tokio_server(tokio_echo),
        "tokio, shared" => tokio_server(tokio_echo_shared),
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

async fn antiphon_echo(stream: antiphon::net::TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}

fn antiphon_server<F>(echo: impl Fn(antiphon::net::TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let ended = antiphon::run(async {
        let listener = antiphon::net::ListenOptions::new().backlog(4096).bind(LOCAL).await?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let serving = echo(stream);
            antiphon::spawn(async move {
                let _ = serving.await; // a client that is gone is no failure here
                Ok::<_, antiphon::Cancelled>(())
            });
        }
    });
    let _: io::Result<()> = ended.expect("a loop");
}

async fn tokio_echo(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}

async fn tokio_echo_shared(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
    }
    loop {
        stream.readable().await?;
        let pass_on = |buffer: &RefCell<Vec<u8>>| {
            let mut buffer = buffer.borrow_mut();
            let len = match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Vec::new())),
                outcome => outcome?,
            };
            let written = match stream.try_write(&buffer[..len]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                outcome => outcome?,
            };
            Ok::<_, io::Error>(Some(buffer[written..len].to_vec()))
        };
        match BUFFER.with(pass_on)? {
            None => return Ok(()),
            Some(left) => stream.write_all(&left).await?,
        }
    }
}

fn tokio_server<F>(echo: impl Fn(tokio::net::TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(LOCAL).await.expect("a port");
        ready(listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            tokio::spawn(echo(stream));
        }
    });
}

fn monoio_server<D: monoio::Driver>(mut runtime: monoio::Runtime<D>) {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    use monoio::net::{ListenerOpts, TcpListener, TcpStream};

    async fn echo(mut stream: TcpStream) -> io::Result<()> {
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
