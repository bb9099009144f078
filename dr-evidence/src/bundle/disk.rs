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
    /// Writes the bundle into a directory that does not exist yet, or is empty. No file is ever replaced, and each is on the disk when this
    /// answers. The statement is written last: a directory without one is a bundle that was not finished, and verifies as such.
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
            File::open(folder).and_then(|open| open.sync_all()).map_err(failed("flush", folder))?;
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

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { doing, path, source }
}

fn create(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
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
