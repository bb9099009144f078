//! The data plane of one server: a real write, positions, long transactions, questions.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use dr_core::{
    DatabaseProbe, Millis, ProviderError, Tri,
    base::{Int64, canonical},
    contract::{
        LongTransaction, Position, PositionReading, Query, Rows, Sequences, Sessions, Table, TableSum, WriteProbe,
        WritesSince,
    },
};
use tokio::{sync::Mutex, time::Instant};
use tokio_postgres::error::SqlState;

use crate::{
    act::Probed,
    application::ApplicationLogin,
    client::{Link, Session},
    error::PgError,
    look::{Sum, WrittenSince},
    lsn::Lsn,
    reading::{lineage, now, position, unread},
    target::Target,
};

/// The data plane of one server. Clones share their sessions, and the lock that one of them holds.
#[derive(Clone, Debug)]
pub struct Probe {
    group: Arc<str>,
    link: Arc<Link>,
    /// The warm-up has a session of its own: its reads run beside the checks after a promotion, not before them.
    warm_link: Arc<Link>,
    application: Option<ApplicationLogin>,
    lock: Arc<Mutex<Option<Session>>>,
}

const PREPARED: &str = "\
SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
WHERE prepared < clock_timestamp() - make_interval(secs => $1) ORDER BY prepared";

impl Probe {
    /// The data plane of the server at `target`, a member of `group`. No session is opened before it is needed.
    #[must_use]
    pub fn new(group: &str, target: Target) -> Self {
        Self {
            group: group.into(),
            warm_link: Arc::new(Link::new(target.clone())),
            link: Arc::new(Link::new(target)),
            application: None,
            lock: Arc::default(),
        }
    }

    /// Proves the writer by a write of this application, too.
    #[must_use]
    pub fn with_application(mut self, application: Option<ApplicationLogin>) -> Self {
        self.application = application;
        self
    }

    /// The way to the server, with the session that this probe uses.
    #[must_use]
    pub fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// The session of the warm-up.
    ///
    /// # Errors
    /// No connection, no login, or no answer in time.
    pub async fn warm_session(&self) -> Result<Arc<Session>, PgError> {
        self.warm_link.session().await
    }

    async fn try_write(&self) -> Result<WriteProbe, PgError> {
        let session = self.link.session().await?;
        let target = self.link.target();
        let place = format!("as `{}` in the database `{}`", target.user, target.database);
        let (accepted, lineage, detail) = match session.probe_write("probe").await {
            Ok(Probed::Written(write)) => {
                let lineage = lineage(write.system_identifier, write.timeline);
                let detail = format!("a transaction that may write was committed {place} at {}", write.at);
                (Tri::Yes, Some(lineage), detail)
            }
            Ok(Probed::Replays) => (Tri::No, None, "the server replays and takes no writes".to_owned()),
            Ok(Probed::ReadOnly) => {
                let detail = format!("transactions {place} are read-only (default_transaction_read_only is on)");
                (Tri::No, None, detail)
            }
            Err(e) if e.sql_state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => (Tri::No, None, e.chain()),
            Err(e @ PgError::Refused { .. }) => return Err(e),
            Err(e) => (Tri::Unknown, None, e.chain()),
        };
        Ok(WriteProbe { accepted, lineage, detail, at: now() })
    }

    async fn read_position(&self) -> Result<PositionReading, PgError> {
        let session = self.link.session().await?;
        let who = session.identity().await?;
        let parted_at = session.parted(&who).await?;
        Ok(PositionReading {
            lineage: who.lineage(),
            in_recovery: Tri::from(who.in_recovery),
            durable: position(who.system_identifier, who.durable),
            applied: position(who.system_identifier, who.position),
            parted_at,
            tier: who.tier,
            at: now(),
        })
    }

    async fn transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, PgError> {
        const WHAT: &str = "tell its prepared transactions";
        let session = self.link.session().await?;
        let mut all: Vec<LongTransaction> = session
            .long_transactions(limit.duration())
            .await?
            .into_iter()
            .map(|long| LongTransaction {
                id: format!("pid {}", long.pid),
                user: long.user,
                age: Millis::of(long.age),
                state: long.state,
                helps: format!("SELECT pg_terminate_backend({})", long.pid),
            })
            .collect();
        let seconds = limit.duration().as_secs_f64();
        for row in session.rows(WHAT, PREPARED, &[(&seconds, tokio_postgres::types::Type::FLOAT8)]).await? {
            let gid: String = session.get(WHAT, &row, 0)?;
            let age: f64 = session.get(WHAT, &row, 2)?;
            all.push(LongTransaction {
                user: session.get(WHAT, &row, 1)?,
                age: Millis::of(std::time::Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default()),
                state: "prepared".into(),
                helps: format!("COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'"),
                id: format!("prepared `{gid}`"),
            });
        }
        Ok(all)
    }

    async fn count_writers(&self) -> Result<Sessions, PgError> {
        let session = self.link.session().await?;
        if session.in_recovery().await? {
            return Ok(Sessions::default());
        }
        let open = session.client_sessions().await?;
        let (busy, idle): (Vec<_>, Vec<_>) = open.iter().partition(|client| client.in_transaction);
        let count = |found: Vec<_>| u32::try_from(found.len()).unwrap_or(u32::MAX);
        Ok(Sessions { in_transaction: count(busy), idle: count(idle) })
    }

