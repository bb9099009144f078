//! PgBouncer's admin console: PAUSE holds every client back without an error, RESUME lets them go on at the new server.
//!
//! Several instances are one pooler for us: all are paused or none is. The console speaks only the simple protocol.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    act::identifier,
    client::{Link, Session},
    error::PgError,
    server::{POLL, ServerControl},
    target::Target,
};

/// One PgBouncer process: its console and the included file that names the server of our database.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The console: host, port, an admin user; the database is `pgbouncer`.
    pub console: Arc<Link>,
    /// The file, included by `pgbouncer.ini` with `%include`, that holds our `[databases]` entry and nothing else.
    pub file: PathBuf,
    /// The way to the process's host.
    pub control: Arc<dyn ServerControl>,
}

/// What the console says of our database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerReading {
    /// Whether clients are held back.
    pub paused: bool,
    /// Whether new clients are refused.
    pub disabled: bool,
    /// Where it sends.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// Clients that wait for a server.
    pub waiting: u32,
    /// Servers in use: transactions that still run.
    pub active: u32,
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
}

/// All the instances in front of one database.
#[derive(Clone, Debug)]
pub struct PgBouncer {
    /// The database, as clients name it.
    pub database: String,
    /// The processes.
    pub instances: Vec<Instance>,
}

/// Why the pooler cannot hold clients back, in words that name the instance.
fn refused(instance: &Instance, why: impl Into<String>) -> PgError {
    PgError::Refused { server: instance.label(), why: why.into() }
}

impl Instance {
    /// The console at `console`; its database is always `pgbouncer`.
    #[must_use]
    pub fn new(console: Target, file: PathBuf, control: Arc<dyn ServerControl>) -> Self {
        Self { console: Arc::new(Link::to_console(console.with_database("pgbouncer"))), file, control }
    }

