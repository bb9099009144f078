//! The records of runs.
//!
//! ```text
//!   append ──► one statement: UPDATE runs … WHERE epoch is mine AND end is where I think AND last line is the one I name
//!                 └─► one row: the lines are inserted by the same statement ──► commit, flushed ──► Ok
//!                 └─► no row:  nothing is inserted; a look says why: fenced, conflict, unknown
//! ```

use std::time::Duration;

use async_trait::async_trait;
use dr_core::{
    Millis, RunId, Timestamp,
    base::{Digest, Epoch, Json, SystemId},
    run::{Head, InboxRow, Journal, JournalError, Line, chain},
};
use dr_sql::Param;
use tokio_postgres::{Row, types::Type};

use crate::{
    error::{of_form, of_journal},
    store::PostgresStore,
};

const CREATE: &str = "
WITH made AS (
    INSERT INTO runs (run, epoch, seq, hash) VALUES ($1, $2, $3, $4) ON CONFLICT (run) DO NOTHING RETURNING run
), added AS (
    INSERT INTO lines (run, seq, text, hash)
    SELECT made.run, line.seq, line.text, line.hash
    FROM made, unnest($5, $6, $7) AS line (seq, text, hash)
)
SELECT pg_notify($8, made.run) FROM made";

const APPEND: &str = "
WITH moved AS (
    UPDATE runs SET seq = $5, hash = $6 WHERE run = $1 AND epoch = $2 AND seq = $3 AND hash = $4 RETURNING run
), added AS (
    INSERT INTO lines (run, seq, text, hash)
    SELECT moved.run, line.seq, line.text, line.hash
    FROM moved, unnest($7, $8, $9) AS line (seq, text, hash)
)
SELECT pg_notify($10, moved.run) FROM moved";

const TAKE_OVER: &str = "
WITH raised AS (UPDATE runs SET epoch = $2 WHERE run = $1 AND epoch < $2 RETURNING run)
SELECT pg_notify($3, raised.run) FROM raised";

const LOOK: &str = "SELECT epoch, seq, hash FROM runs WHERE run = $1";

/// The end and the lines of one snapshot.
const READ: &str = "
SELECT runs.seq, runs.hash, lines.seq, lines.text, lines.hash
FROM runs LEFT JOIN lines ON lines.run = runs.run AND lines.seq >= $2
WHERE runs.run = $1 ORDER BY lines.seq";

const RUNS: &str = "SELECT run FROM runs ORDER BY number";

/// The row of the run is locked before the number is drawn, so that the numbers have the order in which others see the rows.
const POST: &str = "
WITH held AS (
    SELECT run FROM runs WHERE run = $1 FOR NO KEY UPDATE
), added AS (
    INSERT INTO inbox (run, id, at, request) SELECT held.run, $2, $3, $4 FROM held ON CONFLICT (run, id) DO NOTHING RETURNING 1
)
SELECT pg_notify($5, held.run) FROM held";

const INBOX: &str = "SELECT id, at, request FROM inbox WHERE run = $1 ORDER BY number";

/// A run as its row has it.
struct Stored {
    epoch: Epoch,
    head: Result<Head, String>,
}

/// Lines as three arrays.
struct Columns {
    seqs: Vec<i64>,
    texts: Vec<String>,
    hashes: Vec<String>,
}

impl Columns {
    fn of(lines: &[Line]) -> Self {
        Self {
            seqs: lines.iter().map(|line| signed(line.seq)).collect(),
            texts: lines.iter().map(|line| line.text.clone()).collect(),
            hashes: lines.iter().map(|line| line.hash.hex()).collect(),
        }
    }
}

impl PostgresStore {
    async fn stored(&self, run: &RunId, what: &'static str) -> Result<Option<Stored>, JournalError> {
        let name = run.to_string();
        let failed = |source| of_journal(format!("find the end of {run}"), source);
        // Through the session that writes: what it refused was decided by a row that this look must not miss.
        let rows = self.inner.write.rows(what, LOOK, &[text(&name)]).await.map_err(failed)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let stored = || -> Result<Stored, tokio_postgres::Error> {
            let (seq, hash): (i64, String) = (row.try_get(1)?, row.try_get(2)?);
            let seq = unsigned(seq);
            let head = hash.parse().map(|hash| Head { seq, hash }).map_err(|_| format!("its end is `{hash}`"));
            Ok(Stored { epoch: Epoch::new(unsigned(row.try_get(0)?)), head })
        };
        stored().map(Some).map_err(|source| of_form(&format!("find the end of {run}"), source))
    }

