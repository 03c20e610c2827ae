//! TCP: exchanges, cancellation, faults of peers, descriptors that are used again.

use antiphon::net::{ConnectErrors, ListenOptions, ResolveError, TcpListener, TcpStream, resolve};
use antiphon::{
    Cancelled, Event, Failure, JoinError, NoLoop, RunError, Runner, TimeoutError, WrongLoop, run, sleep,
    spawn, timeout, to_thread, yield_now,
};
use futures_io::{AsyncRead, AsyncWrite};
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

const LOCAL: &str = "127.0.0.1:0";
const SECOND: Duration = Duration::from_secs(1);

/// Runs `main` on a loop of its own; every test ends by itself.
fn on_a_loop<T>(main: impl Future<Output = io::Result<T>>) -> T {
    run(main).expect("a loop").expect("no error of I/O")
}

/// Two ends of one connection, both of this loop.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(LOCAL).await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    Ok((server, client))
}

/// One end here, and the other one for a thread.
async fn with_peer() -> io::Result<(TcpStream, std::net::TcpStream)> {
    let (ours, theirs) = pair().await?;
    let theirs = theirs.into_std();
    theirs.set_nonblocking(false)?;
    Ok((ours, theirs))
}

fn is_cancelled<T, E: Failure>(outcome: &Result<T, E>) -> bool {
    outcome.as_ref().is_err_and(Failure::is_cancelled)
}

#[test]
fn peer_in_a_thread_gets_back_what_it_sent() {
    on_a_loop(async {
        let (stream, mut peer) = with_peer().await?;
        let theirs = to_thread(move || -> io::Result<Vec<u8>> {
            let mut back = Vec::new();
            for chunk in [&b"a"[..], &[7; 100_000], b"end"] {
                peer.write_all(chunk)?;
            }
            peer.shutdown(Shutdown::Write)?;
            peer.read_to_end(&mut back)?;
            Ok(back)
        });
        let echo = spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return stream.shutdown(Shutdown::Write),
                    len => stream.write_all(&buffer[..len]).await?,
                }
            }
        });
        let back = theirs.await.unwrap()?;
        assert_eq!(back.len(), 100_004);
        assert!(back.starts_with(b"a\x07") && back.ends_with(b"\x07end"));
        echo.await.map_err(|error| error.failed().unwrap())
    });
}

#[test]
fn buffers_leave_in_one_call_and_in_order() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        let written = client.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")]).await?;
        assert_eq!(written, 7);
        let mut text = [0; 7];
        server.read_exact(&mut text).await?;
        assert_eq!(&text, b"one two");
        assert!(client.nodelay()? && server.nodelay()?);
        Ok(())
    });
}

#[test]
fn end_of_stream_is_told_each_time_and_short_streams_are_an_error() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        client.write_all(b"abc").await?;
        drop(client);
        let error = server.read_exact(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        for _ in 0..3 {
            assert_eq!(server.read(&mut [0; 8]).await?, 0);
        }
        Ok(())
    });
}

#[test]
fn cancelled_read_has_taken_nothing() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        let server = Rc::new(server);
        let theirs = Rc::clone(&server);
        let reader = spawn(async move {
            let mut buffer = [0; 8];
            let len = theirs.read(&mut buffer).await?;
            Ok::<_, io::Error>(buffer[..len].to_vec())
        });
        yield_now().await?;
        reader.cancel();
        assert!(matches!(reader.await, Err(JoinError::Cancelled)));
        client.write_all(b"later").await?;
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer).await?, 5);
        Ok(())
    });
}

#[test]
fn data_that_came_before_the_cancellation_is_read_and_the_next_wait_fails() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        let reader = spawn(async move {
            let mut buffer = [0; 8];
            let len = server.read(&mut buffer).await?;
            assert_eq!(&buffer[..len], b"now");
            assert!(is_cancelled(&server.read(&mut buffer).await));
            Err::<(), _>(io::Error::from(Cancelled))
        });
        yield_now().await?;
        reader.cancel();
        client.write_all(b"now").await?; // both in this very step
        assert!(matches!(reader.await, Err(JoinError::Cancelled)));
        Ok(())
    });
}

