//! Looking, checking, asking, and what makes the gap short: everything before the first write is held back.

use std::collections::BTreeMap;

use super::{
    checks,
    offer::Offer,
    pace::{CHECK, Pace},
};
use crate::{
    base::{Finding, MemberId, Millis, Refusal, known, seconds},
    contract::{ApprovalSpec, Consent, Grade, Loss, LossBound, Shape, Target, Window},
    plan::{
        Edge, MemberFacts, PlanBuilder, Purpose, Ref, Situation, Spec, Step, StepExt,
        steps::{
            AskConsent, AwaitSnapshot, BeginSnapshot, BoundLoss, CheckCandidate, CheckLag, CheckParity,
            CheckPrimaryDown, CheckReplication, CheckSides, CheckTransactions, CheckWindow, FactSpec, Notify,
            ReadSequences, Rehearse, RehearseAgain, Rehearsed, SettleMember, SidesSeen, TakeGroupLock,
        },
    },
};

/// How long a silent primary may be looked at: two looks, in each of which every place has [`Survey::PATIENCE`](crate::plan::Survey::PATIENCE).
const SILENCE: Millis = Millis::minutes(1);
/// How far apart two looks at a silent primary lie.
const SPACED: Millis = Millis::new(250);
/// How long a rehearsal may go on trying: every part has its own limit within it.
const REHEARSAL: Millis = seconds(60);

/// How long people may take to agree to a loss that grows meanwhile. Whoever takes longer is asked again, with the loss as it is then.
const ANSWER: Millis = Millis::minutes(5);

/// On which terms the writer is to change.
#[derive(Clone, Debug)]
pub(super) enum Terms {
    /// Nothing is lost, or it stops.
    Planned,
    /// The primary is silent: at most this is lost.
    Forced { bound: Ref<LossBound>, without_fence: Option<String> },
}

/// Both sides were looked at, people agreed, and what shortens the gap is done.
#[derive(Clone, Debug)]
#[must_use = "nothing happens until the writer is handed over"]
pub struct Ready {
    /// The member that becomes the writer, with the lineage that it follows.
    pub target: Target,
    /// What people agreed to.
    pub consent: Ref<Consent>,
    pub(super) offer: Offer,
    pub(super) terms: Terms,
    pub(super) last: Vec<Ref<()>>,
}

impl Ready {
    /// What must have ended before writes are held back.
    pub(super) fn edges(&self) -> Vec<&dyn Edge> {
        self.last.iter().map(|edge| edge as &dyn Edge).collect()
    }
}

pub(super) fn edge(to: &impl Edge) -> Ref<()> {
    Ref::new(to.to())
}

fn subject(now: &Situation, purpose: Purpose, to: &MemberId) -> String {
    format!("{}: {purpose} {} -> {to}", now.group.name, now.primary.name)
}

/// What the question says of the secrets and routes that stay as they are.
fn stays(plan: &PlanBuilder) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, reason) in plan.leaves_out() {
        by_reason.entry(reason).or_default().push(name.to_string());
    }
    let words =
        by_reason.into_iter().map(|(reason, names)| format!("; left as they are: {} ({reason})", names.join(", ")));
    words.collect()
}

/// [`ready_for`] the only candidate beside the writer.
///
/// # Errors
/// There is none or more than one, or as [`ready_for`].
pub fn ready(plan: &mut PlanBuilder, now: &Situation) -> Result<Ready, Refusal> {
    // A former primary on a history that was promoted away from is nobody's candidate.
    let candidates: Vec<&MemberFacts> = now.standbys.iter().filter(|member| member.is_candidate()).collect();
    let refuse = |finding: Finding| Err(Refusal::one(now.group.name.to_string(), finding));
    match candidates.as_slice() {
        [only] => ready_for(plan, now, &only.name),
        [] => {
            let what = format!("group `{}` has no other candidate than `{}`", now.group.name, now.primary.name);
            refuse(Finding::new(&known::NOWHERE_TO_GO, what))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|member| member.name.as_str()).collect();
            let what = format!("the group has {} candidates: {}", names.len(), names.join(", "));
            refuse(Finding::new(&known::NO_TARGET_NAMED, what))
        }
    }
}

