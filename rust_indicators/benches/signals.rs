//! Kernels of the signals without Python: `cargo bench --bench signals`. `benches/signals.py` has them from Python.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn ofi(criterion: &mut Criterion) {
    let _ = (criterion, Throughput::Elements(1));
}

criterion_group!(benches, ofi);
criterion_main!(benches);
