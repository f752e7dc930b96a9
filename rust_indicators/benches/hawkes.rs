//! Intensity and likelihood of events that excite each other, without Python: `cargo bench --bench hawkes`.
use std::hint::black_box;

use _rust::signals::hawkes::{self, Hawkes, Rates};
use _rust::signals::hawkes_bivariate::{self as bivariate, BivariateHawkes};
use _rust::signals::hawkes_likelihood::log_likelihood;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: usize = 1 << 20;
const RATES: Rates = Rates { mu: 0.8, alpha: 9.0, beta: 22.7 };

/// Gaps of 1 ns … 100 ms and kinds, from a congruential generator: what a kernel does depends on neither.
fn events() -> (Vec<i64>, Vec<u8>) {
    let (mut state, mut now) = (1_u64, 0_i64);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        now += 1 + (state >> 33) as i64 % 100_000_000;
        (now, (state >> 62) as u8 & 1)
    };
    (0..EVENTS).map(|_| next()).unzip()
}

fn univariate(criterion: &mut Criterion) {
    let (stamps, _) = events();
    let mut out = vec![0.0; EVENTS];
    let mut group = criterion.benchmark_group("hawkes");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("intensity", |bench| {
        bench.iter(|| hawkes::intensity(RATES, black_box(&stamps), None, &mut out));
    });
    group.bench_function("log likelihood", |bench| {
        bench.iter(|| log_likelihood(RATES, black_box(&stamps), 0, i64::MAX));
    });
    group.bench_function("streaming", |bench| {
        bench.iter(|| {
            let mut state = Hawkes::new(RATES);
            stamps.iter().map(|stamp| state.update(black_box(*stamp))).sum::<f64>()
        });
    });
}

fn two_kinds(criterion: &mut Criterion) {
    let (stamps, mark) = events();
    let rates = bivariate::Rates::new([0.4, 0.6], [[5.0, 0.3], [6.0, 4.0]], [[20.0, 3.0], [10.0, 16.0]]);
    let rates = rates.expect("they are rates");
    let (mut first, mut second) = (vec![0.0; EVENTS], vec![0.0; EVENTS]);
    let mut group = criterion.benchmark_group("bivariate hawkes");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("intensity", |bench| {
        bench.iter(|| bivariate::intensity(rates, black_box(&stamps), &mark, None, [&mut first, &mut second]));
    });
    group.bench_function("streaming", |bench| {
        bench.iter(|| {
            let mut state = BivariateHawkes::of(rates);
            stamps.iter().zip(&mark).map(|(stamp, kind)| state.update(black_box(*stamp), *kind)[0]).sum::<f64>()
        });
    });
}

criterion_group!(benches, univariate, two_kinds);
criterion_main!(benches);
