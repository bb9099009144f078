//! The engine of the demonstration, and its drain guard.

use std::{path::Path, str::FromStr as _, time::Instant};

use dr_core::{
    Actor, Answer, Backend, Catalog, Grade, PlannedSwitchover, Report, RunId,
    contract::FenceReceipt,
    plan::Verified,
    run::{Event, RunOutcome},
};
use dr_engine::{Engine, EngineBuilder, Run, Start};
use dr_postgres::Postgres;

use crate::Failure;

fn builder(journal: &Path, leases: &Path) -> EngineBuilder {
    builder_with(journal, leases, Postgres::new())
}

/// The same engine with another backend in PostgreSQL's place.
pub(crate) fn builder_with(journal: &Path, leases: &Path, backend: impl Backend) -> EngineBuilder {
    Engine::open(journal).leases(leases).backend(backend).steps(Catalog::built_in())
}

/// An engine whose drains are guarded by this very program.
pub(crate) async fn open(journal: &Path, leases: &Path) -> Result<Engine, Failure> {
    let program = std::env::current_exe()?;
    Ok(builder(journal, leases).guarded_by(program, []).start().await?)
}

/// `__guard --journal DIR --leases DIR --run RUN`
pub(crate) async fn guard(words: &[String]) -> Result<(), Failure> {
    let value =
        |name: &str| words.iter().skip_while(|word| *word != name).nth(1).ok_or_else(|| format!("{name} is missing"));
    let run = RunId::from_str(value("--run")?)?;
    builder(Path::new(value("--journal")?), Path::new(value("--leases")?)).guard(&run).await?;
    Ok(())
}

/// Looks, and writes the plan of a switchover to `to`.
pub(crate) async fn plan(engine: &Engine, group: &Path, to: &str) -> Result<Verified, Failure> {
    let group = engine.group(group)?;
    Ok(engine.plan(&group, PlannedSwitchover::to(to)).await?)
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) outcome: RunOutcome,
    pub(crate) report: Report,
    /// The grade at which the former primary was read back as fenced.
    pub(crate) fence: Option<Grade>,
    /// From the start of the run to its end, rejoin included.
    pub(crate) took: std::time::Duration,
}

/// Starts a plan and waits for its end; `approver` says yes when the run asks.
pub(crate) async fn start(engine: &Engine, plan: Verified, approver: &str) -> Result<Switched, Failure> {
    let begun = Instant::now();
    let run = engine
        .start(
            plan,
            Start::by(Actor::local("planner").authenticated("the example", "planner")).because("demonstration"),
        )
        .await?;
    let outcome = follow(&run, approver, None, |_| {}).await?;
    let took = begun.elapsed();
    Ok(Switched { outcome, report: run.report().await?, fence: fence(&run).await?, took })
}

/// What the journal says of the fence.
async fn fence(run: &Run) -> Result<Option<Grade>, Failure> {
    let mut events = run.events(0);
    while let Some(record) = events.next().await? {
        if let Event::Finished { node, output, .. } = record.event
            && node.as_str() == "fence"
        {
            let receipt: FenceReceipt = serde_json::from_value(output.0)?;
            return Ok(Some(receipt.grade()));
        }
    }
    Ok(None)
}

/// Watches a run to its end and answers its question. When it parks, `decider` takes the first choice that it offers; without one
/// that is an error.
pub(crate) async fn follow(
    run: &Run,
    approver: &str,
    decider: Option<&str>,
    mut tell: impl FnMut(&dr_core::View),
) -> Result<RunOutcome, Failure> {
    let mut watch = run.watch();
    let mut answered = None;
    while let Some(view) = watch.next().await? {
        tell(&view);
        if let (Some(ask), Some(digest)) = (&view.ask, view.ask_digest)
            && answered != Some(digest)
        {
            let parked = || format!("{} parked: {}", run.id(), ask.question);
            let (choice, who) = match (ask.kind, decider) {
                (dr_core::run::AskKind::Consent | dr_core::run::AskKind::Waiver, _) => (dr_core::APPROVE, approver),
                (dr_core::run::AskKind::Park, Some(decider)) => {
                    (ask.choices.first().ok_or_else(parked)?.name.as_str(), decider)
                }
                (dr_core::run::AskKind::Park, None) => return Err(parked().into()),
            };
            run.answer(Answer::choose(choice, digest, Actor::local(who).authenticated("the example", who))).await?;
            answered = Some(digest);
        }
        if let Some(outcome) = view.outcome() {
            return Ok(outcome.clone());
        }
    }
    Err(format!("{} ended without an outcome", run.id()).into())
}
