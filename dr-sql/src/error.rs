//! What can go wrong between us and a server, and what is known about the effect afterwards.

use std::{io, time::Duration};

use tokio_postgres::error::SqlState;

/// A failed look or act. The message names the server and the act; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No session could be opened.
    #[error("cannot connect to {server}")]
    Connect {
        /// Name and address of the server.
        server: String,
        /// The driver's error.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// No session could be opened in time.
    #[error("{server} did not answer a new connection within {} ms", after.as_millis())]
    ConnectTimeout {
        /// Name and address of the server.
        server: String,
        /// How long we waited.
        after: Duration,
    },
    /// A statement failed.
    #[error("{server}: cannot {what}")]
    Query {
        /// Name and address of the server.
        server: String,
        /// The act in words.
        what: &'static str,
        /// The driver's error.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// A statement was sent and did not answer in time.
    #[error("{server} did not {what} within {} ms", after.as_millis())]
    QueryTimeout {
        /// Name and address of the server.
        server: String,
        /// The act in words.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// What lies outside of SQL failed: a way of the backend's own, such as a host's files. Nothing is known of its effect.
    #[error(transparent)]
    Outside(Box<dyn std::error::Error + Send + Sync>),
    /// A state that was asked for did not come in time.
    #[error("{server} did not {what} within {} ms", after.as_millis())]
    Late {
        /// Name of the server.
        server: String,
        /// The state in words.
        what: String,
        /// How long we waited.
        after: Duration,
    },
    /// The world is not as the act needs it. Nothing was changed.
    #[error("{server}: {why}")]
    Refused {
        /// Name of the server.
        server: String,
        /// What is wrong and what helps.
        why: String,
    },
    /// Something answered in a form that we do not know.
    #[error("{server}: {what} says `{saw}`, which is not understood")]
    Unreadable {
        /// Name of the server.
        server: String,
        /// What was read.
        what: &'static str,
        /// The text.
        saw: String,
    },
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
}

/// What is known about the effect of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The server refused or was never reached: nothing happened.
    None,
    /// It may have happened: look before doing anything else.
    Unknown,
}

impl PgError {
    /// What is known about the effect of the call that failed so.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Refused { .. } | Self::Config(_) => Effect::None,
            Self::Query { source, .. } => match source.code() {
                Some(code) if !interrupted(code) => Effect::None,
                Some(_) | None => Effect::Unknown,
            },
            Self::QueryTimeout { .. } | Self::Outside(_) | Self::Late { .. } | Self::Unreadable { .. } => {
                Effect::Unknown
            }
        }
    }

    /// The SQLSTATE that the server answered, if it answered one.
    #[must_use]
    pub fn sql_state(&self) -> Option<&SqlState> {
        self.of_client().and_then(tokio_postgres::Error::code)
    }

    /// What the client library reports, where that is what went wrong.
    fn of_client(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Connect { source, .. } | Self::Query { source, .. } => Some(source),
            Self::ConnectTimeout { .. }
            | Self::QueryTimeout { .. }
            | Self::Outside(_)
            | Self::Late { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. }
            | Self::Config(_) => None,
        }
    }

    /// Whether the server itself answered that this is no login: wrong password, unknown role, or a rule that rejects.
    #[must_use]
    pub fn is_login_refused(&self) -> bool {
        self.sql_state().is_some_and(|code| {
            *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        })
    }

    /// Whether the role lacks a right for what was asked.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.sql_state() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    /// Whether the role lacks a right for what was asked, or the service does not offer it.
    pub(crate) fn is_not_given(&self) -> bool {
        self.is_denied() || self.sql_state() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    }

    /// Whether the server asked for a password that we did not have.
    #[must_use]
    pub fn is_missing_password(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.to_string().contains("password missing")
            || std::error::Error::source(source.as_ref()).is_some_and(|cause| cause.to_string().contains("password")))
    }

    /// Whether the server's host answered that nobody listens. It is no proof of a stop, only of this moment.
    #[must_use]
    pub fn is_connection_refused(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the server comes or goes, or says nothing: whoever has time asks again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.is_silence() || self.sql_state().is_some_and(|state| state.code().starts_with("57P0"))
    }

    /// Whether nobody answered: no connection, or one that ended without a word. What answers with an error of its own lives.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        let Some(source) = self.of_client() else { return matches!(self, Self::ConnectTimeout { .. }) };
        let by_io = || std::error::Error::source(source).is_some_and(|cause| cause.is::<io::Error>());
        source.code().is_none() && (source.is_closed() || by_io())
    }

    /// The message with all its causes, for one line of a report.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// The server answered, and yet a statement that it had begun may have been committed.
fn interrupted(code: &SqlState) -> bool {
    let text = code.code();
    text.starts_with("08") || text.starts_with("57P0") || text == "57014" || text.starts_with("XX")
}
