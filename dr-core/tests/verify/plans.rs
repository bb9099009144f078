//! Whole plans of test kinds that every rule lets pass: where the cases start from.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    Binding, Grade, GroupName, MemberId, Plan, PlanBuilder, Purpose, RunbookId, StepExt, Target, Touch,
    base::{Digest, Finding, ResourceAddress, ResourceIdentity, SystemId},
    contract::{
        CatchUpReceipt, Consent, DrainReceipt, FenceReceipt, Lineage, Loss, LossBound, PromotionReceipt,
        QuiesceReceipt, ResourceKind, ResourceRef, WriterReceipt,
    },
    plan::{Edge, PlanHeader, Policy, Ref},
    seconds,
};
use serde_json::json;

use crate::kit::*;

fn bound(id: &str, kind: ResourceKind) -> ResourceRef {
    let identity = (kind == ResourceKind::Database).then(|| ResourceIdentity::new(format!("u{id}")));
    ResourceRef {
        provider: "sim".into(),
        kind,
        address: ResourceAddress::new(id),
        identity,
        region: None,
        profile: None,
    }
}

pub(crate) fn target(member: &str) -> Target {
    Target {
        member: MemberId::new(member),
        address: ResourceAddress::new(format!("id-{member}")),
        identity: Some(ResourceIdentity::new(format!("uid-{member}"))),
        lineage: Lineage { system: SystemId::new("7311"), generation: 4 },
        receives: None,
    }
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

pub(crate) fn builder(purpose: Purpose) -> PlanBuilder {
    let bindings = [
        ("neu", bound("id-neu", ResourceKind::Database)),
        ("weu", bound("id-weu", ResourceKind::Database)),
        ("secret:orders", bound("id-secret", ResourceKind::Secret)),
        ("app:api", bound("id-app", ResourceKind::App)),
        ("traffic:public", bound("id-traffic", ResourceKind::Traffic)),
    ];
    let bindings: BTreeMap<Binding, ResourceRef> =
        bindings.into_iter().map(|(name, bound)| (name.into(), bound)).collect();
    PlanBuilder::new(PlanHeader {
        runbook: RunbookId::new("test.runbook", 1),
        purpose,
        group: GroupName::new("orders"),
        environment: "test".into(),
        group_digest: Digest::zero(),
        expects: target("neu"),
        bindings,
        fence_travels: false,
        lineages: ["neu", "weu"].map(|name| (MemberId::new(name), target(name).lineage)).into(),
        allow: BTreeSet::from([Touch::new("kafka:billing", "set-running")]),
        policy: policy(),
        receives: BTreeMap::new(),
    })
}

fn says() -> Says {
    Says::default()
}

/// Takes the confirmed writer.
fn of_writer(touches: &[(&str, &str)]) -> Says {
    touching(touches).taking::<WriterReceipt>("writer", "confirm-writer")
}

/// Checks, the ask, a notice, checkpoints: as both shapes of a switchover begin. The answer is what a drain comes after.
fn ready(plan: &mut PlanBuilder) -> Ref<()> {
    plan.goes_to(&MemberId::new("weu"));
    let lock = plan.add("group-lock", Lock::default());
    let sides = plan.add("sides", Sides::default().after(&lock));
    let replication = plan.add("replication", Replication::default().after(&sides));
    let lag = plan.add("lag", Lag::default().after(&sides));
    let transactions = plan.add("transactions", Transactions::default().after(&sides));
    let parity = plan.add("parity", Parity::default().after(&sides));
    let rehearsed = plan.add("rehearse", Rehearse::default().after(&sides));
    let snapshot = BeginSnapshot(touching(&[("neu", "snapshot")]));
    let begun = plan.attempt("begin-snapshot", snapshot.after(&sides), "take a snapshot", "dba");
    let ask = Ask(says().with("people", json!(2)));
    let checked: [&dyn Edge; 6] = [&replication, &lag, &transactions, &parity, &rehearsed, &begun];
    let consent = plan.add("consent", ask.after_all(&checked));
    let told = plan.add("notify-start", Notify::default().after(&consent));
    let [old, new] = ["neu", "weu"].map(|member| {
        let settle = Settle(touching(&[(member, "settle")]));
        plan.add(&format!("settle-{member}"), settle.after(&consent))
    });
    let again = plan.add("rehearse-again", RehearseAgain::default().after(&consent));
    plan.add("still-well", Sides::default().after_all(&[&told, &old, &new, &again]))
}

pub(crate) fn drain() -> Drain {
    Drain(touching(&[("app:api", "drain")]))
}

pub(crate) fn resume() -> Resume {
    Resume(touching(&[("app:api", "resume")]))
}

pub(crate) fn unfence() -> Unfence {
    Unfence(touching(&[("neu", "release-fence")]))
}

fn fence() -> Fence {
    Fence(touching(&[("neu", "fence")]).with("target", json!(target("neu"))).with("minimum", json!("confirmed")))
}

/// What is known of a fence of the former primary.
#[derive(Clone, Copy, Default)]
struct Fenced {
    fenced: bool,
    travels: bool,
}

/// What a promotion or swap with these inputs is followed by until the applications may write.
fn repointed(plan: &mut PlanBuilder, pivot: &str, Fenced { fenced, travels }: Fenced) -> Ref<()> {
    let mut confirm = says().taking::<PromotionReceipt>("promotion", pivot).with("minimum", json!("confirmed"));
    if fenced {
        confirm = confirm.taking::<FenceReceipt>("fence", "fence");
    }
    if travels {
        let clear = touching(&[("weu", "clear-fence")]).taking::<PromotionReceipt>("promotion", pivot);
        plan.add("clear-fence", Clear(clear));
        confirm = confirm.taking::<()>("cleared", "clear-fence");
    }
    plan.add("confirm-writer", Confirm(confirm));
    let secret = plan.add("point-secret", PointSecret(of_writer(&[("secret:orders", "patch")])));
    let warm = plan.attempt("warm-up", WarmUp(of_writer(&[])), "reads are slow", "dba");
    let traffic = plan.add("shift-traffic", ShiftTraffic(of_writer(&[("traffic:public", "apply")])));
    plan.add("writer-ready", CheckWriter(of_writer(&[])).after_all(&[&secret, &warm, &traffic]))
}

/// What comes once the applications write: a look, the loss, a notice, the rejoin.
fn finished(plan: &mut PlanBuilder, pivot: &str, opened: &Ref<()>) -> Ref<dr_core::plan::Attempted<()>> {
    let serving = Serving(of_writer(&[]).with("route", json!("traffic:public")));
    let serving = plan.add("verify-traffic", serving.after(opened));
    let measure = Measure(says().taking::<PromotionReceipt>("promotion", pivot));
    let measured = plan.add("measure-loss", measure.after(opened));
    plan.add("notify-end", Notify::default().after_all(&[&serving, &measured]));
    let rejoin = of_writer(&[("neu", "rejoin")]).taking::<PromotionReceipt>("promotion", pivot);
    let rejoin = Rejoin(rejoin.with("route", json!("neu")));
    plan.attempt("rejoin", rejoin.after(opened), "neu is no standby yet", "dba")
}

fn retire() -> Retire {
    let says = of_writer(&[("neu", "retire-fence")]).taking::<FenceReceipt>("fence", "fence");
    Retire(says.taking_attempt::<()>("rejoined", "rejoin"))
}

/// A switchover with a separate fence.
pub(crate) fn promotion() -> Plan {
    promotion_with(false)
}

/// The same with a fence that travels.
pub(crate) fn travelling() -> Plan {
    let mut plan = promotion_with(true);
    plan.fence_travels = true;
    plan
}

fn promotion_with(travels: bool) -> Plan {
    let mut plan = builder(Purpose::Switchover);
    let still = ready(&mut plan);
    let drained = plan.hold("drain", drain().after(&still).within(seconds(30)), resume());
    let fenced = plan.hold("fence", fence().after(&drained), unfence());
    plan.add("catch-up", CatchUp(says().taking::<FenceReceipt>("fence", "fence")));
    let promote = touching(&[("weu", "promote")])
        .taking::<FenceReceipt>("fence", "fence")
        .taking::<CatchUpReceipt>("caught-up", "catch-up")
        .taking::<Consent>("consent", "consent");
    plan.add("promote", Promote(promote));
    let ready = repointed(&mut plan, "promote", Fenced { fenced: true, travels });
    let opened = plan.release(drained, &ready);
    finished(&mut plan, "promote", &opened);
    let retired = plan.attempt("retire-fence", retire(), "the fence stands", "dba");
    plan.retired(fenced, &retired);
    done(plan)
}

/// A switchover by a role swap.
pub(crate) fn swap() -> Plan {
    let mut plan = builder(Purpose::Switchover);
    let still = ready(&mut plan);
    let drained = plan.hold("drain", drain().after(&still).within(seconds(30)), resume());
    plan.add("quiesced", Quiet(says().taking::<DrainReceipt>("drained", "drain")));
    let swap = touching(&[("weu", "swap-roles"), ("neu", "swap-roles")])
        .taking::<QuiesceReceipt>("quiesced", "quiesced")
        .taking::<Consent>("consent", "consent");
    plan.add("swap-roles", Swap(swap));
    let ready = repointed(&mut plan, "swap-roles", Fenced::default());
    let opened = plan.release(drained, &ready);
    finished(&mut plan, "swap-roles", &opened);
    done(plan)
}

/// Checks, the bound and the ask of a failover. The answer is what the fence comes after.
fn ready_to_fail_over(plan: &mut PlanBuilder, ask: Says) -> [Ref<()>; 3] {
    plan.goes_to(&MemberId::new("weu"));
    plan.may_lose(Loss::Unknown { because: "it is bounded when people are asked".into() });
    let lock = plan.add("group-lock", Lock::default());
    let down = plan.add("primary-down", Down::default().after(&lock));
    let candidate = plan.add("candidate", Candidate::default().after(&lock));
    plan.add("bound-loss", Bound::default().after_all(&[&down, &candidate]));
    let rehearsed = plan.add("rehearse", Rehearse::default().after_all(&[&down, &candidate]));
    let ask = Ask(ask.taking::<LossBound>("loss", "bound-loss"));
    let consent = plan.add("consent", ask.after(&rehearsed));
    let again = plan.add("rehearse-again", RehearseAgain::default().after(&consent));
    let still = plan.add("still-down", Down::default().after(&consent));
    let told = plan.add("notify-start", Notify::default().after(&consent));
    [still, told, again]
}

/// A failover with a separate fence.
pub(crate) fn forced() -> Plan {
    let mut plan = builder(Purpose::Failover);
    let [still, told, again] = ready_to_fail_over(&mut plan, says().with("people", json!(2)));
    plan.add("fence", fence().after_all(&[&still, &told, &again]));
    plan.add("bound-loss-fenced", Bound(says().taking::<FenceReceipt>("fence", "fence")));
    let promote = touching(&[("weu", "promote")])
        .taking::<FenceReceipt>("fence", "fence")
        .taking::<LossBound>("bound", "bound-loss-fenced")
        .taking::<Consent>("consent", "consent");
    plan.add("promote", Promote(promote));
    let ready = repointed(&mut plan, "promote", Fenced { fenced: true, travels: false });
    finished(&mut plan, "promote", &ready);
    plan.attempt("retire-fence", retire(), "the fence stands", "dba");
    done(plan)
}

/// A failover without a fence, at the risk of two people.
pub(crate) fn dangerous() -> Plan {
    let mut plan = builder(Purpose::Failover);
    let reason = json!("the data centre burns");
    let [still, told, again] =
        ready_to_fail_over(&mut plan, says().with("people", json!(2)).with("risk", reason.clone()));
    let promote = touching(&[("weu", "promote")])
        .taking::<LossBound>("bound", "bound-loss")
        .taking::<Consent>("consent", "consent")
        .with("risk", reason);
    plan.add("promote", Promote(promote).after_all(&[&still, &told, &again]));
    let ready = repointed(&mut plan, "promote", Fenced::default());
    let owed = fence().after(&ready);
    let owed = plan.attempt("fence-later", owed, "fence neu when it answers", "dba");
    let owed = Ref::clone(&owed);
    finished(&mut plan, "promote", &ready);
    let (mut plan, faults) = plan.finish();
    assert_eq!(faults, Vec::<Finding>::new());
    let rejoin = plan.nodes.get_mut(&dr_core::NodeId::new("rejoin")).unwrap();
    rejoin.after.insert(dr_core::plan::Edge::to(&owed));
    plan
}

/// Something of one's own for a while, without a change of the writer.
pub(crate) fn custom(purpose: Purpose) -> Plan {
    let mut plan = builder(purpose);
    let consent = plan.add("consent", Ask(says().with("people", json!(1))));
    let take = Other(touching(&[("kafka:billing", "set-running")]).with("running", json!(false)));
    let give = Other(touching(&[("kafka:billing", "set-running")]).with("running", json!(true)));
    let held = plan.hold("consumers", take.after(&consent), give);
    let looked = plan.add("look", Sides::default().after(&held));
    plan.release(held, &looked);
    done(plan)
}

/// Applications are pointed at the writer that is there.
pub(crate) fn redirect() -> Plan {
    let mut plan = builder(Purpose::Redirect);
    let lock = plan.add("group-lock", Lock::default());
    let consent = plan.add("consent", Ask(says().with("people", json!(1))).after(&lock));
    let told = plan.add("notify-start", Notify::default().after(&consent));
    let observe = says().with("route", json!("neu")).with("minimum", json!("confirmed"));
    plan.add("confirm-writer", Observe(observe).after(&told));
    let secret = plan.add("point-secret", PointSecret(of_writer(&[("secret:orders", "patch")])));
    let traffic = plan.add("shift-traffic", ShiftTraffic(of_writer(&[("traffic:public", "apply")])));
    let ready = plan.add("writer-ready", CheckWriter(of_writer(&[])).after_all(&[&secret, &traffic]));
    plan.add("verify-traffic", Serving(of_writer(&[]).with("route", json!("traffic:public"))).after(&ready));
    done(plan)
}

/// What destroys one thing.
pub(crate) fn destroy() -> Plan {
    let mut plan = builder(Purpose::Destroy);
    plan.add("consent", Ask(says().with("people", json!(2))));
    plan.add("wipe", Wipe(touching(&[("kafka:billing", "set-running")]).taking::<Consent>("consent", "consent")));
    done(plan)
}

fn done(plan: PlanBuilder) -> Plan {
    let (plan, faults) = plan.finish();
    assert_eq!(faults, Vec::<Finding>::new());
    plan
}
