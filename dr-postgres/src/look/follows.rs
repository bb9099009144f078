//! Whom a standby follows, in its own words.

use crate::{client::Session, conninfo::ConnInfo, error::PgError, names::Place};

/// What a server says about whom it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follows {
    /// Where its receiver is connected to; none without a running receiver.
    pub(crate) connected: Option<Place>,
    /// Where its configuration sends it. Empty without `primary_conninfo`.
    pub(crate) configured: Vec<Place>,
    /// The slot that it uses, or would use.
    pub(crate) slot: Option<String>,
    /// The name under which it appears at its primary.
    pub(crate) name: String,
    /// Whether it fetches log from an archive.
    pub(crate) archive: bool,
}

const FOLLOWS: &str = "\
SELECT coalesce(current_setting('primary_conninfo', true), ''), coalesce(current_setting('restore_command', true), ''),
       coalesce(current_setting('primary_slot_name', true), ''), coalesce(current_setting('cluster_name', true), ''),
       r.sender_host, r.sender_port, r.slot_name
FROM (SELECT 1) one LEFT JOIN pg_stat_wal_receiver r ON true";

impl Session {
    /// Whom the server follows, as its receiver and its configuration say.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn follows(&self) -> Result<Follows, PgError> {
        const WHAT: &str = "tell whom it follows";
        let row = self.row(WHAT, FOLLOWS, &[]).await?;
        let text = |column| self.get::<Option<String>>(WHAT, &row, column).map(|text| text.filter(|t| !t.is_empty()));
        let info = text(0)?.and_then(|text| ConnInfo::parse(&text).ok()).unwrap_or_default();
        let port: Option<i32> = self.get(WHAT, &row, 5)?;
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        // A receiver without a server name of its own appears under its cluster's name.
        let own = info.get("application_name").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Follows {
            connected: text(4)?.map(|host| Place::new(host, port)),
            configured: Place::all(&info),
            slot: text(6)?.or(text(2)?),
            name: own.or(text(3)?).unwrap_or_else(|| "walreceiver".into()),
            archive: text(1)?.is_some(),
        })
    }
}
