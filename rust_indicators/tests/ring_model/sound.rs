//! The ring's protocol as it is, on loom's atomics.
pub mod atomics {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../../src/ring/claims.rs"]
pub mod claims;
#[path = "../../src/ring/protocol.rs"]
pub mod protocol;
