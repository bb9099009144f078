//! Keys, checkpoints and bundles as people name them on a command line.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    bundle::{Bundle, DiskError},
    key::{BadKey, PublicKey, SecretKey},
    note::{Checkpoint, Note},
    verify::{Verdict, Verifier},
};

/// Reads a root key's file.
///
/// # Errors
/// The file cannot be read, or holds no secret key. The message does not quote it.
pub fn read_secret(file: &Path) -> Result<SecretKey, BadSecret> {
    let text = std::fs::read_to_string(file)?;
    Ok(SecretKey::from_text(&text)?)
}

/// Makes a root key in a new file that its owner alone may read.
///
/// # Errors
/// The file is there already or cannot be written; the name is none of a key.
pub fn new_secret(file: &Path, name: &str) -> Result<SecretKey, BadSecret> {
    let key = SecretKey::generate(name).map_err(BadSecret::Name)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(file)?;
    open.write_all(format!("{}\n", key.text()).as_bytes())?;
    open.sync_all()?;
    Ok(key)
}

/// A file is no secret key.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    /// It cannot be read or written.
    #[error("it cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// It holds something else.
    #[error("it holds no secret key of `dr-evidence new-key`")]
    Key(#[from] BadKey),
    /// The new key cannot be made.
    #[error(transparent)]
    Name(BadKey),
}

/// Reads a root key: its text, or the file that holds it.
///
/// # Errors
/// Neither is a public key.
pub fn read_public(text: &str) -> Result<PublicKey, BadKey> {
    text.trim().parse().or_else(|bad| match std::fs::read_to_string(text) {
        Ok(content) => content.trim().parse(),
        Err(_) => Err(bad),
    })
}

/// What was named cannot be used. Nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum BadInput {
    /// A root key.
    #[error("{text}: {source}")]
    Root {
        /// What was named.
        text: String,
        /// Why.
        source: BadKey,
    },
    /// A checkpoint that was kept elsewhere.
    #[error("{}: {why}", file.display())]
    Known {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] DiskError),
}

/// Verifies the bundle in a directory with root keys, as texts or files, and with checkpoints that were kept elsewhere.
///
/// # Errors
/// [`BadInput`]. A bundle that does not verify is no error: the verdict says so.
pub fn verify_directory(bundle: &Path, roots: &[String], known: &[PathBuf]) -> Result<Verdict, BadInput> {
    let mut keys = Vec::new();
    for text in roots {
        keys.push(read_public(text).map_err(|source| BadInput::Root { text: text.clone(), source })?);
    }
    let mut verifier = Verifier::new(keys);
    for file in known {
        let bad = |why: String| BadInput::Known { file: file.clone(), why };
        let bytes = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        let read = Note::parse(&bytes).and_then(|note| Checkpoint::parse(note.text()));
        verifier = verifier.with_known(read.map_err(|error| bad(error.to_string()))?);
    }
    Ok(verifier.check(&Bundle::read(bundle)?))
}
