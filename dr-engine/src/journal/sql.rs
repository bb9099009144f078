//! The journal's tables and the few statements that touch them.

use dr_core::{
    RunId, Timestamp,
    base::{Digest, Epoch},
    run::{Head, InboxRow, JournalError, Line, chain},
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::store::Schema;

/// `runs.seq` and `runs.hash` are the end of each run, so that a journal whose tail is gone is not read as a shorter one.
pub(super) const SCHEMA: Schema = Schema {
    application: 0x6472_6a6e, // "drjn"
    version: 2,
    what: "journal",
    tables: "
        CREATE TABLE runs (
            number INTEGER PRIMARY KEY,
            run    TEXT    NOT NULL UNIQUE,
            epoch  INTEGER NOT NULL,
            seq    INTEGER NOT NULL,
            hash   TEXT    NOT NULL
        ) STRICT;
        CREATE TABLE lines (
            run  TEXT    NOT NULL REFERENCES runs(run),
            seq  INTEGER NOT NULL,
            text TEXT    NOT NULL,
            hash TEXT    NOT NULL,
            PRIMARY KEY (run, seq)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE inbox (
            number  INTEGER PRIMARY KEY,
            run     TEXT NOT NULL REFERENCES runs(run),
            id      TEXT NOT NULL,
            at      INTEGER NOT NULL,
            request TEXT NOT NULL,
            UNIQUE (run, id)
        ) STRICT;
        CREATE TABLE samples (
            number INTEGER PRIMARY KEY,
            name   TEXT    NOT NULL,
            at     INTEGER NOT NULL,
            sample TEXT    NOT NULL
        ) STRICT;
        CREATE INDEX samples_by_time ON samples (name, at);
        CREATE TABLE notices (
            key TEXT PRIMARY KEY,
            run TEXT NOT NULL,
            at  INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE groups (
            digest TEXT PRIMARY KEY,
            name   TEXT    NOT NULL,
            file   TEXT    NOT NULL,
            spec   TEXT    NOT NULL,
            at     INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE closed (
            debt   TEXT PRIMARY KEY,
            closed TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE writers (
            name   TEXT PRIMARY KEY,
            target TEXT    NOT NULL,
            at     INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
    ",
};

/// What a statement answers: a refusal is a value, so that only a failing file is an error of the file.
pub(super) type Answer<T> = Result<Result<T, JournalError>, rusqlite::Error>;

/// A run as the `runs` table has it.
struct Stored {
    epoch: Epoch,
    head: Result<Head, String>,
}

pub(super) fn create(connection: &mut Connection, run: &RunId, epoch: Epoch, lines: &[Line]) -> Answer<Head> {
    let change = begin(connection)?;
    if let Some(stored) = stored(&change, run)? {
        let found = stored.head.map_or(0, |head| head.seq);
        return Ok(Err(JournalError::Conflict { run: run.clone(), expected: 0, found }));
    }
    let head = match chain::follow(run, Head::EMPTY, lines) {
        Ok(head) => head,
        Err(refused) => return Ok(Err(refused)),
    };
    change.execute(
        "INSERT INTO runs (run, epoch, seq, hash) VALUES (?1, ?2, ?3, ?4)",
        params![run.to_string(), signed(epoch.number()), signed(head.seq), head.hash.hex()],
    )?;
    insert(&change, run, lines)?;
    change.commit()?;
    Ok(Ok(head))
}

pub(super) fn take_over(connection: &mut Connection, run: &RunId, epoch: Epoch) -> Answer<()> {
    let change = begin(connection)?;
    let Some(stored) = stored(&change, run)? else { return Ok(Err(JournalError::Unknown(run.clone()))) };
    if epoch <= stored.epoch {
        return Ok(Err(JournalError::Fenced { held: stored.epoch, mine: epoch }));
    }
    change.execute("UPDATE runs SET epoch = ?2 WHERE run = ?1", params![run.to_string(), signed(epoch.number())])?;
    change.commit()?;
    Ok(Ok(()))
}

pub(super) fn append(connection: &mut Connection, run: &RunId, epoch: Epoch, at: u64, lines: &[Line]) -> Answer<Head> {
    let change = begin(connection)?;
    let Some(stored) = stored(&change, run)? else { return Ok(Err(JournalError::Unknown(run.clone()))) };
    if stored.epoch != epoch {
        return Ok(Err(JournalError::Fenced { held: stored.epoch, mine: epoch }));
    }
    let head = match stored.head {
        Ok(head) if head.seq == at => head,
        Ok(head) => return Ok(Err(JournalError::Conflict { run: run.clone(), expected: at, found: head.seq })),
        Err(what) => return Ok(Err(JournalError::Corrupt { run: run.clone(), seq: at, what })),
    };
    let head = match chain::follow(run, head, lines) {
        Ok(head) => head,
        Err(refused) => return Ok(Err(refused)),
    };
    insert(&change, run, lines)?;
    change.prepare_cached("UPDATE runs SET seq = ?2, hash = ?3 WHERE run = ?1")?.execute(params![
        run.to_string(),
        signed(head.seq),
        head.hash.hex()
    ])?;
    change.commit()?;
    Ok(Ok(head))
}

/// The end of a run.
pub(super) fn head(connection: &Connection, run: &RunId) -> Answer<Head> {
    let Some(stored) = stored(connection, run)? else { return Ok(Err(JournalError::Unknown(run.clone()))) };
    Ok(stored.head.map_err(|what| JournalError::Corrupt { run: run.clone(), seq: 0, what }))
}

/// The epoch that may append to a run.
pub(super) fn epoch(connection: &Connection, run: &RunId) -> Answer<Epoch> {
    let Some(stored) = stored(connection, run)? else { return Ok(Err(JournalError::Unknown(run.clone()))) };
    Ok(Ok(stored.epoch))
}

pub(super) fn read(connection: &mut Connection, run: &RunId, from: u64) -> Answer<Vec<Line>> {
    // One snapshot: the end and the lines belong together.
    let look = connection.transaction()?;
    let head = match head(&look, run)? {
        Ok(head) => head,
        Err(refused) => return Ok(Err(refused)),
    };
    let lines = after(&look, run, from.saturating_sub(1))?;
    Ok(chain::whole(run, from, lines, head))
}

/// Runs in the order of their creation; a name that is no run id is left out here and found by an integrity check.
pub(super) fn runs(connection: &Connection) -> Result<Vec<RunId>, rusqlite::Error> {
    let mut query = connection.prepare_cached("SELECT run FROM runs ORDER BY number")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

pub(super) fn post(connection: &mut Connection, run: &RunId, row: &InboxRow, request: &str) -> Answer<()> {
    let change = begin(connection)?;
    if stored(&change, run)?.is_none() {
        return Ok(Err(JournalError::Unknown(run.clone())));
    }
    change.execute(
        "INSERT INTO inbox (run, id, at, request) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (run, id) DO NOTHING",
        params![run.to_string(), row.id, row.at.millis(), request],
    )?;
    change.commit()?;
    Ok(Ok(()))
}

/// The rows with their requests as text.
pub(super) fn inbox(connection: &Connection, run: &RunId) -> Result<Vec<(String, Timestamp, String)>, rusqlite::Error> {
    let mut query = connection.prepare_cached("SELECT id, at, request FROM inbox WHERE run = ?1 ORDER BY number")?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?), row.get(2)?));
    query.query_map([run.to_string()], row)?.collect()
}

/// Whether a notice of this key was given (D32).
pub(super) fn was_told(connection: &Connection, key: &str) -> Result<bool, rusqlite::Error> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM notices WHERE key = ?1)", params![key], |row| row.get(0))
}

/// Stores that a notice was given.
pub(super) fn told(connection: &Connection, key: &str, run: &RunId, at: Timestamp) -> Result<(), rusqlite::Error> {
    let row = params![key, run.to_string(), at.millis()];
    let sql = "INSERT INTO notices (key, run, at) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO NOTHING";
    connection.execute(sql, row).map(drop)
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, rusqlite::Error> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn stored(connection: &Connection, run: &RunId) -> Result<Option<Stored>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT epoch, seq, hash FROM runs WHERE run = ?1")?
        .query_row([run.to_string()], |row| {
            let hash: String = row.get(2)?;
            let seq = unsigned(row.get(1)?);
            let head = hash.parse().map(|hash| Head { seq, hash });
            Ok(Stored { epoch: Epoch::new(unsigned(row.get(0)?)), head: head.map_err(|error| error.to_string()) })
        })
        .optional()
}

fn insert(change: &Transaction<'_>, run: &RunId, lines: &[Line]) -> Result<(), rusqlite::Error> {
    let mut statement = change.prepare_cached("INSERT INTO lines (run, seq, text, hash) VALUES (?1, ?2, ?3, ?4)")?;
    for line in lines {
        statement.execute(params![run.to_string(), signed(line.seq), line.text, line.hash.hex()])?;
    }
    Ok(())
}

/// Lines with a larger position than `after`, unchecked. A hash that is no hash never fits its text.
fn after(look: &Transaction<'_>, run: &RunId, after: u64) -> Result<Vec<Line>, rusqlite::Error> {
    let mut query =
        look.prepare_cached("SELECT seq, text, hash FROM lines WHERE run = ?1 AND seq > ?2 ORDER BY seq")?;
    let line = |row: &Row<'_>| {
        let hash: String = row.get(2)?;
        Ok(Line { seq: unsigned(row.get(0)?), text: row.get(1)?, hash: hash.parse().unwrap_or(Digest::zero()) })
    };
    query.query_map(params![run.to_string(), signed(after)], line)?.collect()
}

/// SQLite has signed numbers; none of ours comes near the end of them.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
