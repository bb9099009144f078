//! The settings of a server.

use tokio_postgres::types::Type;

use crate::{client::Session, error::PgError};

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
}
