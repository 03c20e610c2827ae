//! Something with a descriptor, and the waits for it.

use crate::Cancelled;
use crate::runtime::{Advice, Direction, Loop, Registration, Ticket};
use antiphon_engine::partial_writes::allowance;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a writer waits for.
const ROOM: &str = "room to write";

/// What has a descriptor that does not block, in the loop that it was made in.
pub(crate) struct Watched<T: AsFd> {
    /// Dropped before the descriptor is closed (A2): fields are dropped in their order.
    registration: Registration,
    io: T,
}

impl<T: AsFd> Watched<T> {
    /// `io` must not block.
    pub(crate) fn new(io: T) -> io::Result<Self> {
        let registration = Registration::new(io.as_fd().as_raw_fd())?;
        Ok(Self { registration, io })
    }

    pub(crate) const fn get(&self) -> &T {
        &self.io
    }

    /// Gives it away, without a loop.
    pub(crate) fn into_inner(self) -> T {
        let Self { registration, io } = self;
        drop(registration);
        io
    }

    /// A call has shown that the next one would block: it took all that there was.
    pub(crate) fn would_block(&self, direction: Direction) {
        self.registration.would_block(direction);
    }

    /// The one with this ticket waits no more.
    pub(crate) fn leave(&self, direction: Direction, ticket: Ticket) {
        self.registration.leave(direction, ticket);
    }

    /// Lets everybody who waits try.
    pub(crate) fn wake(&self, direction: Direction) {
        self.registration.wake(direction);
    }

    /// Makes a call, or waits until it can be made.
    ///
    /// It fails with [`Cancelled`] inside only if it would wait, so that nothing is lost that a call has brought.
    #[inline]
    pub(crate) fn poll<R>(
        &self,
        direction: Direction,
        ticket: &mut Option<Ticket>,
        what: &'static str,
        context: &Context<'_>,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.registration.check_loop()?;
        loop {
            match self.registration.advice(direction) {
                Advice::Try => match call(&self.io) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.would_block(direction),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return Poll::Ready(outcome),
                },
                Advice::Wait => {
                    if crate::cancel::take_due_or_wait_for(what) {
                        return Poll::Ready(Err(Cancelled.into()));
                    }
                    self.registration.wait(direction, ticket, context.waker())?;
                    return Poll::Pending;
                }
                Advice::GiveWay => {
                    if crate::cancel::take_due() {
                        return Poll::Ready(Err(Cancelled.into()));
                    }
                    if !Loop::reschedule_current(context.waker()) {
                        context.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// As [`poll`](Self::poll), for traits' methods.
    pub(crate) fn poll_by_trait<R>(
        &self,
        direction: Direction,
        what: &'static str,
        context: &Context<'_>,
        call: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll(direction, &mut Some(Ticket::TRAIT), what, context, call)
    }

    /// As [`poll`](Self::poll), as often as it takes.
    #[inline]
    pub(crate) fn perform<R, F: FnMut(&T) -> io::Result<R>>(
        &self,
        direction: Direction,
        what: &'static str,
        call: F,
    ) -> Perform<'_, T, F> {
        Perform { watched: self, direction, what, call, ticket: None }
    }

    /// Waits until a call may succeed.
    pub(crate) async fn ready(&self, direction: Direction, what: &'static str) -> io::Result<()> {
        self.would_block(direction); // so that the driver is asked
        self.perform(direction, what, |_| Ok(())).await
    }
}

/// The future of [`Watched::perform`]: a type of its own, since this is where every byte comes by.
#[must_use = "futures do nothing unless awaited"]
pub(crate) struct Perform<'a, T: AsFd, F> {
    watched: &'a Watched<T>,
    direction: Direction,
    what: &'static str,
    call: F,
    ticket: Option<Ticket>,
}

impl<T: AsFd, R, F: FnMut(&T) -> io::Result<R> + Unpin> Future for Perform<'_, T, F> {
    type Output = io::Result<R>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        let Self { watched, direction, what, call, ticket } = self.get_mut();
        watched.poll(*direction, ticket, what, context, call)
    }
}

impl<T: AsFd, F> Drop for Perform<'_, T, F> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.watched.leave(self.direction, ticket);
        }
    }
}

impl<T: AsFd + std::fmt::Debug> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.io.fmt(f)
    }
}

/// Streams of bytes: what takes less than there was room for has taken everything.
impl<T: AsFd> Watched<T>
where
    for<'a> &'a T: Read,
{
    #[inline]
    pub(crate) fn read<'a>(&'a self, buffer: &'a mut [u8]) -> impl Future<Output = io::Result<usize>> + 'a {
        self.perform(Direction::Read, "data", move |io| self.try_read(io, buffer))
    }

    #[inline]
    pub(crate) fn poll_read(&self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_by_trait(Direction::Read, "data", context, |io| self.try_read(io, buffer))
    }

    pub(crate) fn poll_read_vectored(
        &self,
        context: &Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.poll_by_trait(Direction::Read, "data", context, |mut io| {
            let len = io.read_vectored(buffers)?;
            self.has_read(len, room);
            Ok(len)
        })
    }

    #[inline]
    fn try_read(&self, mut io: &T, buffer: &mut [u8]) -> io::Result<usize> {
        let len = io.read(buffer)?;
        self.has_read(len, buffer.len());
        Ok(len)
    }

    #[inline]
    fn has_read(&self, len: usize, room: usize) {
        if 0 < len && len < room {
            self.would_block(Direction::Read);
        }
    }
}

