//! Who may act on which resources: one row per resource.
//!
//! ```text
//!   acquire ──► rows locked in the order of their keys ──► free, or lapsed by the server's clock ──► granted, epoch + 1
//!                                                     ├──► same run, and an operator says so ────► marked; the holder's next renewal
//!                                                     │                                             is refused; its time runs out
//!                                                     └──► otherwise ──────────────────────────────► Busy
//! ```

use std::time::Duration;

use async_trait::async_trait;
use dr_core::{
    RunId, Timestamp,
    base::{Epoch, ResourceAddress},
    run::{Lease, LeaseError, LeaseRequest, LeaseStore},
};
use dr_sql::{Param, Session};
use tokio_postgres::{Row, types::Type};

use crate::{
    door::enter,
    error::{OpenError, of_leases},
    journal::{int, signed, text, unsigned},
    store::PostgresStore,
};

/// Not whatever the role has as its default: under other levels a row that somebody changed meanwhile would be an error, not an answer.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Every row is there before it is locked, in the order of the keys, so that two requests never wait for each other.
const SEED: &str =
    "INSERT INTO leases (key) SELECT key FROM unnest($1) AS key ORDER BY key ON CONFLICT (key) DO NOTHING";

/// A row that nobody holds has no time left. The clock is read before the lock is waited for at the latest, so that what is left is not
/// taken for less than it is.
const HELD: &str = "
SELECT key, epoch, coalesce(run, ''), holder, since,
       CASE WHEN run IS NULL THEN 0 ELSE
           greatest(0, ceil(extract(epoch FROM until - clock_timestamp()) * 1000))::bigint END
FROM leases WHERE key = ANY($1) ORDER BY key FOR UPDATE";

const CONTEST: &str = "UPDATE leases SET contested = true WHERE key = ANY($1) AND run = $2";

const FREE: &str = "UPDATE leases SET run = NULL, until = NULL, contested = false WHERE run = $1 AND NOT key = ANY($2)";

const GRANT: &str = "
UPDATE leases SET epoch = $2, run = $3, holder = $4, since = $5, contested = false,
       until = clock_timestamp() + $6::bigint * interval '1 millisecond'
WHERE key = ANY($1)";

/// A lease is told from every other one by all that was granted with it: an epoch alone might come again after a server lost its last commits.
const RENEW: &str = "
UPDATE leases SET until = clock_timestamp() + $6::bigint * interval '1 millisecond'
WHERE run = $1 AND epoch = $2 AND holder = $3 AND since = $4 AND key = ANY($5) AND NOT contested RETURNING key";

const RELEASE: &str = "
UPDATE leases SET run = NULL, until = NULL, contested = false WHERE run = $1 AND epoch = $2 AND holder = $3 AND since = $4";

const MINE: &str = "
SELECT key FROM leases WHERE run = $1 AND epoch = $2 AND holder = $3 AND since = $4 AND until > clock_timestamp()";

const DRIVEN: &str = "SELECT EXISTS (SELECT FROM leases WHERE run = $1 AND until > clock_timestamp())";

/// What was decided about a request.
enum Grant {
    Given(Lease),
    Refused(LeaseError),
    /// The holder was told; its time runs out after this long.
    Wait(Duration),
}

struct Held {
    key: ResourceAddress,
    epoch: Epoch,
    run: String,
    holder: String,
    since: Timestamp,
    left: Duration,
}

impl Held {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            key: ResourceAddress::new(row.try_get::<_, String>(0)?),
            epoch: Epoch::new(unsigned(row.try_get(1)?)),
            run: row.try_get(2)?,
            holder: row.try_get(3)?,
            since: Timestamp::from_millis(row.try_get(4)?),
            left: Duration::from_millis(unsigned(row.try_get(5)?)),
        })
    }
}

/// The values that tell one lease from every other one.
struct Named {
    run: String,
    epoch: i64,
    holder: String,
    since: i64,
    keys: Vec<String>,
}

impl Named {
    fn of(lease: &Lease) -> Self {
        Self {
            run: lease.run.to_string(),
            epoch: signed(lease.epoch.number()),
            holder: lease.holder.clone(),
            since: lease.since.millis(),
            keys: names(&lease.keys),
        }
    }

    fn params(&self) -> [Param<'_>; 4] {
        [text(&self.run), int(&self.epoch), text(&self.holder), int(&self.since)]
    }
}

