//! Bundles in directories.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::{Bundle, CHECKPOINTS, STATEMENT};

/// The most bytes that are read of one bundle: 1 GiB, so that a directory that only looks like one does not fill the memory.
const MOST_BYTES: u64 = 1 << 30;

/// A bundle could not be written to or read from its directory.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done, such as `create`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is more than one bundle can hold.
    #[error("{} holds more than 1 GiB; that is no bundle", path.display())]
    TooLarge {
        /// The directory.
        path: PathBuf,
    },
}

impl Bundle {
    /// Writes the bundle into a directory. No file is ever replaced: one that is there already must have the same bytes, as after a crash
    /// while the bundle was written. Each is on the disk when this answers. The statement is written last: a directory without one is a
    /// bundle that was not finished, and does not verify.
    ///
    /// # Errors
    /// [`DiskError::Io`]; what was written until then stays.
    pub fn write(&self, dir: &Path) -> Result<(), DiskError> {
        let folder = dir.join(CHECKPOINTS);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let others = self.files.iter().filter(|(name, _)| *name != STATEMENT);
        for (name, bytes) in others.chain(self.files.get_key_value(STATEMENT)) {
            create(&dir.join(name), bytes)?;
        }
        for folder in [folder.as_path(), dir] {
            flush(folder)?;
        }
        Ok(())
    }

    /// Reads a directory. Links are not followed.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(dir: &Path) -> Result<Self, DiskError> {
        let mut bundle = Self::default();
        let mut left = MOST_BYTES;
        bundle.take(dir, "", &mut left)?;
        Ok(bundle)
    }

    fn take(&mut self, folder: &Path, prefix: &str, left: &mut u64) -> Result<(), DiskError> {
        for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
            let entry = entry.map_err(failed("read", folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed("read", &path))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_file() && entry.file_name().to_str().is_some() {
                self.files.insert(name, read(&path, left)?);
            } else if kind.is_dir() && name == CHECKPOINTS {
                self.take(&path, &format!("{name}/"), left)?;
            } else {
                self.strange.insert(name);
            }
        }
        Ok(())
    }
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { doing, path, source }
}

/// Makes a file with these bytes, on the disk when this answers. One with the same bytes may be there already.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path)),
        Err(error) => {
            let same = error.kind() == io::ErrorKind::AlreadyExists && fs::read(path).is_ok_and(|there| there == bytes);
            // A crash may have come between the bytes and the disk.
            if same { flush(path) } else { Err(failed("create", path)(error)) }
        }
    }
}

/// Makes what stands in a file or a directory survive a power loss.
pub(crate) fn flush(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|open| open.sync_all()).map_err(failed("flush", path))
}

fn read(path: &Path, left: &mut u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed("read", path))?;
    let most = left.saturating_add(1);
    let count = file.take(most).read_to_end(&mut bytes).map_err(failed("read", path))?;
    let parent = path.parent().unwrap_or(path).to_owned();
    *left = left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)).ok_or(DiskError::TooLarge { path: parent })?;
    Ok(bytes)
}
