//! The two directions of one connection, for two owners.

use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The reading half of a connection, which is closed when both halves are dropped. It has the connection's methods.
///
/// ```
/// use antiphon::net::UnixStream;
/// use antiphon::spawn;
///
/// antiphon::run(async {
///     let (ours, theirs) = UnixStream::pair()?;
///     let (reading, writing) = ours.into_split();
///     let reader = spawn(async move {
///         let mut text = [0; 2];
///         reading.read_exact(&mut text).await?;
///         Ok::<_, std::io::Error>((reading, text))
///     });
///     writing.write_all(b"to").await?; // while the other task reads
///     theirs.write_all(b"ok").await?;
///     let (reading, text) = reader.await.unwrap();
///     assert_eq!(&text, b"ok");
///     assert!(reading.unite(writing).is_ok());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReadHalf<S>(Rc<S>);

/// The writing half of a connection; see [`ReadHalf`]. Dropping it alone does not tell the peer: that is
/// `shutdown`'s business.
///
/// ```
/// use antiphon::net::UnixStream;
/// use std::net::Shutdown;
///
/// antiphon::run(async {
///     let (ours, theirs) = UnixStream::pair()?;
///     let (_reading, writing) = ours.into_split();
///     writing.write_all(b"bye").await?;
///     writing.shutdown(Shutdown::Write)?;
///     let mut text = [0; 9];
///     assert_eq!(theirs.read(&mut text).await?, 3);
///     assert_eq!(theirs.read(&mut text).await?, 0);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WriteHalf<S>(Rc<S>);

pub(super) fn split<S>(stream: S) -> (ReadHalf<S>, WriteHalf<S>) {
    let stream = Rc::new(stream);
    (ReadHalf(Rc::clone(&stream)), WriteHalf(stream))
}

impl<S> ReadHalf<S> {
    /// The whole again.
    ///
    /// # Errors
    /// Both halves, if they are not of the same connection.
    pub fn unite(self, other: WriteHalf<S>) -> Result<S, (Self, WriteHalf<S>)> {
        if !Rc::ptr_eq(&self.0, &other.0) {
            return Err((self, other));
        }
        drop(other);
        Rc::try_unwrap(self.0).map_err(|stream| (Self(Rc::clone(&stream)), WriteHalf(stream)))
    }
}

impl<S> Deref for ReadHalf<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> Deref for WriteHalf<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> AsyncRead for ReadHalf<S>
where
    for<'a> &'a S: AsyncRead,
{
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_read(context, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_read_vectored(context, buffers)
    }
}

impl<S> AsyncWrite for WriteHalf<S>
where
    for<'a> &'a S: AsyncWrite,
{
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_write_vectored(context, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.0).poll_close(context)
    }
}