    async fn answer(&self, query: &Query) -> Result<Rows, PgError> {
        let session = self.link.session().await?;
        let rows = session.text_rows("answer a question", &query.sql).await?;
        Ok(Rows(rows.iter().map(|row| row.values()).collect()))
    }

    async fn written_since(&self, since: &Position) -> Result<WritesSince, PgError> {
        let session = self.link.session().await?;
        let who = session.identity().await?;
        let end = if who.in_recovery { who.position } else { who.durable };
        let here = position(who.system_identifier, end);
        if since.system != here.system || since.unit != here.unit {
            let (server, why) =
                (session.label().to_owned(), format!("{since} is no position of system {}", here.system));
            return Err(PgError::Refused { server, why });
        }
        let (written, detail) = match session.written_since(Lsn::new(since.value), end).await? {
            WrittenSince::Nothing(detail) => (Tri::No, detail),
            WrittenSince::Something(detail) => (Tri::Yes, detail),
            WrittenSince::Untold(detail) => (Tri::Unknown, detail),
        };
        Ok(WritesSince { written, detail, at: now() })
    }

    async fn read_sequences(&self) -> Result<Sequences, PgError> {
        let mut told = Sequences::none(now());
        for sequence in self.link.session().await?.sequences().await? {
            if sequence.down {
                told.down.insert(sequence.name.clone());
            }
            if sequence.readable {
                told.values.insert(sequence.name, sequence.last.map(Int64));
            } else {
                told.unread.push(sequence.name);
            }
        }
        Ok(told)
    }

    async fn add_up(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, PgError> {
        let names: Vec<(&str, &str)> =
            tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
        let target = self.link.target().clone().with_application("dr/checksum");
        let sums = Session::sums(&target, &names).await?;
        let read = |sum: &Sum| {
            let rows = sum.rows.parse().ok()?;
            let of = format!("{} {} {}", sum.rows, sum.halves[0], sum.halves[1]);
            Some(TableSum { rows: Int64(rows), sum: canonical::sha256(of.as_bytes()) })
        };
        let all: Option<BTreeMap<Table, TableSum>> =
            tables.iter().zip(&sums).map(|(table, sum)| Some((table.clone(), read(sum)?))).collect();
        all.ok_or_else(|| PgError::Unreadable {
            server: target.name.clone(),
            what: "add up tables",
            saw: format!("{sums:?}"),
        })
    }

    async fn warm(&self) -> Result<Millis, PgError> {
        let session = self.warm_session().await?;
        let begun = Instant::now();
        session.synthetic_read().await?;
        Ok(Millis::of(begun.elapsed()))
    }

    /// A session of its own holds the lock: it lives until this object does, through a promotion too.
    async fn lock(&self, holder: &str) -> Result<bool, PgError> {
        let mut held = self.lock.lock().await;
        if held.as_ref().is_some_and(|session| !session.is_closed()) {
            return Ok(true);
        }
        let target = self.link.target().clone().with_application(format!("dr/{holder}/lock"));
        let session = Session::open(&target).await?;
        let taken = session.try_group_lock(&self.group).await?;
        *held = taken.then_some(session);
        Ok(taken)
    }
}

#[async_trait]
impl DatabaseProbe for Probe {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        match self.try_write().await {
            Ok(probe) => Ok(probe),
            // Neither says anything about the server.
            Err(e) if e.is_login_refused() || matches!(e, PgError::Refused { .. } | PgError::Config(_)) => {
                Err(unread("write")(e))
            }
            Err(e) => Ok(WriteProbe { accepted: Tri::Unknown, lineage: None, detail: e.chain(), at: now() }),
        }
    }

    async fn write_as_application(&self) -> Result<WriteProbe, ProviderError> {
        let login = self.application.as_ref();
        let login = login.ok_or(ProviderError::Unsupported { verb: "write-as-application" })?;
        Ok(login.write_at(self.link.target()).await)
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        self.read_position().await.map_err(unread("position"))
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        let read = async { self.link.session().await?.extensions().await };
        read.await.map_err(unread("extensions"))
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        let read = async { self.link.session().await?.available_extensions().await };
        read.await.map_err(unread("available-extensions"))
    }

    async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        self.transactions(limit).await.map_err(unread("long-transactions"))
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        self.count_writers().await.map_err(unread("writing-sessions"))
    }

    async fn writes_since(&self, since: &Position) -> Result<WritesSince, ProviderError> {
        self.written_since(since).await.map_err(unread("writes-since"))
    }

    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        self.read_sequences().await.map_err(unread("sequences"))
    }

    async fn checksum(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError> {
        self.add_up(tables).await.map_err(unread("checksum"))
    }

    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError> {
        self.answer(query).await.map_err(unread("ask"))
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        self.warm().await.map_err(unread("warm-up"))
    }

    async fn group_lock(&self, holder: &str) -> Result<bool, ProviderError> {
        self.lock(holder).await.map_err(unread("group-lock"))
    }
}
