//! The few calls the log makes of its disk, in one place, so that a test can let each of them fail. No buffering, no
//! retries: who calls knows what a failure means.
//!
//! A sync that failed is told without the number of its error: the kernel may have dropped what it could not write, so
//! nothing may take the failure for a mere want of space and carry on.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file system as it is, unless told otherwise.
#[derive(Clone, Default)]
pub struct Disk {
    /// Every sync succeeds at once, and nothing is known to be on the disk.
    unsynced: bool,
    #[cfg(test)]
    pub faults: faults::Faults,
}

/// Whether a write failed for want of space, and may succeed later.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

impl Disk {
    pub fn without_sync(mut self) -> Disk {
        self.unsynced = true;
        self
    }

    pub fn create(&self, path: &Path) -> io::Result<File> {
        #[cfg(test)]
        self.faults.fail(faults::Call::Create)?;
        OpenOptions::new().write(true).read(true).create(true).truncate(true).open(path)
    }

    /// All of it, or an error with any part of it written.
    pub fn write_all_at(&self, file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(file, bytes, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => (bytes, position) = (&bytes[count..], position + count as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = &bytes[..self.faults.write(file, bytes.len(), position)?];
        file.write_at(bytes, position)
    }

    pub fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.unsynced {
            return Ok(());
        }
        #[cfg(test)]
        self.faults.fail(faults::Call::SyncData).map_err(sync_failed)?;
        file.sync_data().map_err(sync_failed)
    }

    pub fn sync_all(&self, file: &File) -> io::Result<()> {
        if self.unsynced {
            return Ok(());
        }
        #[cfg(test)]
        self.faults.fail(faults::Call::SyncAll).map_err(sync_failed)?;
        file.sync_all().map_err(sync_failed)
    }

    /// Makes the name of `path` durable: it is an entry of the folder it stands in.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.sync_all(&File::open(folder)?)
    }

    /// Gives a finished draft its name; an existing one is an error.
    pub fn name(&self, draft: &Path, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.faults.fail(faults::Call::Name)?;
        std::fs::hard_link(draft, path)?;
        std::fs::remove_file(draft)?;
        self.sync_folder(path)
    }

    pub fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.resize(file, bytes)?;
        file.set_len(bytes)
    }

    /// Takes the space of a file now, without writing it where the file system can.
    pub fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.resize(file, bytes)?;
        // SAFETY: a file descriptor we hold open.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Bytes that anybody may still write where `path` is.
    pub fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        #[cfg(test)]
        if let Some(room) = self.faults.room() {
            return Ok(room);
        }
        let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: a name that ends in zero, and room for the answer, which is read only when there is one.
        let found = unsafe {
            if libc::statvfs(name.as_ptr(), found.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            found.assume_init()
        };
        Ok(found.f_bavail * found.f_frsize)
    }
}

fn sync_failed(error: io::Error) -> io::Error {
    io::Error::other(format!("a sync failed, and with it anything it was to make durable: {error}"))
}

#[cfg(test)]
pub mod faults;
