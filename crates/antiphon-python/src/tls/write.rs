//! Writing: plaintext waits until the transport below can send, then becomes records, one batch at a time.
//!
//! When: as for streams, right after the protocol method that wrote, else in the next turn, at once above the high-water
//! mark. Small writes of one turn share a record; large ones are encrypted where they lie.
//!
//! **Invariant L3**: bytes leave the queue only when OpenSSL has taken them, and in order.
//!
//! Source: CPython Lib/asyncio/sslproto.py (`_write_appdata`, `_do_write`, `_process_outgoing`, `_control_app_writing`).

use std::sync::atomic::Ordering;

use super::records::MOST_PLAIN_BYTES;
use super::session::Outcome;
use super::transport::{Phase, Tls};
use crate::ffi::{Instance, Owned, Raised, Result, call};
use crate::names::{import, names};
use crate::transport::flow::tell_writer;
use crate::transport::queue::{Done, bytes_of, freeze_all, frozen_or};
use crate::transport::stream::{FORGIVEN_WRITES, is, set};
use crate::work::{Kind, Work};

/// Plaintext that becomes records before the first of them is sent. Small enough for the processor's cache and for the
/// allocator's ordinary blocks, large enough to make system calls rare.
const BATCH_BYTES: usize = 64 * 1024;

impl Instance<Tls> {
    /// `write(data)`.
    #[inline]
    pub fn write(&self, data: &Owned) -> Result<()> {
        let chunk = frozen_or(data, c"data: expecting a bytes-like instance, got %U")?;
        if bytes_of(&chunk).is_empty() {
            return Ok(());
        }
        if self.phase() >= Phase::Flushing {
            return self.write_in_vain();
        }
        let len_bytes = self.queue.with(|queue| {
            queue.push(chunk);
            queue.len_bytes()
        });
        self.written(len_bytes)
    }

    /// `writelines(chunks)`.
    pub fn writelines(&self, chunks: &Owned) -> Result<()> {
        let chunks = freeze_all(chunks)?;
        if self.phase() >= Phase::Flushing {
            return self.write_in_vain();
        }
        let len_bytes = self.queue.with(|queue| {
            chunks.into_iter().for_each(|chunk| queue.push(chunk));
            queue.len_bytes()
        });
        self.written(len_bytes)
    }

    /// asyncio forgives a few writes to a connection that is gone, then logs each.
    #[cold]
    fn write_in_vain(&self) -> Result<()> {
        if self.vain_writes.fetch_add(1, Ordering::Relaxed) >= FORGIVEN_WRITES {
            call(&import("antiphon.reports", "write_to_closed_tls")?, [])?;
        }
        Ok(())
    }

    /// Something was queued: decides when it leaves.
    #[inline(always)]
    fn written(&self, len_bytes: usize) -> Result<()> {
        if len_bytes > self.flow.high() {
            self.pump()?;
            return self.maybe_pause_protocol();
        }
        if !is(&self.flags.delivering) && !is(&self.flags.flush_queued) && len_bytes > 0 {
            set(&self.flags.flush_queued, true);
            self.owner().push(Work::new(Kind::Flush, self.owned()));
        }
        Ok(())
    }

    /// The work item that [`Self::written`] queued.
    pub fn on_flush(&self) -> Result<()> {
        set(&self.flags.flush_queued, false);
        self.pump()
    }

    /// Whether [`Self::pull`] may have something.
    #[inline]
    fn has_output(&self) -> bool {
        is(&self.flags.outgoing)
            || (self.may_send_data() && self.queue.with(|queue| !queue.is_empty()))
            || self.has_upper()
    }

    #[inline]
    fn may_send_data(&self) -> bool {
        matches!(self.phase(), Phase::Wrapped | Phase::Flushing)
    }

    /// Has the transport below send what there is, as far as it can.
    #[inline]
    pub fn pump(&self) -> Result<()> {
        match self.lower() {
            Some(lower) if self.has_output() => lower.flush(self),
            _ => Ok(()),
        }
    }

    /// The next batch of records; `None` when there is nothing to send. Called by the transport below when it can send.
    pub fn pull(&self) -> Result<Option<Owned>> {
        if !self.has_output() {
            return Ok(None);
        }
        if self.may_send_data() {
            self.pull_from_upper()?;
            self.encrypt()?;
        }
        self.take_outgoing()
    }

    /// What OpenSSL has to send by itself: handshakes, alerts, answers to a wish for new keys.
    pub fn take_outgoing(&self) -> Result<Option<Owned>> {
        if !is(&self.flags.outgoing) || self.phase() == Phase::Unwrapped {
            return Ok(None);
        }
        set(&self.flags.outgoing, false);
        match self.session.outgoing() {
            Ok(records) => Ok(records),
            Err(Raised) => self.raised("Fatal error on SSL protocol").map(|()| None),
        }
    }

