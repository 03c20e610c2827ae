//! Makes the interpreter's version and build flags visible as `cfg`s.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
