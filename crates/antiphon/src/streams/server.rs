//! A task for each connection.

use crate::report::report;
use crate::runtime::Loop;
use crate::task::TaskRef;
use crate::{Cancelled, Event, Failure, Task, sleep, spawn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long a server that is out of descriptors or memory accepts nothing: `asyncio.constants.ACCEPT_RETRY_DELAY`.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Something that connections come from.
pub(super) trait Listener: 'static {
    type Connection: 'static;

    async fn accept(&self) -> io::Result<Self::Connection>;
}

/// A server that [`start_server`](crate::start_server) has started: `asyncio.Server`. Dropping it closes it.
///
/// ```
/// use antiphon::{JoinError, ReadError, TcpReader, TcpWriter, spawn, start_server, yield_now};
///
/// antiphon::run(async {
///     let server = start_server("127.0.0.1:0", async |_: TcpReader, _: TcpWriter| Ok::<(), ReadError>(())).await?;
///     assert!(server.is_serving());
///     let serving = spawn(server.serve_forever());
///     yield_now().await?;
///     serving.cancel();
///     assert!(matches!(serving.await, Err(JoinError::Cancelled)));
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    inner: Rc<Inner>,
    accepting: Vec<Task<(), io::Error>>,
    addresses: Vec<SocketAddr>,
}

#[derive(Default)]
struct Inner {
    clients: RefCell<BTreeMap<u64, TaskRef>>,
    next_client: Cell<u64>,
    /// How many listeners are at work.
    accepting: Cell<usize>,
    /// Set when nobody accepts any more.
    closed: Event,
    /// Set while there is no client.
    quiet: Event,
}

impl Server {
    pub(super) fn start<L, F, E>(listeners: Vec<L>, addresses: Vec<SocketAddr>, handle: F) -> io::Result<Self>
    where
        L: Listener,
        F: AsyncFn(L::Connection) -> Result<(), E> + 'static,
        E: Failure + 'static,
    {
        Loop::running()?;
        let inner = Rc::new(Inner::default());
        inner.quiet.set();
        inner.accepting.set(listeners.len());
        let handle = Rc::new(handle);
        let accepting = listeners
            .into_iter()
            .map(|listener| {
                let accepting = Accepting(Rc::clone(&inner));
                spawn(accept_all(listener, accepting, Rc::clone(&handle))).named("server")
            })
            .collect();
        Ok(Self { inner, accepting, addresses })
    }

    /// Where it listens; nothing for paths.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether it takes connections.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.inner.accepting.get() > 0
    }

    /// How many connections are being handled.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.inner.clients.borrow().len()
    }

    /// Takes no more connections. Those that are there go on.
    pub fn close(&self) {
        self.accepting.iter().for_each(|task| {
            task.cancel();
        });
    }

    /// Cancels the tasks of all connections that are there.
    pub fn cancel_clients(&self) {
        let clients: Vec<_> = self.inner.clients.borrow().values().cloned().collect();
        clients.iter().for_each(|client| {
            client.cancel();
        });
    }

    /// Waits until it takes no connections and those that it took are done with.
    ///
    /// # Errors
    /// [`Cancelled`]; the server goes on.
    pub async fn wait_closed(&self) -> Result<(), Cancelled> {
        self.inner.closed.wait().await?;
        self.inner.quiet.wait().await
    }

    /// Serves until the task is cancelled, then closes the server and cancels its clients: `serve_forever` in an `async with`.
    ///
    /// # Errors
    /// [`Cancelled`], or the error that accepting failed with, inside of an [`io::Error`].
    pub async fn serve_forever(mut self) -> io::Result<()> {
        let outcome = self.inner.closed.wait().await;
        self.close();
        self.cancel_clients();
        let mut failure = outcome.err().map(io::Error::from);
        for task in std::mem::take(&mut self.accepting) {
            match task.await {
                Err(error) if failure.is_none() && !error.is_cancelled() => failure = error.failed(),
                _ => {}
            }
        }
        // Whoever cancels again does not wait for the clients' clean-up.
        self.inner.quiet.wait().await?;
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// Says when a listener is closed.
struct Accepting(Rc<Inner>);

impl Drop for Accepting {
    fn drop(&mut self) {
        let left = self.0.accepting.get() - 1;
        self.0.accepting.set(left);
        if left == 0 {
            self.0.closed.set();
        }
    }
}

async fn accept_all<L, F, E>(listener: L, accepting: Accepting, handle: Rc<F>) -> io::Result<()>
where
    L: Listener,
    F: AsyncFn(L::Connection) -> Result<(), E> + 'static,
    E: Failure + 'static,
{
    loop {
        match listener.accept().await {
            Ok(connection) => accepting.0.begin(connection, &handle),
            Err(error) if is_shortage(&error) => {
                report(&format!("accepting connections pauses for {RETRY_DELAY:?}: {error}\n"));
                sleep(RETRY_DELAY).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|errno| shortages.iter().any(|known| known.raw_os_error() == errno))
}

/// Takes a client off the list, however its task ends.
struct Client {
    inner: Rc<Inner>,
    number: u64,
}

impl Inner {
    fn begin<C, F, E>(self: &Rc<Self>, connection: C, handle: &Rc<F>)
    where
        C: 'static,
        F: AsyncFn(C) -> Result<(), E> + 'static,
        E: Failure + 'static,
    {
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        let client = Client { inner: Rc::clone(self), number };
        let handle = Rc::clone(handle);
        let task = spawn(async move {
            let _client = client;
            handle(connection).await
        });
        self.quiet.clear();
        self.clients.borrow_mut().insert(number, task.as_ref());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let gone = self.inner.clients.borrow_mut().remove(&self.number);
        drop(gone);
        if self.inner.clients.borrow().is_empty() {
            self.inner.quiet.set();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("serving", &self.is_serving())
            .field("clients", &self.client_count())
            .finish_non_exhaustive()
    }
}
