//! What is known of the records of a segment: counts, ranges and their fingerprint; the footer is made of it.
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::continuity::{KeyHasher, code_words};
use crate::payload::MIX;
use crate::record::{ABSENT_I64, CODE_BYTES, MultisetHash, Record};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub received_ns: Option<(i64, i64)>,
    pub exchange_ns: Option<(i64, i64)>,
    pub multiset: MultisetHash,
    /// One look-up a record; in order only when somebody asks.
    pub(super) counts: HashMap<Counted, u64, BuildHasherDefault<KeyHasher>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    pub code: [u8; CODE_BYTES],
    pub kind: u8,
}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let [low, high] = code_words(&self.code);
        hasher.write_u64(low ^ high.rotate_left(32) ^ u64::from(self.kind).wrapping_mul(MIX));
    }
}

impl Contents {
    pub fn add(&mut self, records: &[Record]) {
        let Some(first) = records.first() else { return };
        if self.multiset.count == 0 {
            self.first_sequence = first.header().sequence;
        }
        self.last_sequence = records[records.len() - 1].header().sequence;
        for record in records {
            let header = record.header();
            *self.counts.entry(Counted { code: header.code, kind: header.kind }).or_default() += 1;
            widen(&mut self.received_ns, header.received_ns);
            widen(&mut self.exchange_ns, header.exchange_ns);
            self.multiset.add(record);
        }
    }

    /// Records of each kind.
    pub fn kinds(&self) -> BTreeMap<u8, u64> {
        let mut kinds = BTreeMap::new();
        self.counts.iter().for_each(|(counted, count)| *kinds.entry(counted.kind).or_default() += count);
        kinds
    }

    /// Records of each code, those without one under zeros.
    pub fn codes(&self) -> BTreeMap<[u8; CODE_BYTES], u64> {
        let mut codes = BTreeMap::new();
        self.counts.iter().for_each(|(counted, count)| *codes.entry(counted.code).or_default() += count);
        codes
    }

    pub fn footer_json(&self, recovered: bool) -> String {
        let kinds: Vec<String> = self.kinds().iter().map(|(kind, count)| format!("\"{kind}\":{count}")).collect();
        let codes: Vec<String> = self
            .codes()
            .iter()
            .filter(|(code, _)| code[0] != 0)
            .map(|(code, count)| format!("\"{}\":{count}", json_text(code)))
            .collect();
        let range = |range: Option<(i64, i64)>| range.map_or("null".into(), |(low, high)| format!("[{low},{high}]"));
        format!(
            "{{\"codes\":{{{}}},\"exchange_ns\":{},\"first_sequence\":{},\"kinds\":{{{}}},\"last_sequence\":{},\
             \"multiset_count\":{},\"multiset_sum\":\"{:016x}\",\"received_ns\":{},\"records\":{},\"recovered\":{recovered}}}",
            codes.join(","),
            range(self.exchange_ns),
            self.first_sequence,
            kinds.join(","),
            self.last_sequence,
            self.multiset.count,
            self.multiset.sum,
            range(self.received_ns),
            self.multiset.count,
        )
    }
}

/// A code as the inside of a JSON string, whatever bytes it holds: no record may make its footer unreadable.
fn json_text(code: &[u8]) -> String {
    let length = code.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    let shown = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("\\u{byte:04x}") };
    code[..length].iter().map(shown).collect()
}

fn widen(range: &mut Option<(i64, i64)>, value: i64) {
    if value != ABSENT_I64 {
        *range = Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
    }
}