/// What whoever plans a failover takes upon themselves, each with a reason that people are shown before they agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// Nobody can fence the silent primary: two writers are possible, and two people are asked.
    pub without_fence: Option<String>,
    /// Another candidate has received more than the one that is promoted: what only that one has is lost.
    pub although_behind: Option<String>,
}

/// Plans the look, the checks, the question and the checkpoints of a planned change to `to`.
///
/// # Errors
/// Everything that speaks against it now; nothing was changed.
pub fn ready_for(plan: &mut PlanBuilder, now: &Situation, to: &MemberId) -> Result<Ready, Refusal> {
    let subject = subject(now, plan.purpose(), to);
    let refuse = |finding: Finding| Refusal::one(subject.clone(), finding);
    let member = checks::candidate(now, to).map_err(refuse)?;
    let offer = Offer::to(member, false).map_err(refuse)?;
    let findings = checks::planned(now, member, plan.policy(), offer.shape);
    let Some(target) = member.target().filter(|_| findings.is_empty()) else {
        return Err(Refusal { subject, findings });
    };
    plan.goes_to(to);
    plan.may_lose(Loss::Nothing);
    let (before, rehearsed) = planned_checks(plan, now, &target);
    let edges: Vec<&dyn Edge> = before.iter().map(|edge| edge as &dyn Edge).collect();
    let question = format!(
        "switch {} from {} to {to}; writes stop for at most {} before the promotion; nothing acknowledged is lost; the {} takes up to {}{}",
        now.group.name,
        now.primary.name,
        crate::base::text::human(plan.policy().gap_budget),
        offer.word(),
        crate::base::text::human(offer.takes),
        stays(plan),
    ) + &outside(plan, now);
    let limits = &now.group.limits;
    let primary = &now.writer.member;
    let mut watch = vec![
        FactSpec::Writer { member: primary.clone() },
        FactSpec::Candidate { member: to.clone() },
        FactSpec::Streaming { member: to.clone() },
        FactSpec::Lag { member: to.clone(), at_most: limits.lag_before_drain },
        FactSpec::Transactions { member: primary.clone(), limit: limits.long_transaction },
        FactSpec::Positions { primary: primary.clone(), candidate: to.clone() },
        FactSpec::Backup { member: primary.clone() },
    ];
    watch.extend(protections(now, to));
    let ask = ask(plan, now, (question, watch), Some(&rehearsed));
    let consent = plan.add("consent", askable(ask).after_all(&edges));
    let agreed = window(plan, now, "still-in-window", edge(&consent));
    let mut last = shorten(plan, now, member, &agreed);
    let again = RehearseAgain::of(Rehearse::planned(&now.writer, &target), &rehearsed);
    last.push(plan.add("rehearse-again", again.after(&agreed).within(REHEARSAL)));
    let edges: Vec<&dyn Edge> = last.iter().map(|edge| edge as &dyn Edge).collect();
    let still = CheckSides { primary: now.writer.clone(), candidate: target.clone() };
    let still = paced(still.after_all(&edges), Pace::of_check(now, member));
    let still = still.because("what changed while people thought is found while applications still write");
    let last = vec![edge(&plan.add("still-well", still))];
    Ok(Ready { target, consent, offer, terms: Terms::Planned, last })
}

/// A question ends by its own expiry. What cannot be asked, because its facts cannot be read or are beyond their limits, is given up
/// after the same time.
pub(super) fn askable(ask: AskConsent) -> Spec<AskConsent> {
    let within = ask.expires_in;
    ask.within(within).every(seconds(1))
}

