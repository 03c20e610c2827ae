//! A transport's writing side: writes are queued, and leave together in one vectored call.
//!
//! When: right after the protocol method that wrote them, if data is being delivered; else by the transport's own work
//! item in the next turn; at once when more is queued than the high-water mark, so that flow control answers as if every
//! write had tried the kernel first.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`write`, `_write_ready`).

use std::io;
use std::sync::atomic::Ordering;

use super::flow::tell_writer;
use super::queue::{Done, Sent, bytes_of, freeze_all, frozen};
use super::stream::{FORGIVEN_WRITES, Stream, is, set};
use crate::ffi::raise::{os_error_object, runtime_error};
use crate::ffi::{Args, Instance, Owned, Result, call};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::work::{Kind, Work};

impl Instance<Stream> {
    /// `write(data)`.
    #[inline]
    pub fn write(&self, data: &Owned) -> Result<()> {
        let chunk = frozen(data)?;
        self.check_writable("write")?;
        if bytes_of(&chunk).is_empty() {
            return Ok(());
        }
        if self.lost.load(Ordering::Relaxed) > 0 {
            return self.write_to_lost();
        }
        let len_bytes = self.queue.with(|queue| {
            queue.push(chunk);
            queue.len_bytes()
        });
        self.written(len_bytes)
    }

    #[inline(always)]
    fn check_writable(&self, method: &str) -> Result<()> {
        if is(&self.flags.eof_written) {
            return Err(runtime_error(&format!("Cannot call {method}() after write_eof()")));
        }
        if is(&self.flags.lent) {
            return Err(runtime_error(&format!("unable to {method}; sendfile is in progress")));
        }
        Ok(())
    }

    /// Something was queued: decides when it leaves.
    #[inline(always)]
    fn written(&self, len_bytes: usize) -> Result<()> {
        if len_bytes > self.flow.high() {
            if !is(&self.flags.blocked) {
                self.flush_now()?;
            }
            return self.maybe_pause_protocol();
        }
        if !is(&self.flags.delivering) && !is(&self.flags.flush_queued) && !is(&self.flags.blocked) {
            set(&self.flags.flush_queued, true);
            self.owner().push(Work::new(Kind::Flush, self.owned()));
        }
        Ok(())
    }

    /// asyncio forgives a few writes to a lost connection, then logs each.
    #[cold]
    fn write_to_lost(&self) -> Result<()> {
        if self.lost.fetch_add(1, Ordering::Relaxed) >= FORGIVEN_WRITES {
            call(&import("antiphon.reports", "write_to_lost")?, [])?;
        }
        Ok(())
    }

    /// The work item that [`Self::written`] queued.
    #[inline]
    pub fn on_flush(&self) -> Result<()> {
        set(&self.flags.flush_queued, false);
        self.flush()
    }

    /// Sends what is queued, unless the kernel is known to be full.
    #[inline]
    pub fn flush(&self) -> Result<()> {
        if is(&self.flags.blocked) || self.queue.with(|queue| queue.is_empty()) {
            return Ok(());
        }
        self.flush_now()
    }

    /// Sends what is queued now.
    pub fn flush_now(&self) -> Result<()> {
        loop {
            if self.fd() < 0 || self.lost.load(Ordering::Relaxed) > 0 {
                return Ok(());
            }
            let fd = self.descriptor();
            let mut done = Done::default();
            let sent = self.queue.with(|queue| queue.send(fd, &mut done));
            drop(done);
            match sent {
                Sent::All if self.refill()? => {}
                Sent::All => return self.drained(),
                Sent::Blocked => return self.wait_for_room(),
                Sent::Failed(error) => return self.write_failed(&error),
            }
        }
    }

    /// Takes more from the layer above, which makes it only when it can be sent. Whether there was any.
    #[inline]
    fn refill(&self) -> Result<bool> {
        let Some(layer) = self.layer() else {
            return Ok(false);
        };
        let Some(chunk) = layer.pull()? else {
            return Ok(false);
        };
        self.queue.with(|queue| queue.push(chunk));
        Ok(true)
    }

