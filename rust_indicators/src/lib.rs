//! Kernels of Shijim. Each file knows only slices and plain structs; Python is met in `python/` alone.
pub mod block;
pub mod columns;
pub mod continuity;
pub mod fixed_point;
pub mod hft;
pub mod l5;
pub mod ladder;
#[cfg(feature = "python")]
pub mod python;
pub mod record;
pub mod record_layout;
pub mod repeats;
pub mod ring;
pub mod segment;
pub mod simulate;
pub mod wal;
pub mod wall_clock;
