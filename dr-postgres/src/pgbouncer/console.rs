//! What a console says of its process.

use std::collections::BTreeMap;

use dr_sql::{PgError, Session, TextRow};

use super::{Instance, refused};

/// What the console says of our database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerReading {
    /// Whether clients are held back.
    pub paused: bool,
    /// Whether new clients are refused.
    pub disabled: bool,
    /// Where it sends; empty for the unix socket of its own machine.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// Clients that wait for a server.
    pub waiting: u32,
    /// Servers in use: transactions that still run.
    pub active: u32,
    /// Server connections, used or not.
    pub servers: u32,
}

impl PoolerReading {
    /// Whether clients are held back and nothing runs any more. PgBouncer calls itself paused as soon as it was asked.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.paused && self.active == 0
    }

    /// Whether clients go on: nobody holds them back or turns them away, and those that wait do not all wait for a first server.
    #[must_use]
    pub const fn flows(&self) -> bool {
        !self.paused && !self.disabled && (self.waiting == 0 || self.active > 0)
    }

    /// What it does to clients, in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match (self.paused, self.disabled) {
            (true, true) => "paused and disabled: new clients are refused",
            (false, true) => "disabled: new clients are refused",
            (true, false) if self.active > 0 => "paused, and transactions still run",
            (true, false) => "paused",
            (false, false) if self.waiting > 0 && self.active == 0 => "running, and every client waits for a server",
            (false, false) => "running",
        }
    }
}

/// The columns of `SHOW DATABASES` that configuration decides, in all versions.
const CONFIGURED: [&str; 11] = [
    "host",
    "port",
    "database",
    "force_user",
    "pool_size",
    "min_pool_size",
    "reserve_pool",
    "reserve_pool_size",
    "pool_mode",
    "load_balance_hosts",
    "max_connections",
];

type Facts = BTreeMap<String, String>;

/// Everything that a rehearsal asks one console.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Major and minor version.
    pub(crate) version: (u32, u32),
    pub(crate) settings: Facts,
    /// What was configured for each database.
    pub(crate) databases: BTreeMap<String, Facts>,
    /// The user whose own pool mode is `session`.
    pub(super) session_user: Option<String>,
    /// Whether the whole process is paused or suspended.
    pub(crate) stands_still: bool,
    /// The ids of `[peers]`.
    pub(crate) peers: Vec<String>,
}

fn facts(row: &TextRow, columns: &[&str]) -> Facts {
    let told = |column: &&str| Some(((*column).to_owned(), row.get(column)?.to_owned()));
    columns.iter().filter_map(told).collect()
}

/// The first two numbers of `PgBouncer 1.18.0`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

impl Snapshot {
    pub(crate) async fn take(console: &Session) -> Result<Self, PgError> {
        let mut taken = Self::pooling(console).await?;
        let told = console.text_rows("tell its version", "SHOW VERSION").await?;
        taken.version = told.iter().find_map(|row| version(row.get("version")?)).unwrap_or_default();
        taken.stands_still = stands_still(console).await?;
        // Versions before 1.19 know no peers.
        if let Ok(peers) = console.text_rows("tell its peers", "SHOW PEERS").await {
            taken.peers = peers.iter().filter_map(|row| Some(row.get("peer_id")?.to_owned())).collect();
        }
        Ok(taken)
    }

    /// Only what tells how clients share servers.
    pub(super) async fn pooling(console: &Session) -> Result<Self, PgError> {
        let settings = settings(console).await?;
        let rows = console.text_rows("tell its databases", "SHOW DATABASES").await?;
        let named = rows.iter().filter_map(|row| Some((row.get("name")?.to_owned(), facts(row, &CONFIGURED))));
        let users = console.text_rows("tell its users", "SHOW USERS").await?;
        let by_user = users.iter().find(|row| row.get("pool_mode") == Some("session"));
        let session_user = by_user.map(|row| row.get("name").unwrap_or_default().to_owned());
        Ok(Self { settings, databases: named.collect(), session_user, ..Self::default() })
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether commands are taken from `user`: the account that PgBouncer runs under may give them through its socket as `pgbouncer`.
    pub(crate) fn is_admin(&self, user: &str) -> bool {
        let listed = || self.setting("admin_users").is_some_and(|all| all.split(',').any(|one| one.trim() == user));
        user == "pgbouncer" || self.setting("auth_type") == Some("any") || listed()
    }

    /// What pools `database` by session, if anything does.
    pub(crate) fn pooled_by_session(&self, database: &str) -> Option<String> {
        let own = self.databases.get(database).and_then(|facts| facts.get("pool_mode")).map(String::as_str);
        let general = self.setting("pool_mode").unwrap_or("session");
        match (own.unwrap_or(general), &self.session_user) {
            ("session", _) => Some(format!("database `{database}`")),
            (_, Some(user)) => Some(format!("user `{user}`")),
            (_, None) => None,
        }
    }

    /// What was configured otherwise before, one sentence for each difference.
    pub(crate) fn differences(&self, before: &Self) -> Vec<String> {
        let mut all = changed("setting", &before.settings, &self.settings);
        for (name, facts) in &before.databases {
            match self.databases.get(name) {
                Some(now) => all.extend(changed(&format!("database `{name}`:"), facts, now)),
                None => all.push(format!("database `{name}` is gone")),
            }
        }
        let new = self.databases.keys().filter(|name| !before.databases.contains_key(*name));
        all.extend(new.map(|name| format!("database `{name}` is new")));
        all
    }
}

fn changed(what: &str, before: &Facts, now: &Facts) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let unequal = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    let said = |value: Option<&String>| value.cloned().unwrap_or_else(|| "not set".into());
    unequal.map(|key| format!("{what} {key} was {}, is {}", said(before.get(key)), said(now.get(key)))).collect()
}

