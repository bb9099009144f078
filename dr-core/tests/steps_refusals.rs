//! What stops a plan from being written: each reason by its number, with the culprit in the words (covers D01 to D05, E06, E07, E08).

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests; a table is as long as it has rows")]

mod situations;

use std::collections::BTreeMap;

use dr_core::{
    Catalog, Grade, Plan, PlanBuilder, PlannedSwitchover, Runbook, Situation, Tri, UnplannedFailover,
    base::{Refusal, Region, ResourceAddress},
    contract::{FollowOffer, FollowsBy, IntendedRole, LongTransaction, Planes, Rejoin, ServicePace},
    minutes,
    plan::{OnFailure, Policy, phase},
    seconds,
};
use situations::{Scene, azure_pg, mi, postgres, rds};

fn policy(automatic: Option<&str>) -> Policy {
    Policy {
        gap_budget: seconds(60),
        client_limit: None,
        proof_age: seconds(60),
        fact_age: seconds(60),
        fence: Grade::Confirmed,
        unguarded: false,
        automatic: automatic.map(str::to_owned),
    }
}

fn refused(now: &Situation, runbook: &dyn Runbook) -> Refusal {
    let mut plan = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
    match runbook.plan(now, &mut plan) {
        Err(refusal) => refusal,
        Ok(()) => panic!("the plan was written"),
    }
}

fn rules(refusal: &Refusal) -> Vec<u16> {
    refusal.findings.iter().map(|finding| finding.rule).collect()
}

type Row = (&'static str, Scene, u16, &'static str);

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    let old = LongTransaction {
        id: "pid 48121".into(),
        user: "reporting".into(),
        age: minutes(6),
        state: "active".into(),
        helps: "select pg_terminate_backend(48121)".into(),
    };
    vec![
        (
            "an obstacle",
            postgres().rehearsed(|found| found.planned("no free slot on pg2", "pg1 could not come back", "raise it")),
            240,
            "no free slot on pg2",
        ),
        ("a silent primary", postgres().silent_primary(), 223, "pg1"),
        (
            "too far behind",
            postgres().standby(|b| b.replication.as_mut().unwrap().lag = Some(seconds(11))),
            212,
            "11 s",
        ),
        ("an unknown lag", postgres().standby(|b| b.replication.as_mut().unwrap().lag = None), 211, "unknown"),
        ("detached", postgres().standby(|b| b.replication.as_mut().unwrap().streaming = Tri::No), 210, "pg2"),
        ("an old transaction", postgres().primary(|a| a.transactions = Some(vec![old.clone()])), 214, "pid 48121"),
        (
            "a missing extension",
            postgres().primary(|a| {
                a.extensions = Some(BTreeMap::from([("postgis".into(), "3.4".into())]));
            }),
            215,
            "postgis 3.4",
        ),
        (
            "another version of one",
            postgres().standby(|b| {
                b.available_extensions = Some(BTreeMap::from([("plpgsql".into(), vec!["0.9".into()])]));
            }),
            215,
            "0.9",
        ),
        (
            "another major version",
            postgres().standby(|b| b.description.as_mut().unwrap().version = "16.2".into()),
            216,
            "16.2",
        ),
        ("an ill candidate", postgres().standby(|b| b.description.as_mut().unwrap().healthy = Tri::No), 217, "pg2"),
        (
            "a busy primary",
            postgres().primary(|a| a.description.as_mut().unwrap().busy = Some("patching".into())),
            218,
            "patching",
        ),
        (
            "nothing to promote with",
            postgres().standby(|b| b.capabilities.as_mut().unwrap().promote = None),
            219,
            "pg2",
        ),
        ("no word about what it can", postgres().standby(|b| b.capabilities = None), 222, "pg2"),
        ("no fence", postgres().primary(|a| a.fence = None), 224, "pg1"),
        (
            "a weak fence",
            postgres().primary(|a| {
                a.fence = Some(Planes { restart: Grade::Partial, ..Planes::all(Grade::Confirmed) });
            }),
            225,
            "partial",
        ),
        (
            "clients give up first",
            postgres().with(|now| now.apps.values_mut().for_each(|app| app.limit = Some(seconds(60)))),
            226,
            "1 min",
        ),
        (
            "another history",
            postgres().standby(|b| b.position.as_mut().unwrap().lineage.generation = 2),
            213,
            "billing-system/2",
        ),
        (
            "an unknown history",
            postgres().standby(|b| {
                b.position = None;
                b.replication.as_mut().unwrap().lineage = None;
            }),
            213,
            "unknown",
        ),
    ]
}

