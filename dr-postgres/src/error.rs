//! What can go wrong on a server's host.

use std::io;

use dr_sql::PgError;

/// A way to a server's host failed, or what was done there. It travels in [`PgError::Outside`].
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file or process operation failed on the server's host.
    #[error("{server}: cannot {what}")]
    Io {
        /// Name of the server.
        server: String,
        /// The act in words.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The way to the server's host failed.
    #[error("{server}: no remote session to its host")]
    Ssh {
        /// Name of the server.
        server: String,
        /// The client's error.
        #[source]
        source: Box<openssh::Error>,
    },
    /// A program on the server's host ended with an error.
    #[error("{server}: {program} ended with {status}: {stderr}")]
    Program {
        /// Name of the server.
        server: String,
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The last lines that it printed.
        stderr: String,
    },
}

impl HostError {
    /// What failed on the host, if `error` tells of that.
    #[must_use]
    pub fn of(error: &PgError) -> Option<&Self> {
        if let PgError::Outside(inner) = error { inner.downcast_ref() } else { None }
    }
}

impl From<HostError> for PgError {
    fn from(error: HostError) -> Self {
        Self::Outside(Box::new(error))
    }
}
