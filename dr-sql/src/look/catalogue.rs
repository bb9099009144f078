//! The catalogue: databases and extensions.

use std::collections::BTreeMap;

use crate::{client::Session, error::PgError};

impl Session {
    /// The databases that can be connected to; templates are left out.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn databases(&self) -> Result<Vec<String>, PgError> {
        const SQL: &str =
            "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
        self.names("list its databases", SQL).await
    }

    /// The extensions of the connected database with their versions.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn extensions(&self) -> Result<BTreeMap<String, String>, PgError> {
        const WHAT: &str = "tell its extensions";
        let rows = self.rows(WHAT, "SELECT extname::text, extversion FROM pg_extension", &[]).await?;
        rows.iter().map(|row| Ok((self.get(WHAT, row, 0)?, self.get(WHAT, row, 1)?))).collect()
    }

    /// The extensions that could be created here, with their versions.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, PgError> {
        const WHAT: &str = "tell the available extensions";
        let rows = self.rows(WHAT, "SELECT name::text, version FROM pg_available_extension_versions", &[]).await?;
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in &rows {
            all.entry(self.get(WHAT, row, 0)?).or_default().push(self.get(WHAT, row, 1)?);
        }
        Ok(all)
    }

    /// The first column of all rows, as text.
    ///
    /// # Errors
    /// `what` failed or did not answer in time.
    pub async fn names(&self, what: &'static str, sql: &'static str) -> Result<Vec<String>, PgError> {
        let rows = self.rows(what, sql, &[]).await?;
        rows.iter().map(|row| self.get(what, row, 0)).collect()
    }
}