    /// Host and port of the console, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        self.console.target().label()
    }

    /// The command that opens the console by hand.
    pub(crate) fn console_command(&self) -> String {
        let target = self.console.target();
        format!("psql -h {} -p {} -U {} pgbouncer", target.host, target.port, target.user)
    }

    async fn console(&self) -> Result<Arc<Session>, PgError> {
        self.console.session().await
    }

    async fn reading(&self, console: &Session, database: &str) -> Result<PoolerReading, PgError> {
        let rows = console.text_rows("tell its databases", "SHOW DATABASES").await?;
        let row = rows.iter().find(|row| row.get("name") == Some(database));
        let row = row.ok_or_else(|| refused(self, format!("it has no database `{database}`")))?;
        let pools = console.text_rows("tell its pools", "SHOW POOLS").await?;
        let count = |column: &str| {
            let ours = pools.iter().filter(|pool| pool.get("database") == Some(database));
            ours.filter_map(|pool| pool.get(column)?.parse::<u32>().ok()).sum()
        };
        Ok(PoolerReading {
            paused: row.get("paused") == Some("1"),
            disabled: row.get("disabled") == Some("1"),
            host: row.get("host").unwrap_or_default().to_owned(),
            port: row.get("port").and_then(|port| port.parse().ok()).unwrap_or(0),
            waiting: count("cl_waiting"),
            active: count("sv_active"),
        })
    }

    async fn settings(&self, console: &Session) -> Result<BTreeMap<String, String>, PgError> {
        let rows = console.text_rows("tell its settings", "SHOW CONFIG").await?;
        Ok(rows.iter().filter_map(|row| Some((row.get("key")?.to_owned(), row.get("value")?.to_owned()))).collect())
    }

    /// Session pooling gives a server away until the client leaves: a pause would wait for ever, so it is refused before.
    async fn refuse_session_pooling(&self, console: &Session, database: &str) -> Result<(), PgError> {
        let settings = self.settings(console).await?;
        let rows = console.text_rows("tell its databases", "SHOW DATABASES").await?;
        let own = rows.iter().find(|row| row.get("name") == Some(database)).and_then(|row| row.get("pool_mode"));
        let general = settings.get("pool_mode").map_or("session", String::as_str);
        let users = console.text_rows("tell its users", "SHOW USERS").await?;
        let by_user = users.iter().find(|row| row.get("pool_mode") == Some("session"));
        let culprit = match (own.unwrap_or(general), by_user) {
            ("session", _) => Some(format!("database `{database}`")),
            (_, Some(user)) => Some(format!("user `{}`", user.get("name").unwrap_or_default())),
            (_, None) => None,
        };
        culprit.map_or(Ok(()), |what| {
            let why = format!(
                "{what} is pooled by session: PAUSE would wait until every client disconnects; \
                 set pool_mode = transaction, or run the switchover with direct connections"
            );
            Err(refused(self, why))
        })
    }

    async fn pause(&self, database: &str, within: Duration) -> Result<(), PgError> {
        let console = self.console().await?;
        if !self.reading(&console, database).await?.paused {
            let what = "hold its clients back (a transaction is still running)";
            return console.run_within(what, &format!("PAUSE {}", identifier(database)), within).await;
        }
        let begun = Instant::now();
        while !self.reading(&console, database).await?.is_held() {
            if begun.elapsed() > within {
                let what = "hold its clients back (a transaction is still running)".into();
                return Err(PgError::Late { server: self.label(), what, after: within });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn resume(&self, database: &str) -> Result<(), PgError> {
        let console = self.console().await?;
        let reading = self.reading(&console, database).await?;
        if reading.disabled {
            console.run("let new clients in", &format!("ENABLE {}", identifier(database))).await?;
        }
        if !reading.paused {
            return Ok(());
        }
        console.run("let its clients go on", &format!("RESUME {}", identifier(database))).await
    }

    async fn point_at(&self, database: &str, host: &str, port: u16) -> Result<(), PgError> {
        let console = self.console().await?;
        let now = self.control.read(&self.file).await?.unwrap_or_default();
        let wanted = entry(&String::from_utf8_lossy(&now), database, host, port);
        if wanted.as_bytes() != now {
            self.control.write(&self.file, wanted.as_bytes()).await?;
        }
        console.run("read its files again", "RELOAD").await?;
        let begun = Instant::now();
        loop {
            let reading = self.reading(&console, database).await?;
            if reading.host == host && reading.port == port {
                return Ok(());
            }
            if begun.elapsed() > self.console.target().answer_within {
                let why = format!(
                    "it still sends `{database}` to {}:{} after RELOAD; does its configuration contain `%include {}`?",
                    reading.host,
                    reading.port,
                    self.file.display()
                );
                return Err(refused(self, why));
            }
            sleep(POLL).await;
        }
    }
}

impl PgBouncer {
    /// What every instance says, in their order.
    ///
    /// # Errors
    /// One cannot be asked.
    pub async fn readings(&self) -> Result<Vec<PoolerReading>, PgError> {
        let each = self.instances.iter().map(|instance| async move {
            let console = instance.console().await?;
            instance.reading(&console, &self.database).await
        });
        join_all(each).await.into_iter().collect()
    }

    /// Whether every instance can be paused at all; the reason names the one that cannot.
    ///
    /// # Errors
    /// Session pooling, an unknown database, or no answer.
    pub async fn check(&self) -> Result<(), PgError> {
        for instance in &self.instances {
            let console = instance.console().await?;
            instance.reading(&console, &self.database).await?;
            instance.refuse_session_pooling(&console, &self.database).await?;
        }
        Ok(())
    }

    /// After how long a waiting client is turned away: the smallest `query_wait_timeout`; none if nobody sets one.
    ///
    /// # Errors
    /// One cannot be asked.
    pub async fn query_wait_timeout(&self) -> Result<Option<Duration>, PgError> {
        let mut least = None;
        for instance in &self.instances {
            let console = instance.console().await?;
            let settings = instance.settings(&console).await?;
            let seconds = settings.get("query_wait_timeout").and_then(|text| text.parse::<f64>().ok());
            let limit = seconds.filter(|s| *s > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
            least = match (least, limit) {
                (Some(a), Some(b)) => Some(std::cmp::min::<Duration>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(least)
    }

    /// Holds the clients of every instance back. All or none: if one does not manage within the time, all go on again.
    ///
    /// # Errors
    /// Which instances did not, and why. The clients run again then; if that fails too, the message says so.
    pub async fn pause(&self, within: Duration) -> Result<(), PgError> {
        self.check().await?;
        let all = self.instances.iter().map(|instance| instance.pause(&self.database, within));
        let failures: Vec<PgError> = join_all(all).await.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            return Ok(());
        }
        let mut why = failures.iter().map(PgError::chain).collect::<Vec<_>>().join("; ");
        match self.resume().await {
            Ok(()) => why.push_str("; all instances run again"),
            Err(e) => {
                let _infallible = write!(why, "; and not all of them run again: {}", e.chain());
            }
        }
        Err(PgError::Refused { server: format!("pgbouncer `{}`", self.database), why })
    }

    /// Lets the clients of every instance go on. Every instance is tried; one that runs already is fine.
    ///
    /// # Errors
    /// Which instances did not.
    pub async fn resume(&self) -> Result<(), PgError> {
        self.each(|instance| instance.resume(&self.database)).await
    }

    /// Sends every instance's database to `host:port`, and reads it back.
    ///
    /// # Errors
    /// Which instances do not.
    pub async fn point_at(&self, host: &str, port: u16) -> Result<(), PgError> {
        self.each(|instance| instance.point_at(&self.database, host, port)).await
    }

    /// Host and port of every server connection that the instances hold for the database.
    ///
    /// # Errors
    /// One cannot be asked.
    pub async fn servers(&self) -> Result<Vec<(String, u16)>, PgError> {
        let mut all = Vec::new();
        for instance in &self.instances {
            let console = instance.console().await?;
            for row in console.text_rows("tell its servers", "SHOW SERVERS").await? {
                if row.get("database") == Some(&self.database) {
                    let port = row.get("port").and_then(|port| port.parse().ok()).unwrap_or(0);
                    all.push((row.get("addr").unwrap_or_default().to_owned(), port));
                }
            }
        }
        Ok(all)
    }

    /// Ends all client and server connections at once and refuses new ones: clients get an error instead of a wait without end.
    /// [`PgBouncer::resume`] takes it back.
    ///
    /// # Errors
    /// Which instances do not.
    pub async fn kill(&self) -> Result<(), PgError> {
        let kill = format!("KILL {}", identifier(&self.database));
        let disable = format!("DISABLE {}", identifier(&self.database));
        self.each(|instance| {
            let (kill, disable) = (&kill, &disable);
            async move {
                let console = instance.console().await?;
                console.run("refuse new clients", disable).await?;
                console.run("end its client connections", kill).await
            }
        })
        .await
    }

    async fn each<'i, F: Future<Output = Result<(), PgError>>>(
        &'i self,
        act: impl Fn(&'i Instance) -> F,
    ) -> Result<(), PgError> {
        let failures: Vec<PgError> =
            join_all(self.instances.iter().map(act)).await.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            return Ok(());
        }
        let why = failures.iter().map(PgError::chain).collect::<Vec<_>>().join("; ");
        Err(PgError::Refused { server: format!("pgbouncer `{}`", self.database), why })
    }
}

/// Our file with another host and port. Everything else that the entry says (pool size, user, `dbname`) stays.
fn entry(file: &str, database: &str, host: &str, port: u16) -> String {
    let kept = file.lines().find_map(|line| {
        let (name, rest) = line.split_once('=')?;
        (name.trim() == database).then(|| rest.trim().to_owned())
    });
    let kept = kept.unwrap_or_default();
    let others = kept.split_whitespace().filter(|word| !word.starts_with("host=") && !word.starts_with("port="));
    let mut line = format!("{database} = host={host} port={port}");
    for word in others {
        line.push(' ');
        line.push_str(word);
    }
    format!("; Written by the disaster-recovery toolkit: which server `{database}` is sent to.\n[databases]\n{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_everything_but_host_and_port() {
        let before = "[databases]\nbilling = host=10.1.0.11 port=5432 dbname=billing pool_size=20\n";
        let after = entry(before, "billing", "10.2.0.11", 5433);
        assert!(after.ends_with("[databases]\nbilling = host=10.2.0.11 port=5433 dbname=billing pool_size=20\n"));
        assert_eq!(entry(&after, "billing", "10.2.0.11", 5433), after);
    }

    #[test]
    fn a_missing_entry_is_made() {
        assert!(entry("", "billing", "h", 1).ends_with("[databases]\nbilling = host=h port=1\n"));
    }
}
