//! One file of the log: a JSON header, blocks, and a JSON footer once it is sealed. Not the thread that commits
//! (`wal.rs`), not the coding of a block (`block.rs`).
//!
//! `SHIJIMW1 · u32 length · u32 crc32c · header JSON · blocks … · SEND · u32 length · u32 crc32c · footer JSON ·
//! u32 bytes of the footer from SEND · DONE`: a sealed segment is known by its last eight bytes.
//! An unsealed segment ends in zeros (space written ahead) or in a torn block.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod checkpoint;
mod contents;
mod recovery;
mod rows;

pub use contents::Contents;
pub use recovery::{Recovered, recover};
pub use rows::{Chunk, Rows};

use crate::block::{self, BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockDecoder, BlockEncoder, BlockHeader};
use crate::disk::Disk;
use crate::record::Record;
use checkpoint::Progress;

pub const SEGMENT_MAGIC: [u8; 8] = *b"SHIJIMW1";
pub const FOOTER_MAGIC: [u8; 4] = *b"SEND";
const TRAILER_MAGIC: [u8; 4] = *b"DONE";
const TRAILER_BYTES: u64 = 8;
/// Zeros written behind the data, so that most commits change only file contents and not the file's size: half the
/// disk writes per `fdatasync`. The commit that extends the file waits for them: 64 KiB double its sync, once in a
/// hundred commits of live pace; 4 MiB would cost 13 ms of every second or two, and with it the 99th percentile.
pub const PREWRITE_BYTES: usize = 64 << 10;
const PREFIX_BYTES: u64 = 16;
const FOOTER_PREFIX_BYTES: u64 = 12;
/// Sequences count from 1: 0 says that the header does not tell where the segment begins.
const UNKNOWN_SEQUENCE: u64 = 0;
/// A header or footer longer than this is not one of ours.
const JSON_BYTES_MAX: u32 = 64 << 20;
/// After corrupt bytes the next sound block is looked for in pieces of this size, whatever the file claims to be.
const RESYNC_BYTES: u64 = 1 << 20;
/// Headers tried, checksum and all, behind one corrupt stretch: chance makes none, and a file made of false headers
/// must not cost a day of reading. What lies behind so many counts as torn.
const RESYNC_PROOFS_MAX: u32 = 100_000;

/// Appends to one new segment. A name is never reused: an existing file is an error.
pub struct SegmentWriter {
    disk: Disk,
    file: File,
    path: PathBuf,
    position: u64,
    prewritten: u64,
    encoder: BlockEncoder,
    buffer: Vec<u8>,
    contents: Contents,
    progress: Progress,
}

