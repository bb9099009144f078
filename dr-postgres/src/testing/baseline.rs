//! The bare sequence without any orchestrator: what PostgreSQL and PgBouncer themselves need. Everything that can be done before the
//! gap is done before it: sessions are open, checkpoints are written; inside it every wait looks each 2 ms.

use std::time::Duration;

use dr_sql::{PgError, Session};
use tokio::time::{Instant, sleep};

use super::Node;
use crate::{pgbouncer::PgBouncer, server::POLL};

/// How long each part of the bare sequence took.
#[derive(Clone, Copy, Debug, Default)]
pub struct BaselineTimes {
    /// PAUSE.
    pub pause: Duration,
    /// Fast stop of the old primary.
    pub stop: Duration,
    /// Reading the control file and waiting for replay.
    pub proof: Duration,
    /// Promotion, until the new primary is seen out of recovery.
    pub promote: Duration,
    /// RELOAD and RESUME.
    pub resume: Duration,
}

impl BaselineTimes {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.pause + self.stop + self.proof + self.promote + self.resume
    }
}

/// Switches from `old` to `new` with nothing but the servers' own verbs. The old primary is left stopped.
///
/// # Errors
/// Any part fails; nothing is put back, this is a measurement.
pub async fn bare_switchover(old: &Node, new: &Node, pooler: Option<&PgBouncer>) -> Result<BaselineTimes, PgError> {
    let (on_old, on_new) = (Session::open(&old.admin).await?, Session::open(&new.admin).await?);
    settle(&on_old, &on_new, pooler).await?;
    let mut times = BaselineTimes::default();
    let mut begun = Instant::now();
    let mut lap = || std::mem::replace(&mut begun, Instant::now()).elapsed();
    if let Some(pooler) = pooler {
        pooler.pause(LIMIT).await?;
    }
    times.pause = lap();
    old.server.stop_fast(LIMIT).await?;
    times.stop = lap();
    await_proof(old, new, &on_new).await?;
    times.proof = lap();
    promote(&on_new).await?;
    times.promote = lap();
    if let Some(pooler) = pooler {
        pooler.point_at(&new.admin.host, new.port).await?;
        pooler.resume().await?;
    }
    times.resume = lap();
    Ok(times)
}

async fn settle(on_old: &Session, on_new: &Session, pooler: Option<&PgBouncer>) -> Result<(), PgError> {
    on_new.shorten_retrieve_retry(Duration::from_millis(100)).await?;
    on_old.checkpoint().await?;
    on_new.checkpoint().await?;
    on_old.checkpoint().await?;
    match pooler {
        Some(pooler) => pooler.check().await,
        None => Ok(()),
    }
}

async fn promote(on_new: &Session) -> Result<(), PgError> {
    on_new.request_promotion().await?;
    while on_new.in_recovery().await? {
        sleep(POLL).await;
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(30);

/// The old primary stopped cleanly, and the new one has replayed past its shutdown checkpoint.
async fn await_proof(old: &Node, new: &Node, on_new: &Session) -> Result<(), PgError> {
    let refuse = |why: String| PgError::Refused { server: new.name.clone(), why };
    let end = old.server.control_data().await?;
    if !end.is_clean_primary_stop() {
        return Err(refuse(format!("{} did not stop cleanly: {:?}", old.name, end.state)));
    }
    let waited = Instant::now();
    while on_new.replayed().await?.is_none_or(|replayed| replayed <= end.checkpoint) {
        if waited.elapsed() > LIMIT {
            return Err(refuse(format!("it has not replayed past {}", end.checkpoint)));
        }
        sleep(POLL).await;
    }
    Ok(())
}