/// The question of a plan, to the people whose approval the group file asks for plans of its purpose.
pub(super) fn ask(
    plan: &PlanBuilder,
    now: &Situation,
    (question, watch): (String, Vec<FactSpec>),
    rehearsed: Option<&Ref<Rehearsed>>,
) -> AskConsent {
    let ApprovalSpec { people, roles, expires } = now.group.approval(plan.purpose().operation());
    let (people, people_beyond) = if plan.policy().automatic.is_some() { (0, people) } else { (people, people) };
    AskConsent {
        question,
        watch,
        rehearsed: rehearsed.map(crate::plan::Input::of),
        loss: None,
        loss_limit: Some(now.group.objectives.rpo_forced),
        people,
        people_beyond,
        roles,
        expires_in: expires,
    }
}

/// The windows that hold the plan back, unless it may begin at any time.
fn windows<'a>(plan: &PlanBuilder, now: &'a Situation) -> Option<&'a Vec<Window>> {
    let windows = now.group.windows.get(plan.purpose().operation());
    windows.filter(|windows| !windows.is_empty() && plan.is_outside_window().is_none())
}

/// Sees after `after` that the operation may begin now, where the group has windows for it.
pub(super) fn window(plan: &mut PlanBuilder, now: &Situation, name: &str, after: Ref<()>) -> Ref<()> {
    match windows(plan, now).cloned() {
        Some(windows) => plan.add(name, CheckWindow { windows }.after(&after).within(CHECK)),
        None => after,
    }
}

/// What the question says of a window that does not count.
pub(super) fn outside(plan: &PlanBuilder, now: &Situation) -> String {
    match (now.group.windows.get(plan.purpose().operation()), plan.is_outside_window()) {
        (Some(windows), Some(because)) => {
            format!("; at any time, and not only {} ({because})", CheckWindow::words(windows))
        }
        (Some(_) | None, _) => String::new(),
    }
}

/// A check looks no oftener than its member's provider likes, and long enough for a few looks.
fn paced<S: Step>(check: Spec<S>, pace: Pace) -> Spec<S> {
    check.within(pace.within).every(pace.every)
}

fn planned_checks(plan: &mut PlanBuilder, now: &Situation, target: &Target) -> (Vec<Ref<()>>, Ref<Rehearsed>) {
    let primary = &now.writer;
    let pace = Pace::of_check(now, now.member(&target.member).unwrap_or(&now.primary));
    let limits = &now.group.limits;
    let lock = plan.add("group-lock", TakeGroupLock { at: target.member.clone() }.within(CHECK));
    let lock = window(plan, now, "in-window", lock);
    let sides = CheckSides { primary: primary.clone(), candidate: target.clone() };
    let look = plan.add("check-sides", paced(sides.after(&lock), pace));
    let replication = CheckReplication { candidate: target.clone() };
    let replication = plan.add("check-replication", paced(replication.after(&look), pace));
    let lag = CheckLag { candidate: target.clone(), at_most: limits.lag_before_drain };
    let lag = plan.add("check-lag", paced(lag.after(&look), pace));
    let transactions = CheckTransactions { primary: primary.clone(), limit: limits.long_transaction };
    let transactions = plan.add("check-transactions", paced(transactions.after(&look), pace));
    let parity = CheckParity { primary: primary.clone(), candidate: target.clone() };
    let parity = plan.add("check-parity", paced(parity.after(&look), pace));
    let rehearsed = Rehearse::planned(primary, target);
    let rehearsed = plan.add("rehearse", rehearsed.after(&look).within(REHEARSAL));
    let mut checked = vec![replication, lag, transactions, parity];
    if target.is_copy() {
        let sequences = ReadSequences::of(primary);
        checked.push(edge(&plan.add("check-sequences", paced(sequences.after(&look), pace))));
    }
    checked.extend(snapshot(plan, now, &look));
    (checked, rehearsed)
}

