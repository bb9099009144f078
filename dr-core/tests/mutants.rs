//! Mutants of the plans of the built-in runbooks: whatever guards something is deleted and bypassed, whatever orders something is
//! left out. Every one of them must trip a rule; none may fail to be read. Covers E10 and the promise that a guard cannot be
//! dropped or bypassed without a rule noticing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod situations;

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    Catalog, Grade, NodeId, Plan, PlanBuilder, PlannedSwitchover, Runbook, Situation, UnplannedFailover,
    contract::Class,
    plan::{Node, Policy, references, verify},
    seconds,
};
use serde_json::Value;
use situations::{Scene, aurora, azure_pg, cloud_sql_external, cloud_sql_pair, mi, postgres, rds};

/// Figures that belong into the log of every test run. The test harness keeps what passing tests print to itself.
fn tell(figures: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr().lock(), "{figures}").unwrap();
}

fn policy() -> Policy {
    Policy {
        gap_budget: seconds(60),
        client_limit: None,
        proof_age: seconds(60),
        fact_age: seconds(60),
        fence: Grade::Confirmed,
        unguarded: false,
        automatic: None,
    }
}

fn planned(now: &Situation, runbook: &dyn Runbook) -> Plan {
    let header = now.header(runbook.id(), runbook.purpose(), policy()).unwrap();
    let mut plan = PlanBuilder::new(header);
    runbook.plan(now, &mut plan).unwrap();
    let (plan, faults) = plan.finish();
    assert_eq!(faults, []);
    plan
}

/// Both runbooks, both shapes, with and without an application tier, a snapshot, a secret, one route and two, a fence and none.
fn plans() -> Vec<(&'static str, Plan)> {
    let without_app = postgres().with(|now| {
        now.apps.clear();
    });
    let two_routes = azure_pg().with(|now| {
        let route = now.routes.values().next().unwrap().clone();
        now.routes.insert("reports".into(), route);
    });
    let two_of_each = azure_pg().with(|now| {
        let app = now.apps.values().next().unwrap().clone();
        now.apps.insert("jobs".into(), app);
        let secret = now.secrets.values().next().unwrap().clone();
        now.secrets.insert("reports".into(), secret);
    });
    let risk = |to: &str| UnplannedFailover::to(to).without_fence("the data centre does not answer");
    let logins =
        |now: Scene| now.primary(|member| member.fence_travels = true).standby(|member| member.fence_travels = true);
    vec![
        ("postgres switchover, logins", planned(&logins(postgres()), &PlannedSwitchover::to("pg2"))),
        ("postgres failover, logins", planned(&logins(postgres().silent_primary()), &UnplannedFailover::to("pg2"))),
        ("flexible server switchover, logins", planned(&logins(azure_pg()), &PlannedSwitchover::to("weu"))),
        ("postgres switchover", planned(&postgres(), &PlannedSwitchover::to("pg2"))),
        ("postgres switchover, no pooler", planned(&without_app, &PlannedSwitchover::to("pg2"))),
        ("postgres failover", planned(&postgres().silent_primary(), &UnplannedFailover::to("pg2"))),
        ("postgres failover, no fence", planned(&postgres().silent_primary(), &risk("pg2"))),
        ("failover group switchover", planned(&mi(), &PlannedSwitchover::to("weu"))),
        ("failover group failover", planned(&mi().silent_primary(), &UnplannedFailover::to("weu"))),
        ("flexible server switchover", planned(&azure_pg(), &PlannedSwitchover::to("weu"))),
        ("flexible server switchover, two routes", planned(&two_routes, &PlannedSwitchover::to("weu"))),
        ("flexible server switchover, two of each", planned(&two_of_each, &PlannedSwitchover::to("weu"))),
        ("rds switchover", planned(&rds(), &PlannedSwitchover::to("frankfurt"))),
        ("rds failover", planned(&rds().silent_primary(), &UnplannedFailover::to("frankfurt"))),
        ("aurora failover", planned(&aurora().silent_primary(), &UnplannedFailover::to("frankfurt"))),
        ("aurora failover, no fence", planned(&aurora().silent_primary(), &risk("frankfurt"))),
        ("cloud sql switchover", planned(&cloud_sql_pair(), &PlannedSwitchover::to("netherlands"))),
        ("logical copy switchover", planned(&cloud_sql_external(), &PlannedSwitchover::to("cloud"))),
        ("logical copy failover", planned(&cloud_sql_external().silent_primary(), &UnplannedFailover::to("cloud"))),
    ]
}

