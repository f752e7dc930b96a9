//! Which rules of Taiwan's market a day has beside continuous trading; each is off at 0. Not what they do to a day.
use super::{Config, Instrument, Market};

/// A day whose prices spread further than this would spend it at the limits.
const VOLATILITY_PPM_MAX: u64 = 50_000;
const JUMPS_MAX: u64 = 10_000;
const AUCTION_LEVELS_MAX: u64 = 1_000;
const BETA_PERCENT_MAX: i64 = 300;
const ODD_LOT_NS_MIN: i64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Lots of an auction's print, in typical levels of the book; 0: no calls, trading just begins and ends.
    pub auction_levels: u64,
    /// How far from the average of five minutes a stock may match before trading pauses; 35 in Taiwan, 0: no pause.
    pub pause_per_mille: u64,
    /// Standard deviation of the one factor all codes share over the day, in parts per million; 0: each book walks
    /// alone.
    pub volatility_ppm: u64,
    /// Sudden moves of 4 to 8 %, each of one stock.
    pub jumps: u64,
    /// Between two auctions of the intraday odd-lot lane of stocks; 5 s in Taiwan, 0: no such lane.
    pub odd_lot_interval_ns: i64,
}

/// What a code does all day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Course {
    #[default]
    Free,
    /// Runs to its limit and stays there.
    LimitUp,
    LimitDown,
    /// An empty book that says so, and nothing else. Stocks only: futures have no such mark.
    Suspended,
    /// Quoted, never traded.
    Untraded,
}

impl Rules {
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        if self.volatility_ppm > VOLATILITY_PPM_MAX || self.jumps > JUMPS_MAX {
            return Err(format!("volatility_ppm up to {VOLATILITY_PPM_MAX}, jumps up to {JUMPS_MAX}"));
        }
        if self.auction_levels > AUCTION_LEVELS_MAX || self.pause_per_mille >= 100 {
            return Err(format!("auction_levels up to {AUCTION_LEVELS_MAX}, pause_per_mille below the limits' 100"));
        }
        if self.odd_lot_interval_ns != 0 && self.odd_lot_interval_ns < ODD_LOT_NS_MIN {
            return Err(format!("odd_lot_interval_ns {}: 0 or a second and more", self.odd_lot_interval_ns));
        }
        if self.pause_per_mille > 0 && self.auction_levels == 0 {
            return Err("pause_per_mille: a pause ends in an auction, so auction_levels is needed".to_owned());
        }
        let of_session = |session: &super::Session| session.call_ns == session.close_ns || self.auction_levels > 0;
        if !config.sessions.iter().all(of_session) {
            return Err("call_ns: a closing call ends in an auction, so auction_levels is needed".to_owned());
        }
        config.instruments.iter().try_for_each(check_course)
    }
}

fn check_course(instrument: &Instrument) -> Result<(), String> {
    let Instrument { code, market, course, beta_percent, .. } = instrument;
    if *course == Course::Suspended && *market == Market::Futures {
        return Err(format!("instrument {code}: futures carry no mark of suspension"));
    }
    if beta_percent.abs() > BETA_PERCENT_MAX {
        return Err(format!("instrument {code}: beta_percent within ±{BETA_PERCENT_MAX}"));
    }
    Ok(())
}
