//! Kernels of Shijim. Each file knows only slices and plain structs; Python is met in `python.rs` alone.
pub mod block;
pub mod python;
pub mod record;
pub mod segment;
