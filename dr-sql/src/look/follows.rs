//! Whom a standby follows, in its own words.

use tokio_postgres::{Config, config::Host};

use crate::{client::Session, conninfo::ConnInfo, error::PgError, names::Place};

/// What a server says about whom it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follows {
    /// Where its receiver is connected to; none without a running receiver.
    pub connected: Option<Place>,
    /// Where its configuration sends it. Empty without `primary_conninfo`.
    pub configured: Vec<Place>,
    /// The slot that it uses, or would use.
    pub slot: Option<String>,
    /// The name under which it appears at its primary.
    pub name: String,
    /// Whether it fetches log from an archive.
    pub archive: bool,
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
    pub async fn follows(&self) -> Result<Follows, PgError> {
        const WHAT: &str = "tell whom it follows";
        let row = self.row(WHAT, FOLLOWS, &[]).await?;
        let text = |column| self.get::<Option<String>>(WHAT, &row, column).map(|text| text.filter(|t| !t.is_empty()));
        let info = text(0)?.map(|text| conninfo(&text)).unwrap_or_default();
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

/// A connection string in either form; what is not understood names nothing.
fn conninfo(text: &str) -> ConnInfo {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return ConnInfo::parse(text).unwrap_or_default();
    }
    // Parameters that the driver does not know are no reason not to know the hosts.
    let short = text.split_once('?').map_or(text, |(short, _)| short);
    let Ok(config) = text.parse::<Config>().or_else(|_| short.parse::<Config>()) else { return ConnInfo::default() };
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    let addresses: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    let parts = [("host", hosts.join(",")), ("hostaddr", addresses.join(",")), ("port", ports.join(","))];
    let name = config.get_application_name().unwrap_or_default().to_owned();
    let all = parts.into_iter().chain([("application_name", name)]).filter(|(_, value)| !value.is_empty());
    all.fold(ConnInfo::default(), |info, (key, value)| info.with(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_connection_string_name_their_places() {
        let uri = "postgresql://replicator:secret@db1:5433,[::1]:5434/postgres?application_name=pg2";
        let info = conninfo(uri);
        assert_eq!(Place::all(&info), [Place::new("db1", 5433), Place::new("::1", 5434)]);
        assert_eq!((info.get("application_name"), info.get("password")), (Some("pg2"), None));
        let odd = conninfo("postgres://replicator@db1/postgres?gssencmode=disable");
        assert_eq!(Place::all(&odd), [Place::new("db1", 5432)]);
        assert_eq!(Place::all(&conninfo("host=db1 port=5433")), [Place::new("db1", 5433)]);
        assert!(Place::all(&conninfo("postgres://[")).is_empty());
    }
}