#[test]
fn busy_stream_gives_way_to_others_and_to_cancellation() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        client.write_all(&[1; 4096]).await?;
        let reader = spawn(async move {
            for _ in 0..4096 {
                server.read(&mut [0]).await?; // never waits for data
            }
            Ok::<_, io::Error>(())
        });
        yield_now().await?;
        reader.cancel();
        assert!(matches!(reader.await, Err(JoinError::Cancelled)), "it was stopped midway");
        Ok(())
    });
}

#[test]
fn writer_waits_for_a_peer_that_does_not_read() {
    on_a_loop(async {
        let (stream, mut peer) = with_peer().await?;
        set_socket_send_buffer_size(&stream, 8192)?;
        const LEN: usize = 4_000_000;
        let begin = Rc::new(Event::new());
        let waits = Rc::clone(&begin);
        let writer = spawn(async move {
            let mut left = LEN;
            while left > 0 {
                let len = stream.write(&vec![3; left.min(100_000)]).await?;
                left -= len;
                waits.set();
            }
            Ok::<_, io::Error>(())
        });
        begin.wait().await?;
        assert!(!writer.is_done());
        let read = to_thread(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all.len())
        });
        assert_eq!(read.await.unwrap()?, LEN);
        writer.await.map_err(|error| error.failed().unwrap())
    });
}

#[test]
fn reset_by_the_peer_is_an_error_for_who_reads_and_who_writes() {
    on_a_loop(async {
        let (stream, peer) = with_peer().await?;
        let stream = Rc::new(stream);
        let theirs = Rc::clone(&stream);
        let reader = spawn(async move { theirs.read(&mut [0; 8]).await });
        yield_now().await?;
        set_socket_linger(&peer, Some(Duration::ZERO))?;
        drop(peer); // RST
        let Err(JoinError::Failed(error)) = reader.await else { panic!("no error") };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        Ok(())
    });
}

#[test]
fn half_open_connection_can_still_be_read() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        client.shutdown(Shutdown::Write)?;
        assert_eq!(server.read(&mut [0; 8]).await?, 0);
        server.write_all(b"answer").await?;
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"answer");
        Ok(())
    });
}

#[test]
fn shutdown_under_a_read_ends_it() {
    on_a_loop(async {
        let (server, _client) = pair().await?;
        let server = Rc::new(server);
        let theirs = Rc::clone(&server);
        let reader = spawn(async move { theirs.read(&mut [0; 8]).await });
        yield_now().await?;
        server.shutdown(Shutdown::Both)?;
        assert_eq!(reader.await.unwrap(), 0);
        Ok(())
    });
}

#[test]
fn one_task_reads_while_another_writes_the_same_connection() {
    on_a_loop(async {
        let (server, client) = pair().await?;
        let (reading, writing) = server.into_split();
        let reader = spawn(async move {
            let mut text = [0; 4];
            reading.read_exact(&mut text).await?;
            Ok::<_, io::Error>((reading, text))
        });
        yield_now().await?;
        writing.write_all(b"ping").await?;
        let mut text = [0; 4];
        client.read_exact(&mut text).await?;
        client.write_all(b"pong").await?;
        let (reading, text) = reader.await.unwrap();
        assert_eq!(&text, b"pong");
        let (stray, _) = pair().await?.0.into_split();
        let (stray, writing) = stray.unite(writing).unwrap_err();
        drop(stray);
        let whole = reading.unite(writing).unwrap();
        whole.shutdown(Shutdown::Both)
    });
}

#[test]
fn several_tasks_accept_from_one_listener() {
    on_a_loop(async {
        let listener = Rc::new(TcpListener::bind(LOCAL).await?);
        let address = listener.local_addr()?;
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let listener = Rc::clone(&listener);
                spawn(async move { listener.accept().await.map(|(_, peer)| peer) })
            })
            .collect();
        yield_now().await?;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(TcpStream::connect(address).await?.local_addr()?);
        }
        let mut peers = Vec::new();
        for task in tasks {
            peers.push(task.await.unwrap());
        }
        clients.sort();
        peers.sort();
        assert_eq!(peers, clients);
        Ok(())
    });
}

#[test]
fn cancelled_accept_loses_no_connection() {
    on_a_loop(async {
        let listener = Rc::new(TcpListener::bind(LOCAL).await?);
        let theirs = Rc::clone(&listener);
        let accepting = spawn(async move { theirs.accept().await.map(|_| ()) });
        yield_now().await?;
        accepting.cancel();
        assert!(matches!(accepting.await, Err(JoinError::Cancelled)));
        let client = TcpStream::connect(listener.local_addr()?).await?;
        assert_eq!(listener.accept().await?.1, client.local_addr()?);
        Ok(())
    });
}

