//! The Python frames of a thread that is inside a call, as another thread sees them.
//!
//! `unsafe` is for the frame functions of the C API, all of them public since 3.11 (`PyThreadState_GetFrame`,
//! `PyFrame_GetBack`, `PyFrame_GetCode`, `PyFrame_GetLasti`). Whoever calls them holds the interpreter, so the other thread
//! does not move meanwhile.

use std::ffi::c_int;

use pyo3::ffi;

use super::owned::Owned;

/// A call in Python code: the code object, and the offset of the instruction in bytes.
pub struct CallSite {
    /// The code object.
    pub code: Owned,
    /// As `sys.monitoring` and `frame.f_lasti` count.
    pub offset: c_int,
}

impl CallSite {
    /// What tells it from others, as long as the code object is alive.
    pub fn place(&self) -> (usize, c_int) {
        (self.code.as_ptr() as usize, self.offset)
    }

    /// The number of the instruction there, as the compiler wrote it. `None`: there is none.
    pub fn opcode(&self) -> Option<u8> {
        let place = usize::try_from(self.offset).ok()?;
        // SAFETY: F1; a code object; a new reference to `bytes`, or null.
        let bytes = unsafe { Owned::from_new(PyCode_GetCode(self.code.as_ptr().cast())) };
        let Ok(bytes) = bytes else {
            drop(super::raise::take());
            return None;
        };
        // SAFETY: F1; exact `bytes`, alive and unchanging while they are read.
        unsafe {
            let len = ffi::PyBytes_Size(bytes.as_ptr()).cast_unsigned();
            (place < len).then(|| *ffi::PyBytes_AsString(bytes.as_ptr()).cast::<u8>().add(place))
        }
    }
}

// Public since 3.11.
unsafe extern "C" {
    fn PyCode_GetCode(code: *mut ffi::PyCodeObject) -> *mut ffi::PyObject;
}

/// Where a thread is: its innermost frame, and the instruction there. Compared, never followed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Position {
    frame: usize,
    instruction: c_int,
}

/// A thread of the interpreter, by the addresses that tell it apart while it drives a loop.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ThreadState {
    state: usize,
    /// The frame that called into the loop; what is below it is not the loop's business. 0: there is none.
    base: usize,
}

impl ThreadState {
    /// The calling thread, which is about to drive a loop.
    pub fn here() -> Self {
        // SAFETY: F1; the frame is borrowed and only compared.
        unsafe { Self { state: ffi::PyThreadState_Get() as usize, base: ffi::PyEval_GetFrame() as usize } }
    }

    /// Its innermost Python frame, unless that is the base: then no Python code of a step is running.
    fn innermost(self) -> Option<Owned> {
        // SAFETY: F1; the thread is inside a step, so its state is alive. A new reference or null.
        let frame =
            unsafe { Owned::from_new(ffi::PyThreadState_GetFrame(self.state as *mut _).cast()) }.ok()?;
        (frame.as_ptr() as usize != self.base).then_some(frame)
    }

    /// Where it is. `None`: in native code that no Python frame of the step has called.
    pub fn position(self) -> Option<Position> {
        let frame = self.innermost()?;
        // SAFETY: F1; a living frame.
        let instruction = unsafe { ffi::PyFrame_GetLasti(frame.as_ptr().cast()) };
        Some(Position { frame: frame.as_ptr() as usize, instruction })
    }

    /// The instruction that its innermost frame is in.
    pub fn call_site(self) -> Option<CallSite> {
        let frame = self.innermost()?;
        // SAFETY: F1; a living frame; a new reference.
        unsafe {
            let code = Owned::from_new(ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast()).ok()?;
            Some(CallSite { code, offset: ffi::PyFrame_GetLasti(frame.as_ptr().cast()) })
        }
    }

    /// The code objects of the frames above the base, innermost first, each once.
    pub fn codes(self) -> Vec<Owned> {
        let mut codes: Vec<Owned> = Vec::new();
        let mut next = self.innermost();
        while let Some(frame) = next {
            // SAFETY: F1; a living frame; new references, or null at the outermost.
            unsafe {
                let code = Owned::from_new(ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast());
                if let Ok(code) = code
                    && codes.iter().all(|known| known.as_ptr() != code.as_ptr())
                {
                    codes.push(code);
                }
                next = Owned::from_new(ffi::PyFrame_GetBack(frame.as_ptr().cast()).cast()).ok();
            }
            next = next.filter(|frame| frame.as_ptr() as usize != self.base);
        }
        codes
    }
}
