//! Streams by asyncio's names: readers, writers, servers.

use antiphon::net::{UnixStream, WriteHalf};
use antiphon::{
    Failure, JoinError, ReadError, Runner, StreamReader, StreamWriter, TaskGroup, TimeoutError, UnixReader,
    UnixWriter, open_connection, open_unix_connection, run, sleep, spawn, start_server, start_unix_server,
    task_group, timeout, to_thread, yield_now,
};
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

const LOCAL: &str = "127.0.0.1:0";
const SECOND: Duration = Duration::from_secs(1);

fn on_a_loop<T>(main: impl Future<Output = Result<T, ReadError>>) -> T {
    run(main).expect("a loop").expect("no error of a stream")
}

/// The two ends of a connection, as streams, and the peer as a bare socket.
fn stream() -> io::Result<(UnixReader, UnixWriter, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (reading, writing) = ours.into_split();
    Ok((StreamReader::new(reading), StreamWriter::new(writing), theirs))
}

#[test]
fn reads_wait_until_what_they_want_is_whole() {
    on_a_loop(async {
        let (mut reader, _writer, peer) = stream()?;
        let feed = spawn(async move {
            for piece in ["GET", " /\r", "\nHo", "st: x\r\n", "\r", "\n12", "345", "6"] {
                peer.write_all(piece.as_bytes()).await?;
                yield_now().await?;
            }
            Ok::<_, io::Error>(())
        });
        assert_eq!(reader.read_line().await?, b"GET /\r\n");
        assert_eq!(reader.read_until(b"\r\n\r\n").await?, b"Host: x\r\n\r\n");
        assert_eq!(reader.read_exactly(4).await?, b"1234");
        assert!(!reader.at_eof());
        assert_eq!(reader.read_to_end().await?, b"56");
        assert!(reader.at_eof());
        assert_eq!(reader.read(10).await?, b"");
        assert_eq!(reader.read_line().await?, b"");
        assert!(feed.await.is_ok());
        Ok(())
    });
}

#[test]
fn read_gives_what_is_there_and_no_more_than_asked_for() {
    on_a_loop(async {
        let (mut reader, _writer, peer) = stream()?;
        peer.write_all(b"abcdef").await?;
        assert_eq!(reader.read(0).await?, b"");
        assert_eq!(reader.read(2).await?, b"ab");
        assert_eq!(reader.read_until(b"d").await?, b"cd");
        assert_eq!(reader.read(100).await?, b"ef");
        Ok(())
    });
}

#[test]
fn stream_that_ends_too_early_gives_what_came() {
    on_a_loop(async {
        let mut reader = StreamReader::new(&b"abc"[..]);
        let Err(ReadError::Incomplete { partial, expected }) = reader.read_exactly(5).await else {
            panic!("it is incomplete")
        };
        assert_eq!((&partial[..], expected), (&b"abc"[..], Some(5)));
        let mut reader = StreamReader::new(&b"abc"[..]);
        let error = reader.read_until(b"\n").await.unwrap_err();
        assert_eq!(error.to_string(), "3 bytes read, and the stream ended before the separator");
        assert_eq!(io::Error::from(error).kind(), ErrorKind::UnexpectedEof);
        Ok(())
    });
}

#[test]
fn limit_is_told_with_what_to_skip_and_lines_that_are_too_long_are_dropped() {
    on_a_loop(async {
        let mut reader = StreamReader::with_limit(&b"0123456789\nrest"[..], 4);
        let Err(ReadError::Overrun { found: true, consumed: 10 }) = reader.read_until(b"\n").await else {
            panic!("it is found too far away")
        };
        assert_eq!(reader.read_exactly(10).await?, b"0123456789", "it is still there");
        assert_eq!(reader.read_line().await?, b"\n");
        let mut reader = StreamReader::with_limit(&b"0123456789\nrest"[..], 4);
        assert!(matches!(reader.read_line().await, Err(ReadError::Overrun { .. })));
        assert_eq!(reader.read_line().await?, b"rest");
        assert!(matches!(reader.read_until(b"").await, Err(ReadError::EmptySeparator)));
        assert!(matches!(reader.read_until_any(&[]).await, Err(ReadError::EmptySeparator)));
        Ok(())
    });
}