impl SegmentWriter {
    /// Makes the file with its header under another name and links it to its own once it is durable: whenever a crash
    /// comes, a file that is called a segment begins like one.
    pub fn create(disk: &Disk, path: &Path, header_json: &[u8]) -> io::Result<SegmentWriter> {
        // The folder's own name must survive a power cut too, or everything in it is lost with it. Who has made it may
        // not have come to that: another shard, or a run that died.
        let above = path.ancestors().skip(1);
        let folders: Vec<&Path> = above
            .enumerate()
            .take_while(|(at, folder)| *at == 0 || is_absent(folder))
            .map(|(_, folder)| folder)
            .collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        folders.iter().try_for_each(|folder| disk.sync_folder(folder))?;
        let draft = path.with_extension("draft");
        let file = disk.create(&draft)?;
        let mut prefix = framed(&SEGMENT_MAGIC, header_json);
        disk.write_all_at(&file, &prefix, 0)?;
        disk.sync_all(&file)?;
        disk.name(&draft, path)?;
        let position = prefix.len() as u64;
        prefix.clear();
        Ok(SegmentWriter {
            disk: disk.clone(),
            file,
            path: path.to_path_buf(),
            position,
            prewritten: position,
            encoder: BlockEncoder::new()?,
            buffer: prefix,
            contents: Contents::default(),
            progress: Progress::new(path, position),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.position
    }

    pub fn records(&self) -> u64 {
        self.contents.multiset.count
    }

    /// Writes one block; not durable before `sync`. After an error the segment is as it was: the same block may be
    /// written again over what there is of it.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.progress.keep(&self.disk, self.position, &self.contents)?;
        self.buffer.clear();
        self.encoder.encode(records, &mut self.buffer)?;
        self.write_ahead()?;
        self.disk.write_all_at(&self.file, &self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        self.contents.add(records);
        self.progress.add(&self.buffer);
        Ok(())
    }

    /// Not synced by itself: the sync of the commit makes the new size durable along with the data.
    fn write_ahead(&mut self) -> io::Result<()> {
        let end = self.position + self.buffer.len() as u64;
        if end > self.prewritten {
            self.disk.write_all_at(&self.file, &[0; PREWRITE_BYTES], end)?;
            self.prewritten = end + PREWRITE_BYTES as u64;
        }
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync_data(&self.file)
    }

    /// Footer, exact size, durable. Returns the contents for whoever counts; after an error it may be tried again.
    pub fn seal(&mut self) -> io::Result<&Contents> {
        self.progress.forget()?;
        write_footer(&self.disk, &self.file, self.position, &self.contents, false)?;
        Ok(&self.contents)
    }
}

fn write_footer(disk: &Disk, file: &File, position: u64, contents: &Contents, recovered: bool) -> io::Result<()> {
    write_end(disk, file, position, framed(&FOOTER_MAGIC, contents.footer_json(recovered).as_bytes()))
}

fn write_end(disk: &Disk, file: &File, position: u64, mut footer: Vec<u8>) -> io::Result<()> {
    footer.extend_from_slice(&trailer_of(footer.len()));
    disk.write_all_at(file, &footer, position)?;
    disk.set_len(file, position + footer.len() as u64)?;
    disk.sync_all(file)
}

fn trailer_of(footer_bytes: usize) -> [u8; TRAILER_BYTES as usize] {
    let mut trailer = [0; TRAILER_BYTES as usize];
    trailer[..4].copy_from_slice(&(footer_bytes as u32).to_le_bytes());
    trailer[4..].copy_from_slice(&TRAILER_MAGIC);
    trailer
}

fn framed(magic: &[u8], json: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(json).to_le_bytes());
    bytes.extend_from_slice(json);
    bytes
}

fn is_absent(folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && !folder.exists()
}

/// A stretch of a segment that cannot be read, and what was lost with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub offset: u64,
    pub length: u64,
    /// First sequence and number of records missing here; 0 and 0 where nothing is missing or it cannot be told.
    pub first_sequence: u64,
    pub count: u64,
    pub message: String,
}

/// Where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not reached yet.
    More,
    /// A sound footer, the trailer that fits it, and nothing behind.
    Sealed,
    /// Nothing but zeros, or nothing at all: still being written, or its writer died between commits.
    Open,
    /// Bytes that are no block: a commit in progress, or one that a crash cut; or a footer that is not the file's end.
    Torn,
}

/// Reads block by block; skips what is corrupt and says so; can go on when the file has grown.
pub struct SegmentReader {
    file: File,
    decoder: BlockDecoder,
    payload: Vec<u8>,
    pub header_json: Vec<u8>,
    pub footer_json: Option<Vec<u8>>,
    pub position: u64,
    pub problems: Vec<Problem>,
    pub contents: Contents,
    pub end: End,
    /// The sequence that comes next if nothing is missing.
    expected: u64,
}

impl SegmentReader {
    pub fn open(path: &Path) -> Result<SegmentReader, String> {
        let name = path.display();
        let file = File::open(path).map_err(|error| format!("{name}: cannot be read ({error})"))?;
        let mut prefix = [0; PREFIX_BYTES as usize];
        let length = file.metadata().map_err(|error| format!("{name}: {error}"))?.len();
        if length < PREFIX_BYTES || file.read_exact_at(&mut prefix, 0).is_err() || prefix[..8] != SEGMENT_MAGIC {
            return Err(format!("{name}: not a Shijim log segment (no SHIJIMW1 at byte 0)"));
        }
        let header_json = read_json(&file, length, 8, 16)
            .ok_or_else(|| format!("{name}: the segment's header is damaged (checksum at byte 12 does not match)"))?;
        let position = PREFIX_BYTES + header_json.len() as u64;
        let expected = json_number(&header_json, "first_sequence").unwrap_or(UNKNOWN_SEQUENCE);
        Ok(SegmentReader {
            file,
            decoder: BlockDecoder::new().map_err(|error| format!("{name}: {error}"))?,
            payload: Vec::new(),
            header_json,
            footer_json: None,
            position,
            problems: Vec::new(),
            contents: Contents::default(),
            end: End::More,
            expected,
        })
    }

