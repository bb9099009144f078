//! From the start of a rejoined server to the only thing that counts: it has replayed what the primary wrote after that start.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dr_core::MemberId;
use dr_sql::{Identity, Lsn, PgError, Session};
use tokio::time::{Instant, sleep};

use super::settings::without_tokens;
use crate::{
    member::Member,
    server::{HostCommand, Postmaster},
};

/// How long nothing may move before it counts as stuck: no process, no session, no progress of replay.
const STALL: Duration = Duration::from_secs(20);
/// How long a process may take to show after `pg_ctl` has begun it.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What a look at a member that shall follow says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It has replayed the position and streams on the primary's timeline.
    Follows,
    /// Not yet; what is missing, and how far it has replayed.
    NotYet(String, Lsn),
    /// It left recovery, while the primary is one too.
    Writes(Identity),
}

impl Member {
    /// The first half of the postcondition: this server receives on the primary's current timeline, and the primary sends to it.
    pub(crate) async fn streams_from(&self, primary: &MemberId) -> Result<bool, PgError> {
        let Ok(own) = self.session().await else { return Ok(false) };
        let (_, upstream) = self.peer_session(primary).await?;
        let (mine, theirs) = (own.identity().await?, upstream.identity().await?);
        if !mine.in_recovery || theirs.in_recovery || mine.system_identifier != theirs.system_identifier {
            return Ok(false);
        }
        let receiver = own.receiver().await?;
        if !receiver.streaming || receiver.timeline != Some(theirs.timeline) {
            return Ok(false);
        }
        let rows = upstream.senders().await?;
        Ok(rows.iter().any(|row| row.streaming && (row.name == self.name.as_str() || row.slot == Some(self.slot()))))
    }

    /// Both halves: it streams, and it has replayed `marker`, which the primary wrote after the start.
    pub(super) async fn seen(&self, primary: &MemberId, marker: Lsn) -> Result<Seen, PgError> {
        let own = self.session().await?;
        let mine = own.identity().await?;
        if !mine.in_recovery {
            return Ok(Seen::Writes(mine));
        }
        let receiver = own.receiver().await?;
        if !self.streams_from(primary).await? {
            return Ok(Seen::NotYet(format!("does not stream from {primary}"), receiver.replayed));
        }
        if receiver.replayed >= marker && !receiver.paused {
            return Ok(Seen::Follows);
        }
        let paused = if receiver.paused { "replay is paused: " } else { "" };
        let what = format!(
            "{paused}it streams from {primary} and has replayed {}, not yet {marker}, which {primary} wrote after its start",
            receiver.replayed
        );
        Ok(Seen::NotYet(what, receiver.replayed))
    }

