//! The settings of a server.

use tokio_postgres::types::Type;

use crate::{client::Session, error::PgError};

/// A setting as new sessions get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: String,
    /// Its value, in its unit.
    pub(crate) value: String,
    /// Where the value comes from: `configuration file`, `command line`, `default`.
    pub(crate) source: String,
    /// Its unit; empty without one.
    pub(crate) unit: String,
    /// Whether only a restart changes it.
    pub(crate) needs_restart: bool,
}

impl Setting {
    /// Whether it was set for the role or the database of the session, and not for the server.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self.source.as_str(), "user" | "database" | "database user")
    }

    /// The value with its unit, for messages.
    pub(crate) fn shown(&self) -> String {
        if self.unit.is_empty() { format!("`{}`", self.value) } else { format!("{} × {}", self.value, self.unit) }
    }
}

/// Settings as new sessions of this role get them: what this session has set for itself does not count.
const SETTINGS: &str = "\
SELECT name, coalesce(reset_val, ''), source, coalesce(unit, ''),
       context = 'postmaster'
FROM pg_settings WHERE name = ANY ($1) OR ($2 AND name LIKE '%.%' AND sourcefile IS NOT NULL) ORDER BY name";

/// Whether settings that nobody listed count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Custom {
    /// Only those listed.
    Without,
    /// Also those with a dot in their name that a file sets: of extensions, and of applications.
    With,
}

impl Session {
    /// A setting as `SHOW` prints it; none if the server does not know it.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, PgError> {
        const WHAT: &str = "tell a setting";
        let row = self.row(WHAT, "SELECT current_setting($1, true)", &[(&name, Type::TEXT)]).await?;
        self.get(WHAT, &row, 0)
    }

    /// Settings as new sessions of this role get them. Names that the server does not know are left out.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn settings(&self, names: &[&str], custom: Custom) -> Result<Vec<Setting>, PgError> {
        const WHAT: &str = "tell its settings";
        let params = [
            (&names as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY),
            (&(custom == Custom::With), Type::BOOL),
        ];
        let rows = self.rows(WHAT, SETTINGS, &params).await?;
        let read = |row| {
            Ok(Setting {
                name: self.get(WHAT, row, 0)?,
                value: self.get(WHAT, row, 1)?,
                source: self.get(WHAT, row, 2)?,
                unit: self.get(WHAT, row, 3)?,
                needs_restart: self.get(WHAT, row, 4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The settings whose new value waits for a restart.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn waiting_for_restart(&self) -> Result<Vec<String>, PgError> {
        const SQL: &str = "SELECT name::text FROM pg_settings WHERE pending_restart ORDER BY name";
        self.names("tell what waits for a restart", SQL).await
    }
}
