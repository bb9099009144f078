//! What can be wrong with a store, in the words of the person who must do something about it.

use dr_core::run::{JournalError, LeaseError};
use dr_sql::PgError;

/// Why a store could not be opened. At most its tables were made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The server did not do what was asked.
    #[error(transparent)]
    Server(#[from] PgError),
    /// The schema cannot have this name.
    #[error("`{0}` cannot be the schema of a store: use at most 40 small letters, digits and `_`, a letter first")]
    Name(String),
    /// The server is a standby.
    #[error("{server} is a standby; a store needs the server that writes")]
    Standby {
        /// Name and address of the server.
        server: String,
    },
    /// The server does not keep what it confirmed.
    #[error("{server} has `{setting} = {value}`, so it may lose what it confirmed; set it to `on`")]
    NotDurable {
        /// Name and address of the server.
        server: String,
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// Another version of this crate made the tables.
    #[error("the schema `{schema}` of {server} has version {found}, and this program knows version {known}")]
    Version {
        /// Name and address of the server.
        server: String,
        /// The schema.
        schema: String,
        /// What was found.
        found: i64,
        /// What this program knows.
        known: i64,
    },
}

/// Why a statement had no effect that counts, or none that is known.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn of_journal(doing: String, source: OpenError) -> JournalError {
    let full = matches!(&source, OpenError::Server(error) if is_full(error));
    JournalError::Store { doing, full, source: Box::new(source) }
}

pub(crate) fn of_leases(doing: &str, source: OpenError) -> LeaseError {
    LeaseError::Store { doing: doing.to_owned(), source: Box::new(source) }
}

pub(crate) fn of_form(doing: &str, source: impl Into<Failure>) -> JournalError {
    JournalError::Store { doing: doing.to_owned(), full: false, source: source.into() }
}

/// Class 53100 of PostgreSQL: the disk is full.
fn is_full(error: &PgError) -> bool {
    error.sql_state().is_some_and(|state| state.code() == "53100")
}
