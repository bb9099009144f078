//! The proof that a holder lives: a file that it keeps locked.

use std::{
    fs::{self, File, TryLockError},
    io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// This process, as far as one opened lease store goes. Its file is locked from the first lease until the value is dropped,
/// which the kernel does for a process that dies.
#[derive(Debug)]
pub(super) struct Holder {
    dir: PathBuf,
    name: String,
    locked: OnceLock<File>,
}

/// Whether a holder lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Its file is locked.
    Alive,
    /// Its file is there, and nobody has it locked.
    Dead,
    /// Its file is not there, or cannot be looked at: no proof.
    Unproved,
}

impl Holder {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = dir.join("holders");
        fs::create_dir_all(&dir)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", std::process::id(), uptime().as_nanos());
        Ok(Self { dir, name, locked: OnceLock::new() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes and locks the file, once. Called inside a write transaction, so that nobody sees it unlocked.
    pub(super) fn lock(&self) -> io::Result<()> {
        if self.locked.get().is_some() {
            return Ok(());
        }
        let mut file = File::create_new(self.dir.join(&self.name))?;
        file.try_lock().map_err(io::Error::from)?;
        writeln!(file, "process {}", std::process::id())?;
        // Only the thread of the store comes here, so the cell is still empty.
        let _already = self.locked.set(file);
        Ok(())
    }

    /// Whether the holder called `name` lives.
    pub(super) fn life(&self, name: &str) -> Life {
        // A name with a path in it is none of ours.
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Life::Unproved;
        }
        let Ok(file) = File::open(self.dir.join(name)) else { return Life::Unproved };
        match file.try_lock() {
            Ok(()) => Life::Dead,
            Err(TryLockError::WouldBlock) => Life::Alive,
            Err(TryLockError::Error(_)) => Life::Unproved,
        }
    }

    /// Removes the files of the dead, except those that `named` still speaks of.
    pub(super) fn sweep(&self, named: &[String]) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        for name in names.filter(|name| !named.contains(name) && self.life(name) == Life::Dead) {
            // Left for the next sweep if it cannot be removed now.
            let _left = fs::remove_file(self.dir.join(name));
        }
    }
}

/// The time since this host started, suspended time included: the same clock for all its processes.
pub(super) fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Differs after every start of the host.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
