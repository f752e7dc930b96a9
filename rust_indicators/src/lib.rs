//! Kernels of Shijim. Each file knows only slices and plain structs; Python is met in `python.rs` alone.
pub mod continuity;
pub mod python;
pub mod record;
