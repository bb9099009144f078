//! What people see before they agree, byte for byte: the screen and the whole page. Covers E02, E03, F05 and screen 4.
//!
//! `DR_BLESS=1 cargo test -p dr-core --test verify_preview` writes them anew; the difference is then read by a person.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests; golden files are read here")]

mod situations;

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::Arc};

use dr_core::{
    Catalog, Grade, NodeId, PlanBuilder, PlannedSwitchover, Runbook, Situation, Timestamp, UnplannedFailover,
    contract::Fact,
    plan::{OutsideWindow, Policy, Verified},
    seconds,
};
use situations::{mi, postgres, rds};

fn verified(now: &Situation, runbook: &dyn Runbook) -> Verified {
    let policy = Policy {
        gap_budget: seconds(60),
        client_limit: None,
        proof_age: seconds(60),
        fact_age: seconds(60),
        fence: Grade::Confirmed,
        unguarded: false,
        automatic: None,
    };
    let mut builder = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy).unwrap());
    builder.fact(Fact::any("writer", now.writer.to_string(), "management API", now.at));
    let later = Timestamp::from_millis(now.at.millis() + 4_000);
    builder.fact(Fact::any("lag", "1 s", "SQL", later));
    runbook.plan(now, &mut builder).unwrap();
    let (mut plan, faults) = builder.finish();
    let undos = plan.holds.values_mut().map(|hold| &mut hold.undo);
    for call in plan.nodes.values_mut().map(|node| &mut node.call).chain(undos) {
        call.manual = call.touches.iter().map(|touch| format!("provider {} {}", touch.verb, touch.resource)).collect();
    }
    plan.verify(faults, &Catalog::built_in()).unwrap()
}

fn golden(name: &str, plan: &Verified) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/previews");
    for (path, text) in
        [(folder.join(format!("{name}.txt")), plan.preview()), (folder.join(format!("{name}.md")), plan.markdown())]
    {
        if env::var_os("DR_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, kept, "{} differs; DR_BLESS=1 writes it anew", path.display());
    }
}

#[test]
fn a_switchover_with_a_separate_fence() {
    golden("postgres-switchover", &verified(&postgres(), &PlannedSwitchover::to("pg2")));
}

#[test]
fn a_switchover_by_a_swap() {
    golden("mi-switchover", &verified(&mi(), &PlannedSwitchover::to("weu")));
}

#[test]
fn a_failover() {
    golden("rds-failover", &verified(&rds().silent_primary(), &UnplannedFailover::to("frankfurt")));
}

#[test]
fn a_failover_without_a_fence() {
    let runbook = UnplannedFailover::to("pg2").without_fence("the data centre does not answer");
    golden("postgres-failover-without-a-fence", &verified(&postgres().silent_primary(), &runbook));
}

#[test]
fn the_preview_says_where_the_way_back_ends_and_what_is_held() {
    let text = verified(&postgres(), &PlannedSwitchover::to("pg2")).preview();
    let pivot = text.lines().find(|line| line.starts_with(" ■")).unwrap();
    assert!(pivot.contains("promote") && pivot.ends_with("no way back from here"), "{pivot}");
    let drain = text.lines().find(|line| line.contains(" drain  ")).unwrap();
    let release = text.lines().find(|line| line.contains(" release-drain  ")).unwrap();
    let number = release.split_whitespace().next().unwrap();
    assert!(drain.ends_with(&format!("taken, given back in {number}")), "{drain}");
    assert!(text.contains("nothing acknowledged, or it stops"), "{text}");
}

/// A group lets planned operations begin in windows: the plan looks at the clock before people are asked and once more after their answer,
/// unless it says why it need not, and then people read the reason. A failover waits for no window.
#[test]
fn windows_hold_back_what_is_planned_and_nothing_else() {
    let windows = BTreeMap::from([("switchover".to_owned(), vec!["Sat 02:00-05:00".parse().unwrap()])]);
    let held = |scene: situations::Scene| scene.with(|now| now.group.windows = windows.clone());
    let looks = |plan: &Verified| -> Vec<String> {
        let nodes = plan.plan().nodes.iter().filter(|(_, node)| node.call.kind.name() == "dr.check-window");
        nodes.map(|(id, _)| id.to_string()).collect()
    };
    let question = |plan: &Verified| plan.plan().nodes[&NodeId::new("consent")].call.params.0.to_string();
    let switchover = PlannedSwitchover::to("pg2");
    let plan = verified(&held(postgres()), &switchover);
    assert_eq!(looks(&plan), ["in-window", "still-in-window"]);
    let at = |id: &str| plan.plan().order.iter().position(|node| node.as_str() == id).unwrap();
    assert!(at("in-window") < at("consent") && at("consent") < at("still-in-window"));
    assert!(at("still-in-window") < at("drain"));
    let outside = OutsideWindow::of(Arc::new(switchover), "the volume fills up");
    let plan = verified(&held(postgres()), &outside);
    assert_eq!(looks(&plan), Vec::<String>::new());
    assert!(question(&plan).contains("and not only Sat 02:00-05:00 UTC (the volume fills up)"), "{}", question(&plan));
    let failover = verified(&held(postgres().silent_primary()), &UnplannedFailover::to("pg2"));
    assert_eq!(looks(&failover), Vec::<String>::new());
}