#[test]
fn a_planned_switchover_is_refused_by_number() {
    for (name, scene, rule, words) in rows() {
        let refusal = refused(&scene, &PlannedSwitchover::to("pg2"));
        let found = refusal.findings.iter().find(|finding| finding.rule == rule);
        let found = found.unwrap_or_else(|| panic!("{name}: {:?}", rules(&refusal)));
        assert!(found.what.contains(words), "{name}: {}", found.what);
        assert!(!found.why.is_empty() && !found.helps.is_empty(), "{name}");
        assert_eq!(refusal.subject, "billing: switchover pg1 -> pg2");
    }
}

#[test]
fn every_reason_is_told_at_once() {
    let scene = postgres()
        .standby(|b| b.replication.as_mut().unwrap().lag = None)
        .primary(|a| a.fence = None)
        .with(|now| now.apps.values_mut().for_each(|app| app.limit = Some(seconds(1))));
    assert_eq!(rules(&refused(&scene, &PlannedSwitchover::to("pg2"))), [211, 226, 224]);
}

/// Covers E07 and screen 2: a wrong target is named, with the one that may be meant.
#[test]
fn the_target_is_a_standby_of_the_group() {
    let unknown = refused(&postgres(), &PlannedSwitchover::to("pgg2"));
    assert_eq!(rules(&unknown), [220]);
    let [finding] = unknown.findings.as_slice() else { panic!("one finding") };
    assert!(finding.helps.contains("did you mean `pg2`?"), "{}", finding.helps);
    assert_eq!(rules(&refused(&postgres(), &PlannedSwitchover::to("pg1"))), [221]);
}

/// A forced change is stopped only by what would leave nobody able to write; automatic mode agrees to no drop.
#[test]
fn obstacles_and_drops_stop_what_they_must() {
    let planned_only = postgres().rehearsed(|found| found.planned("no archive", "no restore", "turn it on"));
    let always = postgres().rehearsed(|found| found.always("commits would wait", "for nobody", "empty it"));
    assert_eq!(rules(&refused(&planned_only, &PlannedSwitchover::to("pg2"))), [240]);
    assert_eq!(rules(&refused(&always.clone().silent_primary(), &UnplannedFailover::to("pg2"))), [240]);
    let silent = planned_only.silent_primary();
    let header = silent.header(UnplannedFailover::to("pg2").id(), dr_core::Purpose::Failover, policy(None)).unwrap();
    UnplannedFailover::to("pg2").plan(&silent, &mut PlanBuilder::new(header)).unwrap();
    let drops = postgres().rehearsed(|found| found.drops("unlogged tables of app", "1 table"));
    let runbook = PlannedSwitchover::to("pg2");
    let plan = |automatic: Option<&str>| {
        let header = drops.header(runbook.id(), runbook.purpose(), policy(automatic)).unwrap();
        runbook.plan(&drops, &mut PlanBuilder::new(header))
    };
    plan(None).unwrap();
    let refusal = plan(Some("nobody is awake")).unwrap_err();
    assert_eq!(rules(&refusal), [241]);
    assert!(refusal.findings[0].what.contains("unlogged tables of app"), "{refusal}");
}

/// Covers E08: a failover is for a silent primary.
#[test]
fn a_failover_is_refused_while_the_primary_answers() {
    let refusal = refused(&postgres(), &UnplannedFailover::to("pg2"));
    assert_eq!(rules(&refusal), [229]);
    let [finding] = refusal.findings.as_slice() else { panic!("one finding") };
    assert!(finding.helps.contains("switchover"), "{}", finding.helps);
    let dark = postgres().silent_primary();
    let unfenced = dark.clone().primary(|a| a.fence = None);
    assert_eq!(rules(&refused(&unfenced, &UnplannedFailover::to("pg2"))), [224]);
    let planned_only = mi().silent_primary().standby(|b| b.capabilities.as_mut().unwrap().forced_swap = None);
    assert_eq!(rules(&refused(&planned_only, &UnplannedFailover::to("weu"))), [219]);
}

/// A writer whose probe offers no position was taken for a dead one, and only the run's own look refused the failover.
#[test]
fn bug_a_failover_was_planned_against_a_live_writer_without_positions() {
    assert_eq!(rules(&refused(&mi(), &UnplannedFailover::to("weu"))), [229]);
}