    /// Appends the next sound block's records to `out`; false at the end (`self.end` says which).
    pub fn next_block(&mut self, out: &mut impl Rows) -> io::Result<bool> {
        if self.end == End::Sealed {
            return Ok(false);
        }
        loop {
            let length = self.file.metadata()?.len();
            let found = self.next_within(length, out);
            if !was_cut(&self.file, length, &found)? {
                return found;
            }
        }
    }

    fn next_within(&mut self, length: u64, out: &mut impl Rows) -> io::Result<bool> {
        self.end = End::More;
        loop {
            if let Some(footer) = self.footer_at(self.position, length)? {
                // What was sealed and not read stood in the corrupt stretch at the end.
                if let Some(last) = json_number(&footer, "last_sequence") {
                    self.note_hole(last.saturating_add(1));
                }
                self.end =
                    if self.is_trailer_at(self.position, footer.len(), length)? { End::Sealed } else { End::Torn };
                self.footer_json = Some(footer);
                return Ok(false);
            }
            if let Some((size, count)) = self.block_at(self.position, length, out)? {
                let records = out.last(count);
                self.note_hole(records[0].header().sequence);
                self.contents.add(records);
                self.expected = self.contents.last_sequence.saturating_add(1);
                self.position += size;
                return Ok(true);
            }
            let Some(next) = self.resync(length)? else { return Ok(false) };
            if self.is_sound_at(self.position, length)? {
                continue; // a commit that came after the first look and before what stands behind it
            }
            self.problems.push(Problem {
                offset: self.position,
                length: next - self.position,
                first_sequence: 0,
                count: 0,
                message: format!("bytes {} to {next} are no sound block", self.position),
            });
            self.position = next;
        }
    }

    /// A jump in sequence up to `next`, the first one that is there: what a corrupt stretch held, or records that were
    /// never written.
    fn note_hole(&mut self, next: u64) {
        if self.expected == UNKNOWN_SEQUENCE || next <= self.expected {
            return;
        }
        let (first_sequence, count) = (self.expected, next - self.expected);
        self.expected = next;
        let missing = format!("sequences {first_sequence} to {} are missing", next - 1);
        match self.problems.last_mut() {
            Some(problem) if problem.offset + problem.length == self.position => {
                (problem.first_sequence, problem.count) = (first_sequence, count);
                problem.message = format!("{}; {missing}", problem.message);
            }
            _ => self.problems.push(Problem {
                offset: self.position,
                length: 0,
                first_sequence,
                count,
                message: missing,
            }),
        }
    }

    fn footer_at(&self, position: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let mut magic = [0; 4];
        if position + FOOTER_PREFIX_BYTES > length || self.file.read_exact_at(&mut magic, position).is_err() {
            return Ok(None);
        }
        Ok(if magic == FOOTER_MAGIC { read_json(&self.file, length, position + 4, position + 12) } else { None })
    }

