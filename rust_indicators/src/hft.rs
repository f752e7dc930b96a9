//! Five-level books and trades → rows of hftbacktest's event type, reconciled against a ladder of our own.
//! Not a writer of files, and no judge of gaps: it turns what it is given into rows, or says why it cannot.
use std::fmt;

use crate::l5::{EMPTY_PRICE_E6, LEVELS};
use crate::ladder::{
    BUY_EVENT, DEPTH_CLEAR_EVENT, EXCH_EVENT, EventRow, LOCAL_EVENT, Ladder, SELL_EVENT, Side, Stamps, TRADE_EVENT,
    append, settle,
};

/// Orders after every event.
const LAST: (i64, i64) = (i64::MAX, i64::MAX);
/// A depth-heavy day has about 3.5 rows a book; reserving four avoids moving the rows while they grow.
const ROWS_PER_BOOK: usize = 4;

/// Columns of books of one code and lane, sorted by sequence; prices × 10⁶, best level first.
#[derive(Clone, Copy)]
pub struct BookColumns<'a> {
    pub exchange_ns: &'a [i64],
    pub local_ns: &'a [i64],
    /// `EMPTY_PRICE_E6` where there is no level; its volume is then ignored.
    pub bid_price_e6: [&'a [i64]; LEVELS],
    pub bid_volume: [&'a [i64]; LEVELS],
    pub ask_price_e6: [&'a [i64]; LEVELS],
    pub ask_volume: [&'a [i64]; LEVELS],
}

/// Columns of trades of the same code and lane, sorted by sequence.
#[derive(Clone, Copy)]
pub struct TradeColumns<'a> {
    pub exchange_ns: &'a [i64],
    pub local_ns: &'a [i64],
    pub price_e6: &'a [i64],
    pub volume: &'a [i64],
    /// 0 unknown, 1 buyer-initiated, 2 seller-initiated.
    pub side: &'a [u8],
}

/// Where the books before are forgotten, on both axes and ascending on each: the first stamp of each session, and
/// where continuous matching stops within one.
#[derive(Clone, Copy)]
pub struct SessionStarts<'a> {
    pub exchange_ns: &'a [i64],
    pub local_ns: &'a [i64],
}

/// The rows of a dataset and what was done to them.
#[derive(Debug)]
pub struct Built {
    pub rows: Vec<EventRow>,
    /// Added to every local stamp, because some event was received before the exchange says it happened.
    pub local_shift_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Columns of one table differ in length.
    Ragged(&'static str),
    /// Book `index`: a side's prices do not get strictly worse, or a level's volume is not positive.
    Book { index: usize, side: &'static str },
    /// Trade `index` has no price, no positive volume or a side beyond 2.
    Trade { index: usize },
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ragged(table) => write!(formatter, "the columns of the {table} differ in length"),
            Self::Book { index, side } => {
                let rule = "prices must get strictly worse by level and volumes must be positive";
                write!(formatter, "book {index}, {side} side: {rule}")
            }
            Self::Trade { index } => {
                write!(formatter, "trade {index}: it needs a price, a positive volume and a side of 0, 1 or 2")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// Build the rows. Exchange rows come stable by `exch_ts` (trades before depth rows of the same stamp), local rows
/// stable by `local_ts`; an event whose place agrees on both axes is one row, otherwise two.
///
/// `storage` is an earlier `Built::rows` whose memory may be used again, or an empty vector.
pub fn build(
    books: BookColumns<'_>,
    trades: TradeColumns<'_>,
    starts: SessionStarts<'_>,
    storage: Vec<EventRow>,
) -> Result<Built, BuildError> {
    check(&books, &trades, &starts)?;
    let local_shift_ns = shift_ns(&[(books.local_ns, books.exchange_ns), (trades.local_ns, trades.exchange_ns)]);
    let on_exchange = Walk {
        books,
        trades,
        primary: [books.exchange_ns, trades.exchange_ns, starts.exchange_ns],
        starts,
        local_shift_ns,
        book_order: stable_order(None, books.exchange_ns),
        trade_order: stable_order(None, trades.exchange_ns),
    };
    let (exchange_rows, local_axis) = on_exchange.rows(storage)?;
    if local_axis.order_agrees {
        return Ok(Built { rows: exchange_rows, local_shift_ns });
    }
    let book_order = stable_order(on_exchange.book_order.as_deref(), books.local_ns);
    let same_books = same_order(&book_order, &on_exchange.book_order, books.local_ns.len());
    let local_rows = if same_books && local_axis.clears_agree {
        let mut rows = exchange_rows.clone();
        rows.sort_by_key(|row| row.local_ts);
        rows
    } else {
        // Books overtook each other, or a clear, on the way: each axis needs the differences in its own order.
        let trade_order = stable_order(on_exchange.trade_order.as_deref(), trades.local_ns);
        let primary = [books.local_ns, trades.local_ns, starts.local_ns];
        Walk { primary, book_order, trade_order, ..on_exchange }.rows(Vec::new())?.0
    };
    Ok(Built { rows: merge_axes(&exchange_rows, &local_rows), local_shift_ns })
}

fn check(books: &BookColumns<'_>, trades: &TradeColumns<'_>, starts: &SessionStarts<'_>) -> Result<(), BuildError> {
    let levels = [books.bid_price_e6, books.bid_volume, books.ask_price_e6, books.ask_volume];
    let count = books.exchange_ns.len();
    if books.local_ns.len() != count || levels.iter().flatten().any(|column| column.len() != count) {
        return Err(BuildError::Ragged("books"));
    }
    let count = trades.exchange_ns.len();
    if [trades.local_ns.len(), trades.price_e6.len(), trades.volume.len(), trades.side.len()] != [count; 4] {
        return Err(BuildError::Ragged("trades"));
    }
    if starts.exchange_ns.len() != starts.local_ns.len() {
        return Err(BuildError::Ragged("session starts"));
    }
    let sound =
        |index: usize| trades.price_e6[index] != EMPTY_PRICE_E6 && trades.volume[index] > 0 && trades.side[index] <= 2;
    match (0..count).find(|&index| !sound(index)) {
        Some(index) => Err(BuildError::Trade { index }),
        None => Ok(()),
    }
}

/// What must be added to the local axis so that no event is received before it happened.
fn shift_ns(pairs: &[(&[i64], &[i64])]) -> i64 {
    let least = |(local, exchange): &(&[i64], &[i64])| local.iter().zip(*exchange).map(|(l, e)| l - e).min();
    pairs.iter().filter_map(least).min().map_or(0, |latency| (-latency).max(0))
}

/// The order that sorts `keys` stably, starting from `before` (None = as given); None when it is as given.
fn stable_order(before: Option<&[u32]>, keys: &[i64]) -> Option<Vec<u32>> {
    if before.is_none() && keys.is_sorted() {
        return None;
    }
    let mut order = before.map_or_else(|| (0..keys.len() as u32).collect(), <[u32]>::to_vec);
    order.sort_by_key(|&index| keys[index as usize]);
    Some(order)
}

fn same_order(left: &Option<Vec<u32>>, right: &Option<Vec<u32>>, count: usize) -> bool {
    let at = |order: &Option<Vec<u32>>, index: usize| order.as_ref().map_or(index as u32, |order| order[index]);
    (0..count).all(|index| at(left, index) == at(right, index))
}

/// An empty vector for `capacity` rows, in `storage` if it is large enough.
fn emptied(mut storage: Vec<EventRow>, capacity: usize) -> Vec<EventRow> {
    storage.clear();
    if storage.capacity() < capacity {
        storage = Vec::with_capacity(capacity);
        advise_huge_pages(&storage);
    }
    storage
}

/// Ask the kernel for large pages under rows yet to be written: first touches of small ones cost more than the rows.
fn advise_huge_pages(rows: &Vec<EventRow>) {
    const PAGE_BYTES: usize = 4096;
    let start = (rows.as_ptr() as usize).next_multiple_of(PAGE_BYTES);
    let end = (rows.as_ptr() as usize + rows.capacity() * size_of::<EventRow>()) & !(PAGE_BYTES - 1);
    if start < end {
        // SAFETY: the range lies within the vector's own allocation, and this advice changes no content. If it is
        // refused the pages stay small, so that the answer does not matter.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

/// How rows in the order of one axis stand on the local one.
struct LocalAxis {
    /// Their local stamps never fall: they are in order on both axes.
    order_agrees: bool,
    /// Each clear stands between the same events on both axes.
    clears_agree: bool,
    latest_ns: i64,
    cleared_ns: i64,
}

impl LocalAxis {
    fn event(&mut self, local_ns: i64) {
        self.order_agrees &= local_ns >= self.latest_ns;
        self.clears_agree &= local_ns >= self.cleared_ns;
        self.latest_ns = self.latest_ns.max(local_ns);
    }

    /// A clear comes before the events of its stamp.
    fn clear(&mut self, local_ns: i64) {
        self.clears_agree &= local_ns > self.latest_ns;
        self.order_agrees &= self.clears_agree;
        (self.latest_ns, self.cleared_ns) = (self.latest_ns.max(local_ns), local_ns);
    }
}

/// One pass over books and trades along one time axis.
struct Walk<'a> {
    books: BookColumns<'a>,
    trades: TradeColumns<'a>,
    starts: SessionStarts<'a>,
    /// The stamps that order this axis: of books, trades and session starts.
    primary: [&'a [i64]; 3],
    local_shift_ns: i64,
    book_order: Option<Vec<u32>>,
    trade_order: Option<Vec<u32>>,
}

impl Walk<'_> {
    fn rows(&self, storage: Vec<EventRow>) -> Result<(Vec<EventRow>, LocalAxis), BuildError> {
        let (books, trades) = (self.books.exchange_ns.len(), self.trades.exchange_ns.len());
        let start_stamps = self.primary[2];
        let capacity = books * ROWS_PER_BOOK + trades + start_stamps.len() + 4 * LEVELS;
        let mut rows = emptied(storage, capacity);
        let (mut bids, mut asks) = (Ladder::default(), Ladder::default());
        let at = |order: &Option<Vec<u32>>, place: usize| match order {
            Some(order) => order.get(place).map_or(place, |&index| index as usize),
            None => place,
        };
        let (mut book, mut trade, mut start) = (0, 0, 0);
        let (latest_ns, cleared_ns) = (i64::MIN, i64::MIN);
        let mut local_axis = LocalAxis { order_agrees: true, clears_agree: true, latest_ns, cleared_ns };
        while book < books || trade < trades {
            let (book_at, trade_at) = (at(&self.book_order, book), at(&self.trade_order, trade));
            let book_key = if book < books { self.key(0, book_at) } else { LAST };
            let trade_key = if trade < trades { self.key(1, trade_at) } else { LAST };
            while start < start_stamps.len() && start_stamps[start] <= book_key.0.min(trade_key.0) {
                self.push_clear(start, &mut rows, &mut local_axis);
                (bids, asks) = (Ladder::default(), Ladder::default());
                start += 1;
            }
            // Queue models take traded volume off before the level's new size: the trade comes first.
            let local_ns = if trade < trades && trade_key <= book_key {
                self.push_trade(trade_at, &mut rows);
                trade += 1;
                self.trades.local_ns[trade_at]
            } else {
                self.push_book(book_at, &mut bids, &mut asks, &mut rows)?;
                book += 1;
                self.books.local_ns[book_at]
            };
            local_axis.event(local_ns);
        }
        for start in start..start_stamps.len() {
            self.push_clear(start, &mut rows, &mut local_axis);
        }
        settle();
        Ok((rows, local_axis))
    }

    /// What orders event `index` of table 0 (books) or 1 (trades) on this axis; the tie-break is the exchange stamp.
    fn key(&self, table: usize, index: usize) -> (i64, i64) {
        let exchange_ns = [self.books.exchange_ns, self.trades.exchange_ns][table];
        (self.primary[table][index], exchange_ns[index])
    }

    fn push_clear(&self, start: usize, rows: &mut Vec<EventRow>, local_axis: &mut LocalAxis) {
        local_axis.clear(self.starts.local_ns[start]);
        let local_ts = self.starts.local_ns[start] + self.local_shift_ns;
        let stamps = Stamps { exch_ts: self.starts.exchange_ns[start], local_ts };
        append(rows, DEPTH_CLEAR_EVENT, stamps, 0, 0);
    }

    #[inline]
    fn push_trade(&self, index: usize, rows: &mut Vec<EventRow>) {
        let trades = &self.trades;
        let side = [0, BUY_EVENT, SELL_EVENT][usize::from(trades.side[index])];
        let local_ts = trades.local_ns[index] + self.local_shift_ns;
        let stamps = Stamps { exch_ts: trades.exchange_ns[index], local_ts };
        append(rows, TRADE_EVENT | side, stamps, trades.price_e6[index], trades.volume[index]);
    }

    #[inline]
    fn push_book(
        &self,
        index: usize,
        bids: &mut Ladder<1>,
        asks: &mut Ladder<-1>,
        rows: &mut Vec<EventRow>,
    ) -> Result<(), BuildError> {
        let books = &self.books;
        let local_ts = books.local_ns[index] + self.local_shift_ns;
        let stamps = Stamps { exch_ts: books.exchange_ns[index], local_ts };
        let gather = |columns: &[&[i64]; LEVELS]| std::array::from_fn(|level| columns[level][index]);
        let bid = Side { prices: gather(&books.bid_price_e6), volumes: gather(&books.bid_volume) };
        let ask = Side { prices: gather(&books.ask_price_e6), volumes: gather(&books.ask_volume) };
        let refused = |side| BuildError::Book { index, side };
        // Deletions of both sides first: no transient crossed book that would fill resting orders.
        bids.reconcile(&bid, stamps, rows).ok_or(refused("bid"))?;
        asks.reconcile(&ask, stamps, rows).ok_or(refused("ask"))?;
        bids.show(&bid, stamps, rows).ok_or(refused("bid"))?;
        asks.show(&ask, stamps, rows).ok_or(refused("ask"))
    }
}

/// Weave rows sorted by exchange stamp and rows sorted by local stamp, as hftbacktest's `correct_event_order` does:
/// one row where both heads are the same, otherwise the head that is due first, on its own axis only.
fn merge_axes(exchange: &[EventRow], local: &[EventRow]) -> Vec<EventRow> {
    let mut merged = Vec::with_capacity(exchange.len() + exchange.len() / 4);
    let (mut e, mut l) = (0, 0);
    while e < exchange.len() && l < local.len() {
        let (on_exchange, on_local) = (exchange[e], local[l]);
        if on_exchange == on_local {
            merged.push(on_exchange);
            (e, l) = (e + 1, l + 1);
        } else if (on_exchange.exch_ts, on_exchange.local_ts) <= (on_local.exch_ts, on_local.local_ts) {
            merged.push(EventRow { ev: on_exchange.ev & !LOCAL_EVENT, ..on_exchange });
            e += 1;
        } else {
            merged.push(EventRow { ev: on_local.ev & !EXCH_EVENT, ..on_local });
            l += 1;
        }
    }
    merged.extend(exchange[e..].iter().map(|row| EventRow { ev: row.ev & !LOCAL_EVENT, ..*row }));
    merged.extend(local[l..].iter().map(|row| EventRow { ev: row.ev & !EXCH_EVENT, ..*row }));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::DEPTH_EVENT;

    const E6: i64 = 1_000_000;

    /// (exchange_ns, local_ns, bids, asks); at most five levels a side, prices in whole units.
    type Book = (i64, i64, &'static [(i64, i64)], &'static [(i64, i64)]);
    /// (exchange_ns, local_ns, price, volume, side)
    type Trade = (i64, i64, i64, i64, u8);

    fn column(books: &[Book], pick: impl Fn(&Book) -> i64) -> Vec<i64> {
        books.iter().map(pick).collect()
    }

    fn run(books: &[Book], trades: &[Trade], starts: &[(i64, i64)]) -> Result<Built, BuildError> {
        let price = |levels: &[(i64, i64)], at: usize| levels.get(at).map_or(EMPTY_PRICE_E6, |level| level.0 * E6);
        let volume = |levels: &[(i64, i64)], at: usize| levels.get(at).map_or(0, |level| level.1);
        let levels: [[Vec<i64>; LEVELS]; 4] = [
            std::array::from_fn(|at| column(books, |book| price(book.2, at))),
            std::array::from_fn(|at| column(books, |book| volume(book.2, at))),
            std::array::from_fn(|at| column(books, |book| price(book.3, at))),
            std::array::from_fn(|at| column(books, |book| volume(book.3, at))),
        ];
        let [bid_price_e6, bid_volume, ask_price_e6, ask_volume] =
            std::array::from_fn(|at| std::array::from_fn(|level| levels[at][level].as_slice()));
        let (exchange_ns, local_ns) = (column(books, |book| book.0), column(books, |book| book.1));
        let book_columns = BookColumns {
            exchange_ns: &exchange_ns,
            local_ns: &local_ns,
            bid_price_e6,
            bid_volume,
            ask_price_e6,
            ask_volume,
        };
        let trade_columns = TradeColumns {
            exchange_ns: &trades.iter().map(|trade| trade.0).collect::<Vec<_>>(),
            local_ns: &trades.iter().map(|trade| trade.1).collect::<Vec<_>>(),
            price_e6: &trades.iter().map(|trade| trade.2 * E6).collect::<Vec<_>>(),
            volume: &trades.iter().map(|trade| trade.3).collect::<Vec<_>>(),
            side: &trades.iter().map(|trade| trade.4).collect::<Vec<_>>(),
        };
        let session_starts = SessionStarts {
            exchange_ns: &starts.iter().map(|start| start.0).collect::<Vec<_>>(),
            local_ns: &starts.iter().map(|start| start.1).collect::<Vec<_>>(),
        };
        build(book_columns, trade_columns, session_starts, Vec::new())
    }

    fn told(built: &Built) -> Vec<(u64, i64, i64, f64, f64)> {
        built.rows.iter().map(|row| (row.ev, row.exch_ts, row.local_ts, row.px, row.qty)).collect()
    }

    const FULL: &[(i64, i64)] = &[(10, 1), (9, 1), (8, 1), (7, 1), (6, 1)];

    #[test]
    fn levels_that_leave_downwards_stay_until_they_are_seen_again() {
        let up: &[(i64, i64)] = &[(12, 3), (11, 2), (10, 1), (9, 1), (8, 1)];
        let down: &[(i64, i64)] = &[(9, 1), (8, 1), (6, 5), (5, 1), (4, 1)];
        let built = run(&[(1, 2, FULL, &[]), (3, 4, up, &[]), (5, 6, down, &[])], &[], &[]).unwrap();
        let rows: Vec<_> = told(&built).into_iter().skip(5).map(|row| (row.1, row.3, row.4)).collect();
        let after_up = [(3, 12.0, 3.0), (3, 11.0, 2.0)];
        // 7 was out of sight and is now proven gone; 6 came back with another size.
        let after_down = [(5, 12.0, 0.0), (5, 11.0, 0.0), (5, 10.0, 0.0), (5, 7.0, 0.0)];
        let shown = [(5, 6.0, 5.0), (5, 5.0, 1.0), (5, 4.0, 1.0)];
        assert_eq!(rows, [&after_up[..], &after_down, &shown].concat());
    }

    #[test]
    fn a_window_of_fewer_than_five_levels_is_the_whole_side() {
        let built = run(&[(1, 2, FULL, &[]), (3, 4, &[(10, 1), (9, 1)], &[])], &[], &[]).unwrap();
        let gone: Vec<f64> = built.rows[5..].iter().filter(|row| row.qty == 0.0).map(|row| row.px).collect();
        assert_eq!(gone, [8.0, 7.0, 6.0]);
    }

    #[test]
    fn trades_come_before_depth_rows_of_the_same_stamp_and_each_session_starts_clear() {
        let books: &[Book] = &[(1, 2, &[(10, 1)], &[(11, 1)]), (9, 10, &[(10, 1)], &[])];
        let trades = [(1, 2, 11, 4, 1), (9, 10, 10, 2, 0)];
        let built = run(books, &trades, &[(1, 2), (9, 10)]).unwrap();
        let expected = [
            (0xC000_0003, 1, 2, 0.0, 0.0),
            (0xE000_0002, 1, 2, 11.0, 4.0),
            (0xE000_0001, 1, 2, 10.0, 1.0),
            (0xD000_0001, 1, 2, 11.0, 1.0),
            (0xC000_0003, 9, 10, 0.0, 0.0),
            (0xC000_0002, 9, 10, 10.0, 2.0),
            (0xE000_0001, 9, 10, 10.0, 1.0),
        ];
        assert_eq!(told(&built), expected);
    }

    #[test]
    fn a_book_that_overtakes_a_clear_is_forgotten_on_its_axis_alone() {
        // Cleared at 5, received at 9; the book of 6 was received at 8: the exchange ends with a bid, the receiver not.
        let books: &[Book] = &[(1, 2, &[(10, 1)], &[]), (6, 8, &[(10, 1)], &[])];
        let built = run(books, &[(10, 11, 10, 1, 0)], &[(1, 2), (5, 9)]).unwrap();
        let axis = |flag: u64| -> Vec<(u64, f64)> {
            built.rows.iter().filter(|row| row.ev & flag != 0).map(|row| (row.ev & 0xFF, row.qty)).collect()
        };
        let (clear, trade) = ((DEPTH_CLEAR_EVENT, 0.0), (TRADE_EVENT, 1.0));
        assert_eq!(axis(EXCH_EVENT), [clear, (DEPTH_EVENT, 1.0), clear, (DEPTH_EVENT, 1.0), trade]);
        assert_eq!(axis(LOCAL_EVENT), [clear, (DEPTH_EVENT, 1.0), clear, trade]);
    }

    #[test]
    fn a_negative_latency_shifts_the_whole_local_axis() {
        let built = run(&[(10, 12, &[(10, 1)], &[])], &[(20, 15, 10, 1, 2)], &[]).unwrap();
        assert_eq!(built.local_shift_ns, 5);
        assert_eq!(built.rows.iter().map(|row| row.local_ts).collect::<Vec<_>>(), [17, 20]);
    }

    #[test]
    fn an_event_whose_place_differs_on_the_axes_becomes_two_rows() {
        let built = run(&[(1, 9, &[(10, 1)], &[])], &[(2, 3, 10, 1, 2)], &[]).unwrap();
        let rows: Vec<_> = built.rows.iter().map(|row| (row.ev, row.exch_ts)).collect();
        assert_eq!(rows, [(0xA000_0001, 1), (0xD000_0002, 2), (0x6000_0001, 1)]);
    }

    #[test]
    fn books_that_overtake_each_other_are_right_on_both_axes() {
        // Sent 5 then 6, received 6 then 5: the exchange ends with one bid at 11, the receiver with one at 10.
        let books: &[Book] = &[(6, 7, &[(11, 1)], &[]), (5, 8, &[(10, 1)], &[])];
        let built = run(books, &[], &[]).unwrap();
        let axis = |flag: u64| -> Vec<(f64, f64)> {
            built.rows.iter().filter(|row| row.ev & flag != 0).map(|row| (row.px, row.qty)).collect()
        };
        assert_eq!(axis(EXCH_EVENT), [(10.0, 1.0), (10.0, 0.0), (11.0, 1.0)]);
        assert_eq!(axis(LOCAL_EVENT), [(11.0, 1.0), (11.0, 0.0), (10.0, 1.0)]);
    }

    #[test]
    fn unsound_books_and_trades_are_refused_by_index() {
        let sound: Book = (1, 2, FULL, &[]);
        let cases: [(Book, &str); 3] = [
            ((3, 4, &[(9, 1), (10, 1)], &[]), "book 1, bid side"),
            ((3, 4, &[], &[(10, 1), (10, 2)]), "book 1, ask side"),
            ((3, 4, &[(9, 0)], &[]), "book 1, bid side"),
        ];
        for (book, message) in cases {
            let error = run(&[sound, book], &[], &[]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        for trade in [(1, 2, 10, 0, 1), (1, 2, 10, 1, 3)] {
            assert_eq!(run(&[], &[trade], &[]).unwrap_err(), BuildError::Trade { index: 0 });
        }
    }
}
