//! The proof that what answers SQL is what the directory, the process and the control file speak of.
//!
//! ```text
//!   SQL    backend id, port, data_directory, system identifier ─┐
//!   host   directory, postmaster.pid, process, its directory    ├─► one server, or words
//!          and its children, control file, unit                ─┘
//!   both   a file of random name and contents, written into the directory through the host and read through SQL
//! ```
//!
//! Numbers coincide for copies, restored snapshots and other pid namespaces; the file does not. A session that lives belongs to the same
//! server process for as long as it lives, so its proof is kept with it and costs nothing inside a write gap.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use dr_sql::{PgError, Session};
use rustls::crypto::ring;
use tokio::time::timeout;
use tokio_postgres::{error::SqlState, types::Type};

use crate::{
    member::Member,
    server::{Census, FileId, HostCommand, Process, Server, Site},
};

/// The process and the directory of the server that a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The server process.
    pub process: Process,
    /// Its data directory.
    pub directory: FileId,
    /// What it was proved by.
    pub by: Evidence,
}

/// What a place was proved by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A file that was written through the host and read through SQL, besides all numbers.
    File,
    /// Only the numbers: process, its children, directory, port, system identifier. The reason is why no file was exchanged.
    Numbers(String),
}

/// What a server says of itself.
#[derive(Clone, Debug)]
struct Said {
    /// Where it was asked.
    at: String,
    backend: i32,
    port: u16,
    system: u64,
    /// None without the right to see it.
    data: Option<String>,
}

/// How long a description waits for a proof; whoever is about to act waits for its end.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a host that could not be asked is left alone by descriptions.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The place of one session, once it is proved. Locked while somebody proves it.
type Slot = Arc<tokio::sync::Mutex<Option<Place>>>;

/// The proof of the place of a member's session. Another session begins without one.
#[derive(Debug, Default)]
pub(crate) struct Proof(Mutex<(Weak<Session>, Slot)>);

impl Proof {
    fn of(&self, session: &Arc<Session>) -> Slot {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(session)) {
            *known = (Arc::downgrade(session), Slot::default());
        }
        Arc::clone(&known.1)
    }
}

impl Member {
    /// The control session that is open already and was proved, if it still is.
    pub(crate) fn proved_session(&self) -> Option<Arc<Session>> {
        let session = self.link.live()?;
        let proved = self.proof.of(&session).try_lock().is_ok_and(|slot| slot.is_some());
        proved.then_some(session)
    }

    /// The control session and the proof that its server is the one of the configured directory.
    ///
    /// # Errors
    /// [`PgError::Refused`] with the contradiction, if it is another server; any other error if nobody can say.
    pub(crate) async fn place(&self) -> Result<(Arc<Session>, Place), PgError> {
        let session = self.session().await?;
        let slot = self.proof.of(&session);
        let known = slot.try_lock().ok().and_then(|slot| slot.clone());
        if let Some(place) = known {
            return Ok((session, place));
        }
        // A task of its own: whoever loses patience does not leave a file behind.
        let proof = tokio::spawn(proved(self.server.clone(), Arc::clone(&session), slot));
        let late =
            |_| PgError::Late { server: self.name.to_string(), what: "finish its proof".into(), after: PATIENCE };
        Ok((session, proof.await.map_err(late)??))
    }

    /// The control session, unless it is known to belong to another server than the configured one. A host that cannot be asked says
    /// nothing about that.
    ///
    /// # Errors
    /// No session, or [`PgError::Refused`] with the contradiction.
    pub(crate) async fn own_session(&self) -> Result<Arc<Session>, PgError> {
        let session = self.session().await?;
        let silent_since = *self.host_silent.lock().await;
        if silent_since.is_some_and(|since: Instant| since.elapsed() < LEFT_ALONE) {
            return Ok(session);
        }
        let told = timeout(PATIENCE, self.place()).await;
        let silent = match told {
            Ok(Ok(_)) => None,
            Ok(Err(e @ PgError::Refused { .. })) => return Err(e),
            Ok(Err(_)) | Err(_) => Some(Instant::now()),
        };
        *self.host_silent.lock().await = silent;
        Ok(session)
    }
}

async fn proved(server: Server, session: Arc<Session>, slot: Slot) -> Result<Place, PgError> {
    let mut slot = slot.lock().await;
    if let Some(place) = slot.as_ref() {
        return Ok(place.clone());
    }
    let place = prove(&server, &session).await?;
    *slot = Some(place.clone());
    Ok(place)
}