/// The kinds whose absence only costs time, or that stand for a drain where there is nothing to drain, or that do once more what another
/// step does (readers), or what no plan can know to be offered (protections, copies): all others guard, order or finish something.
const DISPENSABLE: &[&str] = &[
    "dr.settle",
    "dr.begin-snapshot",
    "dr.await-snapshot",
    "dr.final-snapshot",
    "dr.warm-up",
    "dr.no-drain",
    "dr.shift-readers",
    "dr.harden-writer",
    "dr.preserve-old-side",
];

/// All that comes before each node: two plans with the same answer run in the same order.
fn closure(plan: &Plan) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    plan.nodes.keys().map(|id| (id.clone(), plan.ancestors(id))).collect()
}

fn repoint(params: &mut Value, from: &NodeId, to: &NodeId) {
    match params {
        Value::Object(map) => {
            if map.get("$ref").and_then(Value::as_str) == Some(from.as_str()) {
                map.insert("$ref".into(), Value::String(to.to_string()));
            }
            map.values_mut().for_each(|value| repoint(value, from, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| repoint(value, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The plan without a node: whatever came after it comes after what it came after.
fn without(plan: &Plan, gone: &NodeId) -> (Plan, Node) {
    let mut plan = plan.clone();
    let node = plan.nodes.remove(gone).unwrap();
    plan.order.retain(|id| id != gone);
    plan.holds.remove(gone);
    for hold in plan.holds.values_mut() {
        if hold.released_by.as_ref() == Some(gone) {
            hold.released_by = None;
        }
    }
    let before = node.before_it();
    for other in plan.nodes.values_mut() {
        let takes = references(&other.call.params.0).iter().any(|found| found.node == *gone);
        if other.after.remove(gone) || takes {
            other.after.extend(before.clone());
        }
    }
    (plan, node)
}

/// Every way to delete a node: its outputs are taken from each other node that leaves the same type, or from nowhere if there is none.
fn deletions(plan: &Plan, gone: &NodeId) -> Vec<(String, Plan)> {
    let (bypassed, node) = without(plan, gone);
    let used =
        bypassed.nodes.values().any(|other| references(&other.call.params.0).iter().any(|found| found.node == *gone));
    let stand_ins: Vec<&NodeId> =
        bypassed.nodes.iter().filter(|(_, other)| other.leaves() == node.leaves()).map(|(id, _)| id).collect();
    if !used || stand_ins.is_empty() {
        return vec![(format!("{gone} deleted"), bypassed.clone())];
    }
    let mutant = |stand_in: &&NodeId| {
        let mut mutant = bypassed.clone();
        for (id, other) in &mut mutant.nodes {
            if id != *stand_in {
                repoint(&mut other.call.params.0, gone, stand_in);
            }
        }
        (format!("{gone} deleted, {stand_in} in its place"), mutant)
    };
    stand_ins.iter().map(mutant).collect()
}

/// The rules that a mutant trips.
fn tripped(plan: &Plan, catalog: &Catalog) -> BTreeSet<u16> {
    verify::findings(plan, catalog).into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn the_plans_themselves_trip_nothing() {
    for (name, plan) in plans() {
        assert_eq!(verify::findings(&plan, &Catalog::built_in()), [], "{name}");
    }
}

#[test]
fn a_deleted_guard_trips_a_rule() {
    let catalog = Catalog::built_in();
    let (mut tried, mut dispensable, mut by_rule, mut missed) = (0_u32, 0_u32, BTreeMap::<u16, u32>::new(), Vec::new());
    for (name, plan) in plans() {
        for (id, node) in &plan.nodes {
            let guard = node.call.class == Class::Guard;
            if DISPENSABLE.contains(&node.call.kind.name()) {
                assert!(!guard, "a guard is never dispensable: {id}");
                dispensable += 1;
                continue;
            }
            for (what, mutant) in deletions(&plan, id) {
                let rules = tripped(&mutant, &catalog);
                tried += 1;
                match rules.first() {
                    None => missed.push(format!("{name}: {what}")),
                    Some(first) => *by_rule.entry(*first).or_default() += 1,
                }
            }
        }
    }
    tell(&format!(
        "deletions: {tried} tried, {dispensable} steps left out that only save time; first rules {by_rule:?}"
    ));
    assert!(missed.is_empty(), "{} of {tried} mutants pass:\n{}", missed.len(), missed.join("\n"));
}

/// Readers may be sent on twice, and never not at all.
#[test]
fn readers_that_nothing_sends_on_trip_a_rule() {
    let readers = |id: &NodeId| id.as_str().starts_with("readers-");
    let plans = plans();
    let with_readers: Vec<_> = plans.iter().filter(|(_, plan)| plan.nodes.keys().any(readers)).collect();
    assert!(!with_readers.is_empty());
    for (name, plan) in with_readers {
        let mut mutant = plan.clone();
        let gone: Vec<NodeId> = plan.nodes.keys().filter(|id| readers(id)).cloned().collect();
        for id in &gone {
            mutant = without(&mutant, id).0;
        }
        assert!(tripped(&mutant, &Catalog::built_in()).contains(&162), "{name}");
    }
}

#[test]
fn a_dropped_edge_trips_a_rule() {
    let catalog = Catalog::built_in();
    let (mut tried, mut equivalent, mut by_rule, mut missed) = (0_u32, 0_u32, BTreeMap::<u16, u32>::new(), Vec::new());
    for (name, plan) in plans() {
        let before = closure(&plan);
        for (id, node) in &plan.nodes {
            for edge in &node.after {
                let mut mutant = plan.clone();
                assert!(mutant.nodes.get_mut(id).unwrap().after.remove(edge));
                if closure(&mutant) == before {
                    equivalent += 1;
                    continue;
                }
                tried += 1;
                match tripped(&mutant, &catalog).first() {
                    None => missed.push(format!("{name}: {id} no longer after {edge}")),
                    Some(first) => *by_rule.entry(*first).or_default() += 1,
                }
            }
        }
    }
    tell(&format!(
        "edges: {tried} dropped, {equivalent} more are implied by others (same order); first rules {by_rule:?}"
    ));
    assert!(missed.is_empty(), "{} of {tried} mutants pass:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn a_mutant_fails_by_a_rule_and_not_by_a_parse_error() {
    let catalog = Catalog::built_in();
    let mut tried = 0_u32;
    for (name, plan) in plans() {
        for id in plan.nodes.keys() {
            for (what, mutant) in deletions(&plan, id) {
                let text = mutant.canonical().unwrap_or_else(|error| panic!("{name}: {what}: {error}"));
                let again: Plan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {what}: {error}"));
                let parses = again.nodes.values().all(|node| catalog.derive(&node.call).is_ok());
                assert!(parses, "{name}: {what}: a step does not parse");
                tried += 1;
            }
        }
    }
    tell(&format!("{tried} mutants read back"));
}

/// The parameters of the promotion of a plan that was saved and edited by hand.
fn edited(fence: Value) -> Plan {
    let mut plan = planned(&postgres(), &PlannedSwitchover::to("pg2"));
    let params = &mut plan.nodes.get_mut(&NodeId::new("promote")).unwrap().call.params.0;
    *params.pointer_mut("/terms/planned/fence").unwrap() = fence;
    plan
}

#[test]
fn a_receipt_written_by_hand_is_refused_with_its_field_and_type() {
    let receipt = serde_json::json!({ "run": "billing-1", "epoch": "1", "fence": "postgres.stop" });
    for literal in [receipt.clone(), serde_json::json!({ "$is": receipt })] {
        let findings = verify::findings(&edited(literal), &Catalog::built_in());
        let [finding] = findings.as_slice() else { panic!("{findings:?}") };
        assert_eq!(finding.rule, 109);
        assert!(finding.what.contains("fence"), "{finding}");
    }
    let wrong = serde_json::json!({ "$ref": "catch-up", "type": "dr.catch-up-receipt" });
    let findings = verify::findings(&edited(wrong), &Catalog::built_in());
    let words = "this input takes only a reference to a `dr.fence-receipt`";
    assert!(findings.iter().any(|finding| finding.rule == 109 && finding.what.contains(words)), "{findings:?}");
}

#[test]
fn a_standby_plan_takes_the_steps_that_move_nobody() {
    let now = postgres();
    let runbook = PlannedSwitchover::to("pg2");
    let mut builder = PlanBuilder::new(now.header(runbook.id(), dr_core::Purpose::Standby, policy()).unwrap());
    let mut plan = builder.standby();
    let lock = plan.add("group-lock", dr_core::plan::steps::TakeGroupLock { at: "pg2".into() });
    let parity = dr_core::plan::steps::CheckReplication { candidate: now.writer.clone() };
    plan.add("check-replication", dr_core::StepExt::after(parity, &lock));
    let (plan, faults) = builder.finish();
    let verified = plan.verify(faults, &Catalog::built_in()).unwrap();
    assert_eq!(verified.plan().nodes.len(), 2);
}
