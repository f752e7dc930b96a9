use super::*;
use std::collections::HashMap;

const MINUTE_NS: i64 = 60_000_000_000;
/// 2026-11-20 15:00 Taipei.
const NIGHT_NS: i64 = 1_795_158_000_000_000_000;

fn instrument(code: &str, market: Market, reference_e6: i64, weight: u64) -> Instrument {
    let tick_bands_e6 = match market {
        Market::Futures => vec![(0, E6)],
        Market::Stock => vec![(0, 10_000), (10 * E6, 50_000), (50 * E6, 100_000), (1_000 * E6, 5 * E6)],
    };
    Instrument {
        code: code.to_owned(),
        market,
        reference_e6,
        tick_bands_e6,
        weight,
        level_lots: 20,
        course: Course::Free,
        beta_percent: 100,
        last_ns: None,
    }
}

fn session(market: Market, open_minute: i64, minutes: i64, activity: u64) -> Session {
    let open_ns = NIGHT_NS + open_minute * MINUTE_NS;
    let close_ns = open_ns + minutes * MINUTE_NS;
    Session { market, trial_ns: open_ns - 10 * MINUTE_NS, open_ns, call_ns: close_ns, close_ns, activity }
}

fn config(seed: u64) -> Config {
    Config {
        sessions: vec![
            session(Market::Futures, 0, 840, 30),
            session(Market::Futures, 1_065, 300, 70),
            session(Market::Stock, 1_080, 270, 100),
        ],
        instruments: vec![
            instrument("TXFL6", Market::Futures, 27_000 * E6, 50),
            instrument("2330", Market::Stock, 1_450 * E6, 30),
            instrument("1301", Market::Stock, 49_900_000, 10),
        ],
        outages: 3,
        outage_ns: 4 * MINUTE_NS,
        lost_ticks: 15,
        lost_books: 10,
        repeats: 25,
        repeat_distance_max: 5,
        ..Config::calm(seed, 40_000)
    }
}

fn played(config: Config, skip_ns: i64) -> (Vec<Delivery>, Vec<u8>) {
    let mut exchange = Exchange::new(config).unwrap();
    exchange.skip_until(skip_ns);
    let (mut deliveries, mut bytes) = (Vec::new(), Vec::new());
    while let Some(delivery) = exchange.deliver(&mut bytes) {
        deliveries.push(delivery);
    }
    (deliveries, bytes)
}

fn steps(config: Config) -> Vec<Step> {
    let mut exchange = Exchange::new(config).unwrap();
    std::iter::from_fn(|| exchange.step()).collect()
}