    fn wait_for_room(&self) -> Result<()> {
        if !is(&self.flags.blocked) {
            set(&self.flags.blocked, true);
            let work = Work::new(Kind::Writable, self.owned());
            self.owner().watch(self.fd(), Direction::Write, Mode::Persistent, work)?;
        }
        self.maybe_resume_protocol()
    }

    #[cold]
    fn write_failed(&self, error: &io::Error) -> Result<()> {
        self.fatal_error(os_error_object(error), "Fatal write error on socket transport")
    }

    /// There is room again.
    pub fn on_writable(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        if self.borrower_has_room()? { Ok(()) } else { self.flush_now() }
    }

    /// The queue is empty: resumes the protocol, ends what waited for this.
    fn drained(&self) -> Result<()> {
        if is(&self.flags.blocked) {
            set(&self.flags.blocked, false);
            if self.is_registered() {
                self.owner().unwatch(self.fd(), Direction::Write);
            }
        }
        self.maybe_resume_protocol()?;
        // The protocol may have written again when it was resumed.
        if !self.queue.with(|queue| queue.is_empty()) {
            return Ok(());
        }
        self.tell_borrower()?;
        if is(&self.flags.closing) {
            self.end(None);
        } else if is(&self.flags.eof_written) {
            self.shut_down_writing();
        }
        Ok(())
    }

    fn shut_down_writing(&self) {
        // SAFETY: takes two integers. A peer that is gone already is no error of ours: reading will tell.
        unsafe { libc::shutdown(self.descriptor(), libc::SHUT_WR) };
    }

    fn maybe_pause_protocol(&self) -> Result<()> {
        if is(&self.flags.layered) {
            return Ok(());
        }
        let queued = self.queue.with(|queue| queue.len_bytes());
        if self.flow.must_pause(queued) { self.tell_protocol(&names().pause_writing) } else { Ok(()) }
    }

    fn maybe_resume_protocol(&self) -> Result<()> {
        if let Some(layer) = self.layer() {
            return layer.progressed();
        }
        let queued = self.queue.with(|queue| queue.len_bytes());
        if self.flow.must_resume(queued) { self.tell_protocol(&names().resume_writing) } else { Ok(()) }
    }

    fn tell_protocol(&self, method: &Owned) -> Result<()> {
        match self.protocol_object() {
            Some(protocol) => tell_writer(self.owner(), &self.owned(), &protocol, method),
            None => Ok(()),
        }
    }

    /// `write_eof()`: the last byte was written; reading goes on.
    pub fn write_eof(&self) -> Result<()> {
        if is(&self.flags.closing) || is(&self.flags.eof_written) {
            return Ok(());
        }
        set(&self.flags.eof_written, true);
        self.flush()?;
        if self.queue.with(|queue| queue.is_empty()) && self.fd() >= 0 && !is(&self.flags.closing) {
            self.shut_down_writing();
        }
        Ok(())
    }

    /// Bytes that the kernel has not taken.
    pub fn write_buffer_size(&self) -> Result<usize> {
        // As if every write had tried the kernel at once.
        self.flush()?;
        Ok(self.queue.with(|queue| queue.len_bytes()))
    }

    /// `set_write_buffer_limits(high=None, low=None)`.
    pub fn set_limits(&self, args: Args<'_>) -> Result<()> {
        self.flow.set_limits(args)?;
        self.maybe_pause_protocol()
    }

    /// `writelines(chunks)`.
    pub fn writelines(&self, chunks: &Owned) -> Result<()> {
        // Before 3.12 it joined the chunks and called write().
        self.check_writable(if cfg!(Py_3_12) { "writelines" } else { "write" })?;
        let chunks = freeze_all(chunks)?;
        if chunks.is_empty() {
            return Ok(());
        }
        if self.lost.load(Ordering::Relaxed) > 0 {
            return self.write_to_lost();
        }
        let len_bytes = self.queue.with(|queue| {
            chunks.into_iter().for_each(|chunk| queue.push(chunk));
            queue.len_bytes()
        });
        self.written(len_bytes)
    }
}
