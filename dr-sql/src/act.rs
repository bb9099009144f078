//! Acts on a server over SQL. Each is one attempt; what it led to is told by a look, not by its answer.

use std::time::Duration;

use tokio_postgres::{
    error::SqlState,
    types::{PgLsn, Type},
};

use crate::{
    client::Session,
    error::PgError,
    look::STILL_REPLAYS,
    lsn::{Lsn, Timeline},
    target::Rights,
};

const PROMOTE: &str = "SELECT pg_promote(wait => false)";

/// A logical message passes in a read-only transaction, so the transaction is asked in the same statement whether it is one.
const PROBE_WRITE: &str = "\
SELECT CASE WHEN current_setting('transaction_read_only') = 'off' THEN pg_logical_emit_message(true, 'dr', $1) END,
       CASE WHEN NOT pg_is_in_recovery() THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
       (SELECT system_identifier FROM pg_control_system())::text, pg_is_in_recovery()";

/// What a probe write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It was committed.
    Written(Written),
    /// The server replays and takes no writes.
    Replays,
    /// The server is a primary, and a transaction with the defaults of this role and database is read-only.
    ReadOnly,
}

/// A write that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub at: Lsn,
    /// On which copy of which database.
    pub system_identifier: u64,
    /// On which history.
    pub timeline: Timeline,
}

impl Session {
    /// Writes all dirty pages now, so that a stop or a promotion has little left to write.
    ///
    /// # Errors
    /// No right (`pg_checkpoint`), or no answer in time.
    pub async fn checkpoint(&self) -> Result<(), PgError> {
        self.run("write a checkpoint", "CHECKPOINT").await
    }

    /// Commits a write in a transaction with the defaults that the server gives to this role and database. It waits for synchronous
    /// standbys like every commit. With [`Rights::Server`] it is a transactional logical message, which needs no table and leaves no row;
    /// with [`Rights::Managed`] it is the one row of `dr_probe` in the role's schema.
    ///
    /// # Errors
    /// The server refuses, or the commit does not come back in time. [`PgError::Refused`]: the role lacks its schema, and nothing is
    /// known of the server.
    pub async fn probe_write(&self, tag: &str) -> Result<Probed, PgError> {
        match self.probe_once(tag).await? {
            // A transaction that began just before a promotion ended is read-only too: the next one tells.
            Probed::ReadOnly => self.probe_once(tag).await,
            told @ (Probed::Written(_) | Probed::Replays) => Ok(told),
        }
    }

    async fn probe_once(&self, tag: &str) -> Result<Probed, PgError> {
        match self.rights() {
            Rights::Server => self.probe_message(tag).await,
            Rights::Managed { schema } => self.probe_row(schema, tag).await,
        }
    }

    async fn probe_message(&self, tag: &str) -> Result<Probed, PgError> {
        const WHAT: &str = "commit a probe write";
        let row = self.row(WHAT, PROBE_WRITE, &[(&tag, Type::TEXT)]).await?;
        let (at, timeline): (Option<PgLsn>, Option<i32>) = (self.get(WHAT, &row, 0)?, self.get(WHAT, &row, 1)?);
        let (Some(at), Some(timeline)) = (at, timeline) else {
            return Ok(if self.get(WHAT, &row, 3)? { Probed::Replays } else { Probed::ReadOnly });
        };
        let system: &str = self.get(WHAT, &row, 2)?;
        let unreadable = || PgError::Unreadable {
            server: self.label().into(),
            what: WHAT,
            saw: format!("{system}, timeline {timeline}"),
        };
        Ok(Probed::Written(Written {
            at: Lsn::from(at),
            system_identifier: system.parse().map_err(|_| unreadable())?,
            timeline: Timeline::new(u32::try_from(timeline).map_err(|_| unreadable())?),
        }))
    }

    /// Statements in one message are one transaction, so the answer of the second one comes only with the commit of both.
    async fn probe_row(&self, schema: &str, tag: &str) -> Result<Probed, PgError> {
        const WHAT: &str = "commit a probe write";
        let table = format!("{}.dr_probe", identifier(schema));
        let write = format!(
            "INSERT INTO {table} (id, tag, at) VALUES (1, {}, now()) ON CONFLICT (id) DO UPDATE SET tag = excluded.tag, at = excluded.at; \
             SELECT pg_current_wal_insert_lsn()::text AS at, \
             ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::text AS timeline",
            literal(tag)
        );
        let make = format!(
            "CREATE TABLE IF NOT EXISTS {table} (id int PRIMARY KEY, tag text NOT NULL, at timestamptz NOT NULL)"
        );
        if self.in_recovery().await? {
            return Ok(Probed::Replays);
        }
        let rows = match self.text_rows(WHAT, &write).await {
            Err(e) if e.sql_state() == Some(&SqlState::UNDEFINED_TABLE) => match self.run(WHAT, &make).await {
                Ok(()) => self.text_rows(WHAT, &write).await,
                Err(e) => Err(e),
            },
            other => other,
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(e) if e.sql_state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => return Ok(Probed::ReadOnly),
            Err(e) if e.is_denied() || e.sql_state() == Some(&SqlState::INVALID_SCHEMA_NAME) => {
                let grant = format!("CREATE SCHEMA {} AUTHORIZATION ROLE", identifier(schema));
                return Err(self.lacks(&format!("write into a schema `{schema}` of its own"), &grant));
            }
            Err(e) => return Err(e),
        };
        let told = |column| rows.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        let (at, timeline) = (told("at"), told("timeline"));
        let unreadable = || PgError::Unreadable {
            server: self.label().into(),
            what: WHAT,
            saw: format!("{at}, timeline {timeline}"),
        };
        Ok(Probed::Written(Written {
            at: at.parse().map_err(|_| unreadable())?,
            system_identifier: self.identity().await?.system_identifier,
            timeline: Timeline::new(timeline.parse().map_err(|_| unreadable())?),
        }))
    }

