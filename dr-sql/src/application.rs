//! A write as an application makes it: with its role, its database and its own settings, through whatever it connects to.
//!
//! ```text
//!   connect    as the role, nothing set on the session
//!   state      pg_is_in_recovery(), transaction_read_only      refused here: nothing was written
//!   insert     BEGIN; INSERT INTO table SELECT WHERE false; ROLLBACK
//!   commit     a transactional logical message: a real commit that leaves no row
//! ```
//!
//! Everything is said in the simple protocol, so it goes through a pooler by transaction.

use std::{fmt, time::Duration};

use dr_core::{
    Tri,
    base::SystemId,
    contract::{ApplicationSpec, ConfigError, KeyPath, Lineage, WriteProbe},
};
use tokio::time::timeout;

use crate::{
    act::{identifier, literal},
    client::{Session, TextRow},
    error::{Effect, PgError},
    reading::now,
    target::{Password, Target},
};

/// A login of an application, and what it may write to.
#[derive(Clone, Debug)]
pub struct ApplicationLogin {
    user: String,
    password: Option<Password>,
    database: String,
    table: Option<TableName>,
}

/// A table with its schema, in quotes as SQL wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TableName(String);

/// What a standby says to a login that it lets in.
pub const REPLAYS: &str = "the server replays and takes no writes";
/// The whole write may take this long.
const WITHIN: Duration = Duration::from_secs(10);

const STATE: &str =
    "SELECT pg_is_in_recovery()::text AS replays, current_setting('transaction_read_only') AS read_only";
const COMMIT: &str = "\
SELECT pg_logical_emit_message(true, 'dr', 'application')::text AS at, current_database() AS database,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::text AS timeline";
const SYSTEM: &str = "SELECT system_identifier::text AS system FROM pg_control_system()";

/// Why a write did not happen.
enum Failed {
    /// The server or the pooler said so before anything could be committed.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

impl ApplicationLogin {
    /// The login `user` to `database`.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Option<Password>, database: impl Into<String>) -> Self {
        Self { user: user.into(), password, database: database.into(), table: None }
    }

    /// Also tries an insert into `table`: `name` or `schema.name`, quoted as in SQL where it has to be.
    ///
    /// # Errors
    /// The text is no name of a table.
    pub fn with_table(mut self, table: &str) -> Result<Self, PgError> {
        let why = || {
            PgError::Config(format!("`{table}` is no table: write `name` or `schema.name`, in double quotes as in SQL"))
        };
        self.table = Some(TableName::parse(table).ok_or_else(why)?);
        Ok(self)
    }

