//! Free readers: with a cursor of their own (broadcast), or sharing the cursor of a group (competing). They never slow
//! the writer, and follow from ring to ring when it is started anew. Not the WAL thread (`wal.rs`), which gates.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::group::Member;
use super::{Ring, state, word};
use crate::record::Record;

/// Whether the writer, or a member of the group, is dead is asked this often: a system call or two each time.
const LOOK_AROUND: Duration = Duration::from_millis(10);

/// How a writer ended that is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything accepted is durable.
    Closed,
    /// The log could not be written.
    Failed,
    /// The process died; what was accepted and not durable is not in the log.
    Died,
}

/// What a reader gets: records in order, or what happened to them. Ranges are from the first to the last sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Records(u64),
    /// Overwritten before they were read. Of a group: one member is told.
    Missed(u64, u64),
    /// Claimed by a member of the group that died before it had finished with them. One member is told.
    Abandoned(u64, u64),
    /// There will be no more of this run. Told once, after its last record.
    Ended(Ending),
    /// A new run stands in the place of the ring; its records follow, from sequence 1.
    Restarted {
        previous_run_id: u64,
        run_id: u64,
    },
}

enum Cursor {
    /// The next sequence to read.
    Own(u64),
    Shared(String, Member),
}

/// A reader of the ring at a path, whichever run has it.
pub struct RingReader {
    ring: Ring,
    path: PathBuf,
    cursor: Cursor,
    looked: Instant,
    end_told: bool,
}

impl RingReader {
    /// A reader of everything from `cursor` on, or a member of `group`, which begins there where it is new.
    pub fn open(path: &Path, cursor: u64, group: Option<&str>) -> Result<RingReader, String> {
        let ring = Ring::attach(path)?;
        let cursor = match group {
            None => Cursor::Own(cursor.max(1)),
            Some(name) => Cursor::Shared(name.into(), Member::join(&ring, name, cursor)?),
        };
        Ok(RingReader { ring, path: path.into(), cursor, looked: Instant::now(), end_told: false })
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The next sequence this reader, or some member of its group, will get.
    pub fn next(&self) -> u64 {
        match &self.cursor {
            Cursor::Own(next) => *next,
            Cursor::Shared(_, member) => member.next(&self.ring),
        }
    }

    /// How the writer ended, if it did.
    pub fn ending(&self) -> Option<Ending> {
        match self.ring.get(word::STATE) {
            state::CLOSED => Some(Ending::Closed),
            state::FAILED => Some(Ending::Failed),
            _ => (!self.ring.writer_lives()).then_some(Ending::Died),
        }
    }

    /// Appends up to `max` records to `out`; what happened to others is told alone, and once. A member of a group has
    /// finished with what it got before. An error when the ring of a new run cannot be read by this release.
    pub fn poll(&mut self, max: u64, out: &mut Vec<Record>) -> Result<Polled, String> {
        let due = self.looked.elapsed() >= LOOK_AROUND;
        if due {
            self.looked = Instant::now();
        }
        if let Cursor::Shared(_, member) = &mut self.cursor
            && let Some((first, end)) = take_over(member, &self.ring, due)
        {
            return Ok(Polled::Abandoned(first, end - 1));
        }
        let polled = self.take(max, out);
        if polled != Polled::Records(0) || !due {
            return Ok(polled);
        }
        // Asked before the ring is looked at again: the last records of a dead writer come before the news of its death.
        let (replaced, ending) = (self.ring.is_replaced_at(&self.path), self.ending());
        let polled = self.take(max, out);
        if polled != Polled::Records(0) {
            return Ok(polled);
        }
        if replaced {
            return self.restart();
        }
        match ending {
            Some(ending) if !self.end_told => {
                self.end_told = true;
                Ok(Polled::Ended(ending))
            }
            _ => Ok(polled),
        }
    }

    /// A member is done with what it has claimed, and needs nobody to look after it.
    pub fn finish(&mut self) {
        if let Cursor::Shared(_, member) = &self.cursor {
            member.claims(&self.ring).finish(member.number());
        }
    }

    fn take(&mut self, max: u64, out: &mut Vec<Record>) -> Polled {
        let polled = match &mut self.cursor {
            Cursor::Own(next) => {
                let polled = look(&self.ring, *next, max, out);
                *next = match polled {
                    Polled::Missed(_, last) => last + 1,
                    _ => *next + out.len() as u64,
                };
                polled
            }
            Cursor::Shared(_, member) => claim(member, &self.ring, max, out),
        };
        if let Polled::Missed(first, last) = polled {
            self.ring.add(word::MISSED, last - first + 1);
            if let Cursor::Shared(_, member) = &self.cursor {
                member.add_missed(&self.ring, last - first + 1);
            }
        }
        polled
    }

    fn restart(&mut self) -> Result<Polled, String> {
        let previous_run_id = self.ring.get(word::RUN_ID);
        let group = match &self.cursor {
            Cursor::Own(_) => None,
            Cursor::Shared(name, _) => Some(name.clone()),
        };
        match RingReader::open(&self.path, 1, group.as_deref()) {
            Ok(reader) => *self = reader,
            Err(_) if !self.path.exists() => return Ok(Polled::Records(0)), // a short run, gone already
            Err(reason) => return Err(reason),
        }
        Ok(Polled::Restarted { previous_run_id, run_id: self.ring.get(word::RUN_ID) })
    }
}

/// The records from `next` on, or what of them is overwritten. Changes nothing but `out`, which was empty.
fn look(ring: &Ring, next: u64, max: u64, out: &mut Vec<Record>) -> Polled {
    let accepted = ring.get(word::ACCEPTED);
    for sequence in next..=accepted.min(next.saturating_add(max).saturating_sub(1)) {
        if !ring.read_onto(sequence, out) {
            if sequence > next {
                break;
            }
            return Polled::Missed(next, ring.protocol().resume_at(next) - 1);
        }
    }
    Polled::Records(out.len() as u64)
}

/// Claims what `look` found. The records are in hand before they are claimed: none is lost to a slow copy.
fn claim(member: &Member, ring: &Ring, max: u64, out: &mut Vec<Record>) -> Polled {
    let mut found = Polled::Records(0);
    member.claims(ring).claim(member.number(), |next| {
        out.clear();
        found = look(ring, next, max, out);
        match found {
            Polled::Missed(_, last) => Some(last + 1),
            _ => (!out.is_empty()).then_some(next + out.len() as u64),
        }
    });
    found
}

fn take_over(member: &mut Member, ring: &Ring, due: bool) -> Option<(u64, u64)> {
    if let Some(found) = member.left_behind(ring) {
        return Some(found);
    }
    member.claims(ring).finish(member.number());
    if due { member.inherit(ring) } else { None }
}

#[cfg(test)]
#[cfg(not(miri))] // needs files that are mapped and locked
mod tests {
    use super::*;
    use std::thread::sleep;

