use super::super::event::{BUY, Book, Event, SELL, Side, Totals, Touch, Trade};
use super::super::{Course, E6, Instrument, Market, Session};
use super::book::{Lane, OneBook, Way};
use super::*;

const OPEN_NS: i64 = 1_000_000_000_000;
const CLOSE_NS: i64 = OPEN_NS + 3_600_000_000_000;

fn stock() -> (Instrument, Vec<Session>) {
    let instrument = Instrument {
        code: "2330".to_owned(),
        market: Market::Stock,
        reference_e6: 100 * E6,
        tick_bands_e6: vec![(0, E6)],
        weight: 1,
        level_lots: 10,
        course: Course::Free,
        beta_percent: 100,
        last_ns: None,
    };
    let trial_ns = OPEN_NS - 600_000_000_000;
    let session = Session {
        market: Market::Stock,
        trial_ns,
        open_ns: OPEN_NS,
        call_ns: CLOSE_NS,
        close_ns: CLOSE_NS,
        activity: 1,
    };
    (instrument, vec![session])
}

/// Bids and asks as (price, lots), best first.
fn book(at: i64, bids: &[(i64, u32)], asks: &[(i64, u32)]) -> Event {
    let side = |levels: &[(i64, u32)]| {
        let mut side = Side::default();
        for (level, (price, lots)) in levels.iter().enumerate() {
            (side.price_e6[level], side.volume[level]) = (price * E6, *lots);
        }
        side
    };
    Event::Book(Book { exchange_ns: OPEN_NS + at, bid: side(bids), ask: side(asks), ..Book::default() })
}

fn trade(at: i64, side: u8, price: i64, volume: u32) -> Event {
    Event::Trade(Trade {
        exchange_ns: OPEN_NS + at,
        session: 0,
        trial: false,
        side,
        volume,
        price_e6: price * E6,
        amount_e6: 0,
        avg_e6: 0,
        totals: Totals::default(),
        underlying_e6: 0,
        touch: Touch::default(),
        call: None,
    })
}

fn rod(way: Way, price: i64, quantity: u32) -> Ask {
    terms(way, Some(price), quantity, Lasting::Rod)
}

fn terms(way: Way, price: Option<i64>, quantity: u32, lasting: Lasting) -> Ask {
    Ask::Place(Terms { lane: Lane::Board, way, price_e6: price.map(|price| price * E6), quantity, lasting })
}

/// What the exchange says of requests (at, id, ask), as (id, price, lots) for fills and (id, 0, lots) for cancels.
fn played(events: Vec<Event>, requests: &[(i64, u64, Ask)]) -> Vec<(u64, i64, u32)> {
    let said = said(events, requests);
    said.iter()
        .filter_map(|report| match report.what {
            What::Filled { price_e6, quantity } => Some((report.id, price_e6 / E6, quantity)),
            What::Cancelled { quantity } => Some((report.id, 0, quantity)),
            _ => None,
        })
        .collect()
}

fn said(events: Vec<Event>, requests: &[(i64, u64, Ask)]) -> Vec<Report> {
    let (instrument, sessions) = stock();
    let mut one = OneBook::over(instrument, &sessions, Box::new(events.into_iter()));
    for &(at, id, ask) in requests {
        one.request(Request { id, arrives_ns: OPEN_NS + at, ask });
    }
    let mut said = Vec::new();
    one.advance(CLOSE_NS - 1, &mut said);
    said
}

const BIDS: [(i64, u32); 2] = [(99, 10), (98, 20)];
const ASKS: [(i64, u32); 2] = [(101, 10), (102, 20)];

#[test]
fn an_order_waits_for_what_was_shown_at_its_price_and_is_filled_in_part_by_the_rest_of_a_match() {
    let events = vec![book(0, &BIDS, &ASKS), trade(10, SELL, 99, 8), trade(11, SELL, 99, 5), trade(12, SELL, 99, 9)];
    assert_eq!(played(events, &[(1, 0, rod(Way::Buy, 99, 5))]), [(0, 99, 3), (0, 99, 2)]);
}

#[test]
fn who_leaves_the_queue_is_before_us_only_as_far_as_the_book_proves_it() {
    let shrunk = vec![book(0, &BIDS, &ASKS), book(5, &[(99, 4), (98, 20)], &ASKS), trade(10, SELL, 99, 5)];
    assert_eq!(played(shrunk, &[(1, 0, rod(Way::Buy, 99, 5))]), [(0, 99, 1)]);
    let grown = vec![book(0, &BIDS, &ASKS), book(5, &[(99, 40), (98, 20)], &ASKS), trade(10, SELL, 99, 11)];
    assert_eq!(played(grown, &[(1, 0, rod(Way::Buy, 99, 5))]), [(0, 99, 1)]);
}

