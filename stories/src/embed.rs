//! Story 1: a platform service embeds the engine.

use std::path::Path;

use dr_engine::{
    Actor, Answer, Ask, Backend, Catalog, Digest, Engine, Error, Report, RunId, Start, Store, View,
    runbook::PlannedSwitchover,
};

/// Once, when the service starts.
pub async fn open(dir: &Path, backend: impl Backend) -> Result<Engine, Error> {
    let engine = Engine::open(dir.join("journal")) // journal, leases; refuses a network file system
        .leases(dir.join("leases"))
        .backend(backend) // answers for its prefix in group files
        .steps(Catalog::built_in())
        .start()
        .await?;
    let resumed = engine.resume().await?; // never behind your back: opening is not resuming
    for run in &resumed.runs {
        println!("{run} resumed");
    }
    for (run, why) in &resumed.broken {
        eprintln!("{run} is driven by nobody: {why}");
    }
    Ok(engine)
}

/// The same over a store of one's own, such as one that several hosts share (`dr_store_postgres::PostgresStore`).
pub async fn open_over(store: impl Into<Store>, backend: impl Backend) -> Result<Engine, Error> {
    Engine::over(store).backend(backend).unguarded().start().await
}

/// POST /switchovers
pub async fn begin(dr: &Engine, file: &Path, who: Actor, change: &str) -> Result<RunId, Error> {
    let group = dr.group(file)?; // parsed, ids resolved, no call made
    let plan = dr.plan(&group, PlannedSwitchover::to("weu")).await?; // looks, changes nothing; verified or refused
    println!("{}", plan.preview()); // same text as the terminal's
    let run = dr.start(plan, Start::by(who).because(change)).await?; // Busy { run, by, since } if the group is taken
    Ok(run.id().clone()) // "orders-17": a name a tired person can type
}

/// GET /runs/{id}/live
pub async fn follow(dr: &Engine, id: &RunId, ui: &mut (dyn FnMut(&View) + Send)) -> Result<Report, Error> {
    let run = dr.run(id)?;
    let mut watch = run.watch();
    while let Some(view) = watch.next().await? {
        // The whole truth each time: nothing to fold.
        ui(&view);
    }
    run.report().await
}

/// POST /runs/{id}/answers      `seen` travelled through the browser with the question it belongs to
pub async fn answer(dr: &Engine, id: &RunId, who: Actor, seen: Digest, choice: &str) -> Result<Ask, Error> {
    dr.run(id)?.answer(Answer::choose(choice, seen, who)).await
}
