//! What keeps a full disk from being a surprise: the watermark below which the log stops, the ballast it then throws
//! off, and whether the volume is still the one it began on. Knows no records.
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::Disk;

/// How often free space and volume are looked at: two system calls of a microsecond each. At the fastest pace of the
/// feed a disk loses a megabyte meanwhile.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Kept of the ballast while the recorder waits: the outage and the stop of one that is ended meanwhile go there.
pub const BALLAST_LAST_BYTES: u64 = 1 << 20;

#[derive(Clone)]
pub struct SpaceConfig {
    /// A file of `ballast_bytes` beside the log, given up when nothing else is left.
    pub ballast: PathBuf,
    pub ballast_bytes: u64,
    /// With less than this free the log stops while it still can in good order.
    pub stop_bytes: u64,
    /// With this much free, and the ballast made anew, it goes on.
    pub resume_bytes: u64,
}

pub struct Space {
    disk: Disk,
    config: SpaceConfig,
    volume: Volume,
    checked: Instant,
}

impl Space {
    /// Makes the ballast. The folder must exist.
    pub fn open(disk: Disk, config: SpaceConfig, wal_dir: &Path) -> io::Result<Space> {
        let space = Space { disk, config, volume: Volume::of(wal_dir)?, checked: Instant::now() };
        space.make_ballast()?;
        Ok(space)
    }

    /// True when it is time to stop. Looks at the disk at most once per `CHECK_INTERVAL`.
    pub fn is_short(&mut self) -> io::Result<bool> {
        if self.checked.elapsed() < CHECK_INTERVAL {
            return Ok(false);
        }
        self.checked = Instant::now();
        self.volume.check()?;
        Ok(self.disk.free_bytes(&self.volume.folder)? < self.config.stop_bytes)
    }

    /// Whether there is enough again, with the ballast back in its place.
    pub fn is_back(&self) -> io::Result<bool> {
        self.volume.check()?;
        let wanted = self.config.resume_bytes + self.config.ballast_bytes - BALLAST_LAST_BYTES;
        // Somebody may be quicker and take what was free: that is no failure, only no space yet.
        Ok(self.disk.free_bytes(&self.volume.folder)? >= wanted && self.make_ballast().is_ok())
    }

    /// What there is of it stays when there is no room for all of it.
    fn make_ballast(&self) -> io::Result<()> {
        let open = File::options().write(true).create(true).truncate(false).open(&self.config.ballast);
        let made = open.and_then(|file| self.disk.allocate(&file, self.config.ballast_bytes));
        made.map_err(|error| {
            let (name, bytes) = (self.config.ballast.display(), self.config.ballast_bytes >> 20);
            io::Error::new(error.kind(), format!("{name}: no room for the ballast of {bytes} MiB ({error})"))
        })
    }

    /// Gives up the ballast but for the end that a stop needs.
    pub fn release(&self) -> io::Result<()> {
        self.resize_ballast(BALLAST_LAST_BYTES)
    }

    /// Gives up the rest of it too.
    pub fn release_all(&self) -> io::Result<()> {
        self.resize_ballast(0)?;
        unless_absent(std::fs::remove_file(&self.config.ballast))
    }

    fn resize_ballast(&self, bytes: u64) -> io::Result<()> {
        unless_absent(
            File::options()
                .write(true)
                .open(&self.config.ballast)
                .and_then(|file| if file.metadata()?.len() > bytes { self.disk.set_len(&file, bytes) } else { Ok(()) }),
        )
    }
}

/// Ballast that somebody has deleted has given its space already.
fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A folder and which one it is: after an `umount` the same name is a folder on another disk.
#[derive(Clone)]
pub struct Volume {
    folder: PathBuf,
    identity: (u64, u64),
}

impl Volume {
    pub fn of(folder: &Path) -> io::Result<Volume> {
        Ok(Volume { folder: folder.to_path_buf(), identity: identity(folder)? })
    }

    /// An error when the folder is gone, or another one stands in its place.
    pub fn check(&self) -> io::Result<()> {
        match identity(&self.folder) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(io::Error::other("another folder stands where the log began: was its disk unmounted?")),
            Err(error) => Err(io::Error::other(format!("the folder of the log is gone ({error})"))),
        }
    }
}

fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::metadata(folder)?;
    Ok((found.dev(), found.ino()))
}
