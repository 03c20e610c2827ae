//! Arguments in and calls out, by the interpreter's vectorcall protocol (PEP 590): no tuple, no dict.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Raised, Result, type_error};

/// The arguments of one call of a native method, borrowed from the caller.
#[derive(Copy, Clone)]
pub struct Args<'a> {
    /// The method's name as in its error messages.
    name: &'static CStr,
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    keywords: *mut ffi::PyObject,
}

impl<'a> Args<'a> {
    /// The arguments as the interpreter passes them to a `METH_FASTCALL | METH_KEYWORDS` function.
    /// # Safety
    /// `values`, `count` and `keywords` come from such a call that lasts longer than `'a`.
    #[inline(always)]
    pub unsafe fn new(
        name: &'static CStr,
        values: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        keywords: *mut ffi::PyObject,
    ) -> Self {
        let positional = count as usize;
        // SAFETY: by the caller's word; a call without arguments may pass null.
        let values = unsafe {
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) as usize };
            if positional + named == 0 { &[] } else { std::slice::from_raw_parts(values, positional + named) }
        };
        Self { name, values, positional, keywords }
    }

    /// Calls `callable` with `first` and, behind it, these very arguments.
    pub fn forward_behind(&self, callable: &Owned, first: &Owned) -> Result {
        let mut values = vec![ptr::null_mut(), first.as_ptr()];
        values.extend_from_slice(self.values);
        // SAFETY: F1; a free place in front, the arguments are those of a call that lasts longer.
        unsafe {
            Owned::from_new(ffi::PyObject_Vectorcall(
                callable.as_ptr(),
                values.as_ptr().add(1),
                (self.positional + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                self.keywords,
            ))
        }
    }

    /// As [`Self::bind`] for parameters of which none has to be given, as owned references.
    pub fn optional<const N: usize>(&self, names: [&Owned; N]) -> Result<[Option<Owned>; N]> {
        // SAFETY: the arguments are alive during the call.
        let own =
            |value: Option<*mut ffi::PyObject>| value.map(|value| unsafe { Owned::from_borrowed(value) });
        self.bind(names, 0).map(|bound| bound.map(own))
    }

    /// As [`Self::bind`] for parameters that all have to be given, as owned references.
    pub fn required<const N: usize>(&self, names: [&Owned; N]) -> Result<[Owned; N]> {
        let bound = self.bind(names, N)?;
        // SAFETY: all of them were given, and the arguments are alive during the call.
        Ok(bound.map(|value| unsafe { Owned::from_borrowed(value.unwrap_or_else(|| ffi::Py_None())) }))
    }

    /// [`Self::required`] for what is called often, and by place as a rule.
    #[inline(always)]
    pub fn exactly<const N: usize>(&self, names: [&Owned; N]) -> Result<[Owned; N]> {
        if self.positional != N || self.has_keywords() {
            return self.required(names);
        }
        // SAFETY: as many values, alive during the call.
        Ok(std::array::from_fn(|place| unsafe { Owned::from_borrowed(self.values[place]) }))
    }

    /// The positional arguments.
    #[inline(always)]
    pub fn positional(&self) -> &'a [*mut ffi::PyObject] {
        &self.values[..self.positional]
    }

    /// Whether keyword arguments were given.
    #[inline(always)]
    pub fn has_keywords(&self) -> bool {
        !self.keywords.is_null()
    }

    /// All values: the positional ones, then those of the keywords.
    #[inline(always)]
    pub fn values(&self) -> &'a [*mut ffi::PyObject] {
        self.values
    }

    /// The tuple of keyword names, or null.
    #[inline(always)]
    pub fn keywords(&self) -> *mut ffi::PyObject {
        self.keywords
    }

    fn text(&self) -> &'static str {
        self.name.to_str().unwrap_or("?")
    }

    fn keyword_name(&self, place: usize) -> *mut ffi::PyObject {
        // SAFETY: `place` is below the tuple's length, which the values' length implies.
        unsafe { ffi::PyTuple_GET_ITEM(self.keywords, place as isize) }
    }

    /// The value of the one keyword argument `name` that this method takes; any other is a `TypeError`.
    pub fn only_keyword(&self, name: &Owned) -> Result<Option<&'a *mut ffi::PyObject>> {
        let mut found = None;
        for (place, value) in self.values[self.positional..].iter().enumerate() {
            if !same_text(self.keyword_name(place), name.as_ptr()) {
                return Err(self.unexpected(place));
            }
            found = Some(value);
        }
        Ok(found)
    }

    /// The values of the keyword arguments `names`, `None` for absent ones and Python's `None`; nothing if there are others.
    pub fn known_keywords<const N: usize>(&self, names: [&Owned; N]) -> Option<[Option<Owned>; N]> {
        let mut found = [const { None }; N];
        for (place, value) in self.values[self.positional..].iter().enumerate() {
            let key = self.keyword_name(place);
            let index = names.iter().position(|name| same_text(key, name.as_ptr()))?;
            // SAFETY: the arguments are alive during the call.
            found[index] = unsafe { Owned::from_optional(*value) };
        }
        Some(found)
    }

    #[cold]
    fn unexpected(&self, place: usize) -> Raised {
        // SAFETY: F1; the name is a string object of the call's keyword tuple, the format takes it and a C string.
        unsafe {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"%s() got an unexpected keyword argument '%U'".as_ptr(),
                self.name.as_ptr(),
                self.keyword_name(place),
            );
        }
        Raised
    }

    /// At least `least` positional arguments, the first of which are called `names`.
    #[inline]
    pub fn at_least(&self, least: usize, names: &[&str]) -> Result<()> {
        if self.positional >= least { Ok(()) } else { Err(self.missing(&names[self.positional..least])) }
    }

    /// At most `most` positional arguments.
    pub fn at_most(&self, most: usize) -> Result<()> {
        if self.positional <= most {
            return Ok(());
        }
        let plural = if most == 1 { "" } else { "s" };
        Err(type_error(&format!(
            "{}() takes {most} positional argument{plural} but {} were given",
            self.text(),
            self.positional
        )))
    }

    /// The value of the keyword argument `name`, if it was given.
    pub fn keyword(&self, name: &Owned) -> Option<&'a *mut ffi::PyObject> {
        let named = self.values[self.positional..].iter().enumerate();
        named
            .into_iter()
            .find(|(place, _)| same_text(self.keyword_name(*place), name.as_ptr()))
            .map(|(_, value)| value)
    }

    #[cold]
    fn missing(&self, names: &[&str]) -> Raised {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        let listed = match quoted.as_slice() {
            [one] => one.clone(),
            [first, second] => format!("{first} and {second}"),
            [most @ .., last] => format!("{}, and {last}", most.join(", ")),
            [] => String::new(),
        };
        let plural = if names.len() == 1 { "" } else { "s" };
        type_error(&format!(
            "{}() missing {} required positional argument{plural}: {listed}",
            self.text(),
            names.len()
        ))
    }

    /// Binds the arguments to the parameters `names` (interned), of which the first `required` must be given, by place
    /// or by name. Absent ones are `None`.
    #[inline]
    pub fn bind<const N: usize>(
        &self,
        names: [&Owned; N],
        required: usize,
    ) -> Result<[Option<*mut ffi::PyObject>; N]> {
        if self.keywords.is_null() && (required..=N).contains(&self.positional) {
            let mut bound = [None; N];
            for (place, value) in bound.iter_mut().zip(self.values) {
                *place = Some(*value);
            }
            return Ok(bound);
        }
        self.bind_by_name(names, required)
    }

    fn bind_by_name<const N: usize>(
        &self,
        names: [&Owned; N],
        required: usize,
    ) -> Result<[Option<*mut ffi::PyObject>; N]> {
        if self.positional > N {
            return Err(type_error(&format!(
                "{}() takes {N} positional arguments but {} were given",
                self.text(),
                self.positional
            )));
        }
        let mut bound = [None; N];
        for (place, value) in self.positional().iter().enumerate() {
            bound[place] = Some(*value);
        }
        for (place, value) in self.values[self.positional..].iter().enumerate() {
            let key = self.keyword_name(place);
            let Some(index) = names.iter().position(|name| same_text(key, name.as_ptr())) else {
                return Err(self.unexpected(place));
            };
            if bound[index].replace(*value).is_some() {
                // SAFETY: F1; as in `unexpected`.
                unsafe {
                    ffi::PyErr_Format(
                        ffi::PyExc_TypeError,
                        c"%s() got multiple values for argument '%U'".as_ptr(),
                        self.name.as_ptr(),
                        key,
                    );
                }
                return Err(Raised);
            }
        }
        if let Some(first) = bound[..required].iter().position(Option::is_none) {
            let text = |name: &Owned| {
                // SAFETY: F1; parameter names are our own interned strings.
                let name = unsafe { CStr::from_ptr(ffi::PyUnicode_AsUTF8(name.as_ptr())) };
                name.to_str().unwrap_or("?").to_owned()
            };
            let absent: Vec<String> =
                (first..required).filter(|place| bound[*place].is_none()).map(|p| text(names[p])).collect();
            let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
            return Err(self.missing(&absent));
        }
        Ok(bound)
    }
}