    /// The same login to another name of the database: what a pooler calls it.
    #[must_use]
    pub fn through(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// The login of a group file's `[application]`.
    ///
    /// # Errors
    /// The password cannot be read from here, or the table is no table.
    pub fn of(spec: &ApplicationSpec) -> Result<Self, ConfigError> {
        let place = |key: &str| KeyPath::root().then("application").then(key);
        let password = Password::of(spec.password.as_ref());
        let password = password.map_err(|why| ConfigError::value(place("password"), why))?;
        let login = Self::new(&spec.user, password, &spec.database);
        match &spec.table {
            Some(table) => login.with_table(table).map_err(|e| ConfigError::value(place("table"), e.to_string())),
            None => Ok(login),
        }
    }

    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its password, if it has one.
    #[must_use]
    pub const fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// The database that it logs in to.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Writes once at `server`, of which host, port and TLS are used; the login is this one.
    ///
    /// - `accepted: Yes` only after a commit came back, in a session that may write
    /// - what the server or a pooler refused is `No`, with its words
    /// - no answer in time, or a connection that broke, is `Unknown`
    pub async fn write_at(&self, server: &Target) -> WriteProbe {
        let mut target = server.clone().with_database(&self.database).with_application("dr/application");
        target.user.clone_from(&self.user);
        target.password.clone_from(&self.password);
        let place = format!("as `{}` in `{}` at {}", self.user, self.database, server.label());
        let said = timeout(WITHIN, self.write(&target)).await;
        let said = said.unwrap_or_else(|_| Err(Failed::Unknown(format!("no answer within {} s", WITHIN.as_secs()))));
        let (accepted, lineage, words) = match said {
            Ok((at, lineage)) => (Tri::Yes, lineage, format!("a write was committed at {at}")),
            Err(Failed::Refused(why)) => (Tri::No, None, format!("a write was refused: {why}")),
            Err(Failed::Unknown(why)) => (Tri::Unknown, None, format!("a write was not answered: {why}")),
        };
        WriteProbe { accepted, lineage, detail: format!("{words} ({place})"), at: now() }
    }

    /// Logs in through a pooler and looks whether a write would be taken, without one. Only a refusal is told; a pooler without a free
    /// server says nothing of the login.
    pub async fn refusal_at(&self, pooler: &Target) -> Option<String> {
        let mut target = pooler.clone().with_database(&self.database).with_application("dr/application");
        target.user.clone_from(&self.user);
        target.password.clone_from(&self.password);
        let asked = async {
            let session = Session::open_plain(&target).await.map_err(|e| before_commit(&e))?;
            let state = session.text_rows("tell whether it may write", STATE).await.map_err(|e| before_commit(&e))?;
            match (value(&state, "replays").as_deref(), value(&state, "read_only").as_deref()) {
                (Some("false"), Some("off")) => Ok(()),
                (Some("true"), _) => Err(Failed::Refused(REPLAYS.into())),
                _ => Err(Failed::Refused("its transactions are read-only (transaction_read_only = on)".into())),
            }
        };
        match timeout(WITHIN, asked).await {
            Ok(Err(Failed::Refused(why))) => {
                Some(format!("{why} (as `{}` in `{}` at {})", self.user, self.database, pooler.label()))
            }
            Ok(Err(Failed::Unknown(_)) | Ok(())) | Err(_) => None,
        }
    }

    /// Why this login could not write if the server that replays now took writes; none if nothing speaks against it.
    async fn foreseen(&self, session: &Session) -> Result<Option<String>, Failed> {
        const DEFAULT: &str = "SELECT current_setting('default_transaction_read_only') AS read_only";
        let told =
            session.text_rows("tell how its transactions begin", DEFAULT).await.map_err(|e| before_commit(&e))?;
        if value(&told, "read_only").as_deref() != Some("off") {
            let why = "its transactions are read-only (default_transaction_read_only of the server, the database or the role)";
            return Ok(Some(why.into()));
        }
        let Some(TableName(table)) = &self.table else { return Ok(None) };
        let sql = format!("SELECT has_table_privilege({}, 'INSERT')::text AS may", literal(table));
        let told = session.text_rows("look at its table", &sql).await.map_err(|e| before_commit(&e))?;
        Ok((value(&told, "may").as_deref() != Some("true")).then(|| format!("it may not insert into {table}")))
    }

    async fn write(&self, target: &Target) -> Result<(String, Option<Lineage>), Failed> {
        let session = Session::open_plain(target).await.map_err(|e| before_commit(&e))?;
        let state = session.text_rows("tell whether it may write", STATE).await.map_err(|e| before_commit(&e))?;
        let told = |column: &str| state.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        if told("replays") != "false" {
            return Err(Failed::Refused(self.foreseen(&session).await?.unwrap_or_else(|| REPLAYS.into())));
        }
        if told("read_only") != "off" {
            let why = "its transactions are read-only (transaction_read_only = on; look at default_transaction_read_only of the server, \
                       the database and the role)";
            return Err(Failed::Refused(why.into()));
        }
        if let Some(TableName(table)) = &self.table {
            let sql = format!("BEGIN; INSERT INTO {table} SELECT WHERE false; ROLLBACK");
            session.run("insert into its table", &sql).await.map_err(|e| before_commit(&e))?;
        }
        // Not every role may ask for it.
        let system = session.text_rows("tell which cluster it is", SYSTEM).await.ok();
        let system = system.as_deref().and_then(|rows| value(rows, "system"));
        let rows = session.text_rows("commit a write", COMMIT).await.map_err(|e| match e.effect() {
            Effect::None => Failed::Refused(e.chain()),
            Effect::Unknown => Failed::Unknown(e.chain()),
        })?;
        let at = value(&rows, "at").unwrap_or_default();
        let generation = value(&rows, "timeline").and_then(|timeline| timeline.parse().ok());
        let lineage = system.zip(generation);
        Ok((at, lineage.map(|(system, generation)| Lineage { system: SystemId::new(system), generation })))
    }
}

fn value(rows: &[TextRow], column: &str) -> Option<String> {
    Some(rows.first()?.get(column)?.to_owned())
}

/// Whoever answered an error before the commit was sent has refused the write, whatever the error is.
fn before_commit(error: &PgError) -> Failed {
    if error.sql_state().is_some() { Failed::Refused(error.chain()) } else { Failed::Unknown(error.chain()) }
}

impl TableName {
    /// One or two names with a dot between them; what is not quoted is folded to lower case, as SQL does.
    fn parse(text: &str) -> Option<Self> {
        let mut names = vec![String::new()];
        let (mut quoted, mut was_quoted) = (false, false);
        let mut rest = text.trim().chars().peekable();
        while let Some(c) = rest.next() {
            let name = names.last_mut()?;
            match c {
                '"' if quoted && rest.next_if_eq(&'"').is_some() => name.push('"'),
                '"' if quoted => quoted = false,
                '"' if name.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
                '.' if !quoted => {
                    names.push(String::new());
                    was_quoted = false;
                }
                c if quoted => name.push(c),
                c if !was_quoted && (c.is_alphanumeric() || c == '_' || c == '$') => name.extend(c.to_lowercase()),
                _ => return None,
            }
        }
        let complete = !quoted && names.len() <= 2 && names.iter().all(|name| !name.is_empty() && !name.contains('\0'));
        complete.then(|| Self(names.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(".")))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_as_in_sql_and_cannot_end_the_statement() {
        let name = |text: &str| TableName::parse(text).map(|name| name.to_string());
        assert_eq!(name("orders").as_deref(), Some(r#""orders""#));
        assert_eq!(name("Shop.Orders").as_deref(), Some(r#""shop"."orders""#));
        assert_eq!(name(r#""My Schema"."t.b""#).as_deref(), Some(r#""My Schema"."t.b""#));
        assert_eq!(name(r#""a""; DROP TABLE b""#).as_deref(), Some(r#""a""; DROP TABLE b""#));
        for wrong in ["", "a.", ".a", "a.b.c", "a b", "a;b", "a\"b", "\"a", "a--", "\"a\"b"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_debug_output_shows_the_password() {
        let login = ApplicationLogin::new("app", Some(Password::new("hush")), "app");
        assert!(!format!("{login:?}").contains("hush"));
    }
}