#[test]
fn better_prices_come_first_and_at_one_price_the_earlier() {
    let events = vec![book(0, &BIDS, &ASKS), trade(10, SELL, 99, 17)];
    let requests = [
        (1, 0, rod(Way::Buy, 99, 3)),
        (2, 1, rod(Way::Buy, 99, 3)),
        (3, 2, rod(Way::Buy, 100, 2)),
        (4, 3, rod(Way::Buy, 98, 1)),
    ];
    assert_eq!(played(events, &requests), [(2, 100, 2), (0, 99, 3), (1, 99, 2)]);
}

#[test]
fn a_book_that_comes_to_our_price_fills_us_there_with_what_it_shows() {
    let events = vec![book(0, &BIDS, &ASKS), book(5, &[(97, 10)], &[(98, 2), (99, 3), (100, 9)])];
    assert_eq!(played(events, &[(1, 0, rod(Way::Buy, 99, 9))]), [(0, 99, 2), (0, 99, 3)]);
}

#[test]
fn no_displayed_lot_is_had_twice_until_the_book_shows_others() {
    let again = vec![book(0, &BIDS, &ASKS), book(5, &BIDS, &[(101, 12), (102, 20)])];
    let requests =
        [(1, 0, terms(Way::Buy, Some(101), 9, Lasting::Ioc)), (6, 1, terms(Way::Buy, Some(101), 9, Lasting::Ioc))];
    assert_eq!(played(again, &requests), [(0, 101, 9), (1, 101, 3), (1, 0, 6)]);
    let gone = vec![book(0, &BIDS, &ASKS), trade(2, BUY, 101, 10), book(5, &BIDS, &[(101, 12), (102, 20)])];
    assert_eq!(played(gone, &requests), [(0, 101, 9), (1, 101, 9)]);
}

#[test]
fn a_market_order_takes_level_after_level_and_all_or_nothing_means_it() {
    let events = || vec![book(0, &BIDS, &ASKS)];
    let placed = |price, quantity, lasting| played(events(), &[(1, 0, terms(Way::Buy, price, quantity, lasting))]);
    assert_eq!(placed(None, 15, Lasting::Ioc), [(0, 101, 10), (0, 102, 5)]);
    assert_eq!(placed(None, 40, Lasting::Ioc), [(0, 101, 10), (0, 102, 20), (0, 0, 10)]);
    assert_eq!(placed(Some(101), 11, Lasting::Fok), [(0, 0, 11)]);
    assert_eq!(placed(Some(102), 30, Lasting::Fok), [(0, 101, 10), (0, 102, 20)]);
    assert_eq!(placed(Some(100), 5, Lasting::Ioc), [(0, 0, 5)]);
}

#[test]
fn a_smaller_quantity_keeps_the_place_and_another_price_loses_it() {
    let events = || vec![book(0, &BIDS, &ASKS), trade(10, SELL, 99, 12)];
    let with = |ask| [(1, 0, rod(Way::Buy, 99, 5)), (2, 1, rod(Way::Buy, 99, 5)), (3, 0, ask)];
    let less = Ask::Update { price_e6: None, quantity: Some(1) };
    assert_eq!(played(events(), &with(less)), [(0, 99, 1), (1, 99, 1)]);
    let there_and_back = |price: i64| Ask::Update { price_e6: Some(price * E6), quantity: None };
    let mut requests = with(there_and_back(98)).to_vec();
    requests.push((4, 0, there_and_back(99)));
    assert_eq!(played(events(), &requests), [(1, 99, 2)]);
}

#[test]
fn an_update_to_a_price_that_reaches_the_other_side_takes_it() {
    let events = vec![book(0, &BIDS, &ASKS)];
    let requests = [(1, 0, rod(Way::Buy, 99, 5)), (2, 0, Ask::Update { price_e6: Some(101 * E6), quantity: Some(4) })];
    assert_eq!(played(events, &requests), [(0, 101, 4)]);
}