impl<T: AsFd> Watched<T>
where
    for<'a> &'a T: Write,
{
    #[inline]
    pub(crate) fn write<'a>(&'a self, bytes: &'a [u8]) -> impl Future<Output = io::Result<usize>> + 'a {
        self.perform(Direction::Write, ROOM, move |io| self.try_write(io, bytes))
    }

    pub(crate) async fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.perform(Direction::Write, ROOM, |io| self.try_write_vectored(io, buffers)).await
    }

    pub(crate) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.write(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => left = &left[len..],
            }
        }
        Ok(())
    }

    pub(crate) fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_by_trait(Direction::Write, ROOM, context, |io| self.try_write(io, bytes))
    }

    pub(crate) fn poll_write_vectored(
        &self,
        context: &Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_by_trait(Direction::Write, ROOM, context, |io| self.try_write_vectored(io, buffers))
    }

    #[inline]
    fn try_write(&self, mut io: &T, bytes: &[u8]) -> io::Result<usize> {
        let offered = allowance(io.as_fd().as_raw_fd(), bytes.len())?;
        let len = io.write(&bytes[..offered])?;
        self.has_written(len, bytes.len());
        Ok(len)
    }

    fn try_write_vectored(&self, mut io: &T, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let all = buffers.iter().map(|buffer| buffer.len()).sum();
        let len = match allowance(io.as_fd().as_raw_fd(), all)? {
            offered if offered == all => io.write_vectored(buffers)?,
            offered => {
                let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |first| first);
                io.write(&first[..offered.min(first.len())])?
            }
        };
        self.has_written(len, all);
        Ok(len)
    }

    #[inline]
    fn has_written(&self, len: usize, all: usize) {
        if len < all {
            self.would_block(Direction::Write);
        }
    }
}

/// The methods that every connection has.
macro_rules! reading_methods {
    ($stream:ty) => {
        impl $stream {
            /// Reads what is there, at most as much as `buffer` holds; waits if nothing is. Returns how many bytes; 0: the end.
            ///
            /// # Errors
            /// As read(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and nothing was read.
            pub async fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.socket.read(buffer).await
            }

            /// Fills `buffer`.
            ///
            /// # Errors
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof): the stream ended before. Otherwise as [`read`](Self::read).
            ///
            /// # Cancellation
            /// What was read already is in `buffer`, and how much is not known; a
            /// [`StreamReader`](crate::StreamReader) loses nothing.
            pub async fn read_exact(&self, buffer: &mut [u8]) -> std::io::Result<()> {
                let mut filled = 0;
                while filled < buffer.len() {
                    match self.read(&mut buffer[filled..]).await? {
                        0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        len => filled += len,
                    }
                }
                Ok(())
            }

            /// Waits until there is something to read, or the end.
            ///
            /// # Errors
            /// With [`Cancelled`](crate::Cancelled) inside: the task was cancelled.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.socket.ready(crate::runtime::Direction::Read, "data").await
            }
        }
    };
}

/// The methods of everything that can be written to.
macro_rules! writing_methods {
    ($stream:ty) => {
        impl $stream {
            /// Writes at least one of `bytes`, as many as there is room for; waits if there is none. Returns how many.
            ///
            /// # Errors
            /// As write(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and nothing was written.
            pub async fn write(&self, bytes: &[u8]) -> std::io::Result<usize> {
                self.socket.write(bytes).await
            }

            /// As [`write`](Self::write), of several buffers in one call.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            pub async fn write_vectored(&self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.socket.write_vectored(buffers).await
            }

            /// Writes all of `bytes`.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            ///
            /// # Cancellation
            /// A part may have been written, and how much is not known; [`write`](Self::write) tells.
            pub async fn write_all(&self, bytes: &[u8]) -> std::io::Result<()> {
                self.socket.write_all(bytes).await
            }

            /// Waits until there is room to write, or an error to be told.
            ///
            /// # Errors
            /// With [`Cancelled`](crate::Cancelled) inside: the task was cancelled.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.socket.ready(crate::runtime::Direction::Write, "room to write").await
            }
        }
    };
}

/// `futures_io::AsyncRead`, for the stream and for references to it.
macro_rules! reading_traits {
    ($($stream:ty),*) => {$(
        impl futures_io::AsyncRead for $stream {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.socket.poll_read(context, buffer)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.socket.poll_read_vectored(context, buffers)
            }
        }
    )*};
}

/// `futures_io::AsyncWrite`; `$close` ends the direction.
macro_rules! writing_traits {
    ($close:expr; $($stream:ty),*) => {$(
        impl futures_io::AsyncWrite for $stream {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.socket.poll_write(context, bytes)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.socket.poll_write_vectored(context, buffers)
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(())) // the kernel has it
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let close: fn(&Self) -> std::io::Result<()> = $close;
                std::task::Poll::Ready(close(&self))
            }
        }
    )*};
}

pub(crate) use {reading_methods, reading_traits, writing_methods, writing_traits};