    /// Starts the server and waits until it follows; a slow one has all the time that it moves in.
    ///
    /// # Errors
    /// It ended, is stuck (the message carries the end of its log and what helps), or left recovery; then it was stopped.
    pub(super) async fn start_and_follow(&self, primary: &MemberId, upstream: &Session) -> Result<(), PgError> {
        let path = self.log_file().await;
        let log = LogMark { from: self.log_size(&path).await, path };
        self.server.start().await?;
        self.lets_in(&log).await?;
        let marker = write_marker(upstream).await?;
        let mut stuck = Stuck::new();
        loop {
            let what = match self.seen(primary, marker).await {
                Ok(Seen::Follows) => return Ok(()),
                Ok(Seen::Writes(who)) => return Err(self.stop_second_writer(primary, &who).await),
                Ok(Seen::NotYet(what, replayed)) => {
                    stuck.moved(replayed.bytes());
                    what
                }
                Err(e) if self.server.postmaster().await? == Postmaster::Stopped => {
                    return Err(self.failed(&format!("ended soon after its start ({})", e.chain()), &log).await);
                }
                Err(e) => e.chain(),
            };
            if stuck.is_over(STALL) {
                return Err(self.failed(&what, &log).await);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the server that was started accepts sessions.
    async fn lets_in(&self, log: &LogMark) -> Result<(), PgError> {
        // A unit is started without waiting for it.
        let shows = if self.server.site().unit.is_some() { STALL } else { SHOWS_WITHIN };
        let mut stuck = Stuck::new();
        loop {
            match self.server.postmaster().await? {
                Postmaster::Ready(_) => return Ok(()),
                Postmaster::Changing(_) => stuck.moved(1),
                Postmaster::Stopped if stuck.is_over(shows) => {
                    return Err(self.failed("ended at its start", log).await);
                }
                Postmaster::Stopped => {}
            }
            if stuck.is_over(STALL * 30) {
                return Err(self.failed("lets nobody in", log).await);
            }
            sleep(LOOK).await;
        }
    }

    /// Two servers take writes: the one that was started a moment ago is stopped, whatever made it leave recovery.
    async fn stop_second_writer(&self, primary: &MemberId, who: &Identity) -> PgError {
        let stopped = match self.stop_marked().await {
            Ok(()) => "it was stopped at once".to_owned(),
            Err(e) => format!("it could NOT be stopped ({})", e.chain()),
        };
        self.refused(format!(
            "it left recovery and takes writes on timeline {} beside {primary}, although it was started as a standby; {stopped}",
            who.timeline
        ))
    }

    /// Stops the server cleanly and leaves the sign that whoever starts it gets a standby. One that has written its last checkpoint and
    /// waits for its archive is not waited for.
    pub(super) async fn stop_marked(&self) -> Result<(), PgError> {
        let signal = self.server.data("standby.signal");
        if self.server.control().read(&signal).await?.is_none() {
            self.server
                .control()
                .write(&signal, b"left by the disaster-recovery toolkit: this server was fenced\n")
                .await?;
        }
        match self.server.stop_fast(super::LEAVES_WITHIN).await {
            Err(PgError::Late { .. }) => {}
            stopped => return stopped,
        }
        self.server.end_stopping(super::STOP_LIMIT).await?;
        // What was not stopping was left alone.
        self.server.await_stopped(super::POLL).await
    }

    async fn failed(&self, what: &str, log: &LogMark) -> PgError {
        // A collector begins a new file at a start.
        let now = self.log_file().await;
        let said = self.log_end(&now, if now == log.path { log.from } else { 0 }).await;
        let helps = said.as_deref().and_then(what_helps).map(|helps| format!("; {helps}")).unwrap_or_default();
        let said = said.unwrap_or_else(|| "no log of it was found; `log` in the member's table names it".into());
        self.refused(format!("{what}; its log: {said}{helps}"))
    }

    /// Where the server logs: the file that its own collector names, Debian's for its cluster, or the one of a start of ours.
    async fn log_file(&self) -> String {
        const FIRST: &str = r#"for f; do test -f "$f" && { printf '%s' "$f"; exit 0; }; done; exit 0"#;
        let site = self.server.site();
        let read = self.server.control().read(&self.server.data("current_logfiles")).await;
        let named = read.ok().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let collected = named.lines().find_map(|line| line.strip_prefix("stderr ")).map(|file| self.server.data(file));
        let started = Some(site.log.clone());
        let (first, second) =
            if site.unit.is_some() { (debian_log(site.config_file.as_deref()), started) } else { (started, None) };
        let candidates =
            [collected, first, second].into_iter().flatten().map(|path| path.to_string_lossy().into_owned());
        let argv = ["sh", "-c", FIRST, "sh"].map(String::from).into_iter().chain(candidates);
        let found = self.server.control().run(&HostCommand::new::<String>(argv)).await.unwrap_or_default();
        if found.is_empty() { site.log.to_string_lossy().into_owned() } else { found }
    }

    async fn log_size(&self, log: &str) -> u64 {
        let size = self.server.control().run(&HostCommand::new(["stat", "-c", "%s", "--", log])).await;
        size.ok().and_then(|size| size.trim().parse().ok()).unwrap_or(0)
    }

    /// What the log says since `from`: its last complaint, else its last lines.
    async fn log_end(&self, log: &str, from: u64) -> Option<String> {
        const END: &str = r#"s=$(stat -c %s -- "$1") || exit 1; test "$s" -ge "$2" || set -- "$1" 0; tail -c "+$(($2 + 1))" -- "$1" | tail -n 200"#;
        let from = from.to_string();
        let text = self.server.control().run(&HostCommand::new(["sh", "-c", END, "sh", log, &from])).await.ok()?;
        last_complaint(&without_tokens(&text))
    }
}

/// `/var/log/postgresql/postgresql-15-main.log` for `/etc/postgresql/15/main/postgresql.conf`.
fn debian_log(config: Option<&Path>) -> Option<PathBuf> {
    let mut parts =
        config?.strip_prefix("/etc/postgresql").ok()?.iter().map(|part| part.to_string_lossy().into_owned());
    let (version, cluster) = (parts.next()?, parts.next()?);
    Some(PathBuf::from(format!("/var/log/postgresql/postgresql-{version}-{cluster}.log")))
}

/// Where a log ended before a start.
struct LogMark {
    path: String,
    from: u64,
}

/// Since when nothing has moved.
struct Stuck {
    since: Instant,
    at: u64,
}

impl Stuck {
    fn new() -> Self {
        Self { since: Instant::now(), at: 0 }
    }

    fn moved(&mut self, to: u64) {
        if to != self.at {
            *self = Self { since: Instant::now(), at: to };
        }
    }

    fn is_over(&self, limit: Duration) -> bool {
        self.since.elapsed() > limit
    }
}

/// The last FATAL, PANIC, ERROR or WARNING with what follows it, else the last three lines.
fn last_complaint(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let complains = |line: &&str| ["FATAL:  ", "PANIC:  "].iter().any(|word| line.contains(word));
    let softer = |line: &&str| ["ERROR:  ", "WARNING:  "].iter().any(|word| line.contains(word));
    let at = lines.iter().rposition(complains).or_else(|| lines.iter().rposition(softer));
    let part = match at {
        Some(at) => lines.iter().skip(at).take(3),
        None => lines.iter().skip(lines.len().saturating_sub(3)).take(3),
    };
    let text = part.map(|line| line.trim()).collect::<Vec<_>>().join(" | ");
    (!text.is_empty()).then_some(text)
}

/// What helps against a complaint that is known.
fn what_helps(said: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 9] = [
        ("insufficient parameter settings", "raise on this server what the log names to at least the primary's value"),
        (
            "lower setting than on the primary",
            "raise on this server what the log names to at least the primary's value",
        ),
        (
            "no pg_hba.conf entry for replication",
            "let its replication role in: a `host replication …` line in the primary's pg_hba.conf",
        ),
        ("password authentication failed", "set `replication = { user, password }` in the member's table"),
        ("max_wal_senders", "raise max_wal_senders on the primary, or end a sender that nobody needs"),
        (
            "already been removed",
            "the primary has dropped log that it needs; rejoin it with discarding allowed, which copies it anew",
        ),
        ("recovery target", "a recovery target of a former life is set where no file of ours wins"),
        ("Address already in use", "another process listens on its port"),
        ("No space left on device", "free some space there"),
    ];
    KNOWN.iter().find(|(word, _)| said.contains(word)).map(|(_, helps)| *helps)
}

/// Writes a message into the log and answers where it ends: what follows this server passes there. It leaves no row and waits for no
/// standby.
///
/// # Errors
/// The server takes no writes, or does not answer in time.
pub(super) async fn write_marker(session: &Session) -> Result<Lsn, PgError> {
    const WHAT: &str = "write a marker into its log";
    const SQL: &str =
        "SET LOCAL synchronous_commit = local; SELECT pg_logical_emit_message(true, 'dr', 'rejoin')::text AS marker";
    let rows = session.text_rows(WHAT, SQL).await?;
    let text = rows.first().and_then(|row| row.get("marker")).unwrap_or_default();
    text.parse().map_err(|_| PgError::Unreadable { server: session.label().into(), what: WHAT, saw: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complaint_of_a_log_is_quoted_with_what_helps() {
        let log = "a LOG:  starting\nb FATAL:  first\nb LOG:  x\nc FATAL:  could not connect: no pg_hba.conf entry for replication \
                   connection\nc DETAIL:  d\n\nd LOG:  waiting";
        let said = last_complaint(log).unwrap();
        assert!(said.starts_with("c FATAL:") && said.ends_with("c DETAIL:  d | d LOG:  waiting"), "{said}");
        assert!(what_helps(&said).unwrap().contains("host replication"));
        assert_eq!(last_complaint("1\n2\n3\n4\n").unwrap(), "2 | 3 | 4");
        assert_eq!(last_complaint(" \n"), None);
    }

    #[test]
    fn a_log_of_debian_is_found_by_its_cluster() {
        let log = debian_log(Some(Path::new("/etc/postgresql/15/main/postgresql.conf"))).unwrap();
        assert_eq!(log, Path::new("/var/log/postgresql/postgresql-15-main.log"));
        assert_eq!(debian_log(Some(Path::new("/data/postgresql.conf"))), None);
    }

    #[test]
    fn what_moves_is_not_stuck() {
        let mut stuck = Stuck::new();
        stuck.since = stuck.since.checked_sub(Duration::from_secs(21)).unwrap();
        assert!(stuck.is_over(STALL));
        stuck.moved(0);
        assert!(stuck.is_over(STALL), "that is where it was");
        stuck.moved(1);
        assert!(!stuck.is_over(STALL));
    }
}
