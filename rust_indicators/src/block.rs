//! One group commit as bytes: `magic · transform · count · length · first_sequence · crc32c · payload`. No files here.
//!
//! Transform 1, "delta-transpose-zstd": each record is subtracted, u32 by u32, from the previous one of its kind and
//! code in the block, the differences are zigzagged and stored byte column by byte column, then zstd. A block never
//! needs another block to be read.
use zstd::zstd_safe::{CParameter, ParamSwitch};

use crate::record::{RECORD_BYTES, Record};
use crate::transpose::{EMPTY_TILE, TILE_ROWS, Tile, columns_to_rows, rows_to_columns};

pub const BLOCK_MAGIC: [u8; 4] = *b"SBLK";
pub const BLOCK_HEADER_BYTES: usize = 28;
/// A commit takes at most this much of the queue, so that one block stays in the cache and one loss stays small.
pub const BLOCK_RECORDS_MAX: usize = 8192;
const TRANSFORM_DELTA_TRANSPOSE_ZSTD: u8 = 1;
/// Level 1: the log thread shares a core with the callback at 28 k events/s. Level 3 takes a fifth to a half longer
/// and saves 3 % of the bytes at best, on a day without the broker's extra fields; with them nothing.
const ZSTD_LEVEL: i32 = 1;
/// A block of one event is 3 % smaller at level 5 (158 B instead of 163 on a real futures day); the 2 µs are nothing
/// beside the sync that such a block pays for.
const ZSTD_LEVEL_SMALL: i32 = 5;
const SMALL_BLOCK_RECORDS: usize = 8;
/// From here on the log is catching up, and what counts is how soon it has: a third less time for 1 % more bytes with
/// every live field, 6 % without. Most of a column is zeros or noise: zstd may skip ahead in it (`TargetLength`), as
/// its negative levels do, but keeps the entropy coder that those give up; the table fits the first-level cache.
const LARGE_BLOCK_RECORDS: usize = 1024;
const LARGE_BLOCK: [CParameter; 3] =
    [CParameter::TargetLength(16), CParameter::HashLog(12), CParameter::LiteralCompressionMode(ParamSwitch::Enable)];
const LANES: usize = RECORD_BYTES / 4;
/// How far back a predecessor may be; 0 says there is none.
const BACK_MAX: usize = u16::MAX as usize;
/// Slots of the predecessor table: a power of two above the codes × kinds of one connection budget.
const PREDECESSOR_SLOTS: usize = 2048;

/// zstd decodes straight into a buffer with this much room to spare, and through a detour without.
const DECODE_ROOM_BYTES: usize = 320 << 10;

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub transform: u8,
    pub count: u32,
    pub length: u32,
    pub first_sequence: u64,
    pub crc32c: u32,
}

impl BlockHeader {
    /// `None` where the magic or the sizes are not those of a block.
    pub fn parse(bytes: &[u8]) -> Option<BlockHeader> {
        if bytes.len() < BLOCK_HEADER_BYTES || bytes[..4] != BLOCK_MAGIC {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let header = BlockHeader {
            transform: bytes[4],
            count: u32_at(8),
            length: u32_at(12),
            first_sequence: u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")),
            crc32c: u32_at(24),
        };
        let sane = header.count > 0
            && header.count as usize <= BLOCK_RECORDS_MAX
            && header.length as usize <= payload_bytes_max(header.count as usize);
        sane.then_some(header)
    }
}

/// No payload of `count` records is longer: zstd's own bound for incompressible input, rounded up.
fn payload_bytes_max(count: usize) -> usize {
    let raw = count * (RECORD_BYTES + 2);
    raw + raw / 128 + 1024
}

/// Checksum over everything in a block after the magic, the checksum itself left out.
pub fn checksum(header_bytes: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header_bytes[4..24]), payload)
}

/// Encodes blocks; keeps its buffers, so that a steady stream allocates nothing.
pub struct BlockEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    catching_up: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    payload: Vec<u8>,
    predecessors: Predecessors,
    tile: Box<Tile>,
}

impl BlockEncoder {
    pub fn new() -> std::io::Result<BlockEncoder> {
        let compressor = compressor()?;
        let mut catching_up = self::compressor()?;
        LARGE_BLOCK.into_iter().try_for_each(|parameter| catching_up.set_parameter(parameter))?;
        let predecessors = Predecessors { rows: vec![Predecessor::default(); PREDECESSOR_SLOTS], block: 0 };
        let tile = Box::new(EMPTY_TILE);
        Ok(BlockEncoder { compressor, catching_up, raw: Vec::new(), payload: Vec::new(), predecessors, tile })
    }

