//! What reading and recovery make of damage: of any bytes at all, an answer in bounded time and memory, and no record
//! that was not written.
use super::*;
use crate::block;
use crate::disk::Disk;
use crate::record::{Header, Trade, TradeBody, code_bytes, kind};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A small deterministic generator: the tests need variety, not randomness.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn trades(first: u64, count: u64) -> Vec<Record> {
    (first..first + count)
        .map(|sequence| {
            let mut header = Header::EMPTY;
            (header.kind, header.sequence, header.code) = (kind::TRADE, sequence, code_bytes("TXFD6").unwrap());
            Record::from_trade(&Trade { header, body: TradeBody { volume: sequence as u32, ..TradeBody::ABSENT } })
        })
        .collect()
}

/// In memory where there is some: recovery syncs, and nothing here is about the disk.
fn memory_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Forty blocks of one to forty records; returns the whole file and where its footer starts.
fn sealed(path: &Path) -> (Vec<u8>, usize) {
    let mut writer = SegmentWriter::create(&Disk::default(), path, b"{\"run_id\":\"a\"}").unwrap();
    let mut next = 1;
    for count in 1..=40 {
        writer.append(&trades(next, count)).unwrap();
        next += count;
    }
    let end = writer.bytes() as usize;
    writer.seal().unwrap();
    (std::fs::read(path).unwrap(), end)
}

fn read(path: &Path) -> Result<(Vec<Record>, SegmentReader), String> {
    let mut reader = SegmentReader::open(path)?;
    let mut records = Vec::new();
    while reader.next_block(&mut records).unwrap() {}
    Ok((records, reader))
}

#[test]
fn a_writer_that_died_between_footer_and_end_left_a_segment_that_recovery_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let (whole, _) = sealed(&path);
    let mut zeros_behind = whole.clone();
    zeros_behind.resize(whole.len() + 5000, 0);
    let cuts = (1..=TRAILER_BYTES as usize).map(|missing| whole[..whole.len() - missing].to_vec());
    for bytes in cuts.chain([zeros_behind]) {
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_footer(&path).unwrap(), None, "not sealed for who looks at the end");
        assert!(recover(&path).unwrap().changed);
        assert!(std::fs::read(&path).unwrap() == whole);
        assert!(!recover(&path).unwrap().changed);
    }
}

#[test]
fn a_footer_cut_anywhere_is_written_again_from_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let (whole, end) = sealed(&path);
    for cut in end..whole.len() - TRAILER_BYTES as usize {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let recovered = recover(&path).unwrap();
        assert_eq!((recovered.contents.multiset.count, recovered.problems.len()), (820, 0), "cut at {cut}");
        assert!(read_footer(&path).unwrap().is_some());
    }
}

#[test]
fn of_a_segment_damaged_in_any_way_only_records_that_were_written_come_back() {
    let folder = memory_folder();
    let (whole, _) = sealed(&folder.path().join("sound.wal"));
    let written: HashSet<[u8; 256]> = trades(1, 820).iter().map(|record| record.0).collect();
    let mut noise = Noise(11);
    let path = folder.path().join("a.wal");
    for round in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=noise.below(4) {
            damage(&mut bytes, &mut noise);
        }
        std::fs::write(&path, &bytes).unwrap();
        let Ok((records, reader)) = read(&path) else { continue };
        assert!(records.iter().all(|record| written.contains(&record.0)), "round {round}");
        assert_ne!(reader.end, End::More);
        let _ = read_footer(&path);
        recover(&path).unwrap();
        let (again, reader) = read(&path).unwrap();
        assert!(again == records && reader.end == End::Sealed, "round {round}");
        assert!(read_footer(&path).unwrap().is_some(), "round {round}");
    }
}