#[test]
fn first_separator_of_several_ends_the_read() {
    on_a_loop(async {
        let mut reader = StreamReader::new(&b"one;two\r\nthree"[..]);
        let separators: [&[u8]; 2] = [b"\r\n", b";"];
        assert_eq!(reader.read_until_any(&separators).await?, b"one;");
        assert_eq!(reader.read_until_any(&separators).await?, b"two\r\n");
        assert!(reader.read_until_any(&separators).await.is_err());
        Ok(())
    });
}

#[test]
fn cancelled_read_leaves_what_came_to_the_next() {
    on_a_loop(async {
        let (mut reader, _writer, peer) = stream()?;
        for piece in [&b"hal"[..], b"f a "] {
            let reading = spawn(async move {
                let outcome = reader.read_line().await;
                assert!(outcome.is_err_and(|error| error.is_cancelled()));
                Ok::<_, ReadError>(reader)
            });
            yield_now().await?;
            peer.write_all(piece).await?;
            yield_now().await?;
            yield_now().await?;
            reading.cancel();
            reader = reading.await.unwrap();
        }
        peer.write_all(b"line\n").await?;
        assert_eq!(reader.read_line().await?, b"half a line\n");
        Ok(())
    });
}

#[test]
fn lines_are_text_and_what_is_no_text_is_told() {
    on_a_loop(async {
        let mut lines = StreamReader::new(&b"one\r\n\n\xff\nlast"[..]).lines();
        assert_eq!(lines.next().await.unwrap()?, "one");
        assert_eq!(lines.next().await.unwrap()?, "");
        assert_eq!(lines.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(lines.next().await.unwrap()?, "last");
        assert!(lines.next().await.is_none() && lines.next().await.is_none());
        Ok(())
    });
}

#[test]
fn traits_see_what_is_buffered_first() {
    on_a_loop(async {
        let mut reader = StreamReader::new(&b"line\nabcdef"[..]);
        reader.read_line().await?;
        let mut two = [0; 2];
        assert_eq!(poll_fn(|context| Pin::new(&mut reader).poll_read(context, &mut two)).await?, 2);
        assert_eq!(&two, b"ab");
        let len = poll_fn(|context| {
            Pin::new(&mut reader).poll_fill_buf(context).map_ok(|bytes| {
                assert_eq!(bytes, b"cdef");
                bytes.len()
            })
        });
        assert_eq!(len.await?, 4);
        Pin::new(&mut reader).consume(3);
        assert_eq!(reader.into_parts().1, b"f");
        Ok(())
    });
}

#[test]
fn what_a_peer_does_not_read_is_queued_and_drain_waits() {
    on_a_loop(async {
        let (_reader, writer, peer) = stream()?;
        const LEN: usize = 3_000_000;
        writer.write(&vec![1; LEN])?;
        assert!(writer.queued_len() > 1_000_000, "the kernel has no room for all");
        // Under the switch for partial writes it may say that it has room for nothing.
        let forced = std::env::var_os("ANTIPHON_FORCE").is_some();
        assert!(forced || writer.queued_len() < LEN, "the kernel has taken some at once");
        let patient = timeout(Duration::from_millis(1), writer.drain());
        assert!(patient.await.is_err());
        let peer = peer.into_std();
        peer.set_nonblocking(false)?;
        let read = spawn(to_thread(move || {
            let mut peer = peer;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        }));
        writer.drain().await?;
        assert!(writer.queued_len() <= 16 * 1024);
        writer.write_lines(&[b"the ", b"end"])?;
        writer.close();
        assert!(writer.is_closing());
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        writer.wait_closed().await?;
        let all = read.await.unwrap()?;
        assert_eq!(all.len(), LEN + 7);
        assert!(all.ends_with(b"\x01the end"));
        Ok(())
    });
}

#[test]
fn queued_bytes_leave_though_nobody_drains_and_the_writer_is_gone() {
    on_a_loop(async {
        let (reader, writer, peer) = stream()?;
        writer.write(&vec![1; 1_000_000])?;
        drop((reader, writer));
        let mut peer = StreamReader::new(peer);
        assert_eq!(peer.read_to_end().await?.len(), 1_000_000);
        Ok(())
    });
}

#[test]
fn cancelled_task_still_writes_and_its_next_wait_fails() {
    on_a_loop(async {
        let (_reader, writer, peer) = stream()?;
        let mut peer = StreamReader::new(peer);
        let task = spawn(async move {
            antiphon::current_task().unwrap().cancel();
            writer.write(b"last words\n")?;
            assert!(yield_now().await.is_err());
            Err::<(), _>(ReadError::Cancelled)
        });
        assert_eq!(peer.read_line().await?, b"last words\n");
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
        Ok(())
    });
}

#[test]
fn peer_that_is_gone_fails_writes_and_drains() {
    on_a_loop(async {
        let (_reader, writer, peer) = stream()?;
        drop(peer);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(writer.drain().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        Ok(())
    });
}

/// A sink that takes little, and keeps what it took until it is flushed.
struct Slow {
    to: WriteHalf<UnixStream>,
    kept: Vec<u8>,
    pause: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::replace(&mut self.pause, true) {
            self.pause = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = bytes.len().min(3);
        self.kept.extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let Self { to, kept, .. } = &mut *self;
            match Pin::new(to).poll_write(context, kept) {
                Poll::Ready(Ok(len)) => drop(kept.drain(..len)),
                other => return other.map_ok(|_| ()),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_close(context)
    }
}

#[test]
fn sinks_of_others_that_pause_and_buffer_are_flushed_and_closed() {
    on_a_loop(async {
        let (ours, theirs) = UnixStream::pair()?;
        let (_reading, to) = ours.into_split();
        let writer = StreamWriter::new(Slow { to, kept: Vec::new(), pause: false });
        writer.write(b"hello ")?;
        writer.write(b"wide ")?;
        let mut peer = StreamReader::new(theirs);
        assert_eq!(peer.read_exactly(11).await?, b"hello wide ");
        writer.write(b"world")?;
        writer.close();
        writer.wait_closed().await?;
        assert_eq!(peer.read_to_end().await?, b"world");
        Ok(())
    });
}

#[test]
fn what_is_queued_when_the_main_future_ends_is_lost_unless_that_waits() {
    /// More than sockets hold.
    const MUCH: usize = 3 << 20;
    for waits in [false, true] {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let all = std::thread::scope(|scope| {
            let reading = on_a_loop(async {
                let writer = StreamWriter::new(UnixStream::from_std(ours)?);
                writer.set_limits(0, 0);
                writer.write(&vec![7; MUCH])?;
                assert!(writer.queued_len() > 0);
                let read_all = move || {
                    let mut all = Vec::new();
                    theirs.read_to_end(&mut all).map(|_| all)
                };
                if waits {
                    let reading = scope.spawn(read_all);
                    writer.drain().await?;
                    assert_eq!(writer.queued_len(), 0);
                    return Ok(reading);
                }
                // Nobody reads before the loop has ended.
                Ok(scope.spawn(read_all))
            });
            reading.join().unwrap().unwrap()
        });
        assert!(all.iter().all(|byte| *byte == 7));
        assert_eq!(all.len() == MUCH, waits, "{} bytes arrived", all.len());
    }
}

/// Echoes lines until the end.
async fn echo_lines(mut reader: antiphon::TcpReader, writer: antiphon::TcpWriter) -> Result<(), ReadError> {
    loop {
        let line = reader.read_line().await?;
        if line.is_empty() {
            return Ok(());
        }
        writer.write(&line)?;
        writer.drain().await?;
    }
}

#[test]
fn server_handles_each_connection_in_a_task() {
    on_a_loop(async {
        let server = start_server(LOCAL, echo_lines).await?;
        let address = server.addresses()[0];
        assert!(server.is_serving());
        let threads: Vec<_> = (0..3_u8)
            .map(|number| {
                spawn(to_thread(move || -> io::Result<()> {
                    let mut stream = std::net::TcpStream::connect(address)?;
                    for round in 0..5_u8 {
                        stream.write_all(&[number, round, b'\n'])?;
                        let mut back = [0; 3];
                        stream.read_exact(&mut back)?;
                        assert_eq!(back, [number, round, b'\n']);
                    }
                    Ok(())
                }))
            })
            .collect();
        for thread in threads {
            thread.await.unwrap()?;
        }
        server.close();
        server.wait_closed().await?;
        assert!(!server.is_serving());
        assert_eq!(server.client_count(), 0);
        assert_eq!(open_connection(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        Ok(())
    });
}

#[test]
fn closed_server_lets_its_clients_finish_and_cancelled_ones_clean_up() {
    on_a_loop(async {
        let cleaned_up = Rc::new(Cell::new(false));
        let seen = Rc::clone(&cleaned_up);
        let server = start_server(LOCAL, async move |mut reader: antiphon::TcpReader, writer| {
            let outcome = reader.read_line().await;
            if outcome.as_ref().is_err_and(Failure::is_cancelled) {
                yield_now().await?; // cleaning up may wait
                writer.write(b"bye\n")?;
                seen.set(true);
            }
            outcome.map(|_| ())
        })
        .await?;
        let (mut reader, writer) = open_connection(server.addresses()[0]).await?;
        while server.client_count() == 0 {
            yield_now().await?;
        }
        server.close();
        let closing = timeout(Duration::from_millis(1), server.wait_closed());
        assert_eq!(closing.await, Err(TimeoutError::Elapsed), "a client is there");
        server.cancel_clients();
        server.wait_closed().await?;
        assert!(cleaned_up.get());
        assert_eq!(reader.read_line().await?, b"bye\n");
        drop(writer);
        Ok(())
    });
}

#[test]
fn server_that_serves_for_ever_ends_by_cancellation_with_its_clients() {
    on_a_loop(async {
        let server = start_server(LOCAL, echo_lines).await?;
        let address = server.addresses()[0];
        let serving = spawn(server.serve_forever());
        let (mut reader, writer) = open_connection(address).await?;
        writer.write(b"hello\n")?;
        assert_eq!(reader.read_line().await?, b"hello\n");
        serving.cancel();
        assert!(matches!(serving.await, Err(JoinError::Cancelled)));
        assert_eq!(reader.read_line().await?, b"", "the client was let go");
        Ok(())
    });
}

#[test]
fn unix_server_takes_the_place_of_a_former_one() {
    let path = std::env::temp_dir().join(format!("antiphon-{}-server", std::process::id()));
    for round in 0..2_u8 {
        on_a_loop(async {
            let server = start_unix_server(&path, async move |_: UnixReader, writer: UnixWriter| {
                writer.write(&[round])
            })
            .await?;
            let (mut reader, _writer) = open_unix_connection(&path).await?;
            assert_eq!(reader.read_to_end().await?, [round]);
            assert!(server.addresses().is_empty());
            Ok(())
        });
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn handlers_in_a_group_fail_together() {
    on_a_loop(async {
        let (mut reader, writer, _peer) = stream()?;
        let outcome = task_group(async |group: &TaskGroup| {
            group.spawn(async move { reader.read_line().await.map(|_| ()) });
            group.spawn(async { Err::<(), _>(ReadError::EmptySeparator) });
            Ok::<_, ReadError>(())
        });
        assert!(outcome.await.is_err());
        writer.write(b"the reader is gone, and the group with it")?;
        Ok(())
    });
}

#[test]
fn idle_timeouts_of_connections_pass_in_virtual_time() {
    let ended = Runner::new().virtual_clock().run(async {
        let server = start_server(LOCAL, async |mut reader: antiphon::TcpReader, writer| {
            match timeout(60 * SECOND, reader.read_line()).await {
                Err(TimeoutError::Elapsed) => writer.write(b"too late\n")?,
                Err(_) => return Err(ReadError::Cancelled),
                Ok(line) => writer.write(&line)?,
            }
            Ok(())
        })
        .await?;
        let (mut reader, _writer) = open_connection(server.addresses()[0]).await?;
        sleep(SECOND).await?;
        reader.read_line().await
    });
    assert_eq!(ended.unwrap().unwrap(), b"too late\n");
}
