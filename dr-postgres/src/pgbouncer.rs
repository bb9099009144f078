//! PgBouncer's admin console: PAUSE holds every client back without an error, RESUME lets them go on at the new server.
//!
//! Several instances are one pooler for us: all are paused or none is. The console speaks only the simple protocol.
//!
//! ```text
//!   Instance ── console   what the process says and does          console.rs
//!            └─ control   the files that it reads                 files.rs, by the grammar of ini.rs
//!   rehearse.rs           compares both before anything is held back; reach.rs looks at what lies around
//! ```

mod console;
mod files;
pub mod ini;
mod place;
mod reach;
mod rehearse;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dr_sql::{Link, PgError, Session, Target, identifier};
use futures_util::future::join_all;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

pub use console::PoolerReading;
pub(crate) use place::{addresses, is_same};
pub(crate) use rehearse::{Course, Stop};

use crate::server::{POLL, ServerControl};

/// One PgBouncer process: its console and the file that names the server of our database.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The console: host (or socket directory), port, an admin user; the database is `pgbouncer`.
    pub console: Arc<Link>,
    /// The file that holds the `[databases]` entry which counts: `pgbouncer.ini` itself or one that it includes.
    pub file: PathBuf,
    /// The way to the process's host.
    pub control: Arc<dyn ServerControl>,
    /// Whether this program paused it, and has not resumed it since.
    paused_by_us: Arc<AtomicBool>,
    /// Held while the process is told to let clients go on, or to turn them away: one is over before the other looks.
    turn: Arc<Mutex<()>>,
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
        let console = Arc::new(Link::plain(console.with_database("pgbouncer")));
        Self { console, file, control, paused_by_us: Arc::default(), turn: Arc::default() }
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

    /// What the process says of `database`.
    ///
    /// # Errors
    /// It cannot be asked, or has no such database.
    pub async fn read(&self, database: &str) -> Result<PoolerReading, PgError> {
        self.reading(self.console().await?.as_ref(), database).await
    }

    /// Session pooling gives a server away until the client leaves: a pause would wait for ever, so it is refused before.
    async fn refuse_session_pooling(&self, console: &Session, database: &str) -> Result<(), PgError> {
        let pooling = console::Snapshot::pooling(console).await?;
        pooling.pooled_by_session(database).map_or(Ok(()), |what| {
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
            self.paused_by_us.store(true, Ordering::Relaxed);
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

    /// Lets new clients in, then lets all go on. A process that does neither hold nor refuse is left alone.
    ///
    /// # Errors
    /// It cannot be asked, or refuses.
    pub async fn resume(&self, database: &str) -> Result<(), PgError> {
        let _turn = self.turn.lock().await;
        let console = self.console().await?;
        let reading = self.reading(&console, database).await?;
        if reading.disabled {
            console.run("let new clients in", &format!("ENABLE {}", identifier(database))).await?;
        }
        if reading.paused {
            let said = console.run("let its clients go on", &format!("RESUME {}", identifier(database))).await;
            // Somebody else may have said it in between: PgBouncer refuses to resume what runs.
            if let Err(e) = said
                && self.reading(&console, database).await?.paused
            {
                return Err(e);
            }
        }
        self.paused_by_us.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the waiting clients of a process that holds them back, and refuses new ones. One that lets clients go on already is left
    /// alone: PgBouncer itself tells them when their server does not take them.
    async fn kill(&self, database: &str) -> Result<(), PgError> {
        let _turn = self.turn.lock().await;
        let console = self.console().await?;
        if !self.reading(&console, database).await?.paused {
            return Ok(());
        }
        console.run("refuse new clients", &format!("DISABLE {}", identifier(database))).await?;
        console.run("end its client connections", &format!("KILL {}", identifier(database))).await
    }

    /// Changes host and port of the entry in the file, whether or not the process answers: one that is started again reads it.
    async fn write_entry(&self, database: &str, host: &str, port: u16) -> Result<(), PgError> {
        let missing = || refused(self, format!("{} does not exist", self.file.display()));
        let now = self.control.read(&self.file).await?.ok_or_else(missing)?;
        let wanted = ini::aimed(&now, database, host, port);
        let wanted = wanted.map_err(|e| refused(self, format!("{}: {e}", self.file.display())))?;
        if wanted != now {
            self.control.write(&self.file, &wanted).await?;
        }
        Ok(())
    }

    async fn point_at(&self, database: &str, host: &str, port: u16) -> Result<(), PgError> {
        self.write_entry(database, host, port).await?;
        let console = self.console().await?;
        console.run("read its files again", "RELOAD").await?;
        let begun = Instant::now();
        loop {
            let reading = self.reading(&console, database).await?;
            if reading.host == host && reading.port == port {
                return Ok(());
            }
            if begun.elapsed() > self.console.target().answer_within {
                let why = format!(
                    "it still sends `{database}` to {}:{} after RELOAD; does its configuration contain `%include {}`, and nothing \
                     after it that names `{database}`? Its log tells why it kept what it had",
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
    /// What every instance says, in their order; one that cannot be asked does not hide the others.
    pub async fn each_reading(&self) -> Vec<Result<PoolerReading, PgError>> {
        join_all(self.instances.iter().map(|instance| instance.read(&self.database))).await
    }

    /// What every instance says, in their order.
    ///
    /// # Errors
    /// One cannot be asked.
    pub async fn readings(&self) -> Result<Vec<PoolerReading>, PgError> {
        self.each_reading().await.into_iter().collect()
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
            let settings = console::settings(&console).await?;
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
    /// [`PgError::Refused`]: which instances did not, and why; the clients run again. [`PgError::Late`]: not all of them run again.
    pub async fn pause(&self, within: Duration) -> Result<(), PgError> {
        self.check().await?;
        let all = self.instances.iter().map(|instance| instance.pause(&self.database, within));
        let failures: Vec<PgError> = join_all(all).await.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() {
            return Ok(());
        }
        let mut why = failures.iter().map(PgError::chain).collect::<Vec<_>>().join("; ");
        // What others had paused before is not ours to give back.
        let ours = |instance: &&Instance| instance.paused_by_us.load(Ordering::Relaxed);
        let given_back = self.instances.iter().filter(ours).map(|instance| instance.resume(&self.database));
        let failures: Vec<PgError> = join_all(given_back).await.into_iter().filter_map(Result::err).collect();
        let server = format!("pgbouncer `{}`", self.database);
        if failures.is_empty() {
            why.push_str("; all instances run again, but for any that somebody else had paused before");
            return Err(PgError::Refused { server, why });
        }
        let chains: Vec<String> = failures.iter().map(PgError::chain).collect();
        let what = format!("hold all clients back ({why}), nor let all of them go on again ({})", chains.join("; "));
        Err(PgError::Late { server, what, after: within })
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

    /// Ends the clients of every instance that holds them back, and refuses new ones there: clients get an error instead of a wait
    /// without end. [`PgBouncer::resume`] takes it back. An instance that was resumed already is left alone.
    ///
    /// # Errors
    /// Which instances do not.
    pub async fn kill(&self) -> Result<(), PgError> {
        self.each(|instance| instance.kill(&self.database)).await
    }

    pub(crate) async fn each<'i, F: Future<Output = Result<(), PgError>>>(
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