#[test]
fn refused_connection_is_told_and_several_are_told_together() {
    on_a_loop(async {
        let address = TcpListener::bind(LOCAL).await?.local_addr()?; // nobody listens there any more
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let other = TcpListener::bind(LOCAL).await?.local_addr()?;
        let error = TcpStream::connect(vec![address, other]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let errors = error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap();
        assert_eq!(errors.errors().iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address, other]);
        Ok(())
    });
}

#[test]
fn next_address_is_tried_when_the_first_refuses() {
    on_a_loop(async {
        let closed = TcpListener::bind(LOCAL).await?.local_addr()?;
        let listener = TcpListener::bind(LOCAL).await?;
        let client = TcpStream::connect(vec![closed, listener.local_addr()?]).await?;
        assert_eq!(client.peer_addr()?, listener.local_addr()?);
        Ok(())
    });
}

/// A listener whose queue is full: further connections to it get no answer.
fn silent_listener() -> io::Result<(std::net::TcpListener, Vec<std::net::TcpStream>)> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())?;
    listen(&socket, 0)?;
    let listener = std::net::TcpListener::from(socket);
    let mut clients = Vec::new();
    while let Ok(client) =
        std::net::TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_millis(100))
    {
        clients.push(client);
    }
    Ok((listener, clients))
}

#[test]
fn next_address_is_tried_when_the_first_does_not_answer() {
    let (silent, _clients) = silent_listener().unwrap();
    // Virtual: the delay of 250 ms passes at once, since nobody answers.
    let connected = Runner::new().virtual_clock().run(async {
        let listener = TcpListener::bind(LOCAL).await?;
        let client = TcpStream::connect(vec![silent.local_addr()?, listener.local_addr()?]).await?;
        assert_eq!(client.peer_addr()?, listener.local_addr()?);
        Ok::<_, io::Error>(())
    });
    connected.unwrap().unwrap();
}

/// Whether a socket is about to connect to this port. The kernel's table is read in pieces, and may lack a line while other tests
/// open and close sockets; it never has one too many.
fn is_connecting_to(port: u16) -> bool {
    const SYN_SENT: &str = "02";
    let target = format!("0100007F:{port:04X}");
    let to_us = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[2] == target && columns[3] == SYN_SENT
    };
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(to_us)
}

#[test]
fn cancelled_connect_leaves_nothing_open() {
    let (silent, _clients) = silent_listener().unwrap();
    let address = silent.local_addr().unwrap();
    let connected = Runner::new().virtual_clock().run(async {
        let connecting = spawn(timeout(SECOND, TcpStream::connect(address)));
        yield_now().await?;
        assert!((0..100).any(|_| is_connecting_to(address.port())));
        assert!(matches!(connecting.await, Err(JoinError::Failed(TimeoutError::Elapsed))));
        assert!(!is_connecting_to(address.port()));
        Ok::<_, Cancelled>(())
    });
    connected.unwrap().unwrap();
}