/// Asks for the last snapshot before people are asked: it may take longer than their consent lasts. The answer is what they wait for:
/// that it was begun, and its end only where the provider promotes nobody meanwhile.
fn snapshot(plan: &mut PlanBuilder, now: &Situation, look: &Ref<SidesSeen>) -> Vec<Ref<()>> {
    let Some(offer) = now.primary.capabilities.as_ref().and_then(|offers| offers.snapshot) else { return Vec::new() };
    let (writer, name) = (&now.writer, &now.primary.name);
    let asking = Pace::of(now, &now.primary, Millis::ZERO);
    let begin = BeginSnapshot { target: writer.clone() }.after(look);
    let begin = begin.within(asking.within).every(asking.every).visibility(asking.visibility);
    let text = format!("take a snapshot of {name}, the last one before the change could not be begun");
    let begun = plan.attempt("begin-snapshot", begin, text, "dba");
    let pace = Pace::of(now, &now.primary, offer.takes);
    let ends = AwaitSnapshot::of(writer, &begun);
    let ends = if offer.blocks_promotion { ends.before_asking() } else { ends };
    let text =
        format!("see that the snapshot of {name}, the last one before the change, is complete: it was not in time");
    let ended = plan.attempt("await-snapshot", ends.within(pace.within).every(pace.every), text, "dba");
    if offer.blocks_promotion { vec![edge(&begun), edge(&ended)] } else { vec![edge(&begun)] }
}

/// A notice and checkpoints: after the yes, before the gap.
fn shorten(plan: &mut PlanBuilder, now: &Situation, target: &MemberFacts, consent: &Ref<()>) -> Vec<Ref<()>> {
    let (group, purpose) = (&now.group.name, plan.purpose());
    let text = format!("{group}: {purpose} from {} to {} begins", now.primary.name, target.name);
    let told = plan.add("notify-start", Notify { urgent: false, text }.after(consent).within(CHECK));
    let mut last = vec![told];
    for member in [&now.primary, target] {
        let settle = SettleMember { member: member.name.clone() }.after(consent).within(Millis::minutes(10));
        last.push(plan.add(&format!("settle-{}", member.name), settle));
    }
    last
}

/// Plans the checks, the bound of the loss and the question of a failover to `to`, whose primary is silent, with the risks that `accepts`
/// names.
///
/// # Errors
/// Everything that speaks against it now; nothing was changed.
pub fn ready_to_fail_over(
    plan: &mut PlanBuilder,
    now: &Situation,
    to: &MemberId,
    accepts: &Accepts,
) -> Result<Ready, Refusal> {
    let subject = subject(now, plan.purpose(), to);
    let refuse = |finding: Finding| Refusal::one(subject.clone(), finding);
    let member = checks::candidate(now, to).map_err(refuse)?;
    let offer = Offer::to(member, true).map_err(refuse)?;
    let findings = checks::forced(now, member, plan.policy(), offer.shape, accepts);
    let Some(target) = member.target().filter(|_| findings.is_empty()) else {
        return Err(Refusal { subject, findings });
    };
    plan.goes_to(to);
    plan.may_lose(Loss::Unknown { because: "it is bounded from samples when people are asked".into() });
    let primary = &now.writer;
    let lock = plan.add("group-lock", TakeGroupLock { at: to.clone() }.within(CHECK));
    let down = CheckPrimaryDown { primary: primary.clone(), candidate: target.clone() };
    let down = plan.add("primary-down", down.after(&lock).within(SILENCE).every(SPACED));
    let candidate = CheckCandidate { primary: primary.clone(), candidate: target.clone() };
    let candidate = plan.add("check-candidate", paced(candidate.after(&lock), Pace::of_check(now, member)));
    let change = Rehearse::forced(primary, &target);
    let rehearsed = plan.add("rehearse", change.clone().after_all(&[&down, &candidate]).within(REHEARSAL));
    let closing = Pace::of_fence(now, &now.primary).within.max(Pace::of(now, member, offer.takes).within);
    let bound = BoundLoss::before_fence(primary, &target, ANSWER, closing);
    let bound = plan.add("bound-loss", bound.after_all(&[&down, &candidate]).within(CHECK));
    let shown = Shown { bound: &bound, rehearsed: &rehearsed, accepts };
    let consent = ask_to_lose(plan, now, member, (&target, &offer), shown);
    let again = RehearseAgain::of(change, &rehearsed);
    let again = plan.add("rehearse-again", again.after(&consent).within(REHEARSAL));
    let still = CheckPrimaryDown { primary: primary.clone(), candidate: target.clone() };
    let still = plan.add("still-down", still.after(&consent).within(SILENCE).every(SPACED));
    let (group, purpose) = (&now.group.name, plan.purpose());
    let text = format!("{group}: {purpose} from {} to {to} begins", primary.member);
    let told = plan.add("notify-start", Notify { urgent: true, text }.after(&consent).within(CHECK));
    let terms = Terms::Forced { bound, without_fence: accepts.without_fence.clone() };
    Ok(Ready { target, consent, offer, terms, last: vec![still, told, again] })
}