    /// Asks a standby to become a primary and returns at once; [`Session::in_recovery`] tells when it is one.
    ///
    /// # Errors
    /// The server refuses (`55000` on a server that is no standby).
    pub async fn request_promotion(&self) -> Result<bool, PgError> {
        const WHAT: &str = "accept a promotion";
        let row = self.row(WHAT, PROMOTE, &[]).await?;
        self.get(WHAT, &row, 0)
    }

    /// Has a standby parse the statements that a promotion and the checks after it run for the first time, and runs the harmless one.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn prepare_for_promotion(&self) -> Result<(), PgError> {
        const WHAT: &str = "prepare the statements of a promotion";
        self.prepare(WHAT, PROMOTE, &[]).await?;
        self.prepare(WHAT, STILL_REPLAYS, &[]).await?;
        self.recovery_began().await?;
        // On a standby it writes nothing.
        self.probe_write("prepare").await.map(drop)
    }

    /// Ends every client session but control sessions of our own role, and answers how many were told to end. Log senders stay: they
    /// carry the rest of the log to the standbys.
    ///
    /// # Errors
    /// No right (`pg_signal_backend` cannot end a superuser's session).
    pub async fn terminate_clients(&self) -> Result<usize, PgError> {
        const WHAT: &str = "end its client sessions";
        const SQL: &str = "\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND NOT (usename = current_user AND starts_with(application_name, 'dr/'))";
        const MANAGED: &str = "\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND NOT (usename = current_user AND starts_with(application_name, 'dr/'))
  AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = usesysid AND r.rolsuper)";
        let sql = match self.rights() {
            Rights::Server => SQL,
            Rights::Managed { .. } => MANAGED,
        };
        self.rows(WHAT, sql, &[]).await.map(|rows| rows.len())
    }

    /// Sets a setting in `postgresql.auto.conf` and loads it. Settings that need a restart are not for this.
    ///
    /// # Errors
    /// The server refuses the name or the value.
    pub async fn set_and_load(&self, name: &str, value: &str) -> Result<(), PgError> {
        self.run("change a setting", &format!("ALTER SYSTEM SET {} = {}", identifier(name), literal(value))).await?;
        self.load_configuration().await
    }

    /// Takes a setting of ours back and loads what the files say.
    ///
    /// # Errors
    /// The server refuses the name.
    pub async fn reset_and_load(&self, name: &str) -> Result<(), PgError> {
        self.run("take a setting back", &format!("ALTER SYSTEM RESET {}", identifier(name))).await?;
        self.load_configuration().await
    }

    /// Makes the server read its files again.
    ///
    /// # Errors
    /// No right.
    pub async fn load_configuration(&self) -> Result<(), PgError> {
        self.run("load its configuration", "SELECT pg_reload_conf()").await
    }

    /// Tries to take a lock that lives as long as this session; on a standby it survives the promotion.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn try_group_lock(&self, group: &str) -> Result<bool, PgError> {
        const WHAT: &str = "take the group lock";
        const SQL: &str = "SELECT pg_try_advisory_lock(hashtextextended('dr/' || $1, 0))";
        let row = self.row(WHAT, SQL, &[(&group, Type::TEXT)]).await?;
        self.get(WHAT, &row, 0)
    }

    /// Makes a physical slot unless there is one of that name.
    ///
    /// # Errors
    /// No free slot (`max_replication_slots`), or no right.
    pub async fn ensure_slot(&self, name: &str) -> Result<(), PgError> {
        const SQL: &str = "\
SELECT pg_create_physical_replication_slot($1, true)
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::name)";
        self.rows("make a replication slot", SQL, &[(&name, Type::TEXT)]).await.map(drop)
    }

    /// Drops an inactive physical slot; an absent one is fine.
    ///
    /// # Errors
    /// The slot is in use.
    pub async fn drop_slot(&self, name: &str) -> Result<(), PgError> {
        const SQL: &str =
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1::name";
        self.rows("drop a replication slot", SQL, &[(&name, Type::TEXT)]).await.map(drop)
    }

    /// Lets a role log in, or not. The change is written to the log and reaches every standby.
    ///
    /// # Errors
    /// No right, or no such role.
    pub async fn set_login(&self, role: &str, login: bool) -> Result<(), PgError> {
        let word = if login { "LOGIN" } else { "NOLOGIN" };
        self.run("change a role's login", &format!("ALTER ROLE {} {word}", identifier(role))).await
    }

    /// Whether a role may log in; none if there is no such role.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn may_login(&self, role: &str) -> Result<Option<bool>, PgError> {
        const WHAT: &str = "tell whether a role may log in";
        const SQL: &str = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1::name";
        let rows = self.rows(WHAT, SQL, &[(&role, Type::TEXT)]).await?;
        rows.first().map(|row| self.get(WHAT, row, 0)).transpose()
    }

    /// Shortens the wait of a standby between two attempts to fetch log, which bounds how long a promotion can go unnoticed.
    ///
    /// # Errors
    /// No right to change the setting.
    pub async fn shorten_retrieve_retry(&self, wait: Duration) -> Result<(), PgError> {
        self.set_and_load("wal_retrieve_retry_interval", &format!("{}ms", wait.as_millis())).await
    }
}

/// Quotes a name for SQL.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a value for SQL. Backslashes are kept by `standard_conforming_strings`, which a control session never changes.
#[must_use]
pub fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_end_their_quotes() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
    }
}
