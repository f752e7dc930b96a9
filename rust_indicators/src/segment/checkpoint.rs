//! What a recovery need not decode again: the contents of a segment up to some place, kept beside it while it is written.
//! Not part of the log: a checkpoint that is gone, torn or of other bytes only makes the recovery slower.
//!
//! `<segment>.checkpoint`: `SHIJIMC1 · u64 place · u32 crc32c of the headers of all blocks before it · contents · u32
//! crc32c of all that`. A block's header has the checksum of the block, so that equal headers are equal blocks.
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::contents::Counted;
use super::{Contents, SegmentReader};
use crate::block::{self, BLOCK_HEADER_BYTES, BlockHeader};
use crate::disk::Disk;
use crate::record::{ABSENT_I64, MultisetHash};

const MAGIC: [u8; 8] = *b"SHIJIMC1";
/// A checkpoint every so often, one percent of it as large where 200 codes are recorded. What lies behind the last one
/// is decoded, which takes twenty times as long as reading it: some ten milliseconds.
pub const CHECKPOINT_BYTES: u64 = 512 << 10;
/// Read at a time: more than the largest block.
const WINDOW_BYTES: usize = 4 << 20;
/// Asked of the disk before it is read: one that is idle while a window is looked at would be a third slower.
const READ_AHEAD_BYTES: u64 = 16 << 20;
const CHECKSUM_BYTES: usize = 4;

pub fn checkpoint_path(segment: &Path) -> PathBuf {
    segment.with_extension("checkpoint")
}

