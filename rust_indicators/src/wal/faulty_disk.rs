//! The log on a disk that fills, breaks, stutters and crawls: nothing acknowledged is lost, nothing half sealed is
//! called sealed, and recovery makes whole what was left.
use super::*;
use crate::continuity::Continuity;
use crate::disk::faults::{Call, Plan};
use crate::intake::{BLOCKED_MAX, NOT_ACCEPTED, WithoutSpace};
use crate::record::{Header, Trade, TradeBody, code_bytes, kind, text_records};
use crate::segment::{End, SegmentReader, recover};
use crate::space::BALLAST_LAST_BYTES;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A log thread on a disk that does as it is told.
struct Bench {
    folder: TempDir,
    disk: Disk,
    intake: Arc<Intake>,
    thread: WalThread,
}

impl Bench {
    /// `stop_bytes`: `None` where a full disk is a failure like any other.
    fn new(ring_slots: u64, stop_bytes: Option<u64>, plan: impl FnOnce(&mut Plan)) -> Bench {
        Bench::committing(Durability::Sync, Duration::ZERO, ring_slots, stop_bytes, plan)
    }

    fn committing(
        durability: Durability,
        commit_interval: Duration,
        ring_slots: u64,
        stop_bytes: Option<u64>,
        plan: impl FnOnce(&mut Plan),
    ) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let wal_dir = folder.path().join("wal");
        std::fs::create_dir(&wal_dir).unwrap();
        let disk = Disk::default();
        disk.faults.plan(plan);
        let ring = Arc::new(Ring::create(&folder.path().join("ring"), ring_slots, 7).unwrap());
        let intake = Arc::new(Intake::new(ring, WithoutSpace::Lose, Continuity::new()));
        let ballast = wal_dir.join(".ballast-0");
        let space = |stop_bytes| SpaceConfig { ballast, ballast_bytes: 4 * MIB, stop_bytes, resume_bytes: 2 * MIB };
        let config = WalConfig {
            wal_dir,
            run_id: "00000000000000ab".into(),
            header_json: "{\"run_id\":\"00000000000000ab\"}".into(),
            durability,
            commit_interval,
            space: stop_bytes.map(space),
            disk: disk.clone(),
        };
        let thread = WalThread::start(intake.clone(), config).unwrap();
        Bench { folder, disk, intake, thread }
    }

    fn push(&self, mut record: Record) -> Result<u64, String> {
        self.intake.push(std::slice::from_mut(&mut record), || self.thread.failure())
    }

    /// Accepts trades of one moment after the other from `first_ns` until `ended`; the stamps of those accepted.
    fn push_until(&self, first_ns: i64, ended: impl Fn(&Bench) -> bool) -> Vec<i64> {
        let started = Instant::now();
        let mut accepted = Vec::new();
        for received_ns in first_ns.. {
            if ended(self) || self.push(trade(received_ns)).is_ok_and(|sequence| sequence == NOT_ACCEPTED) {
                return accepted;
            }
            accepted.push(received_ns);
            assert!(started.elapsed() < WAIT_MAX, "nothing happened to {} records", accepted.len());
        }
        accepted
    }

    /// As many trades, each a block of its own, or as many as are accepted.
    fn push_one_by_one(&self, first_ns: i64, count: i64) -> Vec<i64> {
        self.push_until(first_ns, |bench| {
            let started = Instant::now();
            let running = || bench.intake.ring().get(word::STATE) == state::RUNNING;
            while bench.accepted_and_durable().0 > bench.accepted_and_durable().1 && running() {
                assert!(started.elapsed() < WAIT_MAX);
            }
            let last_ns = bench.intake.ring().get(word::LAST_RECEIVED_NS) as i64;
            last_ns == first_ns + count - 1
        })
    }

    fn wait_for(&self, wanted: u64) {
        let started = Instant::now();
        while self.intake.ring().get(word::STATE) != wanted {
            assert!(started.elapsed() < WAIT_MAX, "state {wanted} never came: {:?}", self.thread.failure());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop_record(&self) -> Record {
        let received_ns = self.intake.ring().get(word::LAST_RECEIVED_NS) as i64;
        let header = Header { kind: kind::STOP, received_ns, ..Header::EMPTY };
        text_records(&header, (0, 0), 0, 0, b"").remove(0)
    }

    fn accepted_and_durable(&self) -> (u64, u64) {
        (self.intake.ring().get(word::ACCEPTED), self.intake.ring().get(word::DURABLE))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let slots = std::fs::read_dir(self.folder.path().join("wal")).unwrap().map(|slot| slot.unwrap().path());
        let mut found: Vec<PathBuf> = slots
            .filter(|slot| slot.is_dir())
            .flat_map(|slot| std::fs::read_dir(slot).unwrap().map(|entry| entry.unwrap().path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        found.sort();
        found
    }

    /// The records by segment; all of them sealed, without a hole, numbered from 1.
    fn whole(&self) -> Vec<Vec<Record>> {
        let read: Vec<(Vec<Record>, End)> = self.paths().iter().map(|path| read(path)).collect();
        assert!(read.iter().all(|(_, end)| *end == End::Sealed));
        let sequences: Vec<u64> = read.iter().flat_map(|(records, _)| records).map(|it| it.header().sequence).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        read.into_iter().map(|(records, _)| records).collect()
    }
}

fn read(path: &std::path::Path) -> (Vec<Record>, End) {
    let mut reader = SegmentReader::open(path).unwrap();
    let mut records = Vec::new();
    while reader.next_block(&mut records).unwrap() {}
    assert_eq!(reader.problems, []);
    (records, reader.end)
}

/// A trade that does not compress: a disk fills as fast as it can.
fn trade(received_ns: i64) -> Record {
    let mut header = Header::EMPTY;
    (header.kind, header.code, header.received_ns) = (kind::TRADE, code_bytes("2330").unwrap(), received_ns);
    let mut record = Record::from_trade(&Trade { header, body: TradeBody::ABSENT });
    let mut noise = received_ns as u64 ^ 0x9E37_79B9_7F4A_7C15;
    for word in record.0[72..208].chunks_exact_mut(8) {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(noise ^ noise >> 29).to_le_bytes());
    }
    record
}

fn stamps(records: &[Record]) -> Vec<i64> {
    records.iter().filter(|it| it.header().kind == kind::TRADE).map(|it| it.header().received_ns).collect()
}

fn text(record: &Record) -> String {
    let body = record.text().body;
    String::from_utf8(body.text[..usize::from(body.text_length)].to_vec()).unwrap()
}

const NOON_NS: i64 = 20_552 * DAY_NS;

#[test]
fn a_full_disk_is_waited_for_and_what_was_lost_meanwhile_is_an_outage_at_the_start_of_a_new_segment() {
    let mut bench = Bench::new(1024, Some(0), |plan| plan.room = Some(4 * MIB + 300_000));
    let accepted = bench.push_until(NOON_NS, |_| false);
    let last_ns = NOON_NS + accepted.len() as i64; // the first one that was not accepted
    assert_eq!(bench.push(trade(last_ns + 1)), Ok(NOT_ACCEPTED));
    let started = Instant::now();
    while bench.accepted_and_durable().0 != bench.accepted_and_durable().1 {
        assert!(started.elapsed() < WAIT_MAX);
    }
    bench.disk.faults.plan(|plan| plan.room = Some(100 * MIB));
    bench.wait_for(state::RUNNING);
    bench.push(trade(last_ns + 5)).unwrap();
    bench.thread.finish().unwrap();
    let [before, after] = &bench.whole()[..] else { panic!("two segments") };
    assert_eq!(stamps(before), accepted);
    let outage = after[0].text();
    assert_eq!(
        (outage.header.kind, outage.body.begin_ns, outage.body.end_ns),
        (kind::OUTAGE, last_ns - 1, last_ns + 5)
    );
    assert_eq!(text(&after[0]), "no space on the disk of the log; 2 events were not recorded");
    assert_eq!((stamps(after), after.len()), (vec![last_ns + 5], 2));
    assert_eq!(bench.intake.ring().get(word::NOT_RECORDED), 2);
    assert!(!bench.folder.path().join("wal/.ballast-0").exists());
}

#[test]
fn below_the_watermark_the_log_stops_before_any_write_fails() {
    let mut bench = Bench::new(1024, Some(MIB), |plan| plan.room = Some(4 * MIB + MIB / 2));
    bench.wait_for(state::WAITING);
    let ballast = bench.folder.path().join("wal/.ballast-0");
    let started = Instant::now();
    while std::fs::metadata(&ballast).unwrap().len() > BALLAST_LAST_BYTES {
        assert!(started.elapsed() < WAIT_MAX);
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.disk.faults.plan(|plan| plan.room = Some(5 * MIB - 1)); // one byte too few to go on with
    std::thread::sleep(CHECK_INTERVAL + CHECK_INTERVAL / 2);
    assert_eq!(bench.push(trade(NOON_NS + 1)), Ok(NOT_ACCEPTED));
    bench.disk.faults.plan(|plan| plan.room = Some(5 * MIB));
    bench.wait_for(state::RUNNING);
    bench.push(trade(NOON_NS + 2)).unwrap();
    bench.thread.finish().unwrap();
    assert_eq!(stamps(&bench.whole().concat()), [NOON_NS + 2]);
}

#[test]
fn a_stop_while_waiting_ends_with_the_outage_and_the_stop_on_a_disk_that_somebody_keeps_full() {
    let mut bench = Bench::new(1024, Some(0), |plan| plan.room = Some(4 * MIB + 300_000));
    let accepted = bench.push_until(NOON_NS, |_| false);
    let last_ns = NOON_NS + accepted.len() as i64;
    let sealed = |bench: &Bench| bench.paths().iter().all(|path| read(path).1 == End::Sealed);
    let started = Instant::now();
    while !sealed(&bench) {
        assert!(started.elapsed() < WAIT_MAX);
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.disk.faults.plan(|plan| plan.room = Some(0));
    bench.push(bench.stop_record()).unwrap();
    bench.intake.close().unwrap();
    bench.thread.finish().unwrap();
    let (accepted_count, durable) = bench.accepted_and_durable();
    assert_eq!((accepted_count, durable), (accepted.len() as u64 + 2, accepted.len() as u64 + 2));
    let end = bench.whole().pop().unwrap();
    assert_eq!(end.iter().map(|record| record.header().kind).collect::<Vec<_>>(), [kind::OUTAGE, kind::STOP]);
    assert_eq!((end[0].text().body.begin_ns, end[0].text().body.end_ns), (last_ns - 1, last_ns));
}

#[test]
fn a_call_that_finds_no_space_is_made_again_and_no_record_is_lost_or_written_twice() {
    // Two segments of ten blocks: header, zeros ahead, blocks and footer of the first are thirteen writes.
    let writes = [0, 1, 2, 3, 11, 12, 13, 14, 15].map(|nth| (Call::Write, nth));
    let names = [(Call::Create, 0), (Call::Create, 1), (Call::Name, 0), (Call::Name, 1)];
    std::thread::scope(|threads| {
        for (call, nth) in writes.into_iter().chain(names) {
            threads.spawn(move || {
                let mut bench = Bench::new(64, Some(0), |plan| plan.broken = Some((call, nth, libc::ENOSPC)));
                let mut accepted = bench.push_one_by_one(NOON_NS, 10);
                accepted.extend(bench.push_one_by_one(NOON_NS + QUARTER_NS, 10));
                bench.wait_for(state::WAITING);
                bench.disk.faults.plan(|plan| plan.broken = None);
                bench.wait_for(state::RUNNING);
                bench.push(trade(NOON_NS + QUARTER_NS + 1_000)).unwrap();
                bench.thread.finish().unwrap();
                accepted.push(NOON_NS + QUARTER_NS + 1_000);
                let records = bench.whole().concat();
                assert_eq!(stamps(&records), accepted, "{call:?} {nth}");
                assert_eq!(records.len(), accepted.len() + 1, "{call:?} {nth}");
            });
        }
    });
}

#[test]
fn any_other_failure_and_every_failed_sync_ends_the_log_loudly_and_recovery_makes_it_whole() {
    let cases = [
        (Call::Write, 5, libc::EIO, "Input/output error"),
        (Call::Write, 5, libc::EROFS, "has become read-only"),
        (Call::SyncData, 3, libc::EIO, "a sync failed"),
        // What the disk could not take may be gone from the cache: not a disk to be waited for.
        (Call::SyncData, 3, libc::ENOSPC, "a sync failed"),
        (Call::SyncAll, 0, libc::EIO, "a sync failed"),
    ];
    for (call, nth, errno, message) in cases {
        let mut bench = Bench::new(64, Some(0), |plan| plan.broken = Some((call, nth, errno)));
        let pushed = bench.push_until(NOON_NS, |bench| bench.intake.ring().get(word::STATE) == state::FAILED);
        let (accepted, durable) = bench.accepted_and_durable();
        assert!(bench.push(trade(1)).unwrap_err().contains(message), "{call:?} {errno}");
        assert!(bench.thread.finish().unwrap_err().contains(message));
        assert!(accepted > durable);
        for path in bench.paths() {
            assert_ne!(read(&path).1, End::Sealed, "{call:?} {errno}");
            recover(&path).unwrap();
        }
        let records = bench.whole().concat();
        assert!(records.len() as u64 >= durable, "{call:?} {errno}");
        assert_eq!(stamps(&records), pushed[..records.len()]);
    }
}

#[test]
fn what_is_asked_of_the_disk_is_what_the_durability_says() {
    let asked = |durability| {
        let mut bench = Bench::committing(durability, Duration::ZERO, 64, None, |_| ());
        let breaks = |bench: &Bench, call| bench.disk.faults.plan(|plan| plan.broken = Some((call, 0, libc::EIO)));
        let commits = |bench: &Bench, received_ns| {
            let (started, sequence) = (Instant::now(), bench.push(trade(received_ns)).unwrap());
            while bench.accepted_and_durable().1 < sequence && bench.thread.failure().is_none() {
                assert!(started.elapsed() < WAIT_MAX);
            }
            bench.accepted_and_durable().1 == sequence
        };
        assert!(commits(&bench, NOON_NS));
        breaks(&bench, Call::SyncData);
        let commits = commits(&bench, NOON_NS + 1);
        breaks(&bench, Call::SyncAll);
        (commits, bench.thread.finish().is_ok())
    };
    assert_eq!(asked(Durability::Sync), (false, false));
    assert_eq!(asked(Durability::Write), (true, false));
    assert_eq!(asked(Durability::Off), (true, true));
}

#[test]
fn events_gather_for_the_interval_and_no_longer_than_a_ring_half_full_or_a_stop() {
    let blocks = |bench: &Bench| bench.intake.ring().get(word::BLOCKS);
    let seconds = Duration::from_secs;
    let mut hurried = Bench::committing(Durability::Sync, seconds(3_600), 64, None, |_| ());
    let started = Instant::now();
    for at in 0..1_000 {
        hurried.push(trade(NOON_NS + at)).unwrap();
    }
    hurried.thread.finish().unwrap();
    assert!(started.elapsed() < BLOCKED_MAX && hurried.whole().concat().len() == 1_000);

    let mut patient = Bench::committing(Durability::Sync, Duration::from_millis(200), 1024, None, |_| ());
    for at in 0..300 {
        patient.push(trade(NOON_NS + at)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let (told, lasted) = (blocks(&patient), started.elapsed());
    patient.thread.finish().unwrap();
    assert!(told <= 1 + lasted.as_millis() as u64 / 200, "{told} commits");
    assert_eq!(patient.whole().concat().len(), 300);
}

#[test]
fn a_disk_that_takes_a_few_bytes_at_a_time_gets_the_same_log() {
    let logs = [None, Some(7)].map(|bytes| {
        let mut bench = Bench::new(64, None, |plan| plan.write_bytes_max = bytes);
        bench.push_until(NOON_NS, |bench| bench.accepted_and_durable().0 == 50);
        bench.thread.finish().unwrap();
        bench.whole()
    });
    assert!(logs[0] == logs[1] && logs[0].concat().len() == 50);
}

#[test]
fn a_disk_that_crawls_blocks_the_callback_for_so_long_and_no_longer_and_what_was_accepted_gets_there() {
    let mut bench = Bench::new(4, Some(0), |plan| plan.sync_pause = BLOCKED_MAX + BLOCKED_MAX / 5);
    let started = Instant::now();
    let refused = (NOON_NS..).find_map(|received_ns| bench.push(trade(received_ns)).err()).unwrap();
    assert_eq!(refused, "the disk has not kept up for 5s");
    assert!(started.elapsed() >= BLOCKED_MAX && started.elapsed() < 2 * BLOCKED_MAX);
    assert!(bench.intake.ring().get(word::BLOCKED_NS) >= BLOCKED_MAX.as_nanos() as u64);
    bench.disk.faults.plan(|plan| plan.sync_pause = Duration::ZERO);
    bench.thread.finish().unwrap();
    let (accepted, durable) = bench.accepted_and_durable();
    assert_eq!((accepted, bench.whole().concat().len() as u64), (durable, durable));
}

#[test]
fn without_a_file_descriptor_for_the_next_segment_the_last_one_is_sealed_and_the_reason_told() {
    let mut bench = Bench::new(1024, Some(0), |plan| plan.broken = Some((Call::Create, 1, libc::EMFILE)));
    bench.push(trade(NOON_NS)).unwrap();
    bench.push(trade(NOON_NS + QUARTER_NS)).unwrap();
    let told = bench.thread.finish().unwrap_err();
    assert!(told.contains("Too many open files") && told.contains("ulimit -n"), "{told}");
    assert_eq!(bench.whole().concat().len(), 1);
}

#[test]
fn a_volume_that_is_gone_or_another_one_ends_the_log_before_it_is_written_elsewhere() {
    for (another, message) in [(false, "the folder of the log is gone"), (true, "another folder stands where")] {
        let mut bench = Bench::new(1024, Some(0), |_| ());
        let (wal, away) = (bench.folder.path().join("wal"), bench.folder.path().join("away"));
        std::fs::rename(&wal, &away).unwrap();
        if another {
            std::fs::create_dir(&wal).unwrap();
        }
        bench.push(trade(NOON_NS)).unwrap();
        bench.wait_for(state::FAILED);
        assert!(bench.thread.finish().unwrap_err().contains(message));
        assert!(!another || std::fs::read_dir(&wal).unwrap().next().is_none());
    }
}
