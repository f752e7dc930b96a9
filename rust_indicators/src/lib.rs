//! Kernels of Shijim. Each file knows only slices and plain structs; Python is met in `python.rs` alone.
pub mod python;
pub mod python_simulate;
pub mod simulate;