fn events(config: Config) -> Vec<(usize, Event)> {
    let quotes = steps(config).into_iter().filter_map(|step| match step {
        Step::Quote { instrument, event, .. } => Some((instrument, event)),
        _ => None,
    });
    quotes.collect()
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_seed_others() {
    assert_eq!(played(config(1), 0), played(config(1), 0));
    assert_ne!(played(config(1), 0).1, played(config(2), 0).1);
}

#[test]
fn the_market_does_not_depend_on_the_faults() {
    let calm = Config { outages: 0, lost_ticks: 0, lost_books: 0, repeats: 0, ..config(1) };
    assert_eq!(events(calm), events(config(1)));
}

#[test]
fn about_as_many_events_as_asked_for_and_three_fifths_are_books() {
    for seed in 0..5 {
        let events = events(config(seed));
        assert!((38_000..=42_000).contains(&events.len()), "{} events", events.len());
        let books = events.iter().filter(|(_, event)| matches!(event, Event::Book(_))).count();
        assert!((58..=66).contains(&(books * 100 / events.len())), "{books} books of {}", events.len());
    }
}

#[test]
fn skipping_gives_the_tail_of_the_whole_day() {
    let (whole, whole_bytes) = played(config(1), 0);
    for place in [0, 1, whole.len() / 3, whole.len() - 1] {
        let (tail, tail_bytes) = played(config(1), whole[place].received_ns);
        assert_eq!(tail, whole[place + 1..]);
        assert!(whole_bytes.ends_with(&tail_bytes));
    }
}

#[test]
fn receive_stamps_rise_strictly_and_exchange_stamps_never_fall_within_a_code() {
    let (whole, _) = played(config(1), 0);
    assert!(whole.windows(2).all(|pair| pair[0].received_ns < pair[1].received_ns));
    let mut last: HashMap<usize, i64> = HashMap::new();
    for (instrument, event) in events(config(1)) {
        let before = last.insert(instrument, event.exchange_ns()).unwrap_or(0);
        assert!(event.exchange_ns() >= before);
        let grid_ns = if instrument == 0 { 1_000_000 } else { 1_000 };
        assert_eq!(event.exchange_ns() % grid_ns, 0);
    }
}

#[test]
fn every_event_is_inside_its_phase_of_its_session() {
    let config = config(1);
    for (instrument, event) in events(config.clone()) {
        let session = match &event {
            Event::Trade(trade) => &config.sessions[trade.session],
            Event::Book(book) => &config.sessions[book.session],
            Event::OddLots(_) => panic!("no such lane"),
        };
        assert_eq!(session.market, config.instruments[instrument].market);
        let (start_ns, end_ns) =
            if event.trial() { (session.trial_ns, session.open_ns) } else { (session.open_ns, session.close_ns) };
        assert!((start_ns..end_ns).contains(&event.exchange_ns()));
    }
}

#[test]
fn trades_print_at_the_published_touch_and_books_are_never_crossed() {
    let mut books: HashMap<usize, event::Book> = HashMap::new();
    let mut eaten: HashMap<usize, (u32, u32)> = HashMap::new();
    for (instrument, event) in events(config(3)) {
        match event {
            Event::Book(book) => {
                let (bid, ask) = (book.bid.price_e6[0], book.ask.price_e6[0]);
                assert!(bid == 0 || ask == 0 || bid < ask);
                for side in [&book.bid, &book.ask] {
                    assert!((0..LEVELS).all(|level| (side.price_e6[level] == 0) == (side.volume[level] == 0)));
                }
                eaten.insert(instrument, (0, 0));
                books.insert(instrument, book);
            }
            Event::Trade(trade) => {
                let book = &books[&instrument];
                assert_eq!((book.session, book.trial), (trade.session, trade.trial));
                let side = if trade.side == event::BUY { &book.ask } else { &book.bid };
                assert_eq!(side.price_e6[0], trade.price_e6);
                let eaten = eaten.get_mut(&instrument).unwrap();
                let gone = if trade.side == event::BUY { &mut eaten.0 } else { &mut eaten.1 };
                *gone += if trade.trial { 0 } else { trade.volume };
                assert!(*gone <= side.volume[0], "more traded than was shown");
            }
            Event::OddLots(_) => panic!("no such lane"),
        }
    }
}

#[test]
fn levels_are_valid_prices_inside_the_limits_best_first() {
    let config = config(3);
    for (instrument, event) in events(config.clone()) {
        let Event::Book(book) = event else { continue };
        let ladder = config.instruments[instrument].ladder();
        for (side, sign) in [(&book.bid, -1), (&book.ask, 1)] {
            let prices: Vec<i64> = side.price_e6.iter().copied().filter(|&price| price != 0).collect();
            assert!(prices.iter().all(|price| ladder.binary_search(price).is_ok()));
            assert!(prices.windows(2).all(|pair| (pair[1] - pair[0]) * sign > 0));
        }
    }
}

#[test]
fn some_books_are_short_and_some_one_sided() {
    let books: Vec<event::Book> = events(config(1))
        .into_iter()
        .filter_map(|(_, event)| if let Event::Book(book) = event { Some(book) } else { None })
        .collect();
    assert!(books.iter().any(|book| book.bid.volume[0] > 0 && book.ask.volume[0] == 0));
    assert!(books.iter().any(|book| book.bid.volume[0] == 0 && book.ask.volume[0] > 0));
    assert!(books.iter().any(|book| book.bid.volume[0] > 0 && book.bid.volume[4] == 0));
}

#[test]
fn level_changes_are_against_the_same_price_in_the_previous_push() {
    let mut before: HashMap<usize, event::Book> = HashMap::new();
    for (instrument, event) in events(config(1)) {
        let Event::Book(book) = event else { continue };
        if let Some(old) = before.get(&instrument).filter(|old| (old.session, old.trial) == (book.session, book.trial))
        {
            for level in (0..LEVELS).filter(|&level| book.bid.price_e6[level] != 0) {
                let price = book.bid.price_e6[level];
                let was = (0..LEVELS).find(|&at| old.bid.price_e6[at] == price).map_or(0, |at| old.bid.volume[at]);
                assert_eq!(book.bid.change[level], book.bid.volume[level] as i32 - was as i32);
            }
        }
        before.insert(instrument, book);
    }
}

#[test]
fn totals_start_from_zero_in_each_session_and_trials_count_nowhere() {
    let mut totals: HashMap<(usize, usize), (u64, i64)> = HashMap::new();
    for (instrument, event) in events(config(1)) {
        let Event::Trade(trade) = event else { continue };
        if trade.trial {
            continue;
        }
        let (volume, amount_e6) = totals.entry((instrument, trade.session)).or_default();
        *volume += u64::from(trade.volume);
        *amount_e6 += trade.amount_e6;
        assert_eq!((trade.totals.volume, trade.totals.amount_e6), (*volume, *amount_e6));
        assert!(trade.totals.low_e6 <= trade.price_e6 && trade.price_e6 <= trade.totals.high_e6);
        assert!(trade.totals.low_e6 <= trade.avg_e6 && trade.avg_e6 <= trade.totals.high_e6);
    }
    assert_eq!(totals.len(), 4);
}

#[test]
fn faults_come_in_the_numbers_asked_for() {
    let steps = steps(config(1));
    let fated = |tick: bool| {
        let of = move |step: &&Step| matches!(step, Step::Quote { event, fate: Fate::Lost, .. } if matches!(event, Event::Trade(_)) == tick);
        steps.iter().filter(of).count()
    };
    assert_eq!((fated(true), fated(false)), (15, 10));
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Repeat { .. })).count(), 25);
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Down { .. })).count(), 3);
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Up { .. })).count(), 3);
    assert!(steps.iter().any(|step| matches!(step, Step::Quote { fate: Fate::Outage(1), .. })));
}

