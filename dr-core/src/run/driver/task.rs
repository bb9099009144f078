//! The things that the driver waits for, each a future that ends in one [`Happened`].

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::future::{Either, join_all, select};
use serde_json::Value;

use super::Drive;
use crate::{
    base::{Json, Millis, Mono, NodeId},
    contract::{
        AppReading, AppTier, Cause, Fact, Outcome, Runtime, Touch, Tri,
        contain::{self, NoAnswer},
    },
    plan::{Observed, Polled, Prepared, StepCx, StepError, StepErrorClass, catalog::ErasedHandler},
    run::InboxRow,
};

/// A thing to wait for.
pub(super) type Job = Pin<Box<dyn Future<Output = Happened> + Send>>;

/// What happened.
pub(super) enum Happened {
    /// A step was prepared.
    Prepared(PreparedStep),
    /// A call answered, or was given up on (`None`).
    Submitted { node: NodeId, result: Option<Result<Outcome<Json>, StepError>>, calls: Vec<Touch> },
    /// A look ended.
    Looked { node: NodeId, began: Mono, result: Result<Observed<Json>, StepError> },
    /// An operation was looked at.
    Polled { node: NodeId, began: Mono, result: Result<Polled<Json>, StepError> },
    /// The facts of a question were read.
    Gathered { node: NodeId, result: Result<Vec<Fact>, StepError> },
    /// A question may have expired.
    AskTimer { node: NodeId },
    /// A drain may have outlived its budget; or writes were seen to flow.
    GapTimer { flow: bool },
    /// Something was posted; all rows of the inbox, as they are now.
    Inbox { rows: Vec<InboxRow> },
    /// The lease is to be renewed.
    Renew,
}

/// A step that was prepared.
pub(super) struct PreparedStep {
    pub(super) node: NodeId,
    pub(super) params: Value,
    pub(super) result: Result<Prepared<Json>, StepError>,
    /// What of the consent does not hold any more.
    pub(super) voided: Vec<String>,
}

/// A step, ready to be handled.
pub(super) struct Work {
    pub(super) node: NodeId,
    pub(super) cx: StepCx,
    pub(super) params: Value,
    pub(super) handler: Arc<dyn ErasedHandler>,
    pub(super) from: Mono,
    /// How long one call of the handler may take.
    pub(super) limit: Millis,
}

/// One call of a handler that only looks. One that does not answer in time, or panics, says nothing: what is true is then looked at
/// again, and the step's own deadline decides when that is over. Without this a client without a timeout would hold the run, and all
/// that it holds, for ever.
pub(super) async fn bounded<T>(
    runtime: &dyn Runtime,
    limit: Millis,
    call: impl Future<Output = Result<T, StepError>> + Send,
) -> Result<T, StepError> {
    contain::within(runtime, limit, call).await.unwrap_or_else(|silent| {
        Err(match silent {
            NoAnswer::Panic(words) => nobody_knows(format!("its handler panicked: {words}")),
            late @ NoAnswer::Late(_) => nobody_knows(format!("its handler gave {late}")),
        })
    })
}

fn nobody_knows(why: String) -> StepError {
    StepError { class: StepErrorClass::Unknown, cause: Cause::new(why) }
}

async fn until(runtime: &dyn Runtime, from: Mono) {
    if runtime.now_mono() < from {
        runtime.sleep_until(from).await;
    }
}

pub(super) fn look(runtime: Arc<dyn Runtime>, work: Work) -> Job {
    Box::pin(async move {
        until(runtime.as_ref(), work.from).await;
        let began = runtime.now_mono();
        let look = work.handler.observe(&work.cx, &work.params);
        let result = bounded(runtime.as_ref(), work.limit, look).await;
        Happened::Looked { node: work.node, began, result }
    })
}

pub(super) fn gather(runtime: Arc<dyn Runtime>, work: Work) -> Job {
    Box::pin(async move {
        until(runtime.as_ref(), work.from).await;
        let gather = super::asking::gather(work.handler.as_ref(), &work.cx, &work.params);
        let result = bounded(runtime.as_ref(), work.limit, gather).await;
        Happened::Gathered { node: work.node, result }
    })
}

pub(super) fn poll(runtime: Arc<dyn Runtime>, work: Work, handle: crate::contract::OpHandle) -> Job {
    Box::pin(async move {
        until(runtime.as_ref(), work.from).await;
        let began = runtime.now_mono();
        let poll = work.handler.poll(&work.cx, &work.params, &handle);
        let result = bounded(runtime.as_ref(), work.limit, poll).await;
        Happened::Polled { node: work.node, began, result }
    })
}

