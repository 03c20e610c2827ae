//! The base's native methods as a derived class's own.
//!
//! The interpreter checks with every call of a native method that the object is an instance of the class that the method
//! belongs to. For the class itself that is one comparison; for a base it walks the method resolution order, and `Loop` has
//! more than a dozen parts before `LoopBase`: 90 instructions with every `loop.call_soon(...)`. So `Loop` gets descriptors of
//! its own for the same functions.
//!
//! Source: CPython Objects/descrobject.c (`method_check_args`), Objects/typeobject.c (`PyType_IsSubtype`).

use pyo3::ffi;

use super::EventLoop;
use crate::ffi::function::{Function, add_functions};
use crate::ffi::raise::type_error;
use crate::ffi::{Args, Owned, Payload, Result, check};
use crate::names::names;

/// `own_methods(cls)`: gives `cls`, a class derived from `LoopBase`, the methods that it inherits from there as its own, and
/// gives it back: a decorator.
fn own_methods(args: Args<'_>) -> Result {
    let [class] = args.required([&names().cls])?;
    let base = EventLoop::type_object();
    // SAFETY: F1; living objects. What is a class is known before it is taken for one; a method's definition lives as long
    // as the process, as all of ours do; what is borrowed from the dict is used before anything can change it.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0 || ffi::PyType_IsSubtype(class.as_ptr().cast(), base) == 0 {
            return Err(type_error("own_methods() takes a class derived from LoopBase"));
        }
        let inherited = Owned::from_borrowed(base.cast()).attr(&names().__dict__)?;
        let inherited = Owned::from_new(ffi::PyMapping_Items(inherited.as_ptr()))?;
        for place in 0..ffi::PyList_GET_SIZE(inherited.as_ptr()) {
            let item = ffi::PyList_GET_ITEM(inherited.as_ptr(), place);
            let name = Owned::from_borrowed(ffi::PyTuple_GET_ITEM(item, 0));
            let method = Owned::from_borrowed(ffi::PyTuple_GET_ITEM(item, 1));
            // `time` stays: whether a class has replaced it is seen by its being another one.
            if !method.is_exactly(&raw mut ffi::PyMethodDescr_Type)
                || name.as_ptr() == names().time.as_ptr()
                || class.attr(&name)?.as_ptr() != method.as_ptr()
            {
                continue;
            }
            let definition = (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
            let own = Owned::from_new(ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition))?;
            check(ffi::PyObject_SetAttr(class.as_ptr(), name.as_ptr(), own.as_ptr()))?;
        }
    }
    Ok(class)
}

const FUNCTIONS: [Function; 1] = [(
    c"own_methods",
    crate::function!(c"own_methods", own_methods),
    c"own_methods(cls)\n--\n\nGive a class derived from LoopBase the native methods that it inherits as its own; \
      calling them is faster then.",
)];

/// Adds the function.
pub(super) fn load(module: &Owned) -> Result<()> {
    add_functions(module, FUNCTIONS)
}