    /// The footer that the file ends with, if it does.
    fn last_footer(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let length = self.file.metadata()?.len();
            let found = self.footer_before(length);
            if !was_cut(&self.file, length, &found)? {
                return found;
            }
        }
    }

    fn footer_before(&self, length: u64) -> io::Result<Option<Vec<u8>>> {
        let mut trailer = [0; TRAILER_BYTES as usize];
        if length < self.position + TRAILER_BYTES {
            return Ok(None);
        }
        self.file.read_exact_at(&mut trailer, length - TRAILER_BYTES)?;
        let size = u64::from(u32::from_le_bytes(trailer[..4].try_into().expect("four bytes")));
        if trailer[4..] != TRAILER_MAGIC || size + TRAILER_BYTES > length {
            return Ok(None);
        }
        self.footer_at(length - TRAILER_BYTES - size, length)
    }

    /// Whether the file ends behind the footer at `position` with the trailer that fits it.
    fn is_trailer_at(&self, position: u64, json_bytes: usize, length: u64) -> io::Result<bool> {
        let footer_bytes = FOOTER_PREFIX_BYTES as usize + json_bytes;
        let end = position + footer_bytes as u64;
        if length != end + TRAILER_BYTES {
            return Ok(false);
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        self.file.read_exact_at(&mut trailer, end)?;
        Ok(trailer == trailer_of(footer_bytes))
    }

    /// Decodes the block at `position` into `out`; its size and count, or `None` when there is no sound block.
    fn block_at(&mut self, position: u64, length: u64, out: &mut impl Rows) -> io::Result<Option<(u64, usize)>> {
        let mut head = [0; BLOCK_HEADER_BYTES];
        if position + BLOCK_HEADER_BYTES as u64 > length {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, position)?;
        let Some(header) = BlockHeader::parse(&head) else { return Ok(None) };
        let size = BLOCK_HEADER_BYTES as u64 + u64::from(header.length);
        if position + size > length {
            return Ok(None);
        }
        self.payload.resize(header.length as usize, 0);
        self.file.read_exact_at(&mut self.payload, position + BLOCK_HEADER_BYTES as u64)?;
        if block::checksum(&head, &self.payload) != header.crc32c {
            return Ok(None);
        }
        let count = header.count as usize;
        if self.decoder.decode(&header, &self.payload, out.more(count)).is_err() {
            out.drop_last(count);
            return Ok(None);
        }
        Ok(Some((size, count)))
    }

    fn is_sound_at(&mut self, position: u64, length: u64) -> io::Result<bool> {
        Ok(self.block_at(position, length, &mut Vec::new())?.is_some() || self.footer_at(position, length)?.is_some())
    }

    /// The next sound block or footer after bytes that are neither; sets `end` when there is none.
    fn resync(&mut self, length: u64) -> io::Result<Option<u64>> {
        let mut window = Vec::new();
        let mut from = self.position;
        let mut zeros = true;
        let mut proofs = 0;
        while from < length {
            window.resize((length - from).min(RESYNC_BYTES) as usize, 0);
            self.file.read_exact_at(&mut window, from)?;
            zeros = zeros && window.iter().all(|byte| *byte == 0);
            // Only what looks like a header is read again: bytes that merely spell the magic cost nothing.
            let heads =
                window.windows(4).enumerate().filter(|(_, magic)| **magic == BLOCK_MAGIC || **magic == FOOTER_MAGIC);
            for (at, magic) in heads {
                let position = from + at as u64;
                if position == self.position || proofs > RESYNC_PROOFS_MAX {
                    continue;
                }
                let inside = at + BLOCK_HEADER_BYTES <= window.len();
                if *magic == BLOCK_MAGIC && inside && BlockHeader::parse(&window[at..]).is_none() {
                    continue;
                }
                proofs += 1;
                if self.is_sound_at(position, length)? {
                    return Ok(Some(position));
                }
            }
            // Three bytes are looked at twice, so that a magic across the edge is seen.
            from += if length - from > RESYNC_BYTES { RESYNC_BYTES - 3 } else { RESYNC_BYTES };
        }
        self.end = if zeros { End::Open } else { End::Torn };
        Ok(None)
    }
}

