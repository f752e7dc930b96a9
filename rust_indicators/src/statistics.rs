//! What a segment holds, counted in one pass: blocks, events a second, lots missing. Judges no day: the audit does, which
//! also knows what the archive and the exchange say.
use std::collections::BTreeMap;
use std::path::Path;

use crate::continuity::{Basis, Continuity, Verdict};
use crate::record::{ABSENT_I64, Header, Record};
use crate::segment::{Contents, End, SegmentReader};
use crate::wall_clock::SECOND_NS;

#[derive(Clone, Debug)]
pub struct Statistics {
    pub contents: Contents,
    pub end: End,
    /// Header and blocks, without the footer and without zeros written ahead.
    pub bytes: u64,
    pub problems: u64,
    /// Of each sound block, in order.
    pub block_records: Vec<u32>,
    pub block_bytes: Vec<u32>,
    /// Events by whole second since the epoch, of those with a stamp: ours, or the exchange's where ours is absent.
    pub seconds: BTreeMap<i64, u32>,
    /// By continuity, which goes on from the segments before; below zero where late trades filled more than is missing.
    pub lots_missing: i64,
    pub gaps: u64,
    pub duplicates: u64,
    /// Those of `lots_missing` that lie before the first trade seen of a session: it may stand in another segment.
    pub late_start_lots: u64,
}

/// Reads all of a segment; `continuity` carries what earlier segments of the same source told.
pub fn count(path: &Path, continuity: &mut Continuity) -> Result<Statistics, String> {
    let mut reader = SegmentReader::open(path)?;
    let before = continuity.counters;
    let (mut block_records, mut block_bytes, mut seconds) = (Vec::new(), Vec::new(), BTreeMap::new());
    let (mut records, mut late_start_lots, mut position) = (Vec::new(), 0, reader.position);
    while reader.next_block(&mut records).map_err(|error| format!("{}: {error}", path.display()))? {
        // Corrupt bytes in front of the block are not its own.
        let start = reader.problems.iter().map(|problem| problem.offset + problem.length).fold(position, u64::max);
        position = reader.position;
        block_records.push(records.len() as u32);
        block_bytes.push((position - start) as u32);
        for record in records.drain(..) {
            if let Some(stamp_ns) = stamp_ns(record.header()) {
                *seconds.entry(stamp_ns.div_euclid(SECOND_NS)).or_default() += 1;
            }
            late_start_lots += late_start(continuity, &record);
        }
    }
    let after = continuity.counters;
    Ok(Statistics {
        end: reader.end,
        bytes: position,
        problems: reader.problems.len() as u64,
        contents: reader.contents,
        block_records,
        block_bytes,
        seconds,
        lots_missing: after.lots_missing as i64 - before.lots_missing as i64,
        gaps: after.gaps - before.gaps,
        duplicates: after.duplicates - before.duplicates,
        late_start_lots,
    })
}

fn late_start(continuity: &mut Continuity, record: &Record) -> u64 {
    match continuity.observe(record) {
        Verdict::Gap { lots, basis: Basis::Zero } => u64::from(lots),
        _ => 0,
    }
}

fn stamp_ns(header: &Header) -> Option<i64> {
    [header.received_ns, header.exchange_ns].into_iter().find(|stamp_ns| *stamp_ns != ABSENT_I64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Trade, TradeBody, code_bytes, kind, lane};
    use crate::segment::SegmentWriter;

    const NINE: i64 = 1_775_696_400 * SECOND_NS; // 2026-04-09 09:00 Taipei

    /// One lot each, of these totals, one a half second.
    fn trades(first: u64, totals: std::ops::RangeInclusive<u32>) -> Vec<Record> {
        let row = |(at, total): (usize, u32)| {
            let sequence = first + at as u64;
            let mut header = Header { kind: kind::TRADE, lane: lane::BOARD, sequence, ..Header::EMPTY };
            header.code = code_bytes("2330").unwrap();
            header.exchange_ns = NINE + sequence as i64 * SECOND_NS / 2;
            let body = TradeBody { price_e6: 1, volume: 1, total_volume: total, ..TradeBody::ABSENT };
            Record::from_trade(&Trade { header, body })
        };
        totals.enumerate().map(row).collect()
    }

    #[test]
    fn blocks_seconds_and_lots_are_counted_and_continuity_goes_on_in_the_next_segment() {
        let folder = tempfile::tempdir().unwrap();
        let mut continuity = Continuity::new();
        let mut found = Vec::new();
        for (name, blocks) in
            [("a", [trades(1, 11..=13), trades(4, 16..=20)]), ("b", [trades(9, 21..=22), trades(11, 25..=25)])]
        {
            let path = folder.path().join(name);
            let mut writer = SegmentWriter::create(&crate::disk::Disk::default(), &path, b"{}").unwrap();
            let mut sizes = vec![writer.bytes()];
            for block in &blocks {
                writer.append(block).unwrap();
                sizes.push(writer.bytes());
            }
            writer.seal().unwrap();
            let counted = count(&path, &mut continuity).unwrap();
            assert_eq!(counted.block_bytes, [sizes[1] - sizes[0], sizes[2] - sizes[1]].map(|bytes| bytes as u32));
            assert_eq!((counted.bytes, counted.end, counted.problems), (sizes[2], End::Sealed, 0));
            found.push(counted);
        }
        let lots: Vec<_> = found.iter().map(|it| (it.lots_missing, it.late_start_lots, it.gaps)).collect();
        assert_eq!(lots, [(12, 10, 2), (2, 0, 1)]);
        assert_eq!(found[0].block_records, [3, 5]);
        let second = NINE / SECOND_NS;
        assert_eq!(found[1].seconds, BTreeMap::from([(second + 4, 1), (second + 5, 2)]));
    }

    #[test]
    fn corrupt_bytes_between_two_blocks_belong_to_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut writer = SegmentWriter::create(&crate::disk::Disk::default(), &path, b"{}").unwrap();
        writer.append(&trades(1, 1..=3)).unwrap();
        let end = writer.bytes() as usize;
        writer.append(&trades(4, 4..=6)).unwrap();
        writer.seal().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let sizes = count(&path, &mut Continuity::new()).unwrap().block_bytes;
        std::fs::write(&path, [&whole[..end], &[7; 1000], &whole[end..]].concat()).unwrap();
        let counted = count(&path, &mut Continuity::new()).unwrap();
        assert_eq!((counted.block_bytes, counted.problems), (sizes, 1));
    }
}
