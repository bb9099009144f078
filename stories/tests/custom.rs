//! Story 2 on the simulated cloud: the runbook of a database team, with its own steps, run by the stock engine.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use dr_core::{APPROVE, Actor, Answer, Catalog, contract::{Query, Rows}, Runbook as _, show::Standing, run::RunOutcome};
use dr_engine::{Engine, Start, TokioRuntime};
use dr_stories::acme::{ConsumerControl, ConsumerSwitch, ControlError, LedgerComparer, SettledSwitchover};
use dr_testkit::{Setup, SimCloud};

#[derive(Default)]
struct Kafka {
    paused: AtomicBool,
    was_paused: AtomicBool,
}

#[async_trait]
impl ConsumerControl for Kafka {
    async fn set(&self, _group: &str, running: bool) -> Result<(), ControlError> {
        self.paused.store(!running, Ordering::SeqCst);
        self.was_paused.fetch_or(!running, Ordering::SeqCst);
        Ok(())
    }

    async fn is_running(&self, _group: &str) -> Result<bool, ControlError> {
        Ok(!self.paused.load(Ordering::SeqCst))
    }
}

fn runbook() -> SettledSwitchover {
    let ledger = Query::new("ledger-total", "select sum(amount) from ledger");
    SettledSwitchover { consumers: "billing".into(), ledger }
}

async fn stage(dir: &std::path::Path, group: &str) -> (SimCloud, Arc<Kafka>, Engine, std::path::PathBuf) {
    let cloud = SimCloud::new(Setup::pair("orders", "neu", "weu").fast(), Arc::new(TokioRuntime::current().unwrap()));
    cloud.answer("ledger-total", |member| Rows::one(member.acknowledged().count()));
    let kafka = Arc::new(Kafka::default());
    let control: Arc<dyn ConsumerControl> = Arc::<Kafka>::clone(&kafka);
    let engine = Engine::open(dir.join("journal"))
        .leases(dir.join("leases"))
        .backend(cloud.backend())
        .steps(Catalog::built_in().with(ConsumerSwitch(control)).looking(LedgerComparer))
        .start()
        .await
        .unwrap();
    let file = dir.join("orders.toml");
    std::fs::write(&file, group).unwrap();
    (cloud, kafka, engine, file)
}

const GROUP: &str = include_str!("../groups/orders.toml");

#[tokio::test(flavor = "multi_thread")]
async fn the_consumers_are_paused_while_the_writer_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, kafka, dr, file) = stage(dir.path(), GROUP).await;
    let plan = dr.plan(&dr.group(file).unwrap(), runbook()).await.unwrap();
    let preview = plan.preview();
    assert!(preview.contains("pause consumer group billing"), "{preview}");
    let mira = Actor::local("mira").authenticated("https://login.example.com", "mira");
    let run = dr.start(plan, Start::by(mira).because("CHG-4711")).await.unwrap();
    let mut people = vec![("ben", "service-owner"), ("ana", "dba")];
    let mut watch = run.watch();
    while let Some(view) = watch.next().await.unwrap() {
        assert!(!matches!(view.state, Standing::Parked), "{view}");
        if let (Standing::Asking, Some(digest)) = (&view.state, view.ask_digest)
            && let Some((name, role)) = people.pop()
        {
            let person = Actor::local(name).with_role(role).authenticated("https://login.example.com", name);
            run.answer(Answer::choose(APPROVE, digest, person)).await.unwrap();
        }
    }
    let report = run.report().await.unwrap();
    assert_eq!(report.outcome, Some(RunOutcome::Succeeded), "{report}");
    assert!(kafka.was_paused.load(Ordering::SeqCst), "the consumers were never paused");
    assert!(!kafka.paused.load(Ordering::SeqCst), "the consumers were not started again");
    cloud.look(|truth| {
        assert_eq!(truth.lost_acknowledged(), []);
        assert_eq!(truth.primary().unwrap(), "weu".into());
        assert_eq!(truth.violations(), []);
    });
}

/// What a step of one's own may touch stands in the group file, or a rule refuses the plan (A01, E11).
#[tokio::test(flavor = "multi_thread")]
async fn a_touch_that_the_group_does_not_allow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let without: String =
        GROUP.lines().filter(|line| !line.starts_with("allow")).map(|line| format!("{line}\n")).collect();
    let (_cloud, kafka, dr, file) = stage(dir.path(), &without).await;
    let refused = dr.plan(&dr.group(file).unwrap(), runbook()).await.unwrap_err();
    assert!(refused.to_string().contains("kafka:billing"), "{refused}");
    assert!(!kafka.was_paused.load(Ordering::SeqCst));
    assert_eq!(runbook().id().name(), "acme.settled-switchover");
}