/// The footer of a sealed segment without reading its blocks; `None` while it is not sealed.
pub fn read_footer(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let reader = SegmentReader::open(path)?;
    reader.last_footer().map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether reading failed because the file is shorter now: sealing cuts off the zeros written ahead.
fn was_cut<T>(file: &File, length: u64, found: &io::Result<T>) -> io::Result<bool> {
    let ended = matches!(found, Err(error) if error.kind() == io::ErrorKind::UnexpectedEof);
    Ok(ended && file.metadata()?.len() < length)
}

/// A number at the top of the JSON that this file writes itself; not a parser of JSON.
fn json_number(json: &[u8], key: &str) -> Option<u64> {
    let text = std::str::from_utf8(json).ok()?;
    let (_, value) = text.split_once(&format!("\"{key}\":"))?;
    let digits = value.find(|letter: char| !letter.is_ascii_digit()).map_or(value, |end| &value[..end]);
    digits.parse().ok()
}

fn read_json(file: &File, length: u64, at: u64, start: u64) -> Option<Vec<u8>> {
    let mut prefix = [0; 8];
    file.read_exact_at(&mut prefix, at).ok()?;
    let size = u32::from_le_bytes(prefix[..4].try_into().expect("four bytes"));
    if size > JSON_BYTES_MAX || start + u64::from(size) > length {
        return None;
    }
    let mut json = vec![0; size as usize];
    file.read_exact_at(&mut json, start).ok()?;
    (crc32c::crc32c(&json).to_le_bytes() == prefix[4..]).then_some(json)
}

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod damaged;

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::record::{Header, Trade, TradeBody, code_bytes, kind};

    fn trades(first: u64, count: u64) -> Vec<Record> {
        (first..first + count)
            .map(|sequence| {
                let mut header = Header::EMPTY;
                (header.kind, header.sequence, header.code) = (kind::TRADE, sequence, code_bytes("TXFD6").unwrap());
                header.received_ns = 1_000 + sequence as i64;
                Record::from_trade(&Trade { header, body: TradeBody { volume: sequence as u32, ..TradeBody::ABSENT } })
            })
            .collect()
    }

    fn read_all(path: &Path) -> (Vec<Record>, SegmentReader) {
        let mut reader = SegmentReader::open(path).unwrap();
        let mut records = Vec::new();
        while reader.next_block(&mut records).unwrap() {}
        (records, reader)
    }

    /// Three blocks of ten records, not sealed; returns the offsets at which the blocks start and the last ends.
    fn unsealed(path: &Path) -> Vec<u64> {
        let mut writer = SegmentWriter::create(&Disk::default(), path, b"{}").unwrap();
        let mut offsets = vec![writer.bytes()];
        for block in 0..3 {
            writer.append(&trades(1 + 10 * block, 10)).unwrap();
            offsets.push(writer.bytes());
        }
        writer.sync().unwrap();
        offsets
    }

    #[test]
    fn who_reads_while_a_segment_is_sealed_finds_it_unsealed_or_sealed_and_never_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..2_000).map(|number| folder.path().join(format!("slot/{number}.wal"))).collect();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for path in &paths {
                    let mut writer = SegmentWriter::create(&Disk::default().without_sync(), path, b"{}").unwrap();
                    writer.append(&trades(1, 10)).unwrap();
                    writer.seal().unwrap();
                }
            });
            for path in &paths {
                while !path.exists() {}
                let (mut reader, mut records) = (SegmentReader::open(path).unwrap(), Vec::new());
                while reader.end != End::Sealed {
                    reader.next_block(&mut records).unwrap();
                    read_footer(path).unwrap();
                }
                assert_eq!((records.len(), reader.problems.len()), (10, 0));
            }
        });
    }

    #[test]
    fn a_sealed_segment_reads_back_whole_and_ends_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot/a.wal");
        let mut writer = SegmentWriter::create(&Disk::default(), &path, b"{\"run_id\":\"a\"}").unwrap();
        writer.append(&trades(1, 100)).unwrap();
        let contents = writer.seal().unwrap();
        let (records, reader) = read_all(&path);
        assert!(records == trades(1, 100));
        assert_eq!(reader.end, End::Sealed);
        assert_eq!(
            (contents.first_sequence, contents.last_sequence, contents.received_ns),
            (1, 100, Some((1001, 1100)))
        );
        assert_eq!(reader.contents.multiset, contents.multiset);
        assert_eq!(read_footer(&path).unwrap(), reader.footer_json);
        assert!(String::from_utf8(reader.footer_json.unwrap()).unwrap().contains("\"codes\":{\"TXFD6\":100}"));
    }

    #[test]
    fn a_segment_can_be_read_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let mut writer = SegmentWriter::create(&Disk::default(), &path, b"{}").unwrap();
        let mut reader = SegmentReader::open(&path).unwrap();
        let mut records = Vec::new();
        assert!(!reader.next_block(&mut records).unwrap());
        assert_eq!(read_footer(&path).unwrap(), None);
        writer.append(&trades(1, 5)).unwrap();
        assert!(reader.next_block(&mut records).unwrap());
        assert!(!reader.next_block(&mut records).unwrap());
        assert_eq!((records.len(), reader.end), (5, End::Open));
        writer.append(&trades(6, 5)).unwrap();
        assert!(reader.next_block(&mut records).unwrap());
        writer.seal().unwrap();
        assert!(!reader.next_block(&mut records).unwrap());
        assert_eq!((records.len(), reader.end), (10, End::Sealed));
    }

    #[test]
    fn every_cut_keeps_exactly_the_blocks_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.wal");
        let offsets = unsealed(&source);
        let bytes = std::fs::read(&source).unwrap();
        for cut in offsets[0]..=offsets[3] {
            let path = folder.path().join(format!("cut-{cut}.wal"));
            std::fs::write(&path, &bytes[..cut as usize]).unwrap();
            let blocks = offsets[1..].iter().filter(|end| **end <= cut).count() as u64;
            let recovered = recover(&path).unwrap();
            assert_eq!(recovered.contents.multiset.count, 10 * blocks, "cut at {cut}");
            let (records, reader) = read_all(&path);
            assert!(records == trades(1, 10 * blocks));
            assert_eq!((reader.end, reader.problems.len()), (End::Sealed, 0));
            assert!(!recover(&path).unwrap().changed);
        }
    }

    #[test]
    fn a_flipped_byte_in_the_middle_loses_one_block_and_names_its_sequences() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let offsets = unsealed(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offsets[1] as usize + 40] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (records, reader) = read_all(&path);
        assert!(records == [trades(1, 10), trades(21, 10)].concat());
        let problem = &reader.problems[0];
        assert_eq!((problem.offset, problem.length), (offsets[1], offsets[2] - offsets[1]));
        assert_eq!((problem.first_sequence, problem.count), (11, 10));
    }

    #[test]
    fn what_is_lost_at_either_edge_of_a_sealed_segment_is_named_too() {
        let folder = tempfile::tempdir().unwrap();
        for (block, first) in [(0, 1), (1, 11)] {
            let path = folder.path().join(format!("{block}.wal"));
            let mut writer = SegmentWriter::create(&Disk::default(), &path, b"{\"first_sequence\":1}").unwrap();
            let mut offsets = vec![];
            for number in 0..2 {
                offsets.push(writer.bytes());
                writer.append(&trades(1 + 10 * number, 10)).unwrap();
            }
            writer.seal().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[offsets[block] as usize + 40] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let (records, reader) = read_all(&path);
            let lost: Vec<(u64, u64)> = reader.problems.iter().map(|p| (p.first_sequence, p.count)).collect();
            assert_eq!((records.len(), lost), (10, vec![(first, 10)]));
        }
    }

    #[test]
    fn a_torn_tail_is_kept_beside_the_segment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        let offsets = unsealed(&path);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(offsets[3] - 3).unwrap();
        let recovered = recover(&path).unwrap();
        assert_eq!((recovered.contents.multiset.count, recovered.torn_bytes), (20, offsets[3] - 3 - offsets[2]));
        assert_eq!(std::fs::metadata(folder.path().join("a.wal.torn")).unwrap().len(), recovered.torn_bytes);
    }

    #[test]
    fn a_file_that_is_no_segment_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "hello, this is not a segment at all").unwrap();
        let error = SegmentReader::open(&path).err().unwrap();
        assert!(error.contains("notes.txt") && error.contains("not a Shijim log segment"));
        assert!(SegmentReader::open(&folder.path().join("absent.wal")).err().unwrap().contains("cannot be read"));
    }

    #[test]
    fn a_segment_name_is_never_reused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wal");
        SegmentWriter::create(&Disk::default(), &path, b"{}").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(
            SegmentWriter::create(&Disk::default(), &path, b"{}").err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
