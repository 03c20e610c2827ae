//! UDP, and sockets whose addresses are paths.

use antiphon::net::{UdpSocket, UnixDatagram, UnixListener, UnixStream};
use antiphon::{JoinError, Runner, run, sleep, spawn, to_thread, yield_now};
use futures_core::Stream;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

const LOCAL: &str = "127.0.0.1:0";

fn on_a_loop<T>(main: impl Future<Output = io::Result<T>>) -> T {
    run(main).expect("a loop").expect("no error of I/O")
}

/// A path that is nobody else's, removed at the end.
struct Path(PathBuf);

impl Path {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("antiphon-{}-{name}", std::process::id())))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn datagrams_go_to_and_fro_with_a_thread() {
    on_a_loop(async {
        let ours = UdpSocket::bind(LOCAL).await?;
        let address = ours.local_addr()?;
        let peer = to_thread(move || -> io::Result<Vec<u8>> {
            let socket = std::net::UdpSocket::bind(LOCAL)?;
            socket.send_to(b"question", address)?;
            let mut buffer = [0; 64];
            let (len, from) = socket.recv_from(&mut buffer)?;
            assert_eq!(from, address);
            Ok(buffer[..len].to_vec())
        });
        let serve = spawn(async move {
            let mut buffer = [0; 64];
            let (peeked, _) = ours.peek_from(&mut buffer).await?;
            let (len, from) = ours.recv_from(&mut buffer).await?;
            assert_eq!((peeked, &buffer[..len]), (len, &b"question"[..]));
            ours.send_to(b"answer", from).await
        });
        assert_eq!(peer.await.unwrap()?, b"answer");
        assert_eq!(serve.await.unwrap(), 6);
        Ok(())
    });
}

#[test]
fn datagram_that_is_too_long_and_peer_that_is_not_there_are_told() {
    on_a_loop(async {
        let gone = UdpSocket::bind(LOCAL).await?.local_addr()?;
        let socket = UdpSocket::bind(LOCAL).await?;
        socket.connect(gone).await?;
        assert_eq!(socket.peer_addr()?, gone);
        socket.send(b"anybody?").await?;
        assert_eq!(socket.recv(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let error = socket.send(&[0; 70_000]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
        Ok(())
    });
}

#[test]
fn each_datagram_is_one_receivers_and_a_cancelled_one_takes_none() {
    on_a_loop(async {
        let socket = Rc::new(UdpSocket::bind(LOCAL).await?);
        let address = socket.local_addr()?;
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let socket = Rc::clone(&socket);
                spawn(async move {
                    let mut byte = [0];
                    socket.recv_from(&mut byte).await?;
                    Ok::<_, io::Error>(byte[0])
                })
            })
            .collect();
        yield_now().await?;
        receivers[0].cancel();
        let sender = UdpSocket::bind(LOCAL).await?;
        sender.send_to(&[1], address).await?;
        sender.send_to(&[2], address).await?;
        let mut got = Vec::new();
        for receiver in receivers {
            match receiver.await {
                Ok(byte) => got.push(byte),
                Err(error) => assert!(matches!(error, JoinError::Cancelled)),
            }
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        Ok(())
    });
}

#[test]
fn unix_connections_are_made_by_path_and_through_the_stream_of_a_listener() {
    let path = Path::new("connections");
    on_a_loop(async {
        let listener = UnixListener::bind(&path.0)?;
        assert_eq!(UnixListener::bind(&path.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path.0));
        let theirs = path.0.clone();
        let peer = to_thread(move || -> io::Result<String> {
            let mut stream = std::os::unix::net::UnixStream::connect(theirs)?;
            stream.write_all(b"hello")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        let serve = spawn(async move {
            let mut incoming = pin!(listener.incoming());
            let stream = poll_fn(|context| incoming.as_mut().poll_next(context)).await.unwrap()?;
            let mut text = [0; 5];
            stream.read_exact(&mut text).await?;
            assert_eq!(stream.read(&mut [0]).await?, 0);
            stream.write_all(&text).await
        });
        assert_eq!(peer.await.unwrap()?, "hello");
        serve.await.map_err(|error| error.failed().unwrap())?;
        let error = UnixStream::connect("/nonexistent/antiphon").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = UnixStream::connect(&path.0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        Ok(())
    });
}

#[test]
fn unix_connection_waits_for_room_in_the_listeners_queue() {
    let path = Path::new("backlog");
    let done = Runner::new().virtual_clock().run(async {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrUnix::new(&path.0)?)?;
        listen(&socket, 0)?; // one may wait
        let listener = UnixListener::from_std(socket.into())?;
        let _first = UnixStream::connect(&path.0).await?;
        let second = spawn(UnixStream::connect(path.0.clone()));
        sleep(Duration::from_secs(1)).await?;
        assert!(!second.is_done());
        let _accepted = (listener.accept().await?, listener.accept().await?);
        second.await.map_err(|error| error.failed().unwrap())?;
        Ok::<_, io::Error>(())
    });
    done.unwrap().unwrap();
}

#[test]
fn unix_datagrams_wait_for_room_connected_or_not() {
    let path = Path::new("datagrams");
    let done = Runner::new().virtual_clock().run(async {
        let receiver = Rc::new(UnixDatagram::bind(&path.0)?);
        for connected in [false, true] {
            let (path, sender) = (path.0.clone(), UnixDatagram::unbound()?);
            let sending = spawn(async move {
                if connected {
                    sender.connect(&path)?;
                }
                for number in 0..700_u32 {
                    let number = number.to_le_bytes();
                    match connected {
                        true => sender.send(&number).await?,
                        false => sender.send_to(&number, &path).await?,
                    };
                }
                Ok::<_, io::Error>(())
            });
            sleep(Duration::from_millis(1)).await?;
            assert!(!sending.is_done(), "the queue is shorter");
            for number in 0..700_u32 {
                let mut buffer = [0; 8];
                assert_eq!(receiver.recv_from(&mut buffer).await?.0, 4);
                assert_eq!(buffer[..4], number.to_le_bytes());
            }
            sending.await.map_err(|error| error.failed().unwrap())?;
        }
        Ok::<_, io::Error>(())
    });
    done.unwrap().unwrap();
}
