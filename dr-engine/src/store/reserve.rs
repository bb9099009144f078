//! Room kept on the disk for one thing: to write down what became of an effect that already happened.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// A file of [`SIZE`] bytes beside the journal. Deleting it makes room for the last words.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    file: PathBuf,
}

impl Reserve {
    /// The reserve in `dir`; not made yet.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { file: dir.join("reserve") }
    }

    /// Whether the room is kept.
    pub(crate) fn is_kept(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.len() == SIZE)
    }

    /// Keeps the room, unless it is kept already.
    pub(crate) fn keep(&self) -> io::Result<()> {
        if self.is_kept() {
            return Ok(());
        }
        self.fill().inspect_err(|_| {
            // A part of it would look like room that is not there.
            let _already_gone = fs::remove_file(&self.file);
        })
    }

    /// Gives the room up. Answers whether there was any.
    pub(crate) fn give_up(&self) -> bool {
        fs::remove_file(&self.file).is_ok()
    }

    /// Writes every block: a file with holes would keep nothing.
    fn fill(&self) -> io::Result<()> {
        let mut file = fs::File::create(&self.file)?;
        let block = vec![0xA5_u8; BLOCK];
        for _ in 0..SIZE / BLOCK as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()
    }
}

/// Enough for some hundred lines and the pages that the write-ahead log repeats for each.
const SIZE: u64 = 4 * 1024 * 1024;
const BLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_until_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::in_dir(dir.path());
        assert!(!reserve.is_kept() && !reserve.give_up());
        reserve.keep().unwrap();
        reserve.keep().unwrap();
        assert!(reserve.is_kept());
        assert!(reserve.give_up());
        assert!(!reserve.is_kept() && !reserve.give_up());
    }
}