/// What the coming writer lacks of the protections that the group asks for, where it asks for any.
fn protections(now: &Situation, to: &MemberId) -> Option<FactSpec> {
    let want = now.group.hardening.filter(|want| !want.wants().is_empty())?;
    Some(FactSpec::Protections { member: to.clone(), want })
}

/// What people are shown of a failover beside its facts.
struct Shown<'a> {
    bound: &'a Ref<LossBound>,
    rehearsed: &'a Ref<Rehearsed>,
    accepts: &'a Accepts,
}

fn ask_to_lose(
    plan: &mut PlanBuilder,
    now: &Situation,
    member: &MemberFacts,
    (target, offer): (&Target, &Offer),
    Shown { bound, rehearsed, accepts }: Shown<'_>,
) -> Ref<Consent> {
    let without_fence = accepts.without_fence.as_deref();
    let primary = &now.writer.member;
    let mut watch = vec![
        FactSpec::Silence { primary: now.writer.clone(), candidate: target.clone() },
        FactSpec::Candidate { member: member.name.clone() },
        FactSpec::Positions { primary: primary.clone(), candidate: member.name.clone() },
        FactSpec::Backup { member: member.name.clone() },
    ];
    let others: Vec<MemberId> = now.followers(&member.name).map(|other| other.name.clone()).collect();
    if !others.is_empty() {
        watch.push(FactSpec::OtherStandbys { candidate: member.name.clone(), others });
    }
    watch.extend(protections(now, &member.name));
    let shape = offer.shape;
    if shape == Shape::BuiltInFence {
        watch.push(FactSpec::SwapFence { member: member.name.clone() });
    }
    if let Some(reason) = without_fence {
        watch.push(FactSpec::NoFence { reason: reason.to_owned(), accepts: Grade::Unconfirmable });
    }
    let risk = match (without_fence, shape) {
        (Some(reason), _) => format!("; {primary} is NOT fenced ({reason}): two writers are possible"),
        (None, Shape::BuiltInFence) => format!("; what keeps {primary} from writing is read back after the swap"),
        (None, Shape::SeparateFence) => format!("; {primary} is fenced first"),
    };
    let behind = accepts.although_behind.iter();
    let behind: String =
        behind.map(|why| format!("; another standby may have more than {} ({why})", member.name)).collect();
    let takes = format!("; the {} takes up to {}", offer.word(), crate::base::text::human(offer.takes));
    let question = format!(
        "fail {} over from {primary} to {}, and lose at most what is shown{behind}{risk}{takes}{}",
        now.group.name,
        member.name,
        stays(plan)
    );
    let mut ask = ask(plan, now, (question, watch), Some(rehearsed));
    ask.loss = Some(crate::plan::Input::of(bound));
    if without_fence.is_some() {
        ask.people = ask.people.max(2);
    }
    plan.add("consent", askable(ask))
}
