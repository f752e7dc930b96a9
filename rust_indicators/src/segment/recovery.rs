//! Sealing what a dead run left open: every sound block stays, a torn tail is kept beside the segment, then cut.
//! Whoever dies over it has undone nothing: the next recovery begins anew.
//! Its tests stand with the segment's.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{
    Contents, End, FOOTER_MAGIC, Problem, SegmentReader, TRAILER_BYTES, checkpoint, framed, write_end, write_footer,
};
use crate::disk::Disk;

/// What a recovery did to a segment.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub contents: Contents,
    pub torn_bytes: u64,
    pub problems: Vec<Problem>,
    /// False when the segment was sealed already and nothing was done.
    pub changed: bool,
}

/// Seals an unsealed segment of a dead run: the torn tail is kept beside it as `<name>.torn`, then cut.
pub fn recover(path: &Path) -> Result<Recovered, String> {
    let mut reader = SegmentReader::open(path)?;
    let mut records = Vec::new();
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    reader.skip_to_checkpoint(path).map_err(failed)?;
    while reader.next_block(&mut records).map_err(failed)? {
        records.clear();
    }
    let mut recovered = Recovered { problems: reader.problems.clone(), ..Recovered::default() };
    recovered.contents = reader.contents.clone();
    if reader.end == End::Sealed {
        return Ok(recovered);
    }
    recovered.changed = true;
    checkpoint::forget(path).map_err(failed)?;
    if let Some(footer) = &reader.footer_json {
        recovered.torn_bytes = finish_seal(path, reader.position, footer).map_err(failed)?;
        return Ok(recovered);
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    if reader.end == End::Torn {
        recovered.torn_bytes = keep_torn_tail(&file, path, reader.position).map_err(failed)?;
    }
    write_footer(&Disk::default(), &file, reader.position, &reader.contents, true).map_err(failed)?;
    Ok(recovered)
}

/// Ends a segment whose writer died between its footer and its last eight bytes, or before the zeros written ahead
/// were cut off. What else lies behind is kept.
fn finish_seal(path: &Path, position: u64, footer_json: &[u8]) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let footer = framed(&FOOTER_MAGIC, footer_json);
    let end = position + footer.len() as u64 + TRAILER_BYTES;
    let torn_bytes = if file.metadata()?.len() > end { keep_torn_tail(&file, path, end)? } else { 0 };
    write_end(&Disk::default(), &file, position, footer)?;
    Ok(torn_bytes)
}

/// Under a name of its own: what an earlier recovery kept stays, whatever it died over and left behind.
fn keep_torn_tail(file: &File, path: &Path, position: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; (length - position) as usize];
    file.read_exact_at(&mut tail, position)?;
    let torn = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if torn == 0 {
        return Ok(0);
    }
    tail.truncate(torn);
    let mut name = torn_name(path, 1);
    for number in 2.. {
        match std::fs::read(&name) {
            Ok(kept) if kept == tail => break,
            Ok(_) => name = torn_name(path, number),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&name, &tail)?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Disk::default().sync_folder(path)?;
    Ok(torn as u64)
}

/// `<name>.torn`, `<name>.torn-2`, …
fn torn_name(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(if number == 1 { ".torn".into() } else { format!(".torn-{number}") });
    name.into()
}

/// A file that is there with all of its bytes or not at all; the name is not durable yet.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let file = File::create(&draft)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}
