//! Streaming signals allocate when they are made, and never again: counted by an allocator of our own.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use _rust::record::{Book, BookBody, Header, LEVELS, Record, Trade, TradeBody, code_bytes, exchange, kind, lane};
use _rust::signals::signal_set::{Parameters, SignalSet};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator; counting touches only a cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

const SECOND_NS: i64 = 1_000_000_000;
const OPEN_NS: i64 = (20_552 * 86_400 + 45 * 60) * SECOND_NS;

fn header(of: u8, code: &str, at: i64) -> Header {
    let mut header = Header::EMPTY;
    (header.kind, header.lane, header.exchange) = (of, lane::BOARD, exchange::TAIFEX);
    (header.exchange_ns, header.code) = (OPEN_NS + at * SECOND_NS / 10, code_bytes(code).unwrap());
    header
}

fn book(code: &str, at: i64) -> Record {
    let level = |side: i64| std::array::from_fn(|level| (1_000 + at % 7 + side * (1 + level as i64)) * 1_000_000);
    let volume = std::array::from_fn(|level| (1 + (at as u32 + level as u32) % 50) * 2);
    let (bid_price_e6, ask_price_e6): ([i64; LEVELS], [i64; LEVELS]) = (level(-1), level(1));
    let body = BookBody { bid_price_e6, ask_price_e6, bid_volume: volume, ask_volume: volume, ..BookBody::ABSENT };
    Record::from_book(&Book { header: header(kind::BOOK, code, at), body })
}

fn trade(code: &str, at: i64) -> Record {
    let mut header = header(kind::TRADE, code, at);
    header.side = 1 + (at % 2) as u8;
    // Every 500th total shows a hole: what a gap does must not allocate either.
    let total_volume = 3 * at as u32 + (at / 500) as u32;
    let body = TradeBody { price_e6: (1_000 + at % 7) * 1_000_000, volume: 3, total_volume, ..TradeBody::ABSENT };
    Record::from_trade(&Trade { header, body })
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn the_whole_set_allocates_for_a_new_instrument_and_never_for_an_event() {
    let hawkes = Some(([0.5, 0.4], [[0.6, 0.2], [0.1, 0.5]], [[2.0, 3.0], [1.5, 2.5]]));
    let parameters = Parameters { window_ns: SECOND_NS, vpin_bucket_volume: 100, hawkes, ..Parameters::default() };
    let mut set = SignalSet::new(parameters).unwrap();
    let codes = ["TXFD6", "MXFD6"];
    let events: Vec<Record> =
        (1..20_000).flat_map(|at| codes.map(|code| [book(code, at), trade(code, at)])).flatten().collect();
    let first = allocations(|| codes.iter().for_each(|code| assert!(set.update(&book(code, 0)).is_some())));
    assert!(first > 0, "the counter sees the set");
    let mut seen = 0;
    let later = allocations(|| seen = events.iter().filter(|event| set.update(event).is_some()).count());
    assert_eq!((later, seen), (0, events.len()));
    allocations(|| set.missed());
    assert_eq!(allocations(|| set.missed()), 0);
}