fn damage(bytes: &mut Vec<u8>, noise: &mut Noise) {
    let at = noise.below(bytes.len());
    let length = noise.below(300).min(bytes.len() - at);
    match noise.below(6) {
        0 => bytes[at] ^= 1 << noise.below(8),
        1 => bytes.truncate(at.max(1)),
        2 => bytes[at..at + length].fill(0),
        3 => bytes[at..at + length].iter_mut().for_each(|byte| *byte = noise.next() as u8),
        4 => drop(bytes.drain(at..at + length)),
        _ => {
            let copy = bytes[at..at + length].to_vec();
            let to = noise.below(bytes.len());
            bytes.splice(to..to, copy);
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

/// A few blocks of few records, so that every byte of the file can be changed in turn.
fn small(path: &Path) -> SegmentWriter {
    let mut writer =
        SegmentWriter::create(&crate::disk::Disk::default(), path, b"{\"first_sequence\":1,\"run_id\":\"a\"}").unwrap();
    [(1, 3), (4, 1), (5, 4)].into_iter().for_each(|(first, count)| writer.append(&trades(first, count)).unwrap());
    writer
}

/// Changes each byte in turn, in three ways, and says where `is_found` answers no.
fn unnoticed(
    path: &Path,
    bytes: &[u8],
    is_found: impl Fn(Result<(Vec<Record>, SegmentReader), String>) -> bool,
) -> Vec<usize> {
    let mut changed = bytes.to_vec();
    let mut missed = Vec::new();
    for at in 0..bytes.len() {
        for mask in [1, 0x80, 0xFF] {
            changed[at] = bytes[at] ^ mask;
            std::fs::write(path, &changed).unwrap();
            if !is_found(read(path)) {
                missed.push(at);
            }
        }
        changed[at] = bytes[at];
    }
    missed
}

#[test]
fn one_changed_byte_anywhere_in_a_sealed_segment_is_found_and_what_is_left_was_written() {
    let folder = memory_folder();
    let path = folder.path().join("a.wal");
    small(&path).seal().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let written = trades(1, 8);
    let missed = unnoticed(&path, &bytes, |answer| {
        let Ok((records, reader)) = answer else { return true };
        assert!(records.iter().all(|record| written.contains(record)));
        !reader.problems.is_empty() || reader.end != End::Sealed
    });
    assert_eq!(missed, [0; 0], "of {} bytes", bytes.len());
}

#[test]
fn one_changed_byte_anywhere_in_an_open_segment_is_found_also_in_the_zeros_written_ahead() {
    let folder = memory_folder();
    let path = folder.path().join("a.wal");
    let end = small(&path).bytes() as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > end + 64 && bytes[end..].iter().all(|byte| *byte == 0));
    bytes.truncate(end + 64);
    let missed = unnoticed(&path, &bytes, |answer| {
        answer.map_or(true, |(_, reader)| !reader.problems.is_empty() || reader.end != End::Open)
    });
    assert_eq!(missed, [0; 0], "of {} bytes", bytes.len());
}

#[test]
fn what_lies_behind_the_end_of_a_sealed_segment_is_found_kept_and_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let (whole, _) = sealed(&path);
    std::fs::write(&path, [&whole[..], b"more\0"].concat()).unwrap();
    assert_eq!(read(&path).unwrap().1.end, End::Torn);
    assert_eq!(recover(&path).unwrap().torn_bytes, 4);
    assert_eq!(std::fs::read(folder.path().join("a.wal.torn")).unwrap(), b"more");
    assert!(std::fs::read(&path).unwrap() == whole);
}

/// What a recovery leaves that is killed while it writes the footer over the tail it has kept: any part of it.
#[test]
fn a_recovery_that_died_over_its_footer_has_not_cost_the_torn_tail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let end = small(&path).bytes() as usize;
    let torn: Vec<u8> = (0..5_000).map(|at: u32| at as u8 | 1).collect();
    let before = [&std::fs::read(&path).unwrap()[..end], &torn].concat();
    std::fs::write(&path, &before).unwrap();
    recover(&path).unwrap();
    let recovered = std::fs::read(&path).unwrap();
    for written in [0, 1, 60, recovered.len() - end - 1] {
        let mut bytes = before.clone();
        bytes[end..end + written].copy_from_slice(&recovered[end..end + written]);
        std::fs::write(&path, &bytes).unwrap();
        recover(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == recovered);
        assert!(std::fs::read(folder.path().join("a.wal.torn")).unwrap() == torn, "after {written} bytes");
        if written > 0 && written < 100 {
            let name = if written == 1 { "a.wal.torn-2" } else { "a.wal.torn-3" };
            assert!(std::fs::read(folder.path().join(name)).unwrap() == bytes[end..]);
        }
    }
}

#[test]
fn no_header_and_no_payload_makes_decoding_panic() {
    let mut noise = Noise(5);
    let mut sound = Vec::new();
    BlockEncoder::new().unwrap().encode(&trades(1, 50), &mut sound).unwrap();
    let mut decoder = block::BlockDecoder::new().unwrap();
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..=noise.below(3) {
            damage(&mut bytes, &mut noise);
        }
        bytes.resize(bytes.len().max(BLOCK_HEADER_BYTES), 0);
        bytes[..4].copy_from_slice(&BLOCK_MAGIC);
        let Some(header) = BlockHeader::parse(&bytes) else { continue };
        assert!(header.count as usize <= block::BLOCK_RECORDS_MAX && header.length < 3 << 20);
        // As if the checksum were right, which chance does not make it.
        let _ = decoder.decode(&header, &bytes[BLOCK_HEADER_BYTES..], &mut vec![Record::ZERO; header.count as usize]);
    }
}

#[test]
fn a_file_made_of_false_block_headers_is_given_up_in_bounded_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let (whole, _) = sealed(&path);
    let mut header = [0; BLOCK_HEADER_BYTES];
    header[..4].copy_from_slice(&BLOCK_MAGIC);
    (header[8], header[12], header[13]) = (200, 0, 64); // 200 records in 16 KiB
    for filling in [&BLOCK_MAGIC[..], &FOOTER_MAGIC, &header] {
        let mut bytes = whole[..100].to_vec();
        bytes.extend(filling.iter().cycle().take(8 << 20));
        std::fs::write(&path, &bytes).unwrap();
        let started = Instant::now();
        let (records, reader) = read(&path).unwrap();
        assert_eq!((records.len(), reader.end), (0, End::Torn));
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}

#[test]
fn a_block_behind_more_corrupt_bytes_than_one_look_holds_is_found_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wal");
    let mut writer = SegmentWriter::create(&Disk::default(), &path, b"{}").unwrap();
    let begin = writer.bytes() as usize;
    writer.append(&trades(1, 10)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let block = &bytes[begin..writer.bytes() as usize];
    for shift in 0..40 {
        let garbage = RESYNC_BYTES as usize - 20 + shift;
        let damaged = [&bytes[..begin], &vec![7; garbage], block].concat();
        std::fs::write(&path, &damaged).unwrap();
        let (records, reader) = read(&path).unwrap();
        assert_eq!((records.len(), reader.problems.len()), (10, 1), "{garbage} bytes of garbage");
        assert_eq!(reader.problems[0].length as usize, garbage);
    }
}

#[test]
fn a_code_of_any_bytes_leaves_the_footer_valid_json() {
    let mut contents = Contents::default();
    let mut record = trades(1, 1)[0];
    record.header_mut().code = *b"A\"\\\n\x00\xff\x7f{}:,'ok\0\0";
    contents.add(&[record]);
    let footer = contents.footer_json(false);
    assert!(footer.contains(r#"{"A\u0022\u005c\u000a\u0000\u00ff\u007f{}:,'ok":1}"#), "{footer}");
}
