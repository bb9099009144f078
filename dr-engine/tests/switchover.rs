//! The built-in runbooks through the public API, on tokio, SQLite and a simulated pair.

mod common;

use std::sync::{Arc, Mutex};

use common::{House, answer};
use dr_core::{
    Backend, GroupSpec, Notifier, ProviderError,
    base::known,
    contract::{ConfigError, Loss, MemberSpec, Notice, NotifySpec, Provider},
    plan::{PromotionOnly, Redirect, RejoinStandby},
    run::{DebtId, DebtKind, RunOutcome},
};
use dr_engine::{
    APPROVE, Actor, Engine, Error, Group, Start,
    runbook::{PlannedSwitchover, UnplannedFailover},
};
use dr_testkit::{Drift, FailsHow, Fault, FaultPlan};

fn mira() -> Start {
    Start::by(Actor::local("mira").authenticated("a test", "mira")).because("CHG-4711")
}

/// Covers C01 and story 1: there and back again, nothing lost, and the second preview knows the new writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_changes_its_writer_there_and_back() {
    let house = House::new();
    let engine = house.watching().await;
    let group = house.group(&engine);
    for (from, to) in [("neu", "weu"), ("weu", "neu")] {
        let plan = engine.plan(&group, PlannedSwitchover::to(to)).await.unwrap();
        assert_eq!(plan.plan().expects.member.as_str(), from);
        assert!(plan.preview().contains(&format!("{from} -> {to}")), "{}", plan.preview());
        house.cloud.run_begins();
        let run = engine.start(plan, mira()).await.unwrap();
        answer(&run, "ana", APPROVE).await.unwrap();
        let outcome = run.wait().await.unwrap();
        assert!(outcome.success(), "{outcome:?}\n{}", run.report().await.unwrap());
        let report = run.report().await.unwrap();
        assert_eq!(report.lost, Loss::Nothing);
        assert!(report.write_gap.is_some());
        house.cloud.look(|truth| {
            assert_eq!(truth.primary().unwrap().as_str(), to);
            assert_eq!(truth.lost_acknowledged(), []);
        });
        assert_eq!(engine.status(&group).await.unwrap().writer.unwrap().as_str(), to);
    }
    assert_eq!(house.cloud.violations(), []);
}

/// A promotion that leaves the applications out says what is owed; a redirect does it, and closes the debts. What nobody has to do any
/// more, a person closes with a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_alone_leaves_debts_that_a_redirect_closes() {
    let house = House::new();
    let engine = house.watching().await;
    let group = house.group(&engine);
    let plan = engine.plan(&group, PromotionOnly::to("weu", "the shop team moves its own clients")).await.unwrap();
    let preview = plan.preview();
    assert!(preview.contains("leaves out") && preview.contains("the shop team moves its own clients"), "{preview}");
    house.cloud.run_begins();
    let run = engine.start(plan, mira()).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(matches!(outcome, RunOutcome::SucceededWithDebt { .. }), "{outcome:?}");
    let debts = engine.debts(Some(&group.spec().name)).await.unwrap();
    assert!(debts.iter().all(|debt| debt.kind == DebtKind::Point) && debts.len() >= 2, "{debts:?}");
    assert_eq!(engine.status(&group).await.unwrap().debts, debts);

    let unknown = engine.close_debt(&DebtId::new("orders-9/rejoin"), Actor::local("ana"), "gone").await.unwrap_err();
    assert!(unknown.to_string().contains("no run left such a debt"), "{unknown}");
    let first = debts.first().unwrap().id.clone();
    let silent = engine.close_debt(&first, Actor::local("ana"), "  ").await.unwrap_err();
    assert!(silent.to_string().contains("say why"), "{silent}");
    engine.close_debt(&first, Actor::local("ana"), "the clients of this one are gone").await.unwrap();
    let again = engine.close_debt(&first, Actor::local("ben"), "me too").await.unwrap_err();
    assert!(again.to_string().contains("ana has closed it"), "{again}");
    assert_eq!(engine.debts(None).await.unwrap().len(), debts.len() - 1);

    let plan = engine.plan(&group, Redirect::to("weu")).await.unwrap();
    house.cloud.run_begins();
    let run = engine.start(plan, mira()).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(matches!(outcome, RunOutcome::Succeeded), "{outcome:?}\n{}", run.report().await.unwrap());
    assert_eq!(engine.debts(None).await.unwrap(), []);
    assert_eq!(house.cloud.violations(), []);
}

