//! Kernels of the signals without Python: `cargo bench --bench signals`. `benches/signals.py` has them from Python.
use std::hint::black_box;

use _rust::record::{Book, BookBody, Header, LEVELS, Record, Trade, TradeBody, code_bytes, exchange, kind, lane};
use _rust::signals::flow::{self, Ofi, Sides};
use _rust::signals::signal_set::{Parameters, SignalSet};
use _rust::signals::toxicity;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: usize = 1 << 20;
const TICK_E6: i64 = 1_000_000;
const OPEN_NS: i64 = (20_552 * 86_400 + 45 * 60) * 1_000_000_000;

/// Numbers below a limit from a congruential generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit) as i64
    }
}

fn flows(criterion: &mut Criterion) {
    let mut numbers = Numbers(1);
    let bid: Vec<i64> = (0..EVENTS).map(|_| (20_000 + numbers.below(3)) * TICK_E6).collect();
    let ask: Vec<i64> = bid.iter().map(|bid| bid + (1 + numbers.below(2)) * TICK_E6).collect();
    let volumes: Vec<i64> = (0..EVENTS).map(|_| 1 + numbers.below(50)).collect();
    let sides = Sides { bid_price_e6: &bid, bid_volume: &volumes, ask_price_e6: &ask, ask_volume: &volumes };
    let mut out = vec![0; EVENTS * LEVELS];
    let mut group = criterion.benchmark_group("order flow imbalance");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("ofi", |bench| bench.iter(|| flow::ofi(black_box(sides), None, &mut out[..EVENTS])));
    group.bench_function("mlofi", |bench| bench.iter(|| flow::mlofi(black_box(&[sides; LEVELS]), None, &mut out)));
    group.bench_function("streaming", |bench| {
        bench.iter(|| {
            let mut state = Ofi::default();
            (0..EVENTS).map(|row| state.update(black_box(sides.row(row)))).sum::<i64>()
        });
    });
}

fn vpin(criterion: &mut Criterion) {
    let mut numbers = Numbers(2);
    let side: Vec<u8> = (0..EVENTS).map(|_| 1 + numbers.below(2) as u8).collect();
    let volume: Vec<i64> = (0..EVENTS).map(|_| 1 + numbers.below(9)).collect();
    let mut group = criterion.benchmark_group("vpin");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("signed", |bench| bench.iter(|| toxicity::vpin(black_box(&side), &volume, 1_000, 20, None)));
}

/// A book of five levels of each code in turn, a tenth of a second apart; a trade after every fourth.
fn day(codes: usize, events: usize) -> Vec<Record> {
    let mut numbers = Numbers(3);
    let mut total = vec![0; codes];
    (0..events)
        .map(|at| {
            let place = at % codes;
            let mut header = Header::EMPTY;
            (header.lane, header.exchange) = (lane::BOARD, exchange::TAIFEX);
            header.exchange_ns = OPEN_NS + (at / codes) as i64 * 100_000_000;
            header.code = code_bytes(&format!("TXF{place}")).expect("short");
            let bid = 20_000 + numbers.below(3);
            if at / codes % 5 == 4 {
                (header.kind, header.side) = (kind::TRADE, 1 + numbers.below(2) as u8);
                let volume = 1 + numbers.below(9) as u32;
                total[place] += volume;
                let body =
                    TradeBody { price_e6: bid * TICK_E6, volume, total_volume: total[place], ..TradeBody::ABSENT };
                return Record::from_trade(&Trade { header, body });
            }
            header.kind = kind::BOOK;
            let body = BookBody {
                bid_price_e6: std::array::from_fn(|level| (bid - level as i64) * TICK_E6),
                ask_price_e6: std::array::from_fn(|level| (bid + 1 + level as i64) * TICK_E6),
                bid_volume: std::array::from_fn(|_| 1 + numbers.below(50) as u32),
                ask_volume: std::array::from_fn(|_| 1 + numbers.below(50) as u32),
                ..BookBody::ABSENT
            };
            Record::from_book(&Book { header, body })
        })
        .collect()
}

fn set(criterion: &mut Criterion) {
    let hawkes = Some(([0.5, 0.4], [[0.6, 0.2], [0.1, 0.5]], [[2.0, 3.0], [1.5, 2.5]]));
    let mut group = criterion.benchmark_group("every signal");
    for codes in [1, 200] {
        let events = day(codes, 100_000);
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function(format!("{codes} codes"), |bench| {
            bench.iter(|| {
                let mut set = SignalSet::new(Parameters { hawkes, ..Parameters::default() }).expect("they can be");
                events.iter().filter(|event| set.update(black_box(event)).is_some()).count()
            });
        });
    }
}

criterion_group!(benches, flows, vpin, set);
criterion_main!(benches);