    /// Why an append was refused; or the end, if an earlier try of it was stored.
    async fn refused(
        &self,
        run: &RunId,
        epoch: Epoch,
        expected: u64,
        (end, again): (Head, bool),
    ) -> Result<Head, JournalError> {
        let unknown = || JournalError::Unknown(run.clone());
        let stored = self.stored(run, "see why an append was refused").await?.ok_or_else(unknown)?;
        if stored.epoch != epoch {
            return Err(JournalError::Fenced { held: stored.epoch, mine: epoch });
        }
        match stored.head {
            Ok(head) if again && head == end => Ok(head),
            Ok(head) if head.seq != expected => {
                Err(JournalError::Conflict { run: run.clone(), expected, found: head.seq })
            }
            Ok(head) => {
                let seq = expected.saturating_add(1);
                let what = format!("it does not follow {}, with which the run ends", head.hash);
                Err(JournalError::Corrupt { run: run.clone(), seq, what })
            }
            Err(what) => Err(JournalError::Corrupt { run: run.clone(), seq: expected, what }),
        }
    }
}

#[async_trait]
impl Journal for PostgresStore {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        let head = chain::follow(run, Head::EMPTY, &lines)?;
        let (name, hash, channel) = (run.to_string(), head.hash.hex(), self.inner.channel());
        let (number, seq, columns) = (signed(epoch.number()), signed(head.seq), Columns::of(&lines));
        let [seqs, texts, hashes] = arrays(&columns);
        let params = [text(&name), int(&number), int(&seq), text(&hash), seqs, texts, hashes, text(&channel)];
        let answered = self.inner.write.ask("create a run", CREATE, &params).await;
        let answered = answered.map_err(|source| of_journal(format!("create {run}"), source))?;
        self.inner.touch();
        if !answered.rows.is_empty() {
            return Ok(head);
        }
        let found = self.stored(run, "see which run is there").await?;
        let mine = |stored: &Stored| stored.epoch == epoch && stored.head.as_ref().is_ok_and(|there| *there == head);
        if answered.again && found.as_ref().is_some_and(mine) {
            return Ok(head);
        }
        let found = found.and_then(|stored| stored.head.ok()).map_or(0, |head| head.seq);
        Err(JournalError::Conflict { run: run.clone(), expected: 0, found })
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        let (name, number, channel) = (run.to_string(), signed(epoch.number()), self.inner.channel());
        let params = [text(&name), int(&number), text(&channel)];
        let answered = self.inner.write.ask("raise an epoch", TAKE_OVER, &params).await;
        let answered = answered.map_err(|source| of_journal(format!("raise the epoch of {run}"), source))?;
        self.inner.touch();
        if !answered.rows.is_empty() {
            return Ok(());
        }
        match self.stored(run, "see why an epoch was refused").await? {
            None => Err(JournalError::Unknown(run.clone())),
            // No other engine has this epoch: leases give each number once.
            Some(stored) if answered.again && stored.epoch == epoch => Ok(()),
            Some(stored) => Err(JournalError::Fenced { held: stored.epoch, mine: epoch }),
        }
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        let stored = self.stored(run, "find an epoch").await?;
        stored.map(|stored| stored.epoch).ok_or_else(|| JournalError::Unknown(run.clone()))
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        // Without lines there is no end that they would name: zero is none, and the look says what is there.
        let before = lines.first().and_then(chain::named_before).unwrap_or(Digest::zero());
        let start = Head { seq: expected, hash: before };
        let followed = chain::follow(run, start, &lines);
        let fits = followed.is_ok() && !lines.is_empty();
        let Some(end) = followed.as_ref().ok().copied().filter(|_| fits) else {
            // The lines are wrong; another epoch or another end is said first, as it would be for right ones.
            let said = self.refused(run, epoch, expected, (start, true)).await;
            return match (said, followed) {
                (Err(error @ (JournalError::Fenced { .. } | JournalError::Conflict { .. })), _) => Err(error),
                (Err(error @ (JournalError::Unknown(_) | JournalError::Store { .. })), _) => Err(error),
                (_, Err(wrong)) => Err(wrong),
                (said, Ok(_)) => said,
            };
        };
        let (name, number, at, named) = (run.to_string(), signed(epoch.number()), signed(expected), before.hex());
        let (seq, hash, channel) = (signed(end.seq), end.hash.hex(), self.inner.channel());
        let columns = Columns::of(&lines);
        let [seqs, texts, hashes] = arrays(&columns);
        let params = [
            text(&name),
            int(&number),
            int(&at),
            text(&named),
            int(&seq),
            text(&hash),
            seqs,
            texts,
            hashes,
            text(&channel),
        ];
        let answered = self.inner.write.ask("append to a run", APPEND, &params).await;
        let answered = answered.map_err(|source| of_journal(format!("append to {run}"), source))?;
        self.inner.touch();
        if answered.rows.is_empty() {
            return self.refused(run, epoch, expected, (end, answered.again)).await;
        }
        Ok(end)
    }

    /// A commit waits for the disk of the server, and for that of its standby.
    fn linger(&self) -> Millis {
        Millis::new(100)
    }

    fn lies_in(&self) -> Option<SystemId> {
        self.inner.system.clone()
    }

    /// Every commit is durable when it answers, so what is left is to see that the line is there.
    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        let unknown = || JournalError::Unknown(run.clone());
        let stored = self.stored(run, "see what is sealed").await?.ok_or_else(unknown)?;
        if stored.head.is_ok_and(|head| head.seq >= seq) {
            return Ok(());
        }
        Err(JournalError::Corrupt { run: run.clone(), seq, what: "it is to be sealed and is not there".into() })
    }

    /// Room on the disk of a server cannot be kept by its clients.
    async fn use_reserve(&self, _: &RunId) -> bool {
        false
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        let (name, at) = (run.to_string(), signed(from));
        let rows = self.inner.read.rows("read a run", READ, &[text(&name), int(&at)]).await;
        let rows = rows.map_err(|source| of_journal(format!("read {run}"), source))?;
        let wrong = |source| of_form(&format!("read {run}"), source);
        let first = rows.first().ok_or_else(|| JournalError::Unknown(run.clone()))?;
        let end = end_of(first).map_err(wrong)?;
        let bad = |what| JournalError::Corrupt { run: run.clone(), seq: 0, what };
        let end = end.map_err(bad)?;
        let lines = rows.iter().map(line_of).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        chain::whole(run, from, lines.into_iter().flatten().collect(), end)
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        let rows = self.inner.read.rows("list the runs", RUNS, &[]).await;
        let rows = rows.map_err(|source| of_journal("list the runs".into(), source))?;
        let names = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>();
        let names = names.map_err(|source| of_form("list the runs", source))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        let (name, at, request) = (run.to_string(), row.at.millis(), row.request.0.to_string());
        let channel = self.inner.channel();
        let params = [text(&name), text(&row.id), int(&at), text(&request), text(&channel)];
        let rows = self.inner.write.rows("post a request", POST, &params).await;
        let rows = rows.map_err(|source| of_journal(format!("post to {run}"), source))?;
        self.inner.touch();
        if rows.is_empty() { Err(JournalError::Unknown(run.clone())) } else { Ok(()) }
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        let name = run.to_string();
        let rows = self.inner.read.rows("read an inbox", INBOX, &[text(&name)]).await;
        let rows = rows.map_err(|source| of_journal(format!("read the inbox of {run}"), source))?;
        rows.iter().map(|row| request_of(run, row)).collect()
    }

    fn mark(&self, _: &RunId) -> u64 {
        *self.inner.generation.borrow()
    }

    async fn changed(&self, _: &RunId, since: u64) {
        let mut generation = self.inner.generation.subscribe();
        let moved = generation.wait_for(|now| *now != since);
        // Early wake-ups are allowed: what was told while the listener had no session is found this much later.
        let _either = tokio::time::timeout(LOOK_ANYWAY, moved).await;
    }
}