#[test]
fn nothing_is_delivered_between_down_and_up_and_everything_is_before_and_after() {
    let mut down = None;
    for step in steps(config(1)) {
        match step {
            Step::Down { received_ns } => down = Some(received_ns),
            Step::Up { received_ns } => {
                let length_ns = received_ns - down.take().unwrap();
                assert!((length_ns - 4 * MINUTE_NS).abs() < 1_000_000_000);
            }
            Step::Quote { fate: Fate::Outage(_), .. } => assert!(down.is_some()),
            Step::Quote { .. } | Step::Repeat { .. } => assert!(down.is_none()),
            Step::OddLots { .. } => panic!("no such lane"),
        }
    }
}

#[test]
fn an_outage_that_outlasts_the_day_ends_with_it() {
    let mut last = config(1);
    last.sessions.truncate(1);
    last.instruments.truncate(1);
    last.outages = 1;
    last.outage_ns = 400 * MINUTE_NS;
    let ends = steps(last).iter().filter(|step| matches!(step, Step::Up { .. })).count();
    assert_eq!(ends, 1);
}

#[test]
fn a_repeat_is_the_delivered_message_again_a_few_deliveries_later() {
    let mut delivered: HashMap<i64, (usize, Event, usize)> = HashMap::new();
    let (mut place, mut late) = (0, 0);
    for step in steps(config(1)) {
        match step {
            Step::Quote { instrument, event, received_ns, fate: Fate::Delivered } => {
                place += 1;
                delivered.insert(received_ns, (instrument, event, place));
            }
            Step::Repeat { instrument, event, first_received_ns, .. } => {
                let (first_instrument, first_event, first_place) = &delivered[&first_received_ns];
                assert_eq!((instrument, &event), (*first_instrument, first_event));
                assert!(place - first_place <= 5);
                late += usize::from(place > *first_place);
            }
            _ => {}
        }
    }
    assert!(late > 0, "some repeats come later than at once");
}