#[test]
fn a_cancel_gives_back_what_is_left_and_comes_too_late_for_what_is_gone() {
    let events = || vec![book(0, &BIDS, &ASKS), trade(10, SELL, 99, 12)];
    let early = played(events(), &[(1, 0, rod(Way::Buy, 99, 5)), (5, 0, Ask::Cancel)]);
    assert_eq!(early, [(0, 0, 5)]);
    let late = said(events(), &[(1, 0, rod(Way::Buy, 99, 2)), (11, 0, Ask::Cancel)]);
    assert_eq!(late.last().unwrap().what, What::Rejected(Reason::NotWorking));
    assert_eq!(late[1].what, What::Filled { price_e6: 99 * E6, quantity: 2 });
}

#[test]
fn in_a_call_better_orders_match_at_the_one_price_and_those_at_it_where_the_surplus_is_not() {
    let print = |side| {
        let Event::Trade(mut trade) = trade(0, side, 100, 8) else { unreachable!() };
        let kind = super::super::calls::CallKind::Opening;
        trade.call = Some(super::super::calls::Call { kind, session: 0, start_ns: 0, end_ns: OPEN_NS, lots: 8 });
        vec![Event::Trade(trade), book(5, &[(99, 5)], &[(101, 5)])]
    };
    let requests = [
        (-90, 0, rod(Way::Buy, 100, 5)),
        (-80, 1, rod(Way::Buy, 101, 6)),
        (-70, 2, rod(Way::Sell, 100, 3)),
        (-60, 3, terms(Way::Buy, None, 1, Lasting::Rod)),
        (-50, 4, rod(Way::Buy, 98, 1)),
    ];
    assert_eq!(played(print(BUY), &requests), [(3, 100, 1), (1, 100, 6), (2, 100, 3)]);
    // Sellers are left over: buyers at the price are all served, as far as the print goes.
    assert_eq!(played(print(SELL), &requests), [(3, 100, 1), (1, 100, 6), (0, 100, 1)]);
}

#[test]
fn what_the_call_left_over_takes_the_others_prices_when_trading_starts() {
    let events = vec![book(5, &[(99, 5)], &[(101, 5), (102, 9)])];
    assert_eq!(played(events, &[(-90, 0, rod(Way::Buy, 103, 7))]), [(0, 101, 5), (0, 102, 2)]);
}

#[test]
fn what_cannot_be_is_rejected_with_its_reason() {
    let odd =
        |quantity| Terms { lane: Lane::Odd, way: Way::Buy, price_e6: Some(99 * E6), quantity, lasting: Lasting::Rod };
    let half = Terms { lane: Lane::Board, price_e6: Some(99 * E6 + 1), ..odd(5) };
    let late = CLOSE_NS - OPEN_NS - 2;
    for (at, ask, reason) in [
        (1, Ask::Place(half), Reason::OffTick),
        (1, rod(Way::Buy, 111, 5), Reason::OutOfLimits),
        (1, rod(Way::Sell, 89, 5), Reason::OutOfLimits),
        (-700_000_000_000, rod(Way::Buy, 99, 5), Reason::Closed),
        (1, Ask::Place(odd(1_000)), Reason::WrongLane),
        (1, Ask::Place(Terms { lasting: Lasting::Ioc, ..odd(5) }), Reason::WrongTerms),
        (1, Ask::Place(Terms { price_e6: None, ..odd(5) }), Reason::WrongTerms),
        (-1, terms(Way::Buy, Some(99), 5, Lasting::Ioc), Reason::WrongTerms),
        (1, rod(Way::Buy, 99, 0), Reason::WrongQuantity),
        (1, rod(Way::Buy, 99, 500), Reason::WrongQuantity),
        (late, Ask::Cancel, Reason::NotWorking),
    ] {
        let told = said(vec![book(0, &BIDS, &ASKS)], &[(at, 0, ask)]);
        assert_eq!(told.iter().map(|report| report.what).collect::<Vec<_>>(), [What::Rejected(reason)], "{ask:?}");
    }
}

#[test]
fn what_works_at_the_close_is_cancelled_there() {
    let (instrument, sessions) = stock();
    let mut one = OneBook::over(instrument, &sessions, Box::new(vec![book(0, &BIDS, &ASKS)].into_iter()));
    one.request(Request { id: 0, arrives_ns: OPEN_NS + 1, ask: rod(Way::Buy, 99, 5) });
    let mut said = Vec::new();
    one.advance(i64::MAX, &mut said);
    assert_eq!((said[1].what, said[1].exchange_ns), (What::Cancelled { quantity: 5 }, CLOSE_NS));
}
