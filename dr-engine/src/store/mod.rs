//! A SQLite file on a thread of its own.
//!
//! ```text
//!   async caller ──job──► channel ──► thread ──► SQLite (WAL, synchronous=FULL, read back)
//!        ▲                              │
//!        └────────── oneshot ◄──────────┘      every 100 ms: did another process write?
//! ```
//!
//! *Guarantees.* No executor thread ever waits for the disk. A job that was sent runs to its end, also when the caller's
//! future is dropped.

mod error;
pub(crate) mod place;
pub(crate) mod reserve;

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

pub use error::{OpenError, StoreError};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{oneshot, watch};

/// A file with its thread. Dropping the last handle ends the thread after the jobs that were sent.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    file: PathBuf,
    generation: watch::Sender<u64>,
}

/// What makes one kind of file differ from another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// The number in the file's header that says whose it is.
    pub(crate) application: i32,
    /// The version of the tables.
    pub(crate) version: i32,
    /// The statements that make the tables.
    pub(crate) tables: &'static str,
    /// What people call the file, such as `journal`.
    pub(crate) what: &'static str,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

impl Store {
    /// Opens `file`, making it and its directory when they do not exist, and checks that it is durable.
    pub(crate) fn open(file: &Path, schema: Schema) -> Result<Self, OpenError> {
        Self::start(file, schema, |_| Ok(()))
    }

    fn start(
        file: &Path,
        schema: Schema,
        adjust: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
    ) -> Result<Self, OpenError> {
        let dir = file.parent().unwrap_or_else(|| Path::new("."));
        place::prepare(dir)?;
        let mut connection = connect(file, schema)?;
        place::sync(dir)?;
        adjust(&connection).map_err(|source| OpenError::of(file, schema.what, source))?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let generation = watch::Sender::new(0);
        let teller = generation.clone();
        std::thread::Builder::new()
            .name(format!("dr-{}", schema.what))
            .spawn(move || work(&mut connection, &queue, &teller))
            .map_err(|source| OpenError::Directory { path: dir.to_path_buf(), source })?;
        Ok(Self { jobs, file: file.to_path_buf(), generation })
    }

    /// Opens `file` for what may be lost in a power failure: its commits do not wait for the disk.
    pub(crate) fn open_relaxed(file: &Path, schema: Schema) -> Result<Self, OpenError> {
        Self::start(file, schema, |connection| connection.pragma_update(None, "synchronous", "normal"))
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Runs `job` on the file's thread.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody may be waiting any more; the work is done all the same.
            let _abandoned = answer.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| self.closed())?;
        answered.await.map_err(|_| self.closed())?.map_err(|error| StoreError::of(&self.file, error))
    }

    /// Says that something was written through this handle.
    pub(crate) fn touch(&self) {
        self.generation.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// Grows whenever this process or another may have written.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { file: self.file.clone() }
    }
}

fn work(connection: &mut Connection, queue: &mpsc::Receiver<Job>, teller: &watch::Sender<u64>) {
    let mut seen = data_version(connection);
    loop {
        match queue.recv_timeout(LOOK_EVERY) {
            Ok(job) => job(connection),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = data_version(connection);
                if now != seen {
                    seen = now;
                    teller.send_modify(|generation| *generation = generation.wrapping_add(1));
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Changes when *another* connection has written to the file.
fn data_version(connection: &Connection) -> Option<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
}

fn connect(file: &Path, schema: Schema) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::of(file, schema.what, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // An empty file is a new database. SQLite would make one that only its owner may write; this one has what the umask leaves, and
    // its log gets the same, so that several people of one host can share a journal. A file that cannot be made is named below.
    drop(std::fs::File::options().append(true).create(true).open(file));
    let mut connection = Connection::open_with_flags(file, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::ReadOnly { file: file.to_path_buf(), what: schema.what });
    }
    identify(&connection, file, schema)?;
    durable(&connection, file, schema.what)?;
    migrate(&mut connection, schema).map_err(failed)?;
    Ok(connection)
}

/// Refuses a file that something else made, or a version that this one does not know.
fn identify(connection: &Connection, file: &Path, schema: Schema) -> Result<(), OpenError> {
    let failed = |source| OpenError::of(file, schema.what, source);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 && application == 0 || application == schema.application && version == schema.version {
        return Ok(());
    }
    Err(OpenError::Foreign {
        file: file.to_path_buf(),
        what: schema.what,
        found: if application == schema.application {
            format!("version {version}, and this program knows version {}", schema.version)
        } else {
            "the file of another program".to_owned()
        },
    })
}

/// Sets what durability needs and reads it back: the default of a given build is not to be trusted.
fn durable(connection: &Connection, file: &Path, what: &'static str) -> Result<(), OpenError> {
    let failed = |source| OpenError::of(file, what, source);
    let refuse =
        |setting: &'static str, value: String| OpenError::NotDurable { file: file.to_path_buf(), setting, value };
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(refuse("journal_mode", mode));
    }
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    let level: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(failed)?;
    if level != SYNCHRONOUS_FULL {
        return Err(refuse("synchronous", level.to_string()));
    }
    connection.pragma_update(None, "fullfsync", true).map_err(failed)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(failed)
}

fn migrate(connection: &mut Connection, schema: Schema) -> Result<(), rusqlite::Error> {
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if change.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0 {
        change.execute_batch(schema.tables)?;
        change.pragma_update(None, "application_id", schema.application)?;
        change.pragma_update(None, "user_version", schema.version)?;
    }
    change.commit()
}

const SYNCHRONOUS_FULL: i64 = 2;
const BUSY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
