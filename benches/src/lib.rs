//! What the benchmarks share.

use dr_core::{
    Catalog, PlannedSwitchover, RunId, Situation, Timestamp,
    base::Epoch,
    run::{Event, Head, Line, Record},
};
use dr_testkit::{RunEnd, Stage, sim};

/// A simulated pair on virtual time, in which clients have been writing for a second.
#[must_use]
pub fn stage() -> Stage {
    Stage::new(sim::pair("orders", "neu", "weu"))
}

/// Plans a planned switchover on `stage`, and drives it to its end.
///
/// # Panics
/// It was refused: then the benchmark measures nothing.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark may stop when its own fixture is wrong")]
pub fn switch_over(stage: &Stage) -> RunEnd {
    let plan = stage.plan(&PlannedSwitchover::to("weu"), &Catalog::built_in()).expect("nothing speaks against it");
    stage.drive(&plan, &Catalog::built_in)
}

/// The journal of a planned switchover that went well.
///
/// # Panics
/// It did not go well.
#[must_use]
pub fn recorded() -> (RunId, Vec<Line>) {
    let stage = stage();
    let end = switch_over(&stage);
    assert_eq!(end.class(), "success", "{}", end.words());
    (stage.run.clone(), stage.journal.lines(&stage.run))
}

/// What a look at the simulated pair finds.
///
/// # Panics
/// The look failed.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark may stop when its own fixture is wrong")]
pub fn situation() -> Situation {
    let stage = stage();
    let looked = stage.runtime.run(async {
        let providers = stage.cloud.providers();
        let group = stage.cloud.group().expect("the group is well formed");
        let survey = stage.cloud.survey(group, providers.as_ref()).await.expect("everything is there");
        survey.situation().await.expect("the pair is in order")
    });
    looked.expect("it ends")
}

/// The next line of a journal that ends at `head`: an event of a usual size.
///
/// # Panics
/// Never: the event has a canonical form.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark may stop when its own fixture is wrong")]
pub fn next_line(head: Head) -> Line {
    let event =
        Event::LeaseTaken { holder: "an engine on a host, with a name of a usual length, process 48121".into() };
    let record = Record::after(head, Timestamp::from_millis(1_790_000_000_000), Epoch::new(1), event);
    record.line().expect("the event has a canonical form")
}

/// The middle one.
#[must_use]
pub fn median(mut of: Vec<std::time::Duration>) -> std::time::Duration {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or_default()
}
