//! What makes native coroutines, as the coroutine function that it is.
//!
//! A built-in function or method that gives coroutines is no coroutine function to `inspect`, so mocks of it could not be
//! awaited, and nobody could read its parameters. A [`CoroutineFunction`] around it calls the same native code, and has
//! besides what `inspect` reads of any function-like object: the code, defaults and annotations of the `async def` that it
//! stands for. It binds to instances as that does.
//!
//! Source: CPython Lib/inspect.py (`iscoroutinefunction`, `_signature_is_functionlike`); PEP 590.

use std::ffi::c_void;
use std::mem::offset_of;

use pyo3::ffi;

use crate::ffi::derived::TypeCell;
use crate::ffi::heap_type::{FastMethod, PlainMethod};
use crate::ffi::raise::type_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Result, guard};
use crate::names::{intern, names};
use crate::{getter, method_noargs, unary_slot};

// Documented, and exported by every version; pyo3-ffi does not declare it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, object: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// The native code, by the way in which it takes its arguments.
enum Native {
    /// A function of the module.
    Function(FastMethod),
    /// A method with any arguments.
    Method(FastMethod),
    /// A method without arguments.
    MethodNoArgs(PlainMethod),
    /// A method that is called through its descriptor.
    Other,
}

/// The payload.
struct CoroutineFunction {
    entry: ffi::vectorcallfunc,
    native: Native,
    /// The class of a method's objects.
    class: Option<Owned>,
    /// The built-in around the native code; it refuses what cannot be passed on.
    built_in: Owned,
    /// The `async def` that it stands for.
    stands_for: Owned,
}

static FUNCTION: TypeCell = TypeCell::new();

impl Payload for CoroutineFunction {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    fn type_object() -> *mut ffi::PyTypeObject {
        FUNCTION.get()
    }
}

type This = Instance<CoroutineFunction>;

unsafe extern "C" fn call_function(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; the arguments are those of this very call, passed on as they came. The native code guards itself.
    unsafe {
        match This::from_ptr(this).native {
            Native::Function(function) => function(
                std::ptr::null_mut(),
                values,
                ffi::PyVectorcall_NARGS(count) as ffi::Py_ssize_t,
                keywords,
            ),
            _ => call_method(this, values, count, keywords),
        }
    }
}

/// The object is the first argument.
unsafe extern "C" fn call_method(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `call_function`; an object of the method's class is what its native code is written for.
    unsafe {
        let this = This::from_ptr(this);
        let given = ffi::PyVectorcall_NARGS(count);
        let class = this.class.as_ref().map_or(std::ptr::null_mut(), Owned::as_ptr);
        if given > 0 && !class.is_null() && ffi::PyObject_TypeCheck(*values, class.cast()) != 0 {
            match this.native {
                Native::MethodNoArgs(method) if given == 1 && keywords.is_null() => {
                    return method(*values, std::ptr::null_mut());
                }
                Native::Method(method) => {
                    return method(*values, values.add(1), given as ffi::Py_ssize_t - 1, keywords);
                }
                _ => {}
            }
        }
        ffi::PyObject_Vectorcall(this.built_in.as_ptr(), values, count, keywords)
    }
}

unsafe extern "C" fn bind(
    this: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; the object is alive during the call.
    guard(|| unsafe {
        if object.is_null() {
            return Ok(Owned::from_borrowed(this));
        }
        Owned::from_new(PyMethod_New(this, object))
    })
}

/// `coroutine_function(built_in, stands_for)`.
///
/// # Errors
/// `TypeError`: the first is no built-in function of this module and no method of a built-in type.
fn make(args: Args<'_>) -> Result {
    let [built_in, stands_for] = args.required([&names().function, &names().like])?;
    let (native, class) = native_of(&built_in)?;
    let entry = if class.is_some() { call_method } else { call_function };
    Instance::create(CoroutineFunction { entry, native, class, built_in, stands_for })
}

/// The native code of a built-in, and the class of a method's objects.
fn native_of(built_in: &Owned) -> Result<(Native, Option<Owned>)> {
    const ANY: std::ffi::c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    // SAFETY: F1; each kind of object is looked at as what it is; the flags say which member of the union was written.
    unsafe {
        if built_in.is_exactly(&raw mut ffi::PyMethodDescr_Type) {
            let descriptor = built_in.as_ptr().cast::<ffi::PyMethodDescrObject>();
            let class = Owned::from_borrowed((*descriptor).d_common.d_type.cast());
            let definition = &*(*descriptor).d_method;
            let native = match definition.ml_flags {
                ANY => Native::Method(definition.ml_meth.PyCFunctionFastWithKeywords),
                ffi::METH_NOARGS => Native::MethodNoArgs(definition.ml_meth.PyCFunction),
                _ => Native::Other,
            };
            return Ok((native, Some(class)));
        }
        if built_in.is_exactly(&raw mut ffi::PyCFunction_Type)
            && ffi::PyCFunction_GetFlags(built_in.as_ptr()) == ANY
        {
            let definition = &*(*built_in.as_ptr().cast::<ffi::PyCFunctionObject>()).m_ml;
            return Ok((Native::Function(definition.ml_meth.PyCFunctionFastWithKeywords), None));
        }
    }
    Err(type_error("a built-in function or method is needed"))
}

/// Attributes that are those of the `async def`.
macro_rules! borrowed_attributes {
    ($kind:expr, $($name:literal),*) => {{
        let kind = $kind;
        $(let kind = {
            fn get(this: &This) -> Result {
                this.stands_for.attr(&intern($name)?)
            }
            let name: &'static std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            };
            kind.attribute(name, getter!(get), None, c"As that of the async def that it stands for.")
        };)*
        kind
    }};
}

fn repr(this: &This) -> Result {
    let name = this.stands_for.attr(&intern("__qualname__")?)?;
    // SAFETY: F1; the format's one object is alive during the call.
    unsafe {
        Owned::from_new(ffi::PyUnicode_FromFormat(c"<native coroutine function %S>".as_ptr(), name.as_ptr()))
    }
}

/// `__reduce__()`: by its name, as functions are pickled.
fn reduce(this: &This) -> Result {
    this.stands_for.attr(&intern("__qualname__")?)
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        This::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type, and the function that makes its instances.
pub fn load(module: &Owned) -> Result<()> {
    if FUNCTION.get().is_null() {
        let kind = HeapType::new(c"antiphon._antiphon.CoroutineFunction", This::SIZE)
            .no_constructor()
            .binds_like_functions()
            .slot(ffi::Py_tp_descr_get, bind as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .called_through(This::PAYLOAD_OFFSET + offset_of!(CoroutineFunction, entry))
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method_noargs(c"__reduce__", method_noargs!(reduce), c"Its name, for pickle.");
        let kind = borrowed_attributes!(
            kind,
            "__name__",
            "__qualname__",
            "__doc__",
            "__code__",
            "__defaults__",
            "__kwdefaults__",
            "__annotations__"
        );
        FUNCTION.set(kind.build(None, This::PAYLOAD_OFFSET)?);
    }
    crate::ffi::function::add_functions(
        module,
        [(
            c"coroutine_function",
            crate::function!(c"coroutine_function", make),
            c"coroutine_function(function, like): a native function or method that inspect takes for the async def `like`.",
        )],
    )
}
