//! Sockets while the kernel seems to lack accept4 and takes parts of what is written.
//!
//! The switches are read once in a process. So without them a test runs itself again, in a process that has them.

use antiphon::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use antiphon::{StreamReader, StreamWriter, run, spawn};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use std::env;
use std::io::{self, IoSlice};
use std::process::Command;

/// What the tests run under; names and values of the environment.
const SWITCHES: [(&str, &str); 2] =
    [("ANTIPHON_DISABLE", "accept4,eventfd,epoll_pwait2"), ("ANTIPHON_FORCE", "partial-writes")];

/// So much finds room in any socket.
const LITTLE: usize = 1000;

fn under_switches<F: Future<Output = io::Result<()>>>(test: &str, main: impl FnOnce() -> F) {
    let has = |(name, value): &(&str, &str)| env::var_os(name).is_some_and(|found| found == *value);
    if SWITCHES.iter().all(has) {
        return run(main()).expect("a loop").expect("no error of a socket");
    }
    let program = env::current_exe().expect("this program");
    let output = Command::new(program).args(["--exact", test]).envs(SWITCHES).output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn writes_take_a_part_and_everything_arrives() {
    under_switches("writes_take_a_part_and_everything_arrives", async || {
        let (ours, theirs) = UnixStream::pair()?;
        let bytes: Vec<u8> = (0..LITTLE).map(|number| number as u8).collect();
        let mut received = vec![0; LITTLE];
        let mut parts = 0;
        for round in 0..20 {
            let (front, back) = bytes.split_at(round * 10);
            let written = match round % 2 {
                0 => ours.write(&bytes).await?,
                _ => ours.write_vectored(&[IoSlice::new(front), IoSlice::new(back)]).await?,
            };
            assert!((1..=LITTLE).contains(&written));
            parts += u32::from(written < LITTLE);
            ours.write_all(&bytes[written..]).await?;
            theirs.read_exact(&mut received).await?;
            assert_eq!(received, bytes);
        }
        assert!(parts > 10, "{parts} of 20 writes took a part");
        Ok(())
    });
}

#[test]
fn writer_queues_what_found_no_room() {
    under_switches("writer_queues_what_found_no_room", async || {
        let (ours, theirs) = UnixStream::pair()?;
        let writer = StreamWriter::new(ours);
        let mut reader = StreamReader::new(theirs);
        let mut queued = 0;
        for _ in 0..20 {
            writer.write(&[7; LITTLE])?;
            queued += usize::from(writer.queued_len() > 0);
        }
        assert!(queued > 10, "something was queued after {queued} of 20 writes");
        writer.close();
        writer.wait_closed().await?;
        assert_eq!(reader.read_to_end().await?, vec![7; 20 * LITTLE]);
        Ok(())
    });
}

#[test]
fn accepted_sockets_neither_block_nor_outlive_exec() {
    under_switches("accepted_sockets_neither_block_nor_outlive_exec", async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (accepted, peer) = listener.accept().await?;
        assert_eq!(peer, client.local_addr()?);
        assert!(fcntl_getfl(&accepted)?.contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(&accepted)?.contains(FdFlags::CLOEXEC));
        let reading = spawn(async move {
            let mut received = [0; 5];
            accepted.read_exact(&mut received).await?;
            Ok::<_, io::Error>(received)
        });
        client.write_all(b"hello").await?;
        assert_eq!(&reading.await.unwrap(), b"hello");
        Ok(())
    });
}

#[test]
fn datagrams_are_held_back_and_never_cut() {
    under_switches("datagrams_are_held_back_and_never_cut", async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await?;
        let theirs = UdpSocket::bind("127.0.0.1:0").await?;
        ours.connect(theirs.local_addr()?).await?;
        let mut received = [0; 2 * LITTLE];
        for _ in 0..20 {
            assert_eq!(ours.send(&[1; LITTLE]).await?, LITTLE);
            assert_eq!(theirs.recv_from(&mut received).await?.0, LITTLE);
        }
        Ok(())
    });
}
