//! A callback with its arguments and context: what a handle carries.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use pyo3::ffi;

use crate::context::CallContext;
use crate::event_loop::EventLoop;
use crate::ffi::{Args, Instance, Owned, Raised, Result};
use crate::hand_off::window;
use crate::names::names;

/// Arguments that fit into the handle itself.
const INLINE: usize = 3;
/// `Call::count` of a call whose arguments are in a tuple in the first place.
const IN_TUPLE: u8 = u8::MAX;

/// A callback with its arguments and context, ready to be called.
#[derive(Default)]
pub struct Call {
    pub(super) callback: Option<Owned>,
    pub(super) context: Option<CallContext>,
    /// How many of the places below are filled, or [`IN_TUPLE`].
    count: u8,
    arguments: Places,
}

/// Room for arguments, without a word that says whether a place is filled: the count does.
struct Places([MaybeUninit<Owned>; INLINE]);

impl Default for Places {
    #[inline(always)]
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; INLINE])
    }
}

impl Call {
    /// Binds `arguments` (borrowed) to `callback`, to be called in `context`.
    #[inline(always)]
    pub fn new(callback: Owned, arguments: &[*mut ffi::PyObject], context: CallContext) -> Result<Self> {
        let mut call =
            Self { callback: Some(callback), context: Some(context), count: 0, arguments: Places::default() };
        if arguments.len() <= INLINE {
            for (place, argument) in call.arguments.0.iter_mut().zip(arguments) {
                // SAFETY: the caller's arguments are alive.
                place.write(unsafe { Owned::from_borrowed(*argument) });
            }
            call.count = arguments.len() as u8;
            return Ok(call);
        }
        call.arguments.0[0].write(tuple_of(arguments)?);
        call.count = IN_TUPLE;
        Ok(call)
    }

    #[inline(always)]
    fn filled(&self) -> &[Owned] {
        filled_places(&self.arguments, self.count)
    }

    /// [`Self::run`] that may lose the seat of its loop meanwhile.
    #[inline(always)]
    pub(super) fn run_in_window(&mut self, owner: Option<&Instance<EventLoop>>) -> Result<()> {
        let window = window::open(owner);
        let outcome = self.run();
        window::close(window);
        outcome
    }

    /// Calls the callback in its context. `Ok` also where there is none (cancelled).
    ///
    /// The caller keeps `self` alive during the call: the callback may cancel the handle it came from.
    #[inline(always)]
    pub(super) fn run(&mut self) -> Result<()> {
        let (Some(callback), Some(context)) = (&self.callback, &mut self.context) else {
            return Ok(());
        };
        let context = context.shown();
        // SAFETY: F1. The argument array has a free place in front; borrowed values outlive the call. A context that was
        // entered is left on every path.
        unsafe {
            if ffi::PyContext_Enter(context) != 0 {
                return Err(Raised);
            }
            let filled = filled_places(&self.arguments, self.count);
            let result = if self.count == IN_TUPLE {
                ffi::PyObject_Call(callback.as_ptr(), filled[0].as_ptr(), ptr::null_mut())
            } else {
                let mut values = [ptr::null_mut(); INLINE + 1];
                for (value, argument) in values[1..].iter_mut().zip(filled) {
                    *value = argument.as_ptr();
                }
                ffi::PyObject_Vectorcall(
                    callback.as_ptr(),
                    values.as_mut_ptr().add(1),
                    filled.len() | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    ptr::null_mut(),
                )
            };
            if result.is_null() {
                // Leaving a context needs no exception set; CPython's own `Context.run` does it the same way.
                ffi::PyContext_Exit(context);
                return Err(Raised);
            }
            let left = ffi::PyContext_Exit(context);
            ffi::Py_DECREF(result);
            if left != 0 { Err(Raised) } else { Ok(()) }
        }
    }

    /// The positional arguments as a tuple.
    pub(super) fn arguments_tuple(&self) -> Result {
        if self.count == IN_TUPLE {
            return Ok(self.filled()[0].clone());
        }
        let borrowed: Vec<_> = self.filled().iter().map(Owned::as_ptr).collect();
        tuple_of(&borrowed)
    }

    /// Visits what this call refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        for reference in self.callback.iter().chain(self.filled()) {
            // SAFETY: called from a traverse slot with its own visitor.
            let status = unsafe { visit(reference.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        self.context.as_ref().map_or(0, |context| context.traverse(visit, arg))
    }
}

/// The filled places: the arguments, or the one tuple that has them.
#[inline(always)]
fn filled_places(places: &Places, count: u8) -> &[Owned] {
    let count = if count == IN_TUPLE { 1 } else { usize::from(count) };
    // SAFETY: `count` says how many places are filled, and they come first.
    unsafe { std::slice::from_raw_parts(places.0.as_ptr().cast::<Owned>(), count) }
}

impl Call {
    /// The same call again, for a handle that keeps its own.
    pub(super) fn duplicate(&mut self) -> Self {
        let mut arguments = Places::default();
        for (place, argument) in arguments.0.iter_mut().zip(self.filled()) {
            place.write(argument.clone());
        }
        Self {
            callback: self.callback.clone(),
            context: self.context.as_mut().map(|context| CallContext::given(context.shown_object())),
            count: self.count,
            arguments,
        }
    }
}

impl Drop for Call {
    #[inline(always)]
    fn drop(&mut self) {
        if self.count != 0 {
            let filled = ptr::from_ref(self.filled()).cast_mut();
            self.count = 0;
            // SAFETY: the places were filled, and the count now says that they are not.
            unsafe { ptr::drop_in_place(filled) };
        }
    }
}

fn tuple_of(items: &[*mut ffi::PyObject]) -> Result {
    // SAFETY: F1; every place of the new tuple is filled once with a reference of its own.
    unsafe {
        let tuple = Owned::from_new(ffi::PyTuple_New(items.len() as isize))?;
        for (place, item) in items.iter().enumerate() {
            ffi::Py_INCREF(*item);
            ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place as isize, *item);
        }
        Ok(tuple)
    }
}

/// Whether so many wait already that contexts of further ones had better be hidden from the collector (X1). Below that
/// they are gone before the collector comes, and hiding would only cost.
#[inline(always)]
pub fn is_crowd(waiting: usize) -> bool {
    waiting > 512
}

/// What `call_soon` and its kin share: `callback, *args, context=None` to a call. `crowded`: see [`is_crowd`].
#[inline(always)]
pub fn call_from_args(args: &Args<'_>, callback_at: usize, crowded: bool) -> Result<Call> {
    let positional = args.positional();
    let context = if args.has_keywords() { args.only_keyword(&names().context)? } else { None };
    // SAFETY: F1; the values are the caller's living arguments.
    unsafe {
        let context = match context.and_then(|value| Owned::from_optional(*value)) {
            Some(context) => CallContext::given(context),
            None => CallContext::copy_of_current(crowded)?,
        };
        Call::new(Owned::from_borrowed(positional[callback_at]), &positional[callback_at + 1..], context)
    }
}