/// Passes the arguments of a `tp_init` call, a tuple and a dict or null, on as those of a method.
/// # Safety
/// `args` and `keywords` are those of such a call.
pub unsafe fn with_arguments<R>(
    name: &'static CStr,
    args: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
    body: impl FnOnce(Args<'_>) -> Result<R>,
) -> Result<R> {
    // SAFETY: F1; by the caller's word. Keys of the dict are strings; both keep their items alive during the call.
    unsafe {
        let positional = ffi::PyTuple_GET_SIZE(args);
        let mut values: Vec<_> = (0..positional).map(|place| ffi::PyTuple_GET_ITEM(args, place)).collect();
        if keywords.is_null() || ffi::PyDict_Size(keywords) == 0 {
            return body(Args::new(name, values.as_ptr(), positional, ptr::null_mut()));
        }
        let names = Owned::from_new(ffi::PyTuple_New(ffi::PyDict_Size(keywords)))?;
        let (mut place, mut index) = (0, 0);
        let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
        while ffi::PyDict_Next(keywords, &raw mut place, &raw mut key, &raw mut value) != 0 {
            ffi::PyTuple_SET_ITEM(names.as_ptr(), index, Owned::from_borrowed(key).into_ptr());
            values.push(value);
            index += 1;
        }
        body(Args::new(name, values.as_ptr(), positional, names.as_ptr()))
    }
}

#[inline]
fn same_text(left: *mut ffi::PyObject, right: *mut ffi::PyObject) -> bool {
    // Call sites intern their keyword names, so the second test is rarely reached.
    // SAFETY: F1; both are string objects; comparing strings raises nothing.
    left == right || unsafe { ffi::PyUnicode_Compare(left, right) == 0 }
}

/// Calls `callable(*args)`.
#[inline(always)]
pub fn call<const N: usize>(callable: &Owned, args: [&Owned; N]) -> Result {
    let mut values = [ptr::null_mut(); 8];
    const { assert!(N < 8) };
    for (place, arg) in args.iter().enumerate() {
        values[place + 1] = arg.as_ptr();
    }
    // SAFETY: F1; the first place is free for the callee to use, the others are borrowed from living references.
    unsafe {
        Owned::from_new(ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            values.as_ptr().add(1),
            N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            ptr::null_mut(),
        ))
    }
}

