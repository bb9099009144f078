//! The settings of a server.

use tokio_postgres::types::Type;

use crate::{client::Session, error::PgError};

/// A setting as new sessions get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, in its unit.
    pub value: String,
    /// Where the value comes from: `configuration file`, `command line`, `default`.
    pub source: String,
    /// Its unit; empty without one.
    pub unit: String,
    /// Whether only a restart changes it.
    pub needs_restart: bool,
}

impl Setting {
    /// Whether it was set for the role or the database of the session, and not for the server.
    pub fn is_personal(&self) -> bool {
        matches!(self.source.as_str(), "user" | "database" | "database user")
    }

    /// Takes the word of a file in place of what the role has set for itself.
    fn set_by_file(&mut self, value: String) {
        let word = value.to_ascii_lowercase();
        // A file may say it in any of the words that the server takes.
        self.value = match (self.value.as_str(), word.as_str()) {
            ("on" | "off", "on" | "true" | "yes" | "1" | "t" | "y") => "on".into(),
            ("on" | "off", "off" | "false" | "no" | "0" | "f" | "n") => "off".into(),
            _ => value,
        };
        self.source = "configuration file".into();
        self.unit.clear();
    }

    /// The value as an operator writes it, for messages: `1h`, `64MB`.
    pub fn shown(&self) -> String {
        format!("`{}`", self.in_largest_unit().unwrap_or_else(|| self.value.clone()))
    }

    /// The same amount in the largest unit that leaves no fraction; none for what is no amount, such as -1 for "no limit".
    fn in_largest_unit(&self) -> Option<String> {
        const TIMES: [(&str, u64); 6] = [
            ("us", 1),
            ("ms", 1_000),
            ("s", 1_000_000),
            ("min", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ];
        const SIZES: [(&str, u64); 5] = [("B", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];
        let digits = self.unit.chars().take_while(char::is_ascii_digit).count();
        let (times, unit) = self.unit.split_at_checked(digits)?;
        let times: u64 = if times.is_empty() { 1 } else { times.parse().ok()? };
        let table: &[(&str, u64)] = if TIMES.iter().any(|(name, _)| *name == unit) { &TIMES } else { &SIZES };
        let (_, one) = table.iter().find(|(name, _)| *name == unit)?;
        let amount = self.value.parse::<u64>().ok()?.checked_mul(times)?.checked_mul(*one)?;
        let (name, size) = table.iter().rev().find(|(_, size)| amount > 0 && amount.is_multiple_of(*size))?;
        Some(format!("{}{name}", amount / size))
    }
}

/// Settings as new sessions of this role get them: what this session has set for itself does not count.
const SETTINGS: &str = "\
SELECT name, coalesce(reset_val, ''), source, coalesce(unit, ''),
       context = 'postmaster'
FROM pg_settings WHERE name = ANY ($1) OR ($2 AND name LIKE '%.%' AND sourcefile IS NOT NULL) ORDER BY name";

/// Whether settings that nobody listed count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custom {
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
    pub async fn settings(&self, names: &[&str], custom: Custom) -> Result<Vec<Setting>, PgError> {
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

    /// The same as a role gets them that has set nothing for itself: an application's role is another one than ours. What only the
    /// command line says stays hidden, and so does a file that this role may not look into.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn server_settings(&self, names: &[&str], custom: Custom) -> Result<Vec<Setting>, PgError> {
        const WHAT: &str = "tell what its files set";
        const FILES: &str = "SELECT name, setting FROM pg_file_settings WHERE applied AND name = ANY ($1)";
        let mut all = self.settings(names, custom).await?;
        let hidden: Vec<String> =
            all.iter().filter(|setting| setting.is_personal()).map(|setting| setting.name.clone()).collect();
        if hidden.is_empty() {
            return Ok(all);
        }
        let rows = match self.rows(WHAT, FILES, &[(&hidden, Type::TEXT_ARRAY)]).await {
            Err(error) if error.is_denied() => return Ok(all),
            other => other?,
        };
        for row in &rows {
            let (name, value): (String, String) = (self.get(WHAT, row, 0)?, self.get(WHAT, row, 1)?);
            if let Some(setting) = all.iter_mut().find(|setting| setting.name == name) {
                setting.set_by_file(value);
            }
        }
        Ok(all)
    }

    /// The settings whose new value waits for a restart.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn waiting_for_restart(&self) -> Result<Vec<String>, PgError> {
        const SQL: &str = "SELECT name::text FROM pg_settings WHERE pending_restart ORDER BY name";
        self.names("tell what waits for a restart", SQL).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_an_amount_is_shown_as_an_operator_writes_it() {
        let shown = |value: &str, unit: &str| {
            let (name, source) = ("x".into(), "default".into());
            Setting { name, value: value.into(), source, unit: unit.into(), needs_restart: false }.shown()
        };
        assert_eq!(shown("3600000", "ms"), "`1h`");
        assert_eq!(shown("90", "s"), "`90s`");
        assert_eq!(shown("8192", "8kB"), "`64MB`");
        assert_eq!(shown("1500", "ms"), "`1500ms`");
        assert_eq!((shown("0", "ms"), shown("-1", "kB")), ("`0`".into(), "`-1`".into()));
        assert_eq!((shown("replica", ""), shown("", "")), ("`replica`".into(), "``".into()));
    }
}