/// A former primary behind a network rule follows nobody and calls itself a primary: every later plan of the group was refused for two
/// writers, also the one that would have made it a standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_fenced_former_primary_forbade_every_later_plan() {
    let house = House::behind_a_network_rule();
    let engine = house.watching().await;
    let group = house.group(&engine);
    let fails = |plan: FaultPlan, nth| plan.and(format!("neu.rejoin#{nth}"), Fault::OperationFails(FailsHow::Absent));
    house.cloud.faults((1..=9).fold(FaultPlan::none(), fails));
    let run = engine.start(engine.plan(&group, PlannedSwitchover::to("weu")).await.unwrap(), mira()).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(matches!(outcome, RunOutcome::SucceededWithDebt { .. }), "{outcome:?}");
    house.cloud.faults(FaultPlan::none());

    let status = engine.status(&group).await.unwrap();
    assert_eq!(status.writer.as_ref().map(|name| name.as_str()), Some("weu"), "{:?}", status.findings);
    assert!(status.findings.is_empty(), "{:?}", status.findings);
    let back = engine.plan(&group, PlannedSwitchover::to("neu")).await.unwrap_err();
    assert!(back.to_string().contains("DR213"), "its history is another one: {back}");

    let rejoin = engine.plan(&group, RejoinStandby::of("neu")).await.unwrap();
    assert_eq!(rejoin.plan().expects.member.as_str(), "weu");

    house.cloud.drift(Drift::Fence);
    let again = engine.plan(&group, RejoinStandby::of("neu")).await.unwrap_err();
    assert!(again.to_string().contains("DR208") && again.to_string().contains("orders-1"), "{again}");
    let status = engine.status(&group).await.unwrap();
    assert_eq!(status.writer.as_ref().map(|name| name.as_str()), Some("weu"));
    assert_eq!(status.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [known::FORMER_WRITES.number]);
}

/// Whether `member` receives from `writer` on the present history.
fn follows(house: &House, member: &str, writer: &str) -> bool {
    house.cloud.look(|truth| {
        truth.member(member).is_some_and(|found| {
            found.follows() == Some(&writer.into()) && found.is_streaming() && found.lineage() == truth.lineage()
        })
    })
}

/// A planned switchover of a group with a follower and a reader: the follower is taken along, the reader is left where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_four_changes_its_writer_and_takes_its_follower_along() {
    let house = House::of_four();
    let engine = house.watching().await;
    let group = house.group(&engine);
    for (from, to) in [("neu", "weu"), ("weu", "neu")] {
        let plan = engine.plan(&group, PlannedSwitchover::to(to)).await.unwrap();
        assert!(plan.preview().contains("let uks follow the writer"), "{}", plan.preview());
        assert!(!plan.plan().bindings.contains_key(&"bi".into()));
        house.cloud.run_begins();
        let run = engine.start(plan, mira()).await.unwrap();
        answer(&run, "ana", APPROVE).await.unwrap();
        let outcome = run.wait().await.unwrap();
        assert_eq!(outcome, RunOutcome::Succeeded, "{}", run.report().await.unwrap());
        assert!(follows(&house, "uks", to) && follows(&house, from, to));
        let refused = engine.plan(&group, PlannedSwitchover::to("uks")).await.unwrap_err();
        assert!(refused.to_string().contains("DR243"), "{refused}");
    }
    assert_eq!(house.cloud.violations(), []);
}

/// Lets the watcher, which works once a second, keep two samples of the writer.
#[expect(clippy::unwrap_used, reason = "a test")]
async fn watched(engine: &Engine, group: &Group) {
    engine.situation(group).await.unwrap();
    engine.sample(group.spec());
    let mut kept = 0;
    while kept < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        kept = engine.samples(group).await.unwrap().iter().filter(|sample| sample.primary.is_some()).count();
    }
}

/// A forced failover of the same group: the run ends with the former primary as its only debt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_four_fails_over_and_takes_its_follower_along() {
    let house = House::of_four();
    let engine = house.watching().await;
    let group = house.group(&engine);
    watched(&engine, &group).await;
    house.cloud.break_down("neu");
    house.cloud.run_begins();
    let plan = engine.plan(&group, UnplannedFailover::to("weu")).await.unwrap();
    let run = engine.start(plan, mira()).await.unwrap();
    let ask = answer(&run, "ana", APPROVE).await.unwrap();
    assert!(ask.facts.iter().any(|fact| fact.name == "other standbys" && fact.value.starts_with("uks ")), "{ask:?}");
    let outcome = run.wait().await.unwrap();
    assert!(outcome.success(), "{outcome:?}\n{}", run.report().await.unwrap());
    assert!(follows(&house, "uks", "weu"));
    house.cloud.look(|truth| assert_eq!(truth.primary().unwrap().as_str(), "weu"));
    assert_eq!(house.cloud.violations(), []);
}