    /// Appends the block of `records` (1 to `BLOCK_RECORDS_MAX`, consecutive sequences) to `out`.
    pub fn encode(&mut self, records: &[Record], out: &mut Vec<u8>) -> std::io::Result<()> {
        assert!((1..=BLOCK_RECORDS_MAX).contains(&records.len()), "a block of {} records", records.len());
        self.transform(records);
        self.payload.clear();
        self.payload.reserve(payload_bytes_max(records.len()));
        let compressor = match records.len() {
            LARGE_BLOCK_RECORDS.. => &mut self.catching_up,
            _ => &mut self.compressor,
        };
        compressor.set_compression_level(level(records.len()))?;
        compressor.compress_to_buffer(&self.raw, &mut self.payload)?;
        let start = out.len();
        out.extend_from_slice(&BLOCK_MAGIC);
        out.extend_from_slice(&[TRANSFORM_DELTA_TRANSPOSE_ZSTD, 0, 0, 0]);
        out.extend_from_slice(&(records.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&records[0].header().sequence.to_le_bytes());
        let crc = checksum(&out[start..], &self.payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    fn transform(&mut self, records: &[Record]) {
        let count = records.len();
        // Every byte is written below: what an earlier block left needs no clearing.
        self.raw.resize(count * (2 + RECORD_BYTES), 0);
        self.predecessors.block += 1;
        let (backs, columns) = self.raw.split_at_mut(2 * count);
        for (number, chunk) in records.chunks(TILE_ROWS).enumerate() {
            let first = number * TILE_ROWS;
            for (place, record) in chunk.iter().enumerate() {
                let row = first + place;
                let back = self.predecessors.back(record, row);
                backs[row] = back as u8;
                backs[count + row] = (back >> 8) as u8;
                let base = if back == 0 { &Record::ZERO } else { &records[row - back] };
                self.tile[place] = difference(record, base);
            }
            rows_to_columns(&self.tile, chunk.len(), &mut columns[first..], count);
        }
    }
}

fn compressor() -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    // The block has its own checksum and count: zstd's would only cost bytes in a one-event block.
    compressor.include_checksum(false)?;
    compressor.include_contentsize(false)?;
    compressor.include_dictid(false)?;
    Ok(compressor)
}

fn level(records: usize) -> i32 {
    if records <= SMALL_BLOCK_RECORDS { ZSTD_LEVEL_SMALL } else { ZSTD_LEVEL }
}

/// Last row of each kind and code in the current block.
struct Predecessors {
    rows: Vec<Predecessor>,
    /// Number of the block: entries of earlier ones count as empty, so that a block of one event clears no table.
    block: u64,
}

#[derive(Clone, Copy, Default)]
struct Predecessor {
    key: u64,
    block: u64,
    row: usize,
}

impl Predecessors {
    /// Distance to the last row of the same kind and code, 0 for none. A collision costs bytes, never truth.
    fn back(&mut self, record: &Record, row: usize) -> usize {
        let header = record.header();
        let code = u128::from_le_bytes(header.code);
        let key = (code as u64 ^ (code >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(header.kind);
        let slot = &mut self.rows[(key.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40) as usize % PREDECESSOR_SLOTS];
        let back = if slot.key == key && slot.block == self.block { row - slot.row } else { 0 };
        *slot = Predecessor { key, block: self.block, row };
        if back <= BACK_MAX { back } else { 0 }
    }
}

fn difference(record: &Record, base: &Record) -> [u8; RECORD_BYTES] {
    let (values, before) = (lanes(record), lanes(base));
    let mut bytes = [0; RECORD_BYTES];
    for (out, (value, before)) in bytes.chunks_exact_mut(4).zip(values.iter().zip(before)) {
        out.copy_from_slice(&zigzag(value.wrapping_sub(before)).to_le_bytes());
    }
    bytes
}

fn lanes(record: &Record) -> [u32; LANES] {
    let mut lanes = [0; LANES];
    for (lane, bytes) in lanes.iter_mut().zip(record.0.chunks_exact(4)) {
        *lane = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
    lanes
}

fn zigzag(delta: u32) -> u32 {
    (delta << 1) ^ ((delta as i32 >> 31) as u32)
}

fn unzigzag(value: u32) -> u32 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Decodes blocks; keeps its buffers and zstd's context, which costs ten times a one-event block to make.
pub struct BlockDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
    tile: Box<Tile>,
}

impl BlockDecoder {
    pub fn new() -> std::io::Result<BlockDecoder> {
        let decompressor = zstd::bulk::Decompressor::new()?;
        Ok(BlockDecoder { decompressor, raw: Vec::new(), tile: Box::new(EMPTY_TILE) })
    }

    /// The records of a block, into as many `rows`. The checksum must have been verified; what still cannot be decoded
    /// (another transform, a length that does not fit) is said, and the rows are worth nothing then.
    pub fn decode(&mut self, header: &BlockHeader, payload: &[u8], rows: &mut [Record]) -> Result<(), String> {
        if header.transform != TRANSFORM_DELTA_TRANSPOSE_ZSTD {
            return Err(format!("transform {} is unknown to this version", header.transform));
        }
        let count = rows.len();
        assert!(count == header.count as usize, "{count} rows for {} records", header.count);
        let expected = count * (2 + RECORD_BYTES);
        self.raw.clear();
        self.raw.reserve(expected + DECODE_ROOM_BYTES);
        self.decompressor.decompress_to_buffer(payload, &mut self.raw).map_err(|error| error.to_string())?;
        if self.raw.len() != expected {
            return Err(format!("{} bytes where {count} records need {expected}", self.raw.len()));
        }
        let (backs, columns) = self.raw.split_at(2 * count);
        for first in (0..count).step_by(TILE_ROWS) {
            let in_tile = TILE_ROWS.min(count - first);
            columns_to_rows(&columns[first..], count, &mut self.tile, in_tile);
            for place in 0..in_tile {
                let row = first + place;
                let back = usize::from(backs[row]) | usize::from(backs[count + row]) << 8;
                let (before, rest) = rows.split_at_mut(row);
                let base = match back {
                    0 => &Record::ZERO,
                    _ => before
                        .get(row.wrapping_sub(back))
                        .ok_or_else(|| format!("row {row} refers {back} rows back"))?,
                };
                restore(&mut rest[0], &self.tile[place], base);
            }
        }
        let first = rows[0].header().sequence;
        if first != header.first_sequence {
            return Err(format!("first record has sequence {first}, the block says {}", header.first_sequence));
        }
        Ok(())
    }
}

fn restore(record: &mut Record, difference: &[u8; RECORD_BYTES], base: &Record) {
    let cells = record.0.chunks_exact_mut(4).zip(difference.chunks_exact(4)).zip(lanes(base));
    for ((out, delta), before) in cells {
        let delta = unzigzag(u32::from_le_bytes(delta.try_into().expect("four bytes")));
        out.copy_from_slice(&before.wrapping_add(delta).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Book, BookBody, Header, code_bytes, kind};

    /// A small deterministic generator: the tests need variety, not randomness.
    fn noise(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 20
    }

    fn books(count: u64) -> Vec<Record> {
        let mut state = 7;
        (1..=count)
            .map(|sequence| {
                let mut header = Header::EMPTY;
                header.kind = kind::BOOK;
                header.sequence = sequence;
                header.code = code_bytes(["TXFD6", "MXFD6", "2330"][(noise(&mut state) % 3) as usize]).unwrap();
                header.exchange_ns = 1_775_000_000_000_000_000 + sequence as i64 * 5_000_000;
                let mut body = BookBody::ABSENT;
                for level in 0..5 {
                    body.bid_price_e6[level] = (34_000 + (noise(&mut state) % 9) as i64 - level as i64) * 1_000_000;
                    body.bid_volume[level] = (noise(&mut state) % 50) as u32;
                }
                Record::from_book(&Book { header, body })
            })
            .collect()
    }

    fn round_trip(records: &[Record]) -> usize {
        let mut out = Vec::new();
        BlockEncoder::new().unwrap().encode(records, &mut out).unwrap();
        let header = BlockHeader::parse(&out).unwrap();
        let payload = &out[BLOCK_HEADER_BYTES..];
        assert_eq!((header.length as usize, header.crc32c), (payload.len(), checksum(&out, payload)));
        let mut back = vec![Record::ZERO; records.len()];
        BlockDecoder::new().unwrap().decode(&header, payload, &mut back).unwrap();
        assert!(back == records);
        out.len()
    }

    #[test]
    fn a_block_reads_back_what_was_written_and_is_smaller() {
        for count in [1, 2, 3, 63, 64, 65, 255, 4096, 8191, 8192] {
            let bytes = round_trip(&books(count));
            assert!(bytes < count as usize * 160, "{bytes} bytes for {count} records");
        }
    }

    #[test]
    fn records_of_pure_noise_survive() {
        let mut state = 3;
        let mut records = Vec::new();
        for sequence in 1..=500u64 {
            let mut record = Record::ZERO;
            record.0.iter_mut().for_each(|byte| *byte = noise(&mut state) as u8);
            record.header_mut().sequence = sequence;
            records.push(record);
        }
        round_trip(&records);
    }

    #[test]
    fn a_block_whose_records_are_not_those_its_header_names_is_refused() {
        let mut out = Vec::new();
        BlockEncoder::new().unwrap().encode(&books(3), &mut out).unwrap();
        let header = BlockHeader::parse(&out).unwrap();
        let named = |first_sequence, count, transform| BlockHeader { first_sequence, count, transform, ..header };
        for wrong in [named(2, 3, 1), named(1, 2, 1), named(1, 4, 1), named(1, 3, 2)] {
            let mut rows = vec![Record::ZERO; wrong.count as usize];
            let decoded = BlockDecoder::new().unwrap().decode(&wrong, &out[BLOCK_HEADER_BYTES..], &mut rows);
            assert!(decoded.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_header_with_an_impossible_size_is_no_header() {
        let mut out = Vec::new();
        BlockEncoder::new().unwrap().encode(&books(3), &mut out).unwrap();
        out[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(BlockHeader::parse(&out), None);
    }
}