    fn record(sequence: u64) -> Record {
        let mut record = Record([sequence as u8; 256]);
        record.header_mut().sequence = sequence;
        record
    }

    fn write(ring: &Ring, sequences: std::ops::RangeInclusive<u64>) {
        sequences.for_each(|sequence| ring.write(&[record(sequence)]));
    }

    fn sequences(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.header().sequence).collect()
    }

    /// Polls long enough for a reader to look around.
    fn poll(reader: &mut RingReader) -> (Polled, Vec<u64>) {
        let mut records = Vec::new();
        let polled = reader.poll(100, &mut records).unwrap();
        (polled, sequences(&records))
    }

    fn poll_later(reader: &mut RingReader) -> (Polled, Vec<u64>) {
        sleep(LOOK_AROUND);
        poll(reader)
    }

    #[test]
    fn an_overrun_is_told_once_and_reading_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 8, 1).unwrap();
        let mut reader = RingReader::open(&path, 1, None).unwrap();
        write(&writer, 1..=20);
        assert_eq!(poll(&mut reader), (Polled::Missed(1, 16), vec![]));
        let mut records = Vec::new();
        assert_eq!(reader.poll(100, &mut records), Ok(Polled::Records(4)));
        assert!(records == (17..=20).map(record).collect::<Vec<_>>());
        assert_eq!(writer.get(word::MISSED), 16);
    }

    #[test]
    fn a_reader_beside_a_racing_writer_never_sees_a_torn_or_reordered_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 64, 1).unwrap();
        let mut reader = RingReader::open(&path, 1, None).unwrap();
        let total = 200_000;
        let thread = std::thread::spawn(move || {
            write(&writer, 1..=total);
            writer
        });
        let (mut next, mut seen, mut missed) = (1, 0, 0);
        while next <= total {
            let mut records = Vec::new();
            if let Polled::Missed(first, last) = reader.poll(32, &mut records).unwrap() {
                assert_eq!(first, next);
                missed += last - first + 1;
                next = last + 1;
            }
            for got in records {
                assert!(got == record(next));
                next += 1;
                seen += 1;
            }
        }
        thread.join().unwrap();
        assert_eq!(seen + missed, total);
    }

    #[test]
    fn a_reader_is_told_of_the_end_of_a_run_and_of_the_next_one_behind_the_last_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let first = Ring::create(&path, 8, 1).unwrap();
        let mut reader = RingReader::open(&path, 1, None).unwrap();
        assert_eq!(poll_later(&mut reader), (Polled::Records(0), vec![]));
        write(&first, 1..=2);
        drop(first); // as a killed process: the state still says running
        assert_eq!(reader.ending(), Some(Ending::Died));
        assert_eq!(poll_later(&mut reader), (Polled::Records(2), vec![1, 2]));
        assert_eq!(poll_later(&mut reader), (Polled::Ended(Ending::Died), vec![]));
        assert_eq!(poll_later(&mut reader), (Polled::Records(0), vec![]));
        let second = Ring::create(&path, 16, 2).unwrap();
        write(&second, 1..=3);
        assert_eq!(poll_later(&mut reader), (Polled::Restarted { previous_run_id: 1, run_id: 2 }, vec![]));
        assert_eq!(poll(&mut reader), (Polled::Records(3), vec![1, 2, 3]));
        second.set(word::STATE, state::CLOSED);
        assert_eq!(poll_later(&mut reader), (Polled::Ended(Ending::Closed), vec![]));
    }

    #[test]
    fn a_ring_that_goes_away_and_comes_back_is_a_new_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        drop(Ring::create(&path, 8, 1).unwrap());
        let mut reader = RingReader::open(&path, 1, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(poll_later(&mut reader), (Polled::Ended(Ending::Died), vec![]));
        assert_eq!(poll_later(&mut reader), (Polled::Records(0), vec![]));
        let _second = Ring::create(&path, 8, 2).unwrap();
        assert_eq!(poll_later(&mut reader).0, Polled::Restarted { previous_run_id: 1, run_id: 2 });
    }

    #[test]
    fn a_group_gets_each_event_once_and_one_member_is_told_of_an_overrun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 8, 1).unwrap();
        let mut members: Vec<RingReader> = (0..3).map(|_| RingReader::open(&path, 1, Some("risk")).unwrap()).collect();
        let mut other = RingReader::open(&path, 1, Some("other")).unwrap();
        write(&writer, 1..=5);
        let mut got = Vec::new();
        for turn in 0..6 {
            let mut records = Vec::new();
            members[turn % 3].poll(1, &mut records).unwrap();
            got.extend(sequences(&records));
        }
        assert_eq!(got, [1, 2, 3, 4, 5]);
        assert_eq!(poll(&mut other).1, [1, 2, 3, 4, 5]);
        write(&writer, 6..=20);
        let told: Vec<_> = members.iter_mut().map(poll).collect();
        assert_eq!(
            told,
            [(Polled::Missed(6, 16), vec![]), (Polled::Records(4), vec![17, 18, 19, 20]), (Polled::Records(0), vec![])]
        );
        assert_eq!((members[0].next(), other.next()), (21, 6));
    }

    #[test]
    fn what_a_dead_member_had_claimed_is_told_to_one_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        let writer = Ring::create(&path, 8, 1).unwrap();
        let join = || RingReader::open(&path, 1, Some("risk")).unwrap();
        let (mut dead, mut first, mut second) = (join(), join(), join());
        write(&writer, 1..=3);
        assert_eq!(poll(&mut dead), (Polled::Records(3), vec![1, 2, 3]));
        assert_eq!(poll_later(&mut first), (Polled::Records(0), vec![])); // it lives: nothing is abandoned
        drop(dead);
        assert_eq!(poll_later(&mut first), (Polled::Abandoned(1, 3), vec![]));
        assert_eq!(poll_later(&mut second), (Polled::Records(0), vec![]));
        drop(first); // before it has asked for more: the news is passed on, here to who takes a place
        let mut third = join();
        assert_eq!(poll(&mut third), (Polled::Records(0), vec![]));
        assert_eq!(poll_later(&mut third), (Polled::Abandoned(1, 3), vec![]));
        assert_eq!(poll_later(&mut third), (Polled::Records(0), vec![]));
        write(&writer, 4..=4);
        assert_eq!(poll(&mut third).1, [4]);
        third.finish();
        drop(third);
        assert_eq!(poll_later(&mut second), (Polled::Records(0), vec![]));
    }
}
