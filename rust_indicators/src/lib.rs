//! Kernels of Shijim. Each file knows only slices and plain structs; Python is met in `python.rs` alone.
pub mod hft;
pub mod l5;
pub mod ladder;
pub mod python;
mod python_hft;
