//! A value that belongs to one step at a time, wherever it is: the body of a coroutine.
//!
//! Unlike in a [`super::GilCell`], Python code may run while the value is in use: whoever comes meanwhile, from that code
//! or from another thread, finds it taken and does without. The value is never moved.
//!
//! `models/tests/loom_step_cell.rs` tries every interleaving, for interpreters without a GIL.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use crate::words::{AtomicU8, Ordering, UnsafeCell};

/// Where in its life the value is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Nobody has had it.
    Created = 0,
    /// Somebody has it.
    Running = 1,
    /// It was given back.
    Suspended = 2,
    /// It is no more.
    Finished = 3,
    /// It is there, and nobody may have it yet.
    Withheld = 4,
    /// Somebody has it, for the last time.
    Ending = 5,
}

/// The cell. Its phase says who may touch the value: in [`Phase::Running`] and [`Phase::Ending`] the one holder
/// of a [`Lent`], in [`Phase::Finished`] and [`Phase::Withheld`] nobody, else who takes it.
pub struct StepCell<T> {
    phase: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the phase gives the value to one thread at a time.
unsafe impl<T: Send> Sync for StepCell<T> {}

impl<T> StepCell<T> {
    /// A cell whose value nobody has had.
    pub fn new(value: T) -> Self {
        Self { phase: AtomicU8::new(Phase::Created as u8), value: UnsafeCell::new(MaybeUninit::new(value)) }
    }

    /// A cell whose value nobody may have before it is released.
    pub fn withheld(value: T) -> Self {
        let cell = Self::new(value);
        cell.phase.store(Phase::Withheld as u8, Ordering::Relaxed);
        cell
    }

    /// Lets the value be had; whether it was withheld until now.
    #[inline(always)]
    pub fn release(&self) -> bool {
        let (withheld, created) = (Phase::Withheld as u8, Phase::Created as u8);
        self.phase.compare_exchange(withheld, created, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The phase.
    #[inline(always)]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Created,
            1 => Phase::Running,
            2 => Phase::Suspended,
            3 => Phase::Finished,
            4 => Phase::Withheld,
            _ => Phase::Ending,
        }
    }

    /// Takes the value, and says in which phase it was; fails with the phase in which nobody can.
    #[inline(always)]
    pub fn take(&self) -> Result<(Phase, Lent<'_, T>), Phase> {
        let phase = self.phase();
        if !matches!(phase, Phase::Created | Phase::Suspended) {
            return Err(phase);
        }
        if cfg!(Py_GIL_DISABLED) {
            let (before, taken) = (phase as u8, Phase::Running as u8);
            if self.phase.compare_exchange(before, taken, Ordering::Acquire, Ordering::Relaxed).is_err() {
                // Another thread was faster: it has the value, or has had it a moment ago.
                return Err(Phase::Running);
            }
        } else {
            // No other thread can be between these two lines (F1).
            self.phase.store(Phase::Running as u8, Ordering::Relaxed);
        }
        Ok((phase, Lent { cell: self }))
    }

    /// Looks at the value if nobody has it; for the collector, during whose run nobody takes it.
    pub fn peek<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        match self.phase() {
            Phase::Created | Phase::Suspended | Phase::Withheld => {
                // SAFETY: the value is there, and nobody has it.
                Some(f(unsafe { (*self.value.get()).assume_init_ref() }))
            }
            Phase::Running | Phase::Ending | Phase::Finished => None,
        }
    }
}

impl<T> Drop for StepCell<T> {
    fn drop(&mut self) {
        self.release();
        if let Ok((_, lent)) = self.take() {
            drop(lent);
        }
    }
}

/// The value, in one holder's hands. Dropping this ends the value.
pub struct Lent<'a, T> {
    cell: &'a StepCell<T>,
}

impl<T> Lent<'_, T> {
    /// Says that the value will not be given back; the phase is [`Phase::Ending`] from here on.
    #[inline(always)]
    pub fn note_ending(&self) {
        self.cell.phase.store(Phase::Ending as u8, Ordering::Relaxed);
    }

    /// Gives the value back.
    #[inline(always)]
    pub fn give_back(self, phase: Phase) {
        self.cell.phase.store(phase as u8, Ordering::Release);
        std::mem::forget(self);
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the holder has the value to itself.
        unsafe { (*self.cell.value.get()).assume_init_ref() }
    }
}

impl<T> DerefMut for Lent<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { (*self.cell.value.get()).assume_init_mut() }
    }
}

impl<T> Drop for Lent<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as above; the phase keeps everybody away until it is gone, and for good after that.
        unsafe { (*self.cell.value.get()).assume_init_drop() };
        self.cell.phase.store(Phase::Finished as u8, Ordering::Release);
    }
}
