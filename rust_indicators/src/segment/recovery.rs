//! Sealing what a dead run left open: every sound block stays, a torn tail is kept beside the segment, then cut.
//! Its tests stand with the segment's.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{
    Contents, End, FOOTER_MAGIC, Problem, SegmentReader, TRAILER_BYTES, framed, sync_folder, trailer_of, write_end,
    write_footer,
};

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
    while reader.next_block(&mut records).map_err(failed)? {
        records.clear();
    }
    let mut recovered = Recovered { problems: reader.problems.clone(), ..Recovered::default() };
    recovered.contents = reader.contents.clone();
    if reader.end == End::Sealed {
        recovered.changed = finish_seal(path, &reader).map_err(failed)?;
        return Ok(recovered);
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    if reader.end == End::Torn {
        recovered.torn_bytes = keep_torn_tail(&file, path, reader.position).map_err(failed)?;
    }
    write_footer(&file, reader.position, &reader.contents, true).map_err(failed)?;
    recovered.changed = true;
    Ok(recovered)
}

/// Ends a segment whose writer died between its footer and its last eight bytes, or before the zeros written ahead
/// were cut off: sealed for who reads it to the end, not sealed for who looks at the end. True if there was need.
fn finish_seal(path: &Path, reader: &SegmentReader) -> io::Result<bool> {
    let footer = framed(&FOOTER_MAGIC, reader.footer_json.as_deref().expect("sealed means that the footer was read"));
    let length = reader.position + footer.len() as u64 + TRAILER_BYTES;
    let mut trailer = [0; TRAILER_BYTES as usize];
    let whole = reader.file.metadata()?.len() == length
        && reader.file.read_exact_at(&mut trailer, length - TRAILER_BYTES).is_ok()
        && trailer == trailer_of(footer.len());
    if !whole {
        write_end(&OpenOptions::new().write(true).open(path)?, reader.position, footer)?;
    }
    Ok(!whole)
}

fn keep_torn_tail(file: &File, path: &Path, position: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; (length - position) as usize];
    file.read_exact_at(&mut tail, position)?;
    let torn = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    std::fs::write(&name, &tail[..torn])?;
    File::open(&name)?.sync_all()?;
    sync_folder(path)?;
    Ok(torn as u64)
}
