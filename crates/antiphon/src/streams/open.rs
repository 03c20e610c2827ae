//! Connections and servers of streams, by asyncio's names.

use super::server::{Listener, Server};
use super::{StreamReader, StreamWriter};
use crate::Failure;
use crate::net::{
    Address, ListenOptions, ReadHalf, TcpListener, TcpStream, UnixListener, UnixStream, WriteHalf, resolve,
};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Reads from a TCP connection.
pub type TcpReader = StreamReader<ReadHalf<TcpStream>>;
/// Writes to a TCP connection.
pub type TcpWriter = StreamWriter<WriteHalf<TcpStream>>;
/// Reads from a connection within this machine.
pub type UnixReader = StreamReader<ReadHalf<UnixStream>>;
/// Writes to a connection within this machine.
pub type UnixWriter = StreamWriter<WriteHalf<UnixStream>>;

/// Connects to `address`: `asyncio.open_connection`.
///
/// ```
/// use antiphon::{ReadError, open_connection, start_server};
///
/// antiphon::run(async {
///     let server = start_server("127.0.0.1:0", async |mut reader, writer| {
///         let line = reader.read_line().await?;
///         writer.write(&line)?;
///         writer.close();
///         Ok::<(), ReadError>(())
///     })
///     .await?;
///     let (mut reader, writer) = open_connection(server.addresses()[0]).await?;
///     writer.write(b"hello\n")?;
///     assert_eq!(reader.read_to_end().await?, b"hello\n");
///     server.close();
///     server.wait_closed().await?;
///     Ok::<_, ReadError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`TcpStream::connect`].
pub async fn open_connection(address: impl Into<Address>) -> io::Result<(TcpReader, TcpWriter)> {
    Ok(streams_of(TcpStream::connect(address).await?))
}

/// As [`open_connection`], through a path: `asyncio.open_unix_connection`.
///
/// ```
/// use antiphon::{ReadError, UnixReader, UnixWriter, open_unix_connection, start_unix_server};
///
/// # let path = std::env::temp_dir().join(format!("antiphon-doc-open-{}", std::process::id()));
/// antiphon::run(async {
///     let greet = async |_: UnixReader, writer: UnixWriter| writer.write(b"hello");
///     let server = start_unix_server(&path, greet).await?;
///     let (mut reader, _writer) = open_unix_connection(&path).await?;
///     assert_eq!(reader.read_to_end().await?, b"hello");
///     drop(server);
///     std::fs::remove_file(&path)?;
///     Ok::<_, ReadError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`UnixStream::connect`].
pub async fn open_unix_connection(path: impl AsRef<Path>) -> io::Result<(UnixReader, UnixWriter)> {
    Ok(unix_streams_of(UnixStream::connect(path).await?))
}

/// Listens at every address that `address` stands for, and runs `handle` as a task for each connection: `asyncio.start_server`.
///
/// An error of a task of these is printed, as that of any task that nobody joins.
///
/// ```
/// use antiphon::{ReadError, TcpReader, TcpWriter, open_connection, start_server};
///
/// antiphon::run(async {
///     let double = async |mut reader: TcpReader, writer: TcpWriter| {
///         let word = reader.read_to_end().await?;
///         writer.write_lines(&[&word, &word])?;
///         Ok::<_, ReadError>(())
///     };
///     let server = start_server("localhost:0", double).await?;
///     let (mut reader, writer) = open_connection(server.addresses()[0]).await?;
///     writer.write(b"bon")?;
///     writer.close();
///     assert_eq!(reader.read_to_end().await?, b"bonbon");
///     Ok::<_, ReadError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`TcpListener::bind`]; then it listens nowhere.
pub async fn start_server<F, E>(address: impl Into<Address>, handle: F) -> io::Result<Server>
where
    F: AsyncFn(TcpReader, TcpWriter) -> Result<(), E> + 'static,
    E: Failure + 'static,
{
    // Both families may want the same port of all interfaces.
    let options = ListenOptions::new().only_v6(true);
    let listeners: io::Result<Vec<_>> =
        resolve(address).await?.into_iter().map(|address| options.bind_to(address)).collect();
    let listeners = listeners?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    Server::start(listeners, addresses, async move |stream| {
        let (reader, writer) = streams_of(stream);
        handle(reader, writer).await
    })
}

/// As [`start_server`], at a path: `asyncio.start_unix_server`. A socket that a former server left there is removed.
///
/// ```
/// use antiphon::{ReadError, UnixReader, UnixWriter, open_unix_connection, start_unix_server};
///
/// # let path = std::env::temp_dir().join(format!("antiphon-doc-server-{}", std::process::id()));
/// antiphon::run(async {
///     let server = start_unix_server(&path, async |_: UnixReader, writer: UnixWriter| {
///         writer.write(b"hello")
///     })
///     .await?;
///     let (mut reader, _writer) = open_unix_connection(&path).await?;
///     assert_eq!(reader.read_to_end().await?, b"hello");
///     drop(server);
///     std::fs::remove_file(&path)?;
///     Ok::<_, ReadError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`UnixListener::bind`].
pub async fn start_unix_server<F, E>(path: impl AsRef<Path>, handle: F) -> io::Result<Server>
where
    F: AsyncFn(UnixReader, UnixWriter) -> Result<(), E> + 'static,
    E: Failure + 'static,
{
    let path = path.as_ref();
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    Server::start(vec![UnixListener::bind(path)?], Vec::new(), async move |stream| {
        let (reader, writer) = unix_streams_of(stream);
        handle(reader, writer).await
    })
}

fn streams_of(stream: TcpStream) -> (TcpReader, TcpWriter) {
    let (reading, writing) = stream.into_split();
    (StreamReader::new(reading), StreamWriter::new(writing))
}

fn unix_streams_of(stream: UnixStream) -> (UnixReader, UnixWriter) {
    let (reading, writing) = stream.into_split();
    (StreamReader::new(reading), StreamWriter::new(writing))
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Listener for UnixListener {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await
    }
}
