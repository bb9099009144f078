//! The plans of the built-in runbooks over the kinds of services that there are, byte for byte (covers C01, C02, C03, C04, C12).
//!
//! `DR_BLESS=1 cargo test -p dr-core --test golden` writes them anew; the difference is then read by a person.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that keeps its golden files"
)]

mod situations;

use std::{env, fmt::Write as _, fs, path::PathBuf};

use dr_core::{
    Catalog, Grade, Plan, PlanBuilder, PlannedSwitchover, Runbook, Situation, UnplannedFailover,
    base::Refusal,
    contract::{Lineage, verb},
    plan::{Policy, RejoinStandby},
    seconds,
};
use situations::{Scene, aurora, azure_pg, cloud_sql_external, cloud_sql_pair, mi, postgres, rds};

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

fn planned(now: &Situation, runbook: &dyn Runbook) -> Result<Plan, Refusal> {
    let header = now.header(runbook.id(), runbook.purpose(), policy()).unwrap();
    let mut plan = PlanBuilder::new(header);
    runbook.plan(now, &mut plan)?;
    let (plan, faults) = plan.finish();
    assert_eq!(faults, [], "the plan has faults of its making");
    Ok(plan)
}

/// The plan as people read it in a review: one line per step.
fn list(plan: &Plan) -> String {
    let mut text = String::new();
    for (number, id) in plan.order.iter().enumerate() {
        let node = &plan.nodes[id];
        let before = node.before_it();
        let before: Vec<&str> = before.iter().map(|before| before.as_str()).collect();
        let before = if before.is_empty() { "-".to_owned() } else { before.join(", ") };
        let debt = if matches!(node.on_failure, dr_core::plan::OnFailure::Stop) { "" } else { "  (may be owed)" };
        writeln!(text, "{:2}  {:<22} {:<24} after {before}{debt}", number + 1, id.as_str(), node.call.kind.to_string())
            .unwrap();
    }
    for (id, hold) in &plan.holds {
        let by = hold.released_by.as_ref().map_or("nothing", |by| by.as_str());
        writeln!(text, "    {id} is held; given back by {by}, undone by {}", hold.undo.kind).unwrap();
    }
    text
}

fn golden(name: &str, plan: &Plan) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans");
    let texts = [
        (folder.join(format!("{name}.txt")), list(plan)),
        (folder.join(format!("{name}.json")), plan.canonical().unwrap() + "\n"),
    ];
    for (path, text) in texts {
        if env::var_os("DR_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, kept, "{} differs; DR_BLESS=1 writes it anew", path.display());
    }
    let again: Plan = serde_json::from_str(&plan.canonical().unwrap()).unwrap();
    assert_eq!(again, *plan, "the plan reads back as another one");
}

fn verified(name: &str, plan: Plan) {
    golden(name, &plan);
    if let Err(refusal) = plan.verify(Vec::new(), &Catalog::built_in()) {
        let found: Vec<String> = refusal.findings.iter().map(ToString::to_string).collect();
        panic!("{name} is refused:\n{}", found.join("\n"));
    }
}

/// C01: self-managed servers, separate fence, a pooler in front.
#[test]
fn c01_postgres_switchover() {
    verified("c01-postgres-switchover", planned(&postgres(), &PlannedSwitchover::to("pg2")).unwrap());
}

/// C02: SQL Managed Instance with a failover group: roles are swapped, the provider catches up.
#[test]
fn c02_failover_group_switchover() {
    verified("c02-mi-switchover", planned(&mi(), &PlannedSwitchover::to("weu")).unwrap());
}

/// C03: the same group, forced, with a silent primary.
#[test]
fn c03_failover_group_failover() {
    verified("c03-mi-failover", planned(&mi().silent_primary(), &UnplannedFailover::to("weu")).unwrap());
}

/// C04: PostgreSQL Flexible Server to its geo-replica: the lag is proved to be nothing after the drain, not before.
#[test]
fn c04_flexible_server_switchover() {
    let plan = planned(&azure_pg(), &PlannedSwitchover::to("weu")).unwrap();
    let quiet = plan.order.iter().position(|id| id.as_str() == "quiesced").unwrap();
    let drain = plan.order.iter().position(|id| id.as_str() == "drain").unwrap();
    assert!(drain < quiet, "the proof comes before the drain");
    verified("c04-flexible-server-switchover", plan);
}

/// C12: RDS with a cross-region replica: a separate fence, a last snapshot, ten samples of the record; the new standby is owed.
#[test]
fn c12_rds_switchover() {
    verified("c12-rds-switchover", planned(&rds(), &PlannedSwitchover::to("frankfurt")).unwrap());
}

/// The candidate is another system, fed with changes of rows: it is promoted by positions of its source, and its sequences are raised.
#[test]
fn cloud_sql_external_switchover() {
    let plan = planned(&cloud_sql_external(), &PlannedSwitchover::to("cloud")).unwrap();
    assert_eq!(plan.receives[&"cloud".into()], plan.expects.lineage);
    assert_ne!(plan.lineages[&"cloud".into()].system, plan.expects.lineage.system);
    let verdict = |plan: Plan| {
        let refused = plan.verify(Vec::new(), &Catalog::built_in()).unwrap_err();
        refused.findings.iter().map(|finding| finding.rule).collect::<std::collections::BTreeSet<_>>()
    };
    let mut other = plan.clone();
    other.receives.get_mut(&"cloud".into()).unwrap().generation = 2;
    assert_eq!(verdict(other), [174].into(), "fed from another history than the one that is to move");
    let mut none = plan.clone();
    none.receives.clear();
    assert_eq!(verdict(none), [174].into(), "a copy that the plan does not call one");
    verified("cloud-sql-external-switchover", plan);
}