/// Calls `callable(*args, **{name: value})` with one keyword; `keywords` is the tuple `(name,)`.
pub fn call_with_keywords(callable: &Owned, args: &[&Owned], keywords: Option<&Owned>) -> Result {
    // SAFETY: F1; the keyword tuple is ours.
    let named = keywords.map_or(0, |names| unsafe { ffi::PyTuple_GET_SIZE(names.as_ptr()) as usize });
    let mut values = Vec::with_capacity(args.len() + 1);
    values.push(ptr::null_mut());
    values.extend(args.iter().map(|arg| arg.as_ptr()));
    // SAFETY: F1; the first place is free, the others are borrowed from living references, the last `named` of them
    // belong to the names.
    unsafe {
        Owned::from_new(ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            values.as_ptr().add(1),
            (args.len() - named) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            keywords.map_or(ptr::null_mut(), Owned::as_ptr),
        ))
    }
}

/// Calls `object.name(*args)`; no bound method is made.
#[inline(always)]
pub fn call_method<const N: usize>(object: &Owned, name: &Owned, args: [&Owned; N]) -> Result {
    const { assert!(N < 7) };
    let mut values = [ptr::null_mut(); 8];
    values[1] = object.as_ptr();
    for (place, arg) in args.iter().enumerate() {
        values[place + 2] = arg.as_ptr();
    }
    // SAFETY: F1; as in `call`, with the object itself as the first argument.
    unsafe {
        Owned::from_new(ffi::PyObject_VectorcallMethod(
            name.as_ptr(),
            values.as_ptr().add(1),
            (N + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            ptr::null_mut(),
        ))
    }
}
