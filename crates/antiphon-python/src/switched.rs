//! What the tests' switches (`antiphon_engine::switches`) have to do with Python code: two functions of the module.

use antiphon_engine::partial_writes;
use pyo3::prelude::*;

/// `_allowance(fd, most)`: how many of `most` bytes the next write to a descriptor may offer to the kernel; all, unless the switch is on.
///
/// Raises `BlockingIOError`: none for now.
#[pyfunction]
#[pyo3(name = "_allowance")]
fn allowance(fd: i32, most: usize) -> PyResult<usize> {
    Ok(partial_writes::allowance(fd, most)?)
}

/// `_refused_descriptors()`: how many descriptors simulated loops of this process have refused.
#[pyfunction]
#[pyo3(name = "_refused_descriptors")]
fn refused_descriptors() -> u64 {
    crate::driver::refused_descriptors()
}

/// Adds the functions to the module.
pub fn load(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(allowance, module)?)?;
    module.add_function(wrap_pyfunction!(refused_descriptors, module)?)
}
