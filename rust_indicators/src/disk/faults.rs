//! A disk that fails as a test tells it to: full, short of breath, slow, or broken at the nth call.
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    SyncData,
    SyncAll,
    Name,
}

/// Shared by every clone: a test changes it while the log thread runs.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Default)]
pub struct Plan {
    /// Bytes by which files may still grow; `None` is no limit.
    pub room: Option<u64>,
    /// Most bytes one write takes.
    pub write_bytes_max: Option<usize>,
    /// How long each `fdatasync` takes.
    pub sync_pause: Duration,
    /// The call that fails, how many of it succeed before, and with what.
    pub broken: Option<(Call, u32, i32)>,
}

impl Faults {
    pub fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.0.lock().unwrap());
    }

    pub fn room(&self) -> Option<u64> {
        self.0.lock().unwrap().room
    }

    pub fn fail(&self, call: Call) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        if let Some((_, left, errno)) = plan.broken.as_mut().filter(|(broken, ..)| *broken == call) {
            if *left == 0 {
                return Err(io::Error::from_raw_os_error(*errno));
            }
            *left -= 1;
        }
        let pause = plan.sync_pause;
        drop(plan);
        if call == Call::SyncData {
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// How many of the bytes one write takes: on a full disk the part that fits, then none.
    pub fn write(&self, file: &File, bytes: usize, position: u64) -> io::Result<usize> {
        self.fail(Call::Write)?;
        let mut plan = self.0.lock().unwrap();
        let mut taken = bytes.min(plan.write_bytes_max.unwrap_or(bytes));
        let length = file.metadata()?.len();
        if let Some(room) = &mut plan.room {
            taken = taken.min((length + *room).saturating_sub(position) as usize);
            if taken == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC)); // zeros ahead may begin behind the file's end
            }
            *room -= (position + taken as u64).saturating_sub(length);
        }
        if taken == 0 { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(taken) }
    }

    pub fn resize(&self, file: &File, bytes: u64) -> io::Result<()> {
        let length = file.metadata()?.len();
        if let Some(room) = &mut self.0.lock().unwrap().room {
            let whole = *room + length;
            *room = whole.checked_sub(bytes).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        }
        Ok(())
    }
}
