//! Any bytes at all as a segment, as proptest finds them: an answer, never a panic, and recovery that ends.
//! Not the damage that is likely (`damaged.rs`).
use super::*;
use crate::block::checksum;
use proptest::collection::vec;
use proptest::prelude::*;

/// Everything that reads a file, and recovery twice: the second time finds nothing to do.
fn exercise(bytes: &[u8]) -> Result<(), TestCaseError> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = folder.path().join("a.wal");
    std::fs::write(&path, bytes).unwrap();
    let Ok(mut reader) = SegmentReader::open(&path) else {
        prop_assert!(read_footer(&path).is_err() && recover(&path).is_err());
        return Ok(());
    };
    let _ = read_footer(&path);
    let (mut records, mut places) = (Vec::new(), vec![reader.position]);
    while reader.next_block(&mut records).unwrap() {
        places.push(reader.position);
    }
    prop_assert!(places.is_sorted() && reader.position <= bytes.len() as u64 && reader.end != End::More);
    prop_assert_eq!(records.len() as u64, reader.contents.multiset.count);
    let recovered = recover(&path).unwrap();
    prop_assert_eq!(recovered.contents.multiset, reader.contents.multiset);
    let (mut again, mut reader) = (Vec::new(), SegmentReader::open(&path).unwrap());
    while reader.next_block(&mut again).unwrap() {}
    prop_assert!(again == records && reader.end == End::Sealed);
    prop_assert_eq!(read_footer(&path).unwrap(), reader.footer_json);
    prop_assert!(!recover(&path).unwrap().changed);
    Ok(())
}

fn header() -> Vec<u8> {
    framed(&SEGMENT_MAGIC, b"{\"first_sequence\":1}")
}

/// A block whose magic, sizes and checksum are right, whatever its payload is.
fn plausible_block(count: u32, first_sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = BLOCK_MAGIC.to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(count.to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(first_sequence.to_le_bytes());
    bytes.extend(checksum(&bytes, payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Parts of a segment, sound and not, in any order.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let records = |sequence: u64, bytes: Vec<u8>| {
        let mut record = Record::ZERO;
        record.0[56..56 + bytes.len()].copy_from_slice(&bytes);
        record.header_mut().sequence = sequence;
        let mut out = Vec::new();
        BlockEncoder::new().unwrap().encode(&[record], &mut out).unwrap();
        out
    };
    let footer = |json: String| framed(&FOOTER_MAGIC, json.as_bytes());
    prop_oneof![
        (any::<u64>(), vec(any::<u8>(), 0..200)).prop_map(move |(sequence, bytes)| records(sequence, bytes)),
        (0u64..4, vec(any::<u8>(), 0..200)).prop_map(move |(sequence, bytes)| records(u64::MAX - sequence, bytes)),
        (0u32..9000, any::<u64>(), vec(any::<u8>(), 0..400)).prop_map(|(count, first, payload)| {
            let raw = zstd::bulk::compress(&payload, 1).unwrap();
            plausible_block(count, first, &raw)
        }),
        (1u32..3, any::<u64>(), vec(any::<u8>(), 0..300))
            .prop_map(|(count, first, payload)| plausible_block(count, first, &payload)),
        any::<u64>().prop_map(move |last| footer(format!("{{\"last_sequence\":{last}}}"))),
        ".*".prop_map(footer),
        Just(trailer_of(34).to_vec()),
        vec(any::<u8>(), 0..300),
        (0usize..5000).prop_map(|zeros| vec![0; zeros]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_bytes_are_a_segment_or_an_error(bytes in vec(any::<u8>(), 0..2000)) {
        exercise(&bytes)?;
    }

    #[test]
    fn any_bytes_behind_a_header_end_somewhere(bytes in vec(any::<u8>(), 0..2000)) {
        exercise(&[header(), bytes].concat())?;
    }

    #[test]
    fn sound_and_unsound_parts_in_any_order_end_somewhere(parts in vec(part(), 0..8)) {
        exercise(&[header(), parts.concat()].concat())?;
    }

    #[test]
    fn a_header_of_any_text_is_read_and_recovered(json in "\\PC{0,80}", first in any::<u64>(), parts in vec(part(), 0..3)) {
        exercise(&[framed(&SEGMENT_MAGIC, json.as_bytes()), parts.concat()].concat())?;
        let numbered = format!("{{\"first_sequence\":{first}}}");
        exercise(&[framed(&SEGMENT_MAGIC, numbered.as_bytes()), parts.concat()].concat())?;
    }
}