pub(super) async fn settings(console: &Session) -> Result<Facts, PgError> {
    let rows = console.text_rows("tell its settings", "SHOW CONFIG").await?;
    let told = |row: &TextRow| Some((row.get("key")?.to_owned(), row.get("value").unwrap_or_default().to_owned()));
    Ok(rows.iter().filter_map(told).collect())
}

/// Whether somebody said PAUSE or SUSPEND without a database. Before 1.19 only a command that does nothing tells: a process that
/// stands still refuses to pause anything, any other one refuses to pause its console.
async fn stands_still(console: &Session) -> Result<bool, PgError> {
    if let Ok(rows) = console.text_rows("tell its state", "SHOW STATE").await {
        return Ok(rows.iter().any(|row| row.get("key") == Some("active") && row.get("value") == Some("no")));
    }
    match console.run("refuse to pause its console", "PAUSE pgbouncer").await {
        Ok(()) => Ok(false),
        Err(e) if console.is_closed() => Err(e),
        Err(e) => Ok(e.chain().contains("already suspended/paused")),
    }
}

impl Instance {
    pub(super) async fn reading(&self, console: &Session, database: &str) -> Result<PoolerReading, PgError> {
        let rows = console.text_rows("tell its databases", "SHOW DATABASES").await?;
        let row = rows.iter().find(|row| row.get("name") == Some(database));
        let row = row.ok_or_else(|| refused(self, format!("it has no database `{database}`")))?;
        let pools = console.text_rows("tell its pools", "SHOW POOLS").await?;
        let count = |columns: &[&str]| -> u32 {
            let ours = pools.iter().filter(|pool| pool.get("database") == Some(database));
            ours.flat_map(|pool| columns.iter().filter_map(|column| pool.get(column)?.parse::<u32>().ok())).sum()
        };
        Ok(PoolerReading {
            paused: row.get("paused") == Some("1"),
            disabled: row.get("disabled") == Some("1"),
            host: row.get("host").unwrap_or_default().to_owned(),
            port: row.get("port").and_then(|port| port.parse().ok()).unwrap_or(0),
            waiting: count(&["cl_waiting"]),
            active: count(&["sv_active"]),
            servers: count(&["sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_first_two_numbers() {
        assert_eq!(version("PgBouncer 1.18.0"), Some((1, 18)));
        assert_eq!(version("PgBouncer"), None);
    }

    #[test]
    fn every_difference_is_named() {
        let facts = |pairs: &[(&str, &str)]| -> Facts {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let before = Snapshot {
            settings: facts(&[("default_pool_size", "20"), ("verbose", "0")]),
            databases: BTreeMap::from([("app".into(), facts(&[("host", "a")])), ("old".into(), facts(&[]))]),
            ..Snapshot::default()
        };
        assert!(before.differences(&before).is_empty());
        let after = Snapshot {
            settings: facts(&[("default_pool_size", "5"), ("verbose", "0")]),
            databases: BTreeMap::from([
                ("app".into(), facts(&[("host", "b"), ("pool_mode", "session")])),
                ("new".into(), facts(&[])),
            ]),
            ..Snapshot::default()
        };
        assert_eq!(
            after.differences(&before),
            [
                "setting default_pool_size was 20, is 5",
                "database `app`: host was a, is b",
                "database `app`: pool_mode was not set, is session",
                "database `old` is gone",
                "database `new` is new",
            ]
        );
        assert_eq!(after.pooled_by_session("app").as_deref(), Some("database `app`"));
    }
}