async fn prove(server: &Server, session: &Session) -> Result<Place, PgError> {
    let refuse = |why: String| PgError::Refused { server: server.site().name.clone(), why };
    let said = said(session).await?;
    let census = server.census(Some(said.backend), said.data.as_deref()).await?;
    let (process, directory) = match (contradiction(server.site(), &said, &census), census.server(), census.directory) {
        (Some(why), _, _) => return Err(refuse(why)),
        (None, Some(process), Some(directory)) => (process, directory),
        (None, _, _) => return Err(refuse(format!("no server process works on {}", server.site().data.display()))),
    };
    let data = server.control_data().await?;
    if data.system_identifier != said.system {
        let (is, says) = (data.system_identifier, said.system);
        let place = server.site().data.display();
        return Err(refuse(format!("{place} belongs to system {is}, the server at {} to system {says}", said.at)));
    }
    let by = exchange_file(server, session, &said).await?;
    if let Some(unit) = &server.site().unit {
        let runs = server.unit_process().await?.unwrap_or(0);
        if runs != process.pid {
            let pid = process.pid;
            return Err(refuse(format!(
                "unit {} runs process {runs}, and the server is process {pid}: masking the unit would not keep this server from \
                 coming back; name its own unit in `unit`, or start it through {}",
                unit.name, unit.name
            )));
        }
    }
    Ok(Place { process, directory, by })
}

async fn said(session: &Session) -> Result<Said, PgError> {
    const WHAT: &str = "tell which process and directory it is";
    const SQL: &str = "\
SELECT pg_backend_pid(), current_setting('port')::int, (SELECT system_identifier FROM pg_control_system())::text,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory')";
    let row = session.row(WHAT, SQL, &[]).await?;
    let (port, system): (i32, String) = (session.get(WHAT, &row, 1)?, session.get(WHAT, &row, 2)?);
    let unreadable = || PgError::Unreadable { server: session.label().into(), what: WHAT, saw: system.clone() };
    Ok(Said {
        at: session.label().into(),
        backend: session.get(WHAT, &row, 0)?,
        port: u16::try_from(port).map_err(|_| unreadable())?,
        system: system.parse().map_err(|_| unreadable())?,
        data: session.get(WHAT, &row, 3)?,
    })
}

/// Why the server that answers is not the one of the configured directory, if the host's look shows it.
fn contradiction(site: &Site, said: &Said, seen: &Census) -> Option<String> {
    const WHY: &str = "a fence would stop, mark and trust the files of another server";
    let (at, data) = (&said.at, site.data.display());
    let elsewhere = said.data.as_ref().filter(|_| seen.named.is_some() && seen.named != seen.directory);
    if let Some(named) = elsewhere {
        return Some(format!("the server at {at} runs from {named}, the group file says `data = \"{data}\"`: {WHY}"));
    }
    if seen.directory.is_none() {
        return Some(format!("a server answers at {at}, and its configured directory {data} does not exist: {WHY}"));
    }
    let Some(process) = seen.server() else {
        return Some(match (seen.recorded, seen.process) {
            (Some(pid), Some(_)) => format!(
                "a server answers at {at}, and process {pid} of {data}/postmaster.pid works on another directory: {WHY}"
            ),
            (Some(pid), None) => format!(
                "a server answers at {at}, and its host has no process {pid}, which {data}/postmaster.pid names; it is a copy, or the \
                 server runs in a container whose processes `run` does not reach: {WHY}"
            ),
            (None, _) => format!("a server answers at {at}, and no server process works on {data}: {WHY}"),
        });
    };
    if seen.port.is_some_and(|port| port != said.port) {
        let port = seen.port.unwrap_or_default();
        return Some(format!("the server at {at} says port {}, {data}/postmaster.pid says {port}: {WHY}", said.port));
    }
    match seen.parent {
        Some(parent) if parent == process.pid => None,
        Some(parent) => Some(format!(
            "process {} serves our session at {at} as a child of process {parent}, and the server on {data} is process {}: {WHY}",
            said.backend, process.pid
        )),
        None => Some(format!(
            "process {} serves our session at {at}, and the host of {data} has no such process: {at} leads to another host or into a \
             container: {WHY}",
            said.backend
        )),
    }
}

/// Begins with the prefix of PostgreSQL's own temporary files: base backups and rewinds leave such files out.
const PREFIX: &str = "pgsql_tmp.dr-";
/// The directory whose names a role may list that may not read files; a start of the server empties it.
const LISTED: &str = "base/pgsql_tmp";

/// Makes that directory as the server would, whoever we are on its host: it has to be the server's own.
const MAKE: &str = r#"test -d "$1" || { mkdir -m 700 -- "$1" && { chown --reference="${1%/*}" -- "$1" || { rmdir -- "$1"; false; }; }; }"#;

/// Writes a file through the host and reads it through SQL.
async fn exchange_file(server: &Server, session: &Session, said: &Said) -> Result<Evidence, PgError> {
    const WHAT: &str = "read a file of its data directory";
    const READ: &str = "SELECT pg_read_file($1, 0, 100, true)";
    let (name, contents) = (format!("{PREFIX}{}", random()?), random()?);
    let path = server.data(&name);
    if let Err(e) = server.control().write(&path, contents.as_bytes()).await {
        return Ok(Evidence::Numbers(format!(
            "no file can be written into {}: {}",
            server.site().data.display(),
            e.chain()
        )));
    }
    let row = session.row(WHAT, READ, &[(&name, Type::TEXT)]).await;
    let removed = server.control().remove(&path).await;
    let read: Option<String> = match row {
        Ok(row) => session.get(WHAT, &row, 0)?,
        Err(e) if is_forbidden(&e) => return list_file(server, session, said).await,
        Err(e) => return Err(e),
    };
    removed?;
    if read.as_deref() == Some(contents.as_str()) { Ok(Evidence::File) } else { Err(not_seen(server, said)) }
}

