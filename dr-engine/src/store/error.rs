//! What can be wrong with a file, in the words of the person who must do something about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a journal or lease store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is on a network file system.
    #[error(
        "{} is on a network file system ({kind}), where locks and flushes cannot be trusted; choose a directory on a \
         local disk", path.display()
    )]
    Network {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// The directory of the host's leases cannot be used. There is no other one in its place: engines that use different directories do
    /// not see each other.
    #[error(
        "the leases of this host are in {0}, which this account cannot use; make it once, as root, for everybody who moves databases: \
         install -d -m 2770 -g <their group> {0}; or name a directory in DR_LEASES, and know that engines which use another one do not see yours",
        path.display()
    )]
    Leases {
        /// The directory.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        source: Box<Self>,
    },
    /// A directory of leases was named for an engine that got a store with leases of its own.
    #[error(
        "the engine was given a store, which has its leases, and a directory of leases as well; give it one of them"
    )]
    TwoLeases,
    /// There is no journal, and only one that is there was asked for.
    #[error("there is no journal in {}", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory could not be made or looked at.
    #[error("the directory {} cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file or its directory may not be written to.
    #[error("the {what} {} is read-only; make it writable for this account, or choose another directory", file.display())]
    ReadOnly {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The disk is full.
    #[error("there is no room on the disk for the {what} {}; free some space", file.display())]
    Full {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file is torn or was never one of ours.
    #[error("the {what} {} is damaged; keep it for examination and restore it from a copy, or choose another directory", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// The file belongs to something else.
    #[error("{} is no {what} of this program: it is {found}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What was expected.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// The file system or build does not give what durability needs.
    #[error("{} cannot be made durable: {setting} is `{value}` after it was set", file.display())]
    NotDurable {
        /// The file.
        file: PathBuf,
        /// The setting that did not take.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// Anything else.
    #[error("the {what} {} could not be opened", file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(crate) fn of(file: &Path, what: &'static str, source: rusqlite::Error) -> Self {
        let file = file.to_path_buf();
        match Class::of(&source) {
            Class::Full => Self::Full { file, what },
            Class::ReadOnly => Self::ReadOnly { file, what },
            Class::Damaged => Self::Damaged { file, what, source },
            Class::Busy | Class::Other => Self::Other { file, what, source },
        }
    }
}

/// Why a file did not take or give what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("there is no room for {} on the disk; free some space", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The file became read-only.
    #[error("{} is read-only now; the file system may have been remounted after an error", file.display())]
    ReadOnly {
        /// The file.
        file: PathBuf,
    },
    /// The file is torn.
    #[error("{} is damaged; keep it for examination and restore it from a copy", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process held the file for too long.
    #[error("{} is held by another process", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
    },
    /// The file's thread has ended.
    #[error("{} was closed", file.display())]
    Closed {
        /// The file.
        file: PathBuf,
    },
    /// Anything else.
    #[error("{} did not do what was asked", file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(crate) fn of(file: &Path, source: rusqlite::Error) -> Self {
        let file = file.to_path_buf();
        match Class::of(&source) {
            Class::Full => Self::Full { file },
            Class::ReadOnly => Self::ReadOnly { file },
            Class::Damaged => Self::Damaged { file, source },
            Class::Busy => Self::Busy { file },
            Class::Other => Self::Other { file, source },
        }
    }

    /// Whether room on the disk was the cause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

enum Class {
    Full,
    ReadOnly,
    Damaged,
    Busy,
    Other,
}

impl Class {
    fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // A write-ahead log that cannot grow is reported as an I/O error on some file systems; writing is then the
            // only thing that fails.
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure) if out_of_room(error) => Self::Full,
            // A page that the file names and does not hold: it was cut short.
            Some(ErrorCode::SystemIoFailure) if cut_short(error) => Self::Damaged,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(_) | None => Self::Other,
        }
    }
}

/// Whether the file ended before a page that it should hold.
fn cut_short(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ)
}

/// SQLite says "I/O error" when the shared index of the write-ahead log cannot be extended (`SHMSIZE`) or written.
fn out_of_room(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        [rusqlite::ffi::SQLITE_IOERR_SHMSIZE, rusqlite::ffi::SQLITE_IOERR_WRITE].contains(&error.extended_code)
    })
}
