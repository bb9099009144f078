//! The sessions of a server and their transactions.

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::{client::Session, error::PgError, target::Rights};

/// A session that holds a transaction open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongTransaction {
    /// Process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// Application name.
    pub application: String,
    /// Age of the transaction.
    pub age: Duration,
    /// What the session does: `active`, `idle in transaction`.
    pub state: String,
}

/// A client session that a fence would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSession {
    /// Process id.
    pub pid: i32,
    /// Role.
    pub user: String,
    /// Application name.
    pub application: String,
    /// Whether a transaction of it is open.
    pub in_transaction: bool,
}

/// The sessions of clients. One whose kind is hidden from the role is answered too, and refused: it may be a client's. On a managed
/// service superusers are the service's own, and no clients.
macro_rules! sessions {
    (long: $clients:literal) => {
        concat!(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''),
       coalesce(extract(epoch FROM clock_timestamp() - xact_start)::float8, 0), coalesce(state, ''), backend_type IS NULL
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (backend_type IS NULL OR
      (backend_type = 'client backend' AND xact_start < clock_timestamp() - make_interval(secs => $1)))",
            $clients,
            " ORDER BY xact_start"
        )
    };
    (all: $clients:literal) => {
        concat!(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), backend_type IS NULL,
       xact_start IS NOT NULL FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (backend_type IS NULL OR
      (backend_type = 'client backend' AND NOT (usename = current_user AND starts_with(application_name, 'dr/'))))",
            $clients,
            " ORDER BY pid"
        )
    };
}

const LONG: &str = sessions!(long: "");
const LONG_MANAGED: &str =
    sessions!(long: " AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = usesysid AND r.rolsuper)");
const SESSIONS: &str = sessions!(all: "");
const SESSIONS_MANAGED: &str =
    sessions!(all: " AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = usesysid AND r.rolsuper)");

impl Session {
    /// The transactions older than `age`, oldest first, without our own.
    ///
    /// # Errors
    /// The server cannot be asked, or the role is not shown what sessions there are.
    pub async fn long_transactions(&self, age: Duration) -> Result<Vec<LongTransaction>, PgError> {
        const WHAT: &str = "tell its long transactions";
        let sql = match self.rights() {
            Rights::Server => LONG,
            Rights::Managed { .. } => LONG_MANAGED,
        };
        let rows = self.rows(WHAT, sql, &[(&age.as_secs_f64(), Type::FLOAT8)]).await?;
        let read = |row| {
            if self.get(WHAT, row, 5)? {
                return Err(self.hides());
            }
            Ok(LongTransaction {
                pid: self.get(WHAT, row, 0)?,
                user: self.get(WHAT, row, 1)?,
                application: self.get(WHAT, row, 2)?,
                age: Duration::try_from_secs_f64(self.get::<f64>(WHAT, row, 3)?.max(0.0)).unwrap_or(Duration::MAX),
                state: self.get(WHAT, row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The prepared transactions. They survive restart and promotion, hold their locks and block vacuum.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn prepared_transactions(&self) -> Result<Vec<String>, PgError> {
        self.names("tell its prepared transactions", "SELECT gid FROM pg_prepared_xacts ORDER BY gid").await
    }

    /// The client sessions that are not control sessions of our own role. Log senders are not clients.
    ///
    /// # Errors
    /// The server cannot be asked, or the role is not shown what sessions there are.
    pub async fn client_sessions(&self) -> Result<Vec<ClientSession>, PgError> {
        const WHAT: &str = "tell its client sessions";
        let sql = match self.rights() {
            Rights::Server => SESSIONS,
            Rights::Managed { .. } => SESSIONS_MANAGED,
        };
        let rows = self.rows(WHAT, sql, &[]).await?;
        let read = |row| {
            if self.get(WHAT, row, 3)? {
                return Err(self.hides());
            }
            Ok(ClientSession {
                pid: self.get(WHAT, row, 0)?,
                user: self.get(WHAT, row, 1)?,
                application: self.get(WHAT, row, 2)?,
                in_transaction: self.get(WHAT, row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
