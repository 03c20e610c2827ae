//! From a source to a sink by `copy`, whatever the two do.

use antiphon::net::UnixStream;
use antiphon::{JoinError, copy, run, spawn, yield_now};
use futures_io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

fn on_a_loop<T>(main: impl Future<Output = io::Result<T>>) -> T {
    run(main).expect("a loop").expect("no error of a stream")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|number| (number % 251) as u8).collect()
}

/// More than sockets hold.
const MUCH: usize = 3 << 20;

#[test]
fn bytes_for_which_there_is_no_room_come_later_and_in_order() {
    on_a_loop(async {
        let (source, copied_from) = UnixStream::pair()?;
        let (copied_to, sink) = UnixStream::pair()?;
        let copying = spawn(async move { copy(&copied_from, &copied_to).await });
        let feeding = spawn(async move {
            source.write_all(&pattern(MUCH)).await?;
            Ok::<_, io::Error>(()) // which ends the source
        });
        // Nobody reads, so the source is held back.
        for _ in 0..100 {
            yield_now().await.unwrap();
        }
        assert!(!copying.is_done() && !feeding.is_done());
        let mut received = Vec::new();
        let mut piece = vec![0; 7000];
        loop {
            match sink.read(&mut piece).await? {
                0 => break,
                len => received.extend_from_slice(&piece[..len]),
            }
        }
        assert!(received == pattern(MUCH));
        feeding.await.unwrap();
        assert_eq!(copying.await.unwrap(), MUCH as u64);
        Ok(())
    });
}

#[test]
fn one_connection_is_source_and_sink() {
    on_a_loop(async {
        let (near, far) = UnixStream::pair()?;
        let echo = spawn(async move { copy(&far, &far).await });
        let near = Rc::new(near);
        let writing = Rc::clone(&near);
        let feeding = spawn(async move {
            writing.write_all(&pattern(MUCH)).await?;
            writing.shutdown(Shutdown::Write)
        });
        let mut received = vec![0; MUCH];
        near.read_exact(&mut received).await?;
        assert!(received == pattern(MUCH));
        feeding.await.unwrap();
        assert_eq!(echo.await.unwrap(), MUCH as u64);
        assert_eq!(near.read(&mut received).await?, 0);
        Ok(())
    });
}

#[test]
fn cancelled_copy_has_written_what_it_read_and_leaves_the_rest() {
    on_a_loop(async {
        let (source, copied_from) = UnixStream::pair()?;
        let (copied_to, sink) = UnixStream::pair()?;
        let copied_from = Rc::new(copied_from);
        let from = Rc::clone(&copied_from);
        let copying = spawn(async move { copy(&*from, &copied_to).await });
        source.write_all(b"before").await?;
        let mut received = [0; 6];
        sink.read_exact(&mut received).await?;
        assert_eq!(&received, b"before");
        copying.cancel();
        assert!(matches!(copying.await, Err(JoinError::Cancelled)));
        source.write_all(b"behind").await?;
        copied_from.read_exact(&mut received).await?;
        assert_eq!(&received, b"behind");
        assert_eq!(sink.read(&mut received).await?, 0, "nothing more was written");
        Ok(())
    });
}

/// Gives these, one a read, and waits forever after the last if it does not end.
struct Pieces {
    pieces: Vec<&'static [u8]>,
    ends: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.pieces.is_empty() {
            return if self.ends { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        let piece = self.pieces.remove(0);
        buffer[..piece.len()].copy_from_slice(piece);
        Poll::Ready(Ok(piece.len()))
    }
}

/// Shows what it is given only when it is flushed, and takes so many bytes at once.
#[derive(Clone)]
struct Buffered {
    most: usize,
    buffer: Rc<RefCell<Vec<u8>>>,
    shown: Rc<RefCell<Vec<u8>>>,
}

impl Buffered {
    fn taking(most: usize) -> Self {
        Self { most, buffer: Rc::default(), shown: Rc::default() }
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len().min(self.most);
        self.buffer.borrow_mut().extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shown.borrow_mut().append(&mut self.buffer.borrow_mut());
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        unreachable!("copy closes nothing")
    }
}

#[test]
fn sink_with_a_buffer_is_flushed_whenever_the_source_waits_and_at_its_end() {
    on_a_loop(async {
        for ends in [false, true] {
            let sink = Buffered::taking(2);
            let shown = Rc::clone(&sink.shown);
            let copying = spawn(copy(Pieces { pieces: vec![b"abc", b"d"], ends }, sink));
            yield_now().await.unwrap();
            assert_eq!(&*shown.borrow(), b"abcd");
            assert_eq!(copying.is_done(), ends);
            copying.cancel();
        }
        Ok(())
    });
}

#[test]
fn sink_that_takes_nothing_is_an_error() {
    on_a_loop(async {
        let error = copy(&b"abc"[..], Buffered::taking(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
        assert_eq!(copy(&b""[..], Buffered::taking(0)).await?, 0);
        Ok(())
    });
}

#[test]
fn errors_of_both_ends_come_through() {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
        }
    }
    on_a_loop(async {
        let error = copy(Broken, Buffered::taking(9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (near, far) = UnixStream::pair()?;
        drop(far);
        assert_eq!(copy(&b"abc"[..], &near).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        Ok(())
    });
}