/// The same for a role that may not read files: the name alone is as good as the contents.
async fn list_file(server: &Server, session: &Session, said: &Said) -> Result<Evidence, PgError> {
    const WHAT: &str = "list its temporary files";
    const LIST: &str = "SELECT EXISTS (SELECT FROM pg_ls_tmpdir() WHERE name = $1)";
    let (name, folder) = (format!("{PREFIX}{}", random()?), server.data(LISTED));
    let path = folder.join(&name);
    let made = HostCommand::new(["sh", "-c", MAKE, "sh", &folder.to_string_lossy()]);
    let written = match server.control().run(&made).await {
        Ok(_) => server.control().write(&path, name.as_bytes()).await,
        Err(e) => Err(e),
    };
    if let Err(e) = written {
        return Ok(Evidence::Numbers(format!("no file can be written into {}: {}", folder.display(), e.chain())));
    }
    let row = session.row(WHAT, LIST, &[(&name, Type::TEXT)]).await;
    let removed = server.control().remove(&path).await;
    match row {
        Ok(row) => {
            removed?;
            if session.get(WHAT, &row, 0)? { Ok(Evidence::File) } else { Err(not_seen(server, said)) }
        }
        Err(e) if is_forbidden(&e) => Ok(Evidence::Numbers(
            "the control role may neither read a file nor list temporary files; GRANT pg_monitor helps".into(),
        )),
        Err(e) => Err(e),
    }
}

/// Whether the server of a session works on this very directory: only then does it find the file.
///
/// # Errors
/// The host cannot be written to, or the session cannot be asked.
pub(crate) async fn is_directory_of(server: &Server, session: &Session) -> Result<bool, PgError> {
    let said = said(session).await?;
    match exchange_file(server, session, &said).await {
        Ok(Evidence::File) => Ok(true),
        Err(PgError::Refused { .. }) => Ok(false),
        Ok(Evidence::Numbers(why)) => Err(PgError::Refused { server: server.site().name.clone(), why }),
        Err(e) => Err(e),
    }
}

fn not_seen(server: &Server, said: &Said) -> PgError {
    let (at, data) = (&said.at, server.site().data.display());
    let why = format!(
        "the server at {at} does not see a file that was just written into {data}: it works on another directory (a copy, a snapshot, \
         another mount), and a fence would stop, mark and trust the files of another server"
    );
    PgError::Refused { server: server.site().name.clone(), why }
}

fn is_forbidden(error: &PgError) -> bool {
    error.sql_state() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

fn random() -> Result<String, PgError> {
    let mut bytes = [0_u8; 16];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| PgError::Config("this machine gives no random numbers".into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said { at: "pg1 (10.1.0.11:5432)".into(), backend: 77, port: 5432, system: 1, data: Some("/data".into()) }
    }

    fn seen(change: &[(&str, &str)]) -> Census {
        let text =
            "directory 8:12\nnamed 8:12\nparent 40\nrecorded 40\nport 5432\nstatus ready\nstarted 991\ncwd 8:12\n";
        let text = change.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        crate::server::testing_census(&text)
    }

    /// Every number that can contradict another one does so in words that name both.
    #[test]
    fn contradictions_are_found_and_named() {
        let site = Site::new("pg1", "/data", "/bin");
        assert_eq!(contradiction(&site, &said(), &seen(&[])), None);
        type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let table: [Row; 8] = [
            ("a copy", &[("named 8:12", "named 8:13")], "runs from /data"),
            ("no such directory", &[("directory 8:12", "directory "), ("named 8:12", "named ")], "does not exist"),
            ("nothing runs there", &[("recorded 40\n", ""), ("started 991\n", "")], "no server process works on"),
            ("a stale postmaster.pid", &[("started 991\n", "")], "has no process 40"),
            ("a process of another directory", &[("cwd 8:12", "cwd 8:9")], "works on another directory"),
            ("another port", &[("port 5432", "port 5433")], "says port 5432"),
            ("a session of another server", &[("parent 40", "parent 41")], "child of process 41"),
            ("a container", &[("parent 40\n", "")], "has no such process"),
        ];
        for (name, change, words) in table {
            let why = contradiction(&site, &said(), &seen(change)).unwrap_or_default();
            assert!(why.contains(words), "{name}: {why}");
        }
    }

    #[test]
    fn a_path_that_the_host_does_not_know_is_no_contradiction() {
        let site = Site::new("pg1", "/data", "/bin");
        assert_eq!(contradiction(&site, &said(), &seen(&[("named 8:12", "named ")])), None);
    }
}