    /// TLS within TLS: its records are this one's plaintext.
    fn pull_from_upper(&self) -> Result<()> {
        if let Some(upper) = self.upper()
            && self.queue.with(|queue| queue.is_empty())
            && let Some(records) = upper.pull()?
        {
            self.queue.with(|queue| queue.push(records));
        }
        Ok(())
    }

    fn encrypt(&self) -> Result<()> {
        let mut done_bytes = 0;
        while done_bytes < BATCH_BYTES {
            match self.encrypt_some(BATCH_BYTES - done_bytes) {
                Outcome::Done(0) => break,
                Outcome::Done(count) => {
                    set(&self.flags.outgoing, true);
                    done_bytes += count;
                }
                // A renegotiation waits for the peer; its own part of it may be to send.
                Outcome::Again => {
                    set(&self.flags.outgoing, true);
                    break;
                }
                Outcome::Failed(exception) => {
                    return self.fatal_error(exception, "Fatal error on SSL protocol");
                }
            }
        }
        Ok(())
    }

    /// Encrypts the first chunk, or as much of it as `most` allows, or several small ones together.
    fn encrypt_some(&self, most: usize) -> Outcome<usize> {
        let (chunks, first_bytes) = self.queue.with(|queue| (queue.len(), queue.first_bytes()));
        let outcome = if chunks > 1 && first_bytes < MOST_PLAIN_BYTES {
            self.encrypt_joined()
        } else {
            self.encrypt_first(most)
        };
        // A connection that has ended meanwhile has dropped its queue.
        if let Outcome::Done(count) = outcome
            && self.may_send_data()
        {
            let mut done = Done::default();
            self.queue.with(|queue| queue.advance(count, &mut done));
        }
        outcome
    }

    fn encrypt_first(&self, most: usize) -> Outcome<usize> {
        let Some((chunk, sent)) = self.queue.with(|queue| queue.first()) else {
            return Outcome::Done(0);
        };
        let bytes = bytes_of(&chunk);
        let end = bytes.len().min(sent + most);
        if sent == 0 && end == bytes.len() {
            self.session.write_object(&chunk)
        } else {
            self.session.write(&bytes[sent..end])
        }
    }

    /// Small chunks share a record, by way of the loop's own buffer.
    fn encrypt_joined(&self) -> Outcome<usize> {
        let owner = self.owner();
        let mut joined = owner.with_core(|core| std::mem::take(&mut core.read_buffer)).unwrap_or_default();
        joined.clear();
        self.queue.with(|queue| queue.join_into(&mut joined, MOST_PLAIN_BYTES));
        let outcome = self.session.write(&joined);
        joined.clear();
        let _ = owner.with_core(|core| core.read_buffer = joined);
        outcome
    }

    /// The transport below has sent what it could.
    pub fn progressed(&self) -> Result<()> {
        self.maybe_resume_protocol()?;
        if let Some(upper) = self.upper() {
            upper.progressed()?;
        }
        if is(&self.flags.lower_paused) {
            self.control_lower_reading()?;
        }
        self.shut_down_if_flushed()
    }

    /// Bytes that the kernel has not taken, in whatever form.
    #[inline]
    pub fn unsent_bytes(&self) -> Result<usize> {
        let below = self.lower().map_or(Ok(0), |lower| lower.queued_bytes())?;
        Ok(self.queue.with(|queue| queue.len_bytes()) + below)
    }

    /// Looks at the marks after one of them has moved.
    pub fn limits_changed(&self) -> Result<()> {
        self.maybe_pause_protocol()?;
        self.maybe_resume_protocol()
    }

    fn maybe_pause_protocol(&self) -> Result<()> {
        let pause = self.flow.must_pause(self.unsent_bytes()?);
        if pause { self.tell_protocol(&names().pause_writing) } else { Ok(()) }
    }

    fn maybe_resume_protocol(&self) -> Result<()> {
        if !self.flow.is_paused() {
            return Ok(());
        }
        let resume = self.flow.must_resume(self.unsent_bytes()?);
        if resume { self.tell_protocol(&names().resume_writing) } else { Ok(()) }
    }

    fn tell_protocol(&self, method: &Owned) -> Result<()> {
        match self.protocol_object() {
            // A layer of TLS has marks of its own.
            Some(protocol) if !self.has_upper() => {
                tell_writer(self.owner(), &self.owned(), &protocol, method)
            }
            _ => Ok(()),
        }
    }
}
