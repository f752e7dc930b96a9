//! The ring's protocol with every ordering relaxed: the model must see what they are for.
pub mod atomics {
    pub use loom::sync::atomic::{Ordering, fence};

    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> AtomicU64 {
            AtomicU64(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, _: Ordering) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        pub fn store(&self, value: u64, _: Ordering) {
            self.0.store(value, Ordering::Relaxed);
        }
    }
}

#[allow(dead_code)] // not everything is put to the test
#[path = "../../src/ring/protocol.rs"]
pub mod protocol;
