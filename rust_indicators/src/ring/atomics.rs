//! The atomics of the ring. A file of its own, so that `tests/ring_model` can put loom's in their place. Nothing else.
pub use std::sync::atomic::{AtomicU64, Ordering, fence};