/// Before the segment is sealed: a kill in between costs the next recovery some time, and nothing is left lying about.
pub fn forget(segment: &Path) -> io::Result<()> {
    match std::fs::remove_file(checkpoint_path(segment)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The checkpoints of a segment that is being written.
pub struct Progress {
    segment: PathBuf,
    headers_crc32c: u32,
    due: u64,
    kept: bool,
}

impl Progress {
    pub fn new(segment: &Path, position: u64) -> Progress {
        let due = position + CHECKPOINT_BYTES;
        Progress { segment: segment.to_path_buf(), headers_crc32c: 0, due, kept: false }
    }

    /// A block was written.
    pub fn add(&mut self, block: &[u8]) {
        self.headers_crc32c = crc32c::crc32c_append(self.headers_crc32c, &block[..BLOCK_HEADER_BYTES]);
    }

    /// Writes a checkpoint when one is due. Not synced: after a power cut the recovery may take its time.
    pub fn keep(&mut self, disk: &Disk, position: u64, contents: &Contents) -> io::Result<()> {
        if position < self.due {
            return Ok(());
        }
        let bytes = Checkpoint { position, headers_crc32c: self.headers_crc32c, contents: contents.clone() }.bytes();
        self.kept = true;
        disk.write_all_at(&disk.create(&checkpoint_path(&self.segment))?, &bytes, 0)?;
        self.due = position + CHECKPOINT_BYTES;
        Ok(())
    }

    pub fn forget(&mut self) -> io::Result<()> {
        if self.kept { forget(&self.segment) } else { Ok(()) }
    }
}

struct Checkpoint {
    position: u64,
    headers_crc32c: u32,
    contents: Contents,
}

impl Checkpoint {
    fn bytes(&self) -> Vec<u8> {
        let contents = &self.contents;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.position.to_le_bytes());
        bytes.extend(self.headers_crc32c.to_le_bytes());
        for number in [contents.first_sequence, contents.last_sequence, contents.multiset.count, contents.multiset.sum]
        {
            bytes.extend(number.to_le_bytes());
        }
        for (low, high) in [contents.received_ns, contents.exchange_ns].map(|it| it.unwrap_or((ABSENT_I64, ABSENT_I64)))
        {
            bytes.extend(low.to_le_bytes());
            bytes.extend(high.to_le_bytes());
        }
        let counts: BTreeMap<_, _> = contents.counts.iter().collect();
        bytes.extend((counts.len() as u32).to_le_bytes());
        for (counted, count) in counts {
            bytes.extend(counted.code);
            bytes.push(counted.kind);
            bytes.extend(count.to_le_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// `None` for anything but the whole of what `bytes` gives.
    fn parse(bytes: &[u8]) -> Option<Checkpoint> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if crc32c::crc32c(body).to_le_bytes() != *checksum {
            return None;
        }
        let mut rest = body.strip_prefix(&MAGIC)?;
        let rest = &mut rest;
        let position = u64::from_le_bytes(next(rest)?);
        let headers_crc32c = u32::from_le_bytes(next(rest)?);
        let [first_sequence, last_sequence, count, sum] = numbers(rest)?;
        let ranges = numbers(rest)?.map(|number| number as i64);
        let range = |low: i64, high| (low != ABSENT_I64).then_some((low, high));
        let counts = (0..u32::from_le_bytes(next(rest)?))
            .map(|_| {
                let counted = Counted { code: next(rest)?, kind: next::<1>(rest)?[0] };
                Some((counted, u64::from_le_bytes(next(rest)?)))
            })
            .collect::<Option<_>>()?;
        let contents = Contents {
            first_sequence,
            last_sequence,
            counts,
            received_ns: range(ranges[0], ranges[1]),
            exchange_ns: range(ranges[2], ranges[3]),
            multiset: MultisetHash { count, sum },
        };
        rest.is_empty().then_some(Checkpoint { position, headers_crc32c, contents })
    }
}

fn next<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

fn numbers(rest: &mut &[u8]) -> Option<[u64; 4]> {
    Some([next(rest)?, next(rest)?, next(rest)?, next(rest)?].map(u64::from_le_bytes))
}

impl SegmentReader {
    /// Goes on behind the last checkpoint, if there is one and every byte before it is what the checkpoint was made of.
    pub fn skip_to_checkpoint(&mut self, segment: &Path) -> io::Result<()> {
        let Some(checkpoint) = std::fs::read(checkpoint_path(segment)).ok().and_then(|bytes| Checkpoint::parse(&bytes))
        else {
            return Ok(());
        };
        if headers_crc32c(&self.file, self.position, checkpoint.position)? == Some(checkpoint.headers_crc32c) {
            self.position = checkpoint.position;
            self.expected = checkpoint.contents.last_sequence.saturating_add(1);
            self.contents = checkpoint.contents;
        }
        Ok(())
    }
}

/// Checksum over the headers of the blocks from `from` to `end`; `None` unless they are sound and end there.
fn headers_crc32c(file: &File, from: u64, end: u64) -> io::Result<Option<u32>> {
    let (mut position, mut headers) = (from, 0);
    let mut window = vec![0; WINDOW_BYTES];
    let mut asked = from;
    if end < from || end > file.metadata()?.len() {
        return Ok(None);
    }
    while position < end {
        if asked < position + READ_AHEAD_BYTES {
            read_ahead(file, asked, position + READ_AHEAD_BYTES - asked);
            asked = position + READ_AHEAD_BYTES;
        }
        let bytes = &mut window[..(end - position).min(WINDOW_BYTES as u64) as usize];
        file.read_exact_at(bytes, position)?;
        let mut at = 0;
        while let Some(block) = whole_block(&bytes[at..]) {
            let (head, payload) = block.split_at(BLOCK_HEADER_BYTES);
            if block::checksum(head, payload).to_le_bytes() != head[BLOCK_HEADER_BYTES - CHECKSUM_BYTES..] {
                return Ok(None);
            }
            headers = crc32c::crc32c_append(headers, head);
            at += block.len();
        }
        if at == 0 {
            return Ok(None);
        }
        position += at as u64;
    }
    Ok(Some(headers))
}

/// Lets the disk fetch what is read later. Only advice: where it is not taken the read waits.
fn read_ahead(file: &File, from: u64, bytes: u64) {
    // SAFETY: a file descriptor we hold open; no memory is handed over.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), from as i64, bytes as i64, libc::POSIX_FADV_WILLNEED) };
}

fn whole_block(bytes: &[u8]) -> Option<&[u8]> {
    let header = BlockHeader::parse(bytes)?;
    bytes.get(..BLOCK_HEADER_BYTES + header.length as usize)
}

#[cfg(test)]
mod tests {
    use super::super::{SegmentWriter, recover};
    use super::*;
    use crate::record::{Header, Record, Trade, TradeBody, code_bytes, kind};

    const BLOCK: u64 = 2_000;

    /// Trades that do not compress.
    fn noise(first: u64, count: u64) -> Vec<Record> {
        let made = |sequence: u64| {
            let mut header = Header::EMPTY;
            (header.kind, header.sequence, header.code) = (kind::TRADE, sequence, code_bytes("TXFD6").unwrap());
            header.received_ns = 1_000 + sequence as i64;
            let mut record = Record::from_trade(&Trade { header, body: TradeBody::ABSENT });
            for (at, word) in (1u64..).zip(record.0[72..208].chunks_exact_mut(8)) {
                let mixed = (sequence * 32 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                word.copy_from_slice(&(mixed ^ mixed >> 27).to_le_bytes());
            }
            record
        };
        (first..first + count).map(made).collect()
    }

    /// An unsealed segment with a checkpoint and blocks behind the last; its bytes, and those of the checkpoint.
    fn unsealed(folder: &Path, first: u64) -> (Vec<u8>, Vec<u8>) {
        let path = folder.join(format!("made{first}.wal"));
        let header = format!("{{\"first_sequence\":{first}}}");
        let mut writer = SegmentWriter::create(&Disk::default(), &path, header.as_bytes()).unwrap();
        for block in 0..10 {
            writer.append(&noise(first + block * BLOCK, BLOCK)).unwrap();
        }
        (std::fs::read(&path).unwrap(), std::fs::read(checkpoint_path(&path)).unwrap())
    }

    /// How far the checkpoint took the recovery, the recovered file, and what it found.
    fn recovered(
        folder: &Path,
        segment: &[u8],
        checkpoint: Option<&[u8]>,
    ) -> (u64, Vec<u8>, Vec<super::super::Problem>) {
        let path = folder.join("tried.wal");
        std::fs::write(&path, segment).unwrap();
        if let Some(bytes) = checkpoint {
            std::fs::write(checkpoint_path(&path), bytes).unwrap();
        }
        let mut reader = SegmentReader::open(&path).unwrap();
        let begin = reader.position;
        reader.skip_to_checkpoint(&path).unwrap();
        let done = recover(&path).unwrap();
        assert!(done.changed && !checkpoint_path(&path).exists());
        (reader.position - begin, std::fs::read(&path).unwrap(), done.problems)
    }

    #[test]
    fn a_recovery_from_a_checkpoint_is_the_recovery_of_everything_and_a_useless_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (segment, checkpoint) = unsealed(folder.path(), 1);
        let (_, of_another) = unsealed(folder.path(), 1 + BLOCK);
        let try_with = |segment: &[u8], checkpoint| recovered(folder.path(), segment, checkpoint);
        let (skipped, bytes, problems) = try_with(&segment, Some(&checkpoint));
        assert!(skipped >= CHECKPOINT_BYTES && problems.is_empty());
        assert_eq!((0, bytes, problems), try_with(&segment, None));

        let whole = try_with(&segment, None);
        for useless in [&checkpoint[..checkpoint.len() - 1], &of_another, b""] {
            assert!(try_with(&segment, Some(useless)) == whole);
        }
        let cut = &segment[..CHECKPOINT_BYTES as usize];
        assert!(try_with(cut, Some(&checkpoint)) == try_with(cut, None));
        for at in [100, 30_000, CHECKPOINT_BYTES as usize - 1] {
            let mut damaged = segment.clone();
            damaged[at] ^= 1;
            let found = try_with(&damaged, Some(&checkpoint));
            assert!(found == try_with(&damaged, None) && found.2.len() == 1, "byte {at}");
        }
    }

    #[test]
    fn a_checkpoint_with_any_byte_changed_is_none_and_a_sealed_segment_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = unsealed(folder.path(), 1).1;
        assert!(Checkpoint::parse(&bytes).unwrap().bytes() == bytes);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(Checkpoint::parse(&bytes).is_none(), "byte {at}");
            bytes[at] ^= 0x10;
        }
        let path = folder.path().join("sealed.wal");
        let mut writer = SegmentWriter::create(&Disk::default(), &path, b"{}").unwrap();
        for block in 0..10 {
            writer.append(&noise(1 + block * BLOCK, BLOCK)).unwrap();
        }
        assert!(checkpoint_path(&path).exists());
        writer.seal().unwrap();
        assert!(!checkpoint_path(&path).exists());
    }
}