fn request_of(run: &RunId, row: &Row) -> Result<InboxRow, JournalError> {
    let read = || -> Result<(String, i64, String), tokio_postgres::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    };
    let (id, at, request) = read().map_err(|source| of_form(&format!("read the inbox of {run}"), source))?;
    match serde_json::from_str(&request) {
        Ok(request) => Ok(InboxRow { id, at: Timestamp::from_millis(at), request: Json(request) }),
        Err(error) => {
            let what = format!("the request `{id}` in its inbox is no JSON ({error})");
            Err(JournalError::Corrupt { run: run.clone(), seq: 0, what })
        }
    }
}

fn end_of(row: &Row) -> Result<Result<Head, String>, tokio_postgres::Error> {
    let (seq, hash): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(hash.parse().map(|hash| Head { seq: unsigned(seq), hash }).map_err(|_| format!("its end is `{hash}`")))
}

/// The line of a row, unchecked; a run without lines has one row with none. A hash that is no hash never fits its text.
fn line_of(row: &Row) -> Result<Option<Line>, tokio_postgres::Error> {
    let Some(seq): Option<i64> = row.try_get(2)? else { return Ok(None) };
    let hash: String = row.try_get(4)?;
    let hash = hash.parse().unwrap_or(Digest::zero());
    Ok(Some(Line { seq: unsigned(seq), text: row.try_get(3)?, hash }))
}

fn arrays(columns: &Columns) -> [Param<'_>; 3] {
    [(&columns.seqs, Type::INT8_ARRAY), (&columns.texts, Type::TEXT_ARRAY), (&columns.hashes, Type::TEXT_ARRAY)]
}

pub(crate) fn text(value: &String) -> Param<'_> {
    (value, Type::TEXT)
}

pub(crate) fn int(value: &i64) -> Param<'_> {
    (value, Type::INT8)
}

/// PostgreSQL has signed numbers; none of ours comes near the end of them.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

const LOOK_ANYWAY: Duration = Duration::from_secs(1);
