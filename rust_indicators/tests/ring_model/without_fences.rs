//! The ring's protocol with its fences taken out: the model must see what they are for.
pub mod atomics {
    pub use loom::sync::atomic::{AtomicU64, Ordering};

    pub fn fence(_: Ordering) {}
}

#[allow(dead_code)] // not everything is put to the test
#[path = "../../src/ring/protocol.rs"]
pub mod protocol;