/// Checks the consent, if this is the first change, then prepares.
pub(super) fn prepare<F>(runtime: Arc<dyn Runtime>, work: Work, consent: F) -> Job
where
    F: Future<Output = Result<Vec<String>, StepError>> + Send + 'static,
{
    Box::pin(async move {
        until(runtime.as_ref(), work.from).await;
        let node = work.node;
        let params = work.params;
        let (result, voided) = match bounded(runtime.as_ref(), work.limit, consent).await {
            Err(error) => (Err(error), Vec::new()),
            Ok(voided) if voided.is_empty() => {
                let prepare = work.handler.prepare(&work.cx, &params);
                (bounded(runtime.as_ref(), work.limit, prepare).await, voided)
            }
            Ok(voided) => (
                Ok(Prepared::NotReady(crate::contract::NotDone {
                    cause: crate::contract::Cause::new("the consent does not hold any more"),
                    retry: crate::contract::Retry::After(Millis::ZERO),
                })),
                voided,
            ),
        };
        Happened::Prepared(PreparedStep { node, params, result, voided })
    })
}

/// Sends once, in a task of its own that lives on when nobody waits for it any more.
pub(super) fn submit(runtime: Arc<dyn Runtime>, work: Work, timeout: std::time::Duration) -> Job {
    let (answer, wait) = futures_channel::oneshot::channel();
    let Work { node, cx, params, handler, .. } = work;
    let gate = cx.gate.clone();
    runtime.spawn_detached(Box::pin(async move {
        let sent = contain::caught(handler.submit(&cx, &params)).await;
        let result = sent.unwrap_or_else(|panic| Err(nobody_knows(format!("its handler was to send: {panic}"))));
        // Nobody may be waiting any more: then an observation finds out what became of it.
        drop(answer.send(result));
    }));
    Box::pin(async move {
        let limit = runtime.sleep_until(Mono::new(runtime.now_mono().since_start().saturating_add(timeout)));
        let result = match select(wait, limit).await {
            Either::Left((Ok(result), _)) => Some(result),
            Either::Left((Err(_), _)) => None,
            Either::Right(_) => {
                // Sent or not: from here on a look decides, so nothing of this call may leave any more.
                gate.close();
                None
            }
        };
        let passed = gate.calls().into_iter().filter(|call| call.refused.is_none());
        let calls = passed.map(|call| call.touch).collect();
        Happened::Submitted { node, result, calls }
    })
}

pub(super) fn ask_timer(runtime: Arc<dyn Runtime>, node: NodeId, left: Millis) -> Job {
    Box::pin(async move {
        runtime.sleep_until(runtime.now_mono() + left).await;
        Happened::AskTimer { node }
    })
}

/// How long a look at the applications may take when the budget is over.
const GAP_LOOK: Millis = Millis::seconds(2);

pub(super) fn gap(drive: &Drive, left: Millis, apps: Vec<Arc<dyn AppTier>>) -> Job {
    let runtime = Arc::clone(&drive.runtime);
    Box::pin(async move {
        runtime.sleep_until(runtime.now_mono() + left).await;
        let looks = apps.iter().map(|app| contain::within(runtime.as_ref(), GAP_LOOK, async { app.read().await }));
        let readings = join_all(looks).await;
        let flows = |reading| matches!(reading, Ok(Ok(AppReading { drained: Tri::No, .. })));
        Happened::GapTimer { flow: !apps.is_empty() && readings.into_iter().all(flows) }
    })
}

pub(super) fn renew(drive: &Drive, left: Millis) -> Job {
    let runtime = Arc::clone(&drive.runtime);
    Box::pin(async move {
        runtime.sleep_until(runtime.now_mono() + left).await;
        Happened::Renew
    })
}

/// Waits until there are more rows than the `seen` ones. The mark is taken before the read, so that nothing that is posted meanwhile is
/// missed.
pub(super) fn inbox(drive: &Drive, seen: usize) -> Job {
    let journal = Arc::clone(&drive.journal);
    let runtime = Arc::clone(&drive.runtime);
    let run = drive.run.clone();
    Box::pin(async move {
        loop {
            let mark = journal.mark(&run);
            match journal.inbox(&run).await {
                Ok(rows) if rows.len() > seen => return Happened::Inbox { rows },
                Ok(_) => journal.changed(&run, mark).await,
                // Rows stay: what cannot be read now is read later.
                Err(_) => runtime.sleep_until(runtime.now_mono() + Millis::seconds(1)).await,
            }
        }
    })
}
