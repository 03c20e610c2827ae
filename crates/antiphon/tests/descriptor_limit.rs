//! A process that is out of descriptors; a test program of its own, since the limit is the process's.

use antiphon::net::{TcpListener, TcpStream};
use antiphon::{ReadError, Runner, StreamReader, TcpReader, start_server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io;

/// Leaves no descriptor, until it is dropped.
struct Exhausted {
    _files: Vec<File>,
    before: Rlimit,
}

impl Exhausted {
    fn new() -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
        let _files = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        Self { _files, before }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}

#[test]
fn accept_tells_of_it_and_servers_go_on_once_there_are_descriptors() {
    let outcome = Runner::new().virtual_clock().run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = start_server("127.0.0.1:0", async |mut reader: TcpReader, writer| {
            writer.write(&reader.read_line().await?)?;
            Ok::<_, ReadError>(())
        })
        .await?;
        // The clients' ends first, since they take descriptors, too.
        let direct = TcpStream::connect(listener.local_addr()?).await?;
        // In one step, so that the server has not accepted it yet.
        let client = TcpStream::from_std(std::net::TcpStream::connect(server.addresses()[0])?)?;

        let exhausted = Exhausted::new();
        let error = listener.accept().await.map(|_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        let error = TcpStream::connect(listener.local_addr()?).await.map(|_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        antiphon::sleep(std::time::Duration::from_secs(5)).await?; // the server has tried, in vain
        assert_eq!(server.client_count(), 0);
        drop(exhausted);

        assert_eq!(listener.accept().await?.1, direct.local_addr()?, "it is still there");
        client.write_all(b"hello\n").await?;
        let mut reader = StreamReader::new(client);
        assert_eq!(reader.read_to_end().await?, b"hello\n");
        Ok::<_, io::Error>(())
    });
    outcome.unwrap().unwrap();
}