#[test]
fn the_median_delay_is_the_one_asked_for_and_it_has_a_tail() {
    let mut delays: Vec<i64> = steps(config(1))
        .iter()
        .filter_map(|step| match step {
            Step::Quote { event, received_ns, .. } => Some(received_ns - event.exchange_ns()),
            _ => None,
        })
        .collect();
    delays.sort_unstable();
    assert!((2_700_000..3_500_000).contains(&delays[delays.len() / 2]), "{}", delays[delays.len() / 2]);
    assert!(delays[0] > 0 && delays[delays.len() - 1] > 30_000_000);
}

#[test]
fn truth_adds_up_to_the_deliveries() {
    let (deliveries, _) = played(config(1), 0);
    let truth = truth(&config(1)).unwrap();
    assert_eq!(truth.deliveries, deliveries.len() as u64);
    let arrived = |rows: &truth::Rows| rows.fate.iter().filter(|&&fate| fate == -1).count() as u64;
    let quotes = arrived(&truth.trades.rows) + arrived(&truth.books.rows) + truth.trials.0;
    assert_eq!(quotes + truth.repeats.tick.len() as u64 + 2 * truth.outages.len() as u64, truth.deliveries);
}

#[test]
fn a_config_that_cannot_be_is_refused_with_a_reason() {
    type Breaking = fn(&mut Config);
    let wrong: [(&str, Breaking); 10] = [
        ("tick bands", |config| config.instruments[0].tick_bands_e6.clear()),
        ("target_events", |config| config.target_events = 0),
        ("session", |config| config.sessions[0].close_ns = config.sessions[0].open_ns),
        ("overlap", |config| config.sessions.swap(0, 1)),
        ("no Stock session", |config| config.sessions.truncate(2)),
        ("given twice", |config| config.instruments[2].code = "2330".to_owned()),
        ("reference price", |config| config.instruments[0].reference_e6 = 0),
        ("do not fit", |config| config.outage_ns = 800 * MINUTE_NS),
        ("5 %", |config| config.lost_ticks = 4_000),
        ("63 bits", |config| config.instruments[1].level_lots = 1_000_000),
    ];
    for (reason, break_it) in wrong {
        let mut broken = config(1);
        break_it(&mut broken);
        let told = broken.check().unwrap_err();
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn tick_bands_follow_the_price() {
    let stock = |reference_e6| instrument("1301", Market::Stock, reference_e6, 1);
    assert_eq!(stock(49_900_000).limits(), (44_950_000, 54_800_000));
    let ladder = stock(49_900_000).ladder();
    assert!(ladder.contains(&49_950_000) && ladder.contains(&50_100_000) && !ladder.contains(&50_050_000));
    assert_eq!(stock(1_450 * E6).limits(), (1_305 * E6, 1_595 * E6));
}

#[test]
fn a_trade_carries_the_touch_of_the_last_push_before_it_and_trades_at_it() {
    let (mut touches, mut trades) = (HashMap::new(), 0);
    for (instrument, event) in events(config(3)) {
        match event {
            event::Event::Book(book) => {
                touches.insert(instrument, book.touch());
            }
            event::Event::Trade(trade) => {
                assert_eq!(Some(&trade.touch), touches.get(&instrument));
                let quoted_e6 = if trade.side == event::BUY { trade.touch.ask_e6 } else { trade.touch.bid_e6 };
                assert_eq!(trade.price_e6, quoted_e6);
                trades += 1;
            }
            Event::OddLots(_) => panic!("no such lane"),
        }
    }
    assert!(trades > 10_000);
}