impl PostgresStore {
    /// What the server keeps of a lease: longer than what its holder is told, so that the server's clock may be set forward by the rest.
    fn kept(&self) -> i64 {
        let kept = self.inner.term.saturating_add(self.inner.term / 2);
        i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)
    }

    /// One transaction. The session is out of everybody's reach until it has ended well; dropped half-way, it takes the transaction with it.
    async fn decide(&self, request: &LeaseRequest) -> Result<Grant, OpenError> {
        let mut free = self.inner.transaction.lock().await;
        let kept = match free.take() {
            // One that ended since it was used last is replaced.
            Some(session) => session.run("begin", BEGIN).await.is_ok().then_some(session),
            None => None,
        };
        let session = match kept {
            Some(session) => session,
            None => {
                let session = enter(&self.inner.target, &self.inner.schema).await?;
                session.run("begin", BEGIN).await?;
                session
            }
        };
        let decided = self.within(&session, request).await?;
        let ended = match &decided {
            Grant::Refused(_) => session.run("give up a transaction", "ROLLBACK").await,
            Grant::Given(_) | Grant::Wait(_) => session.run("commit", "COMMIT").await,
        };
        match (ended, decided) {
            (Ok(()), decided) => {
                *free = Some(session);
                Ok(decided)
            }
            (Err(_), Grant::Refused(busy)) => Ok(Grant::Refused(busy)),
            (Err(error), Grant::Given(lease)) => {
                // The answer of the commit is lost: the row says what became of it.
                if self.holds(&lease).await? { Ok(Grant::Given(lease)) } else { Err(error.into()) }
            }
            (Err(error), Grant::Wait(_)) => Err(error.into()),
        }
    }

    async fn within(&self, session: &Session, request: &LeaseRequest) -> Result<Grant, OpenError> {
        let keys = names(&request.keys);
        let list = || -> Param<'_> { (&keys, Type::TEXT_ARRAY) };
        session.rows("name the resources", SEED, &[list()]).await?;
        let what = "lock the resources";
        let rows = session.rows(what, HELD, &[list()]).await?;
        let read = |row| Held::of(row).map_err(|source| unreadable(session, what, source));
        let held = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let run = request.run.to_string();
        let alive: Vec<&Held> = held.iter().filter(|held| !held.left.is_zero()).collect();
        if let Some(other) = alive.iter().find(|held| held.run != run || !request.take_over) {
            return Ok(Grant::Refused(busy(other, request)));
        }
        if let Some(longest) = alive.iter().map(|held| held.left).max() {
            session.rows("tell the holder", CONTEST, &[list(), text(&run)]).await?;
            return Ok(Grant::Wait(longest));
        }
        let epoch = held.iter().map(|held| held.epoch).fold(request.above, Epoch::max).next();
        let (number, since, kept) = (signed(epoch.number()), request.at.millis(), self.kept());
        session.rows("free what the run held", FREE, &[text(&run), list()]).await?;
        let params = [list(), int(&number), text(&run), text(&request.holder), int(&since), int(&kept)];
        session.rows("grant a lease", GRANT, &params).await?;
        Ok(Grant::Given(Lease {
            keys: request.keys.clone(),
            run: request.run.clone(),
            epoch,
            holder: request.holder.clone(),
            since: request.at,
        }))
    }

    async fn holds(&self, lease: &Lease) -> Result<bool, OpenError> {
        let named = Named::of(lease);
        let rows = self.inner.lease.rows("see whose a lease is", MINE, &named.params()).await?;
        Ok(rows.len() == lease.keys.len())
    }
}

#[async_trait]
impl LeaseStore for PostgresStore {
    /// *Cancellation.* A dropped future may leave the keys granted to this run; they lapse, or are taken with `take_over`.
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        loop {
            let decided = self.decide(&request).await;
            match decided.map_err(|source| of_leases("give a lease", source))? {
                Grant::Given(lease) => return Ok(lease),
                Grant::Refused(busy) => return Err(busy),
                // Looked at again now and then: it may be given back before that.
                Grant::Wait(left) => tokio::time::sleep(left.min(LOOK_EVERY)).await,
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        let (named, kept) = (Named::of(lease), self.kept());
        let [run, epoch, holder, since] = named.params();
        let params = [run, epoch, holder, since, (&named.keys, Type::TEXT_ARRAY), int(&kept)];
        let rows = self.inner.lease.rows("renew a lease", RENEW, &params).await;
        let rows = rows.map_err(|source| of_leases("renew a lease", source))?;
        if rows.len() == lease.keys.len() {
            return Ok(self.inner.term);
        }
        Err(LeaseError::Lost { run: lease.run.clone() })
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        let named = Named::of(lease);
        let released = self.inner.lease.rows("give a lease back", RELEASE, &named.params()).await;
        released.map(drop).map_err(|source| of_leases("give a lease back", source))
    }

    /// By the server's clock: an engine that died counts as alive until its lease has lapsed.
    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        let (name, what) = (run.to_string(), "look for a holder");
        let rows = self.inner.lease.rows(what, DRIVEN, &[text(&name)]).await;
        let rows = rows.map_err(|source| of_leases(what, source))?;
        let driven = rows.first().map(|row| row.try_get(0)).transpose();
        let driven = driven.map_err(|source| LeaseError::Store { doing: what.into(), source: Box::new(source) })?;
        // No answer is no proof that nobody drives.
        Ok(driven.unwrap_or(true))
    }
}

fn busy(held: &Held, request: &LeaseRequest) -> LeaseError {
    LeaseError::Busy {
        key: held.key.clone(),
        run: held.run.parse().unwrap_or_else(|_| request.run.clone()),
        holder: held.holder.clone(),
        since: held.since,
    }
}

fn unreadable(session: &Session, what: &'static str, source: tokio_postgres::Error) -> OpenError {
    let server = session.label().to_owned();
    OpenError::Server(dr_sql::PgError::Query { server, what, source: Box::new(source) })
}

fn names(keys: &[ResourceAddress]) -> Vec<String> {
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
