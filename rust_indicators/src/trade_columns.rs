//! Trades given as columns: judged by `Continuity` as if they were records, and counted by stream. Decides nothing.
use crate::continuity::{Continuity, Judgement, Sighting, Verdict, is_futures};
use crate::payload::MIX;
use crate::record::{ABSENT_I64, ABSENT_U32, flag, lane};

/// One value a row each; `code` and `session` are numbers of the caller's.
pub struct TradeColumns<'a> {
    pub code: &'a [i32],
    pub session: &'a [i32],
    pub lane: &'a [u8],
    pub exchange: &'a [u8],
    pub broker_class: &'a [u8],
    pub flags: &'a [u32],
    pub exchange_ns: &'a [i64],
    pub volume: &'a [u32],
    pub total_volume: &'a [u32],
    /// Of each row's record. Without it a repeat is told by volumes and stamp alone.
    pub payload: Option<&'a [u64]>,
}

/// What is counted of a stream; a duplicate is in `duplicates` and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub code: i32,
    pub session: i32,
    pub lane: u8,
    pub futures: bool,
    pub trades: u64,
    pub lots: u64,
    pub judged: u64,
    pub duplicates: u64,
    /// Highest total known after its last judged row, `ABSENT_U32` where none was judged; and the last row of all.
    pub total: u32,
    pub last: usize,
}

impl Continuity {
    /// Judges the rows in their order; `found` gets those that are not plainly the next one. `first_row` numbers them.
    ///
    /// Trial matches and trades with an inferred total are passed over. Panics if the columns differ in length or a
    /// code is not among `codes`.
    pub fn observe_columns(
        &mut self,
        codes: &[[u64; 2]],
        columns: &TradeColumns<'_>,
        first_row: u64,
        mut found: impl FnMut(usize, &Sighting, Judgement, &Continuity),
    ) -> Vec<Counted> {
        let rows = columns.code.len();
        let mut counted: Vec<Counted> = Vec::new();
        for at in 0..rows {
            if columns.lane[at] == lane::TRIAL || columns.flags[at] & flag::TOTAL_INFERRED != 0 {
                continue;
            }
            let (volume, total_volume) = (columns.volume[at], columns.total_volume[at]);
            let stream = stream_of(&mut counted, columns, at);
            stream.last = at;
            stream.futures = is_futures(columns.exchange[at], columns.broker_class[at]);
            let judged = columns.flags[at] & flag::SUSPECT == 0
                && columns.exchange_ns[at] != ABSENT_I64
                && total_volume != ABSENT_U32
                && volume != ABSENT_U32;
            if judged {
                let trade = Sighting {
                    code: codes[columns.code[at] as usize],
                    lane: columns.lane[at],
                    futures: stream.futures,
                    exchange_ns: columns.exchange_ns[at],
                    volume,
                    total_volume,
                    payload: columns.payload.map_or_else(|| likeness(columns, at), |payload| payload[at]),
                    row: first_row + at as u64,
                };
                let judgement = self.judge(&trade);
                if judgement.verdict != Verdict::Next {
                    found(at, &trade, judgement, self);
                }
                stream.total = match judgement.verdict {
                    Verdict::Reset => total_volume,
                    _ => total_volume.max(judgement.total_before),
                };
                if judgement.verdict == Verdict::Duplicate {
                    stream.duplicates += 1;
                    continue;
                }
                stream.judged += 1;
            }
            stream.trades += 1;
            stream.lots += if volume == ABSENT_U32 { 0 } else { u64::from(volume) };
        }
        counted
    }
}

/// Rows of a stream lie together but for its lanes, so that it is among the last ones.
#[inline(always)]
fn stream_of<'a>(counted: &'a mut Vec<Counted>, columns: &TradeColumns<'_>, at: usize) -> &'a mut Counted {
    let (code, session, lane) = (columns.code[at], columns.session[at], columns.lane[at]);
    let known = counted
        .iter()
        .rposition(|stream: &Counted| stream.code == code && stream.lane == lane && stream.session == session);
    let place = known.unwrap_or_else(|| {
        let empty = (0, 0, 0, 0);
        let (trades, lots, judged, duplicates) = empty;
        let total = ABSENT_U32;
        counted.push(Counted {
            code,
            session,
            lane,
            futures: false,
            trades,
            lots,
            judged,
            duplicates,
            total,
            last: at,
        });
        counted.len() - 1
    });
    &mut counted[place]
}

/// Equal for equal payloads; unequal payloads may be alike, which the caller has to look into.
#[inline(always)]
fn likeness(columns: &TradeColumns<'_>, at: usize) -> u64 {
    let volumes = u64::from(columns.volume[at]) << 32 | u64::from(columns.total_volume[at]);
    (volumes ^ (columns.exchange_ns[at] as u64).rotate_left(29)).wrapping_mul(MIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::code_words;
    use crate::record::code_bytes;

    #[test]
    fn columns_are_judged_and_counted_as_the_records_they_are_of() {
        let codes = ["2330", "2454"].map(|code| code_words(&code_bytes(code).unwrap()));
        let columns = TradeColumns {
            code: &[0, 0, 0, 0, 0, 0, 1, 1],
            session: &[1; 8],
            lane: &[1, 1, 3, 1, 1, 1, 2, 1],
            exchange: &[1; 8],
            broker_class: &[1; 8],
            flags: &[0, 0, 0, 0, 0, flag::TOTAL_INFERRED, 0, 0],
            exchange_ns: &[10, 11, 12, 13, 13, 14, 10, 11],
            volume: &[2, 3, 9, 1, 1, 7, 4, ABSENT_U32],
            total_volume: &[2, 5, 9, 8, 8, 99, 4, 7],
            payload: None,
        };
        let mut continuity = Continuity::new();
        let mut found = Vec::new();
        let counted = continuity.observe_columns(&codes, &columns, 100, |at, trade, judgement, _| {
            found.push((at, trade.row, judgement.verdict, judgement.row_before));
        });
        let first = Verdict::First { basis: crate::continuity::Basis::Zero };
        let gap = Verdict::Gap { lots: 2, basis: crate::continuity::Basis::Previous };
        assert_eq!(
            found,
            [(0, 100, first, 0), (3, 103, gap, 101), (4, 104, Verdict::Duplicate, 103), (6, 106, first, 0)]
        );
        let count = |stream: &Counted| (stream.code, stream.lane, stream.trades, stream.lots, stream.duplicates);
        assert_eq!(counted.iter().map(count).collect::<Vec<_>>(), [(0, 1, 3, 6, 1), (1, 2, 1, 4, 0), (1, 1, 1, 0, 0)]);
        let ends = |stream: &Counted| (stream.judged, stream.total, stream.last);
        assert_eq!(counted.iter().map(ends).collect::<Vec<_>>(), [(3, 8, 4), (1, 4, 6), (0, ABSENT_U32, 7)]);
    }
}