/// People were asked to agree to "fenced first" while nobody could reach the fence, and the run turned back.
#[test]
fn bug_a_fence_that_nobody_can_reach_was_promised() {
    let dark = postgres().silent_primary().primary(|a| {
        a.fence = Some(Planes::default());
        a.out_of_reach = vec!["postgres.stop".into()];
    });
    let refusal = refused(&dark, &UnplannedFailover::to("pg2"));
    assert_eq!(rules(&refusal), [225]);
    let [finding] = refusal.findings.as_slice() else { panic!("one finding") };
    assert!(finding.what.contains("postgres.stop cannot be reached"), "{}", finding.what);
    assert!(finding.helps.contains("--without-fence"), "{}", finding.helps);
    let unfenced = UnplannedFailover::to("pg2").without_fence("the region is dark");
    let header = dark.header(unfenced.id(), unfenced.purpose(), policy(None)).unwrap();
    unfenced.plan(&dark, &mut PlanBuilder::new(header)).unwrap();
}

/// With a silent primary, its way back was judged by the first standby that the group lists, not by the one that takes its place.
#[test]
fn bug_a_silent_primary_is_judged_by_the_member_that_takes_its_place() {
    let two = postgres().silent_primary().with(|now| {
        let mut other = now.standbys.first().unwrap().clone();
        other.name = "pg0".into();
        other.capabilities.as_mut().unwrap().promote.as_mut().unwrap().rejoin = Rejoin::Never;
        now.standbys.insert(0, other);
    });
    let runbook = UnplannedFailover::to("pg2");
    let mut plan = PlanBuilder::new(two.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
    runbook.plan(&two, &mut plan).unwrap();
    let (plan, _) = plan.finish();
    let rejoin = &plan.nodes.get(&"rejoin".into()).unwrap().call;
    assert_eq!(rejoin.kind.name(), "dr.rejoin", "{}", rejoin.sentence);
}

/// A service that promotes and swaps rejoins by itself after a swap only: a plan that promotes waited for something that nobody does.
#[test]
fn bug_the_way_back_after_a_promotion_was_that_after_a_swap() {
    let planned_only = azure_pg().silent_primary().standby(|b| b.capabilities.as_mut().unwrap().forced_swap = None);
    let runbook = UnplannedFailover::to("weu");
    let mut plan = PlanBuilder::new(planned_only.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
    runbook.plan(&planned_only, &mut plan).unwrap();
    let (plan, _) = plan.finish();
    let rejoin = plan.nodes.get(&"rejoin".into()).unwrap();
    assert_eq!(
        (rejoin.call.kind.name(), rejoin.within),
        ("dr.await-rejoined", seconds(1)),
        "one look, then it is owed"
    );
}

/// `pg1` writes, `pg2` is a candidate, and `pg3` is meant for `role` and has received `more` bytes more than `pg2`.
fn three(role: IntendedRole, more: u64) -> Scene {
    postgres().with(|now| {
        let mut third = now.standbys.first().unwrap().clone();
        third.name = "pg3".into();
        third.role = role;
        third.binding.address = ResourceAddress::new("postgres/pg3");
        third.position.as_mut().unwrap().durable.value += more;
        now.standbys.push(third);
    })
}

/// Who may be promoted stands in the group file, and of several candidates one has to be named.
#[test]
fn only_a_candidate_is_promoted_and_of_several_one_is_named() {
    for role in [IntendedRole::Follower, IntendedRole::Reader] {
        let refusal = refused(&three(role, 0), &PlannedSwitchover::to("pg3"));
        assert_eq!(rules(&refusal), [243]);
        assert!(refusal.to_string().contains(&format!("`pg3` is a {role}")), "{refusal}");
        assert_eq!(refusal.findings.first().unwrap().helps, "candidates: pg2");
    }
    let ready = |now: &Situation| {
        let runbook = PlannedSwitchover::to("pg2");
        let mut plan = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
        phase::ready(&mut plan, now).map(drop).map_err(|refusal| (rules(&refusal), refusal.to_string()))
    };
    assert!(ready(&three(IntendedRole::Follower, 0)).is_ok(), "one candidate beside the writer");
    let (numbers, words) = ready(&three(IntendedRole::Candidate, 0)).unwrap_err();
    assert!(numbers == [227] && words.contains("the group has 2 candidates: pg2, pg3"), "{words}");
    let nobody = postgres().standby(|standby| standby.role = IntendedRole::Follower);
    let (numbers, words) = ready(&nobody).unwrap_err();
    assert!(numbers == [244] && words.contains("no other candidate than `pg1`"), "{words}");
}

/// A failover to the standby that has less loses what only the other one has: it is refused with both positions, or accepted by name.
#[test]
fn the_most_advanced_candidate_is_named_before_anybody_agrees() {
    let behind = three(IntendedRole::Candidate, 0x200).silent_primary();
    let refusal = refused(&behind, &UnplannedFailover::to("pg2"));
    assert_eq!(rules(&refusal), [245], "{refusal}");
    let words = format!("{refusal} {}", refusal.findings.first().unwrap().helps);
    for part in ["`pg3` has received", "512 more than `pg2` has", "--to pg3", "--although-behind"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let accepted = written(&behind, &UnplannedFailover::to("pg2").although_behind("pg3 has no applications near it"));
    let consent = accepted.nodes.get(&"consent".into()).unwrap();
    let asked = consent.call.params.0.to_string();
    assert!(asked.contains("another standby may have more than pg2 (pg3 has no applications near it)"), "{asked}");
    written(&behind, &UnplannedFailover::to("pg3"));
    let receiving = three(IntendedRole::Candidate, 0x200).silent_primary();
    let receiving = receiving.standby(|standby| standby.replication.as_mut().unwrap().streaming = Tri::Yes);
    written(&receiving, &UnplannedFailover::to("pg2"));
    written(&three(IntendedRole::Follower, 0x200).silent_primary(), &UnplannedFailover::to("pg2"));
    written(&three(IntendedRole::Candidate, 0x200), &PlannedSwitchover::to("pg2"));
}

/// Every member follows or is owed: those that are asked, those that find the writer by themselves, and those of which nobody knows.
#[test]
fn every_member_follows_or_is_owed() {
    let step = |now: &Situation| {
        let plan = written(now, &PlannedSwitchover::to("pg2"));
        let node = plan.nodes.get(&"follow-pg3".into()).map(|node| (node.call.kind.name().to_owned(), node.within));
        if let Some(node) = plan.nodes.get(&"follow-pg3".into()) {
            assert!(matches!(&node.on_failure, OnFailure::Debt { .. }));
        }
        (node, plan.bindings.contains_key(&"pg3".into()))
    };
    let offers = |by: Option<FollowsBy>| {
        three(IntendedRole::Follower, 0).with(|now| {
            let offers = now.standbys.last_mut().unwrap().capabilities.as_mut().unwrap();
            offers.follow = by.map(|by| FollowOffer { takes: seconds(20), by });
        })
    };
    assert_eq!(step(&offers(Some(FollowsBy::Verb))), (Some(("dr.follow".into(), minutes(1))), true));
    assert_eq!(step(&offers(Some(FollowsBy::Itself))), (Some(("dr.await-rejoined".into(), minutes(1))), true));
    assert_eq!(step(&offers(None)), (Some(("dr.await-rejoined".into(), seconds(1))), true));
    let detached = offers(Some(FollowsBy::Verb)).with(|now| {
        now.standbys.last_mut().unwrap().description.as_mut().unwrap().follows = None;
    });
    assert_eq!(step(&detached), (Some(("dr.await-rejoined".into(), seconds(1))), true), "it needs a rejoin");
    assert_eq!(step(&three(IntendedRole::Reader, 0)), (None, false), "a reader is no part of a plan");
}

/// DR162 by member: a plan that forgets one is refused.
#[test]
fn a_plan_that_leaves_a_member_behind_is_refused() {
    let now = three(IntendedRole::Follower, 0);
    let runbook = PlannedSwitchover::to("pg2");
    let verified = |forget: bool| {
        let mut plan = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
        runbook.plan(&now, &mut plan).unwrap();
        let (mut plan, faults) = plan.finish();
        if forget {
            plan.nodes.remove(&"follow-pg3".into());
            plan.order.retain(|node| node.as_str() != "follow-pg3");
        }
        plan.verify(faults, &Catalog::built_in()).map(drop).map_err(|refusal| (rules(&refusal), refusal.to_string()))
    };
    verified(false).unwrap();
    let (numbers, words) = verified(true).unwrap_err();
    assert!(numbers == [162] && words.contains("no step that sees `pg3` follow the writer, or owes it"), "{words}");
}

/// A vault in the region of the silent writer blocked the failover, although the applications in the other region read another one.
#[test]
fn bug_a_secret_in_the_dark_region_blocked_the_failover() {
    let region = |name: &str| Some(Region::new(name));
    let scene = |regions: [Option<Region>; 2]| {
        rds().silent_primary().with(|now| {
            now.primary.binding.region = region("dark");
            now.standbys.first_mut().unwrap().binding.region = region("lit");
            let mut of = now.secrets.first_key_value().unwrap().1.clone();
            now.secrets.clear();
            for (name, region) in ["one", "two"].into_iter().zip(regions.clone()) {
                of.binding.region = region;
                of.binding.address = ResourceAddress::new(format!("secret/{name}"));
                now.secrets.insert(name.into(), of.clone());
            }
        })
    };
    let planned = |now: &Situation| {
        let runbook = UnplannedFailover::to(now.standbys.first().unwrap().name.clone());
        let plan = written(now, &runbook);
        let owed = |name: &str| {
            let node = plan.nodes.get(&format!("point-secret-{name}").as_str().into()).unwrap();
            matches!(node.on_failure, OnFailure::Debt { .. })
        };
        let found = [owed("one"), owed("two")];
        (plan, found)
    };
    let (plan, owed) = planned(&scene([region("dark"), region("lit")]));
    assert_eq!(owed, [true, false], "the one in the dark region is attempted, and owed");
    plan.clone().verify(Vec::new(), &Catalog::built_in()).unwrap();
    for regions in
        [[region("dark"), None], [region("dark"), region("dark")], [None, None], [region("lit"), region("lit")]]
    {
        assert_eq!(planned(&scene(regions.clone())).1, [false, false], "{regions:?}");
    }
    let mut both = plan;
    let debt = both.nodes.get(&"point-secret-one".into()).unwrap().on_failure.clone();
    both.nodes.get_mut(&"point-secret-two".into()).unwrap().on_failure = debt;
    let refusal = both.verify(Vec::new(), &Catalog::built_in()).map(drop).unwrap_err();
    assert_eq!(rules(&refusal), [180, 180], "nobody's applications would find the writer");
}

fn written(now: &Situation, runbook: &dyn Runbook) -> Plan {
    let mut plan = PlanBuilder::new(now.header(runbook.id(), runbook.purpose(), policy(None)).unwrap());
    runbook.plan(now, &mut plan).unwrap();
    plan.finish().0
}

/// A dark primary says nothing of its pace: its fence was looked at as on a local server and given up after 200 s.
#[test]
fn bug_the_deadlines_of_a_dark_primary_came_from_a_formula() {
    let dark = azure_pg().silent_primary().standby(|b| b.capabilities.as_mut().unwrap().forced_swap = None);
    let plan = written(&dark, &UnplannedFailover::to("weu"));
    let fence = plan.nodes.get(&"fence".into()).unwrap();
    assert_eq!((fence.visibility, fence.within), (minutes(2), minutes(24)), "as its standby of the same service");
    let swapped = written(&mi().silent_primary(), &UnplannedFailover::to("weu"));
    let rejoin = swapped.nodes.get(&"rejoin".into()).unwrap();
    assert!(rejoin.within >= minutes(60), "{:?}", rejoin.within);
    let mut alone = azure_pg().silent_primary();
    alone.0.primary.binding.provider = "postgres".into();
    alone.0.primary.pace = ServicePace { poll_every: seconds(7), visibility: seconds(9), takes: seconds(50) };
    alone.0.standbys.first_mut().unwrap().capabilities.as_mut().unwrap().forced_swap = None;
    let plan = written(&alone, &UnplannedFailover::to("weu"));
    let fence = plan.nodes.get(&"fence".into()).unwrap();
    assert_eq!((fence.visibility, fence.within), (seconds(9), seconds(118)), "as its backend says");
}

/// A swap demotes a member and moves routes, and the plan named only the member that is promoted.
#[test]
fn bug_a_swap_touched_more_than_it_said() {
    let plan = written(&azure_pg(), &PlannedSwitchover::to("weu"));
    let swap = &plan.nodes.get(&"swap-roles".into()).unwrap().call;
    let touches: Vec<String> = swap.touches.iter().map(ToString::to_string).collect();
    assert_eq!(touches, ["weu swap-roles", "neu swap-roles", "traffic:public follow"]);
    assert!(swap.sentence.contains("this takes up to 5 min"), "{}", swap.sentence);
}