/// Covers "an embedder without a guard must choose `unguarded` by name", and a guard that does not come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_drain_without_somebody_who_ends_it() {
    let house = House::that_drains_for_ever();
    let engine = house.guarded(None).start().await.unwrap();
    let group = house.group(&engine);
    let findings = engine.check(&group).await.unwrap();
    assert!(findings.iter().any(|finding| finding.rule == known::NO_GUARD.number), "{findings:?}");
    let plan = engine.plan(&group, PlannedSwitchover::to("weu")).await.unwrap();
    let refused = engine.start(plan, mira()).await.unwrap_err();
    assert!(refused.is_refusal() && refused.to_string().contains("DR601"), "{refused}");
    assert!(engine.runs().await.unwrap().is_empty());
    drop(engine);

    let engine = house.guarded(Some("false")).start().await.unwrap();
    let plan = engine.plan(&group, PlannedSwitchover::to("weu")).await.unwrap();
    let failed = engine.start(plan, mira()).await.unwrap_err();
    assert!(matches!(&failed, Error::Guard { .. }), "{failed}");
    let run = engine.run(&"orders-1".parse().unwrap()).unwrap();
    assert!(matches!(run.wait().await.unwrap(), RunOutcome::Cancelled { .. } | RunOutcome::Refused { .. }));
    house.cloud.look(|truth| assert!(truth.app().is_open() && truth.primary().unwrap().as_str() == "neu"));
}

/// Covers C11 and D24: the primary is silent, this engine never saw it alive, and the loss still has a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_primary_is_failed_over_from_what_was_kept() {
    let house = House::new();
    let engine = house.watching().await;
    let group = house.group(&engine);
    watched(&engine, &group).await;
    engine.close().await;
    house.cloud.lose_region("neu");

    let engine = house.watching().await;
    let unfenced = UnplannedFailover::to("weu").without_fence("the region is lost, and its fence with it");
    let plan = engine.plan(&house.group(&engine), unfenced).await.unwrap();
    let expects = &plan.plan().expects;
    assert_eq!(expects.member.as_str(), "neu", "the last writer is remembered");
    assert!(expects.identity.is_some(), "which resource it was, too: {expects}");
}

/// A bell of a backend that rings bells.
#[derive(Clone, Debug, Default)]
struct Bells(Arc<Mutex<Vec<(String, Notice)>>>);

#[derive(Debug)]
struct Bell {
    name: String,
    rings: Bells,
}

#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

#[expect(clippy::unwrap_used, reason = "a test")]
#[async_trait::async_trait]
impl Notifier for Bell {
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError> {
        self.rings.0.lock().unwrap().push((self.name.clone(), notice));
        Ok(())
    }
}

impl Backend for Bells {
    fn prefix(&self) -> &'static str {
        "bells"
    }

    fn open(&self, _group: &GroupSpec, member: &MemberSpec) -> Result<Provider, ConfigError> {
        Err(member.at.fault("name", "rings, and opens no database"))
    }

    fn notifier(&self, _group: &GroupSpec, notify: &NotifySpec) -> Result<Arc<dyn Notifier>, ConfigError> {
        let Named { name } = notify.at.read()?;
        Ok(Arc::new(Bell { name, rings: self.clone() }))
    }
}

/// `[notify]` of a group file reached nobody, while the step that tells people showed a check mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_the_group_file_says_who_is_told() {
    let house = House::new();
    let bells = Bells::default();
    house.says("[[notify]]\nwith = \"bells\"\nat = { name = \"all\" }\n");
    house.says("[[notify]]\nwith = \"bells\"\nonly = \"urgent\"\nat = { name = \"urgent\" }\n");
    let nobody = house.engine().await;
    let refused = nobody.group(house.dir.path().join("orders.toml")).unwrap_err().to_string();
    assert!(refused.contains("`bells`, and no backend answers for that"), "{refused}");
    nobody.close().await;

    let engine = house.builder("journal").backend(bells.clone()).start().await.unwrap();
    let group = house.group(&engine);
    house.cloud.run_begins();
    let plan = engine.plan(&group, PlannedSwitchover::to("weu")).await.unwrap();
    let run = engine.start(plan, mira()).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    assert!(run.wait().await.unwrap().success());
    let rings = bells.0.lock().unwrap().clone();
    let of = |name: &str| rings.iter().filter(|(bell, _)| bell == name).map(|(_, notice)| notice).collect::<Vec<_>>();
    assert!(of("all").iter().any(|notice| notice.text.contains("applications write again")), "{rings:?}");
    assert!(of("urgent").iter().all(|notice| notice.urgent), "{rings:?}");
    let mut keys: Vec<&str> = of("all").iter().map(|notice| notice.key.as_str()).collect();
    let told = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), told, "each notice once: {keys:?}");
}