#[test]
fn names_are_resolved_and_bad_addresses_are_told() {
    on_a_loop(async {
        let listener = TcpListener::bind(("localhost", 0)).await?;
        let port = listener.local_addr()?.port();
        TcpStream::connect(("localhost", port)).await?;
        TcpStream::connect(format!("localhost:{port}")).await?;
        for bad in ["", "host", "host:", ":80", "host:port", "host:99999"] {
            assert_eq!(resolve(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        let error = resolve(("no such host.invalid", 80)).await.unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<ResolveError>().unwrap();
        assert_eq!(inner.host(), "no such host.invalid");
        assert_eq!(TcpStream::connect(vec![]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        Ok(())
    });
}

#[test]
fn address_in_use_is_told() {
    on_a_loop(async {
        let listener = TcpListener::bind(LOCAL).await?;
        let again = TcpListener::bind(listener.local_addr()?).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
        Ok(())
    });
}

#[test]
fn socket_of_another_loop_and_without_a_loop_is_refused() {
    let inside = |error: io::Error| error.into_inner().unwrap();
    let listener = on_a_loop(TcpListener::bind(LOCAL));
    let listener = Rc::new(listener);
    run(async {
        let error = listener.accept().await.map(|_| ()).unwrap_err();
        assert!(inside(error).is::<WrongLoop>());
    })
    .unwrap();
    let Ok(taken) = Rc::try_unwrap(listener) else { panic!("it is ours alone") };
    let error = TcpListener::from_std(taken.into_std()).map(|_| ()).unwrap_err();
    assert!(inside(error).is::<NoLoop>());
    let error = ListenOptions::new().bind_to(LOCAL.parse().unwrap()).map(|_| ()).unwrap_err();
    assert!(inside(error).is::<NoLoop>());
}

#[test]
fn listener_can_be_taken_to_another_loop() {
    let listener = on_a_loop(TcpListener::bind(LOCAL)).into_std();
    on_a_loop(async {
        let listener = TcpListener::from_std(listener)?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        assert_eq!(listener.accept().await?.1, client.local_addr()?);
        Ok(())
    });
}

/// Sockets are closed and opened as fast as can be, so that every number is had by many, while each of them is waited for.
#[test]
fn events_of_a_closed_socket_reach_nobody_who_has_its_number_next() {
    on_a_loop(async {
        let listener = TcpListener::bind(LOCAL).await?;
        let address = listener.local_addr()?;
        for round in 0..300_u32 {
            let client = Rc::new(TcpStream::connect(address).await?);
            let (server, _) = listener.accept().await?;
            let theirs = Rc::clone(&client);
            let stale = spawn(async move { theirs.read(&mut [0; 4]).await });
            yield_now().await?;
            // An event for the reader is made, and before the loop sees it the reader and its socket are gone.
            server.write_all(b"old").await?;
            stale.cancel();
            drop(client);
            let _ = stale.await;
            drop(server);
            let next = TcpStream::connect(address).await?;
            let (peer, _) = listener.accept().await?;
            let reader = spawn(async move {
                let mut buffer = [0; 8];
                let len = next.read(&mut buffer).await?;
                Ok::<_, io::Error>(buffer[..len].to_vec())
            });
            yield_now().await?;
            assert!(!reader.is_done(), "nothing was sent to it");
            peer.write_all(&round.to_le_bytes()).await?;
            assert_eq!(reader.await.unwrap(), round.to_le_bytes());
        }
        Ok(())
    });
}

thread_local! {
    /// What the next waker of [`Hook`] does.
    static ON_WAKE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// A waker that runs code of the user while the loop hands out events.
struct Hook;

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        if let Some(act) = ON_WAKE.take() {
            act();
        }
    }
}

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Two sockets have events in one wait; who is woken for the first closes the second, and opens a third one under its number.
#[test]
fn event_that_is_under_way_when_its_socket_is_closed_reaches_nobody() {
    let wait_with = |stream: &TcpStream, waker: &Waker| {
        let read = Pin::new(&mut &*stream).poll_read(&mut Context::from_waker(waker), &mut [0; 8]);
        assert!(read.is_pending());
    };
    on_a_loop(async {
        let (first, first_peer) = pair().await?;
        let (second, second_peer) = pair().await?;
        let (third, third_peer) = pair().await?;
        let number = second.as_fd().as_raw_fd();
        let (third, count) = (third.into_std(), Arc::new(Count::default()));
        wait_with(&first, &Arc::new(Hook).into());
        wait_with(&second, Waker::noop());
        let (opened, waker) = (Rc::new(Cell::new(None)), Waker::from(Arc::clone(&count)));
        let place = Rc::clone(&opened);
        ON_WAKE.set(Some(Box::new(move || {
            drop(second);
            // The kernel gives the smallest free number, so some smaller ones come first.
            let mut clones: Vec<_> = (0..64).map(|_| third.try_clone().unwrap()).collect();
            let wanted = clones.iter().position(|clone| clone.as_raw_fd() == number).unwrap_or(0);
            let again = TcpStream::from_std(clones.swap_remove(wanted)).unwrap();
            wait_with(&again, &waker);
            place.set(Some(again));
        })));
        first_peer.write_all(b"first").await?;
        second_peer.write_all(b"second").await?;
        let again = loop {
            sleep(Duration::from_millis(1)).await?;
            if let Some(again) = opened.take() {
                break again;
            }
        };
        if again.as_fd().as_raw_fd() != number {
            return Ok(()); // another test has taken the number meanwhile
        }
        sleep(Duration::from_millis(1)).await?;
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "nobody has written to it");
        third_peer.write_all(b"third").await?;
        sleep(Duration::from_millis(1)).await?;
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        Ok(())
    });
}

#[test]
fn thousand_connections_are_served_at_once() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum; // 2000 sockets may be more than is allowed at first
    setrlimit(Resource::Nofile, limit).unwrap();
    on_a_loop(async {
        let listener = TcpListener::bind(LOCAL).await?;
        let address = listener.local_addr()?;
        let server = spawn(async move {
            let mut echoes = Vec::new();
            for _ in 0..1000 {
                let (stream, _) = listener.accept().await?;
                echoes.push(spawn(async move {
                    let mut buffer = [0; 64];
                    loop {
                        match stream.read(&mut buffer).await? {
                            0 => return Ok::<_, io::Error>(()),
                            len => stream.write_all(&buffer[..len]).await?,
                        }
                    }
                }));
            }
            for echo in echoes {
                echo.await.map_err(|error| error.failed().unwrap())?;
            }
            Ok::<_, io::Error>(())
        });
        let mut clients = Vec::new();
        for _ in 0..1000 {
            clients.push(TcpStream::connect(address).await?);
        }
        for round in 0..3_u8 {
            for client in &clients {
                client.write_all(&[round; 10]).await?;
            }
            for client in &clients {
                let mut back = [9; 10];
                client.read_exact(&mut back).await?;
                assert_eq!(back, [round; 10]);
            }
        }
        drop(clients);
        server.await.map_err(|error| error.failed().unwrap())
    });
}

#[test]
fn traits_read_write_and_close() {
    on_a_loop(async {
        let (mut server, mut client) = pair().await?;
        let reader = spawn(async move {
            let mut all = Vec::new();
            let mut buffer = [0; 16];
            loop {
                let read = poll_fn(|context| Pin::new(&mut server).poll_read(context, &mut buffer));
                match read.await? {
                    0 => return Ok::<_, io::Error>(all),
                    len => all.extend_from_slice(&buffer[..len]),
                }
            }
        });
        yield_now().await?;
        assert_eq!(poll_fn(|context| Pin::new(&mut client).poll_write(context, b"text")).await?, 4);
        poll_fn(|context| Pin::new(&mut client).poll_flush(context)).await?;
        poll_fn(|context| Pin::new(&mut client).poll_close(context)).await?;
        assert_eq!(reader.await.unwrap(), b"text");
        Ok(())
    });
}

#[test]
fn who_waits_for_a_socket_is_no_deadlock_and_virtual_time_waits_for_local_peers() {
    let runner = Runner::new().virtual_clock();
    let answered = runner.run(async {
        let (server, client) = pair().await?;
        let late = spawn(async move {
            sleep(3600 * SECOND).await?; // an hour passes in no time, though a socket is waited for
            client.write_all(b"late").await?;
            Ok::<_, io::Error>(client)
        });
        let mut text = [0; 4];
        timeout(7200 * SECOND, server.read_exact(&mut text)).await.map_err(io::Error::other)?;
        drop(late);
        Ok::<_, io::Error>(text)
    });
    assert_eq!(&answered.unwrap().unwrap(), b"late");
}

/// In virtual time, which stands still as long as descriptors have events.
#[test]
fn data_that_nobody_reads_does_not_keep_the_loop_awake() {
    let slept = Runner::new().virtual_clock().run(async {
        let (server, client) = pair().await?;
        let server = Rc::new(server);
        let theirs = Rc::clone(&server);
        let reader = spawn(async move { theirs.read(&mut [0; 8]).await });
        yield_now().await?; // it waits, so the driver is asked
        reader.cancel();
        let _ = reader.await;
        client.write_all(b"unread").await?;
        sleep(3600 * SECOND).await?;
        client.shutdown(Shutdown::Both)?;
        sleep(3600 * SECOND).await?;
        let mut buffer = [0; 8];
        assert_eq!(server.read(&mut buffer).await?, 6);
        Ok::<_, io::Error>(())
    });
    slept.unwrap().unwrap();
}

#[test]
fn deadlock_is_still_found_where_sockets_only_exist() {
    let outcome = run(async {
        let _pair = pair().await.unwrap();
        Event::new().wait().await
    });
    assert!(matches!(outcome, Err(RunError::Deadlock { .. })));
}