/// The same with a dark source: sequences are raised above the rows that are there.
#[test]
fn cloud_sql_external_failover() {
    let now = cloud_sql_external().silent_primary();
    verified("cloud-sql-external-failover", planned(&now, &UnplannedFailover::to("cloud")).unwrap());
}

/// A copy of another history, and one that nobody can place, are no candidates.
#[test]
fn a_logical_copy_of_another_history_is_no_candidate() {
    let other = |lineage: Option<Lineage>| {
        let scene = cloud_sql_external();
        let scene = scene.standby(|member| member.replication.as_mut().unwrap().lineage = lineage.clone());
        planned(&scene, &PlannedSwitchover::to("cloud")).unwrap_err()
    };
    let older = Lineage { system: "orders-system".into(), generation: 2 };
    for refused in [other(Some(older)), other(None)] {
        assert_eq!(refused.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [213], "{refused}");
    }
}

/// Separate fence, forced: the fence is never given back, the loss is bounded twice.
#[test]
fn postgres_failover() {
    verified("postgres-failover", planned(&postgres().silent_primary(), &UnplannedFailover::to("pg2")).unwrap());
}

/// The way back of a member alone: one mutating step, and nothing that moves an application.
#[test]
fn postgres_rejoin() {
    let plan = planned(&postgres(), &RejoinStandby::of("pg2").discarding()).unwrap();
    let mutating: Vec<&str> =
        plan.nodes.values().flat_map(|node| &node.call.touches).map(|touch| touch.verb.as_str()).collect();
    assert_eq!(mutating, ["rejoin"]);
    verified("postgres-rejoin", plan);
    let refusal = planned(&postgres(), &RejoinStandby::of("pg1")).unwrap_err();
    assert_eq!(refusal.findings[0].rule, 221, "the writer is no standby to be made: {refusal}");
    let silent = planned(&postgres().silent_primary(), &RejoinStandby::of("pg2")).unwrap_err();
    assert_eq!(silent.findings[0].rule, 242, "{silent}");
}

/// Storage fence: a forced swap whose own fence is graded afterwards.
#[test]
fn aurora_failover() {
    verified("aurora-failover", planned(&aurora().silent_primary(), &UnplannedFailover::to("frankfurt")).unwrap());
}

/// Nobody can fence the silent primary: two people take the risk, the fence is owed.
#[test]
fn postgres_failover_without_a_fence() {
    let runbook = UnplannedFailover::to("pg2").without_fence("the data centre does not answer");
    let plan = planned(&postgres().silent_primary(), &runbook).unwrap();
    let ask = &plan.nodes[&"consent".into()].call.params.0;
    assert_eq!(ask["people"], 2);
    assert!(ask["question"].as_str().unwrap().contains("NOT fenced"), "{ask}");
    verified("postgres-failover-without-fence", plan);
}

/// A swap is preferred where both shapes are offered.
#[test]
fn a_swap_is_preferred() {
    let plan = planned(&cloud_sql_pair(), &PlannedSwitchover::to("netherlands")).unwrap();
    assert!(plan.nodes.contains_key(&"swap-roles".into()));
    assert!(!plan.nodes.contains_key(&"promote".into()));
    plan.verify(Vec::new(), &Catalog::built_in()).unwrap();
}

/// A fence of logins travels in the log: the new writer is cleared of it before it is confirmed, on every way to a new writer.
#[test]
fn what_travels_is_cleared_on_every_way_to_a_new_writer() {
    let logins =
        |now: Scene| now.primary(|member| member.fence_travels = true).standby(|member| member.fence_travels = true);
    let risk = UnplannedFailover::to("pg2").without_fence("the data centre does not answer");
    let plans = [
        planned(&logins(postgres()), &PlannedSwitchover::to("pg2")),
        planned(&logins(postgres().silent_primary()), &UnplannedFailover::to("pg2")),
        planned(&logins(postgres().silent_primary()), &risk),
        planned(&logins(azure_pg()), &PlannedSwitchover::to("weu")),
        planned(&logins(mi().silent_primary()), &UnplannedFailover::to("weu")),
    ];
    for plan in plans {
        let plan = plan.unwrap();
        let clear = &plan.nodes[&"clear-fence".into()];
        assert_eq!(clear.call.touches, [verb::CLEAR_FENCE.on(plan.to.as_ref().unwrap().as_str())]);
        let before = plan.ancestors(&"confirm-writer".into());
        assert!(before.contains(&"clear-fence".into()), "{before:?}");
        plan.verify(Vec::new(), &Catalog::built_in()).unwrap();
    }
    let alone = postgres().primary(|member| member.fence_travels = true);
    let refused = planned(&alone, &PlannedSwitchover::to("pg2")).unwrap_err();
    let words = "a fence of the group travels to `pg2`, and `pg2` has none that could clear it";
    assert_eq!(refused.findings.iter().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), [words]);
}
