//! The ring alone, from one thread to another, beside the bare copies of the same bytes: `cargo bench --bench ring`.
//! A line a round: millions of records a second through the ring, and copied in and out without one.
//! `benches/handoff.py` has it across processes, from Python.
use std::hint::black_box;
use std::time::Instant;

use _rust::record::Record;
use _rust::ring::{Ring, word};

/// What the recorder has where nothing else is said: 17 MB, so that no cache holds it.
const SLOTS: u64 = 65_536;
const BATCH: usize = 256;
const RECORDS: u64 = 4 << 20;
const ROUNDS: usize = 9;

fn batch() -> Vec<Record> {
    (0..BATCH).map(|number| Record([number as u8; 256])).collect()
}

/// Every record written is read: the reader gates, as the log thread does.
fn through_ring(ring: &Ring) -> f64 {
    let first = ring.get(word::ACCEPTED) + 1;
    let last = first + RECORDS - 1;
    let started = Instant::now();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut records = batch();
            let mut sequence = first;
            while sequence <= last {
                for record in &mut records {
                    record.header_mut().sequence = sequence;
                    sequence += 1;
                }
                while ring.room() < BATCH as u64 {
                    std::thread::yield_now();
                }
                ring.write(&records);
            }
        });
        let mut records = Vec::with_capacity(BATCH);
        let mut next = first;
        while next <= last {
            let accepted = ring.get(word::ACCEPTED).min(next + BATCH as u64 - 1);
            if accepted < next {
                std::thread::yield_now();
                continue;
            }
            records.clear();
            (next..=accepted).for_each(|sequence| assert!(ring.read_onto(sequence, &mut records), "the writer waits"));
            black_box(&records);
            ring.acknowledge(accepted);
            next = accepted + 1;
        }
    });
    RECORDS as f64 / started.elapsed().as_secs_f64() / 1e6
}

/// One thread copies as many bytes into a buffer as large, another out of one.
fn copied() -> f64 {
    let started = Instant::now();
    std::thread::scope(|threads| {
        for inward in [true, false] {
            threads.spawn(move || {
                let mut buffer = vec![Record::ZERO; SLOTS as usize];
                let mut outside = batch();
                for round in 0..RECORDS as usize / BATCH {
                    let at = round * BATCH % SLOTS as usize;
                    let place = &mut buffer[at..at + BATCH];
                    if inward {
                        place.copy_from_slice(black_box(&outside))
                    } else {
                        outside.copy_from_slice(place)
                    }
                    black_box(&mut outside);
                }
                black_box(buffer);
            });
        }
    });
    RECORDS as f64 / started.elapsed().as_secs_f64() / 1e6
}

fn main() {
    let path = std::path::PathBuf::from(format!("/dev/shm/shijim-bench-{}", std::process::id()));
    let ring = Ring::create(&path, SLOTS, 1).expect("a ring in shared memory");
    std::fs::remove_file(&path).expect("made above");
    for _ in 0..ROUNDS {
        println!("ring {:.2} copies {:.2}", through_ring(&ring), copied());
    }
}
