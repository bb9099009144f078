//! What speaks against a plan before it is written: each reason with a number, the operands, why it matters and what helps.

use super::Accepts;
use crate::{
    base::{Finding, MemberId, known, text},
    contract::{Grade, IntendedRole, Obstacle, Shape, Tri, Weight},
    plan::{
        MemberFacts, Policy, Presence, Situation,
        steps::{major, missing_extensions, transactions_in_words},
    },
};

type Check = fn(&Situation, &MemberFacts, &Policy) -> Vec<Finding>;

/// The member that a plan makes the writer, by name: a candidate.
pub(super) fn candidate<'a>(now: &'a Situation, name: &MemberId) -> Result<&'a MemberFacts, Finding> {
    let member = target(now, name)?;
    if member.role == IntendedRole::Candidate {
        return Ok(member);
    }
    let others: Vec<&str> = now.standbys.iter().filter(|one| one.is_candidate()).map(|one| one.name.as_str()).collect();
    let finding = Finding::new(&known::NOT_A_CANDIDATE, format!("`{name}` is a {}", member.role));
    Err(match others.as_slice() {
        [] => finding,
        [..] => finding.helps(format!("candidates: {}", others.join(", "))),
    })
}

/// The member that a plan is about, by name.
pub(crate) fn target<'a>(now: &'a Situation, name: &MemberId) -> Result<&'a MemberFacts, Finding> {
    if *name == now.primary.name {
        return Err(Finding::new(&known::IS_THE_WRITER, format!("`{name}` is the writer already")));
    }
    if let Some(missing) = now.missing.iter().find(|member| member.name == *name) {
        let why = match missing.presence {
            Presence::Planned => "is planned, and not created yet",
            Presence::Seen | Presence::Silent | Presence::Absent => "does not exist, as its provider says",
        };
        return Err(Finding::new(&known::ABSENT_MEMBER, format!("`{name}` {why}")));
    }
    now.standbys.iter().find(|member| member.name == *name).ok_or_else(|| {
        let names: Vec<&str> = now.group.members.iter().map(|member| member.name.as_str()).collect();
        let meant = text::suggest(name.as_str(), names.iter().copied());
        let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        Finding::new(&known::NO_SUCH_MEMBER, format!("group `{}` has no member `{name}`", now.group.name))
            .helps(format!("{meant}members: {}", names.join(", ")))
    })
}

/// What speaks against a planned switchover to `target`.
pub(super) fn planned(now: &Situation, target: &MemberFacts, policy: &Policy, shape: Shape) -> Vec<Finding> {
    let checks: [Check; 10] =
        [answers, fit, lag, transactions, parity, gap, same_history, obstacles, unseen_drops, clears];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(now, target, policy)).collect();
    if shape == Shape::SeparateFence {
        findings.extend(fence(&now.primary, policy.fence.max(Grade::Confirmed), None));
    }
    findings
}

/// What speaks against a failover to `target`.
pub(super) fn forced(
    now: &Situation,
    target: &MemberFacts,
    policy: &Policy,
    shape: Shape,
    accepts: &Accepts,
) -> Vec<Finding> {
    let mut findings = same_history(now, target, policy);
    findings.extend(clears(now, target, policy));
    findings.extend(unhealthy(target));
    if accepts.although_behind.is_none() {
        findings.extend(most_advanced(now, target));
    }
    findings.extend(fatal_obstacles(now, target));
    if now.primary_answers && alive(&now.primary) {
        findings.push(
            Finding::new(&known::PRIMARY_IS_ALIVE, format!("`{}` is alive", now.primary.name))
                .helps(format!("dr plan switchover {} --to {}", now.group.name, target.name)),
        );
    }
    if shape == Shape::SeparateFence && accepts.without_fence.is_none() {
        let unfenced = format!(
            "make them reachable; or take the risk of two writers by name, which two people must agree to: \
             dr plan failover {} --to {} --without-fence <reason>",
            now.group.name, target.name
        );
        findings.extend(fence(&now.primary, policy.fence.max(Grade::Enforced), Some(unfenced)));
    }
    findings
}

/// The candidates that have received more than the target, with both positions. What a planned change may lose does not depend on them:
/// its target waits for everything.
fn most_advanced(now: &Situation, target: &MemberFacts) -> Vec<Finding> {
    // Who still receives is not behind for good: the two were read one after the other.
    let receives = target.replication.as_ref().is_some_and(|reading| reading.streaming == Tri::Yes);
    let Some(has) = target.received().filter(|_| !receives) else { return Vec::new() };
    let others = now.followers(&target.name).filter(|member| member.is_candidate());
    let same = others.filter(|member| member.holds() == target.holds());
    let ahead = same.filter_map(|member| {
        let more = member.received()?;
        let by = has.missing_to(more).filter(|by| *by > 0)?;
        let what =
            format!("`{}` has received {more}, which is {by} more than `{}` has: {has}", member.name, target.name);
        let instead = format!(
            "dr plan failover {} --to {}; or take the loss by name: --although-behind <reason>",
            now.group.name, member.name
        );
        Some(Finding::new(&known::MOST_ADVANCED, what).helps(instead))
    });
    ahead.collect()
}

/// What the rehearsal found against the change.
fn obstacles(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let found = now.rehearsals.get(&target.name).into_iter().flat_map(|found| &found.obstacles);
    found.map(obstacle).collect()
}

/// The obstacles that stop a forced change too.
fn fatal_obstacles(now: &Situation, target: &MemberFacts) -> Vec<Finding> {
    let found = now.rehearsals.get(&target.name).into_iter().flat_map(|found| &found.obstacles);
    found.filter(|one| one.weight == Weight::Always).map(obstacle).collect()
}

fn obstacle(found: &Obstacle) -> Finding {
    Finding::new(&known::OBSTACLE, found.what.as_str()).why(found.why.as_str()).helps(found.helps.as_str())
}

/// Where nobody is asked, nobody agrees to what the change drops.
fn unseen_drops(now: &Situation, target: &MemberFacts, policy: &Policy) -> Vec<Finding> {
    let drops = now.rehearsals.get(&target.name).map(|found| found.drops.as_slice()).unwrap_or_default();
    if drops.is_empty() || policy.automatic.is_none() {
        return Vec::new();
    }
    let all: Vec<String> = drops.iter().map(|one| format!("{} ({})", one.what, one.detail)).collect();
    vec![Finding::new(
        &known::UNSEEN_DROPS,
        format!("the change to `{}` drops, beyond the log: {}", target.name, all.join("; ")),
    )]
}

/// Whether the server itself answers: a provider that goes on calling a dead server healthy is not enough.
fn alive(primary: &MemberFacts) -> bool {
    primary.reach.server == Tri::Yes
}

fn answers(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let silent = [&now.primary, target].into_iter().filter(|member| member.description.is_none());
    silent
        .map(|member| {
            Finding::new(
                &known::SILENT_MEMBER,
                format!("`{}` does not answer ({})", member.name, member.silence.join("; ")),
            )
        })
        .collect()
}

fn fit(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    [&now.primary, target].into_iter().flat_map(unhealthy).collect()
}

pub(super) fn unhealthy(member: &MemberFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(seen) = &member.description else { return findings };
    if seen.healthy == Tri::No {
        findings.push(Finding::new(&known::UNHEALTHY, format!("`{}` is not healthy: {}", member.name, seen.status)));
    }
    if let Some(busy) = &seen.busy {
        findings.push(Finding::new(
            &known::PROVIDER_AT_WORK,
            format!("the provider is at work on `{}`: {busy}", member.name),
        ));
    }
    findings
}

fn lag(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let limit = now.group.limits.lag_before_drain;
    let reading = target.replication.as_ref();
    let lag = reading.and_then(|reading| reading.lag);
    if reading.is_some_and(|reading| reading.streaming == Tri::No) {
        return vec![Finding::new(
            &known::NOT_RECEIVING,
            format!("`{}` receives nothing from `{}`", target.name, now.primary.name),
        )];
    }
    if lag.is_some_and(|lag| lag <= limit) {
        return Vec::new();
    }
    let (name, limit) = (&target.name, text::human(limit));
    let kind = if lag.is_some() { &known::LAG_TOO_LARGE } else { &known::LAG_UNKNOWN };
    let what = format!(
        "the lag of `{name}` is {}, the limit is {limit}",
        lag.map_or_else(|| "unknown".to_owned(), text::human)
    );
    vec![Finding::new(kind, what)]
}

fn transactions(now: &Situation, _target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let old = now.primary.transactions.iter().flatten();
    let limit = text::human(now.group.limits.long_transaction);
    old.map(|one| {
        Finding::new(
            &known::LONG_TRANSACTION,
            format!(
                "a transaction on {} is {} old, the limit is {limit} ({})",
                now.primary.name,
                text::human(one.age),
                transactions_in_words(std::slice::from_ref(one))
            ),
        )
        .helps(format!("let it end, or: {}", one.helps))
    })
    .collect()
}

fn parity(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Rows that a logical copy was fed are the same on another major version.
    if let (Some(old), Some(new)) = (&now.primary.description, &target.description)
        && !target.is_copy()
        && major(&old.version) != major(&new.version)
    {
        findings.push(Finding::new(
            &known::OTHER_VERSION,
            format!("`{}` runs version {}, `{}` runs {}", now.primary.name, old.version, target.name, new.version),
        ));
    }
    if let (Some(used), Some(available)) = (&now.primary.extensions, &target.available_extensions) {
        findings.extend(missing_extensions(used, available, target.is_copy()).into_iter().map(|missing| {
            Finding::new(
                &known::EXTENSION_MISSING,
                format!("an extension of `{}` is missing on `{}`: {missing}", now.primary.name, target.name),
            )
        }));
    }
    findings
}

fn gap(now: &Situation, _target: &MemberFacts, policy: &Policy) -> Vec<Finding> {
    let limits = now.apps.iter().filter_map(|(name, app)| Some((name, app.limit?)));
    let over = limits.filter(|(_, limit)| policy.gap_budget >= *limit);
    over.map(|(name, limit)| {
        Finding::new(
            &known::GAP_BUDGET_TOO_LONG,
            format!(
                "a drain may last {}, clients of {name} give up after {}",
                text::human(policy.gap_budget),
                text::human(limit)
            ),
        )
    })
    .collect()
}

fn same_history(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let told = target.holds();
    let wrong = told.is_none_or(|lineage| *lineage != now.writer.lineage);
    let what = || {
        let found = told.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        Finding::new(
            &known::OTHER_HISTORY,
            format!(
                "the lineage of `{}` is {found}, that of `{}` is {}",
                target.name, now.writer.member, now.writer.lineage
            ),
        )
    };
    wrong.then(what).into_iter().collect()
}

/// A fence that travels is cleared by the fences of the member that it travelled to.
fn clears(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let stays = now.fence_travels() && !target.fence_travels;
    let what = || format!("a fence of the group travels to `{}`, and `{0}` has none that could clear it", target.name);
    stays.then(|| Finding::new(&known::FENCE_WOULD_STAY, what())).into_iter().collect()
}

/// What speaks against the fences of `primary`; `unfenced` is what helps where some of them cannot be reached.
fn fence(primary: &MemberFacts, needed: Grade, unfenced: Option<String>) -> Vec<Finding> {
    let name = &primary.name;
    let Some(promised) = primary.fence else {
        return vec![Finding::new(&known::NO_FENCE, format!("`{name}` has no fence"))];
    };
    let weak = || {
        let worth = format!("are worth `{}` at best, this needs `{needed}`", promised.grade());
        if primary.out_of_reach.is_empty() {
            return Finding::new(&known::WEAK_FENCE, format!("the fences of `{name}` {worth}"));
        }
        let what = format!(
            "the fences of `{name}` {worth}: {} cannot be reached (its management plane answers: {}, its server: {})",
            primary.out_of_reach.join(", "),
            primary.reach.management,
            primary.reach.server
        );
        let finding = Finding::new(&known::WEAK_FENCE, what);
        match unfenced {
            Some(helps) => finding.helps(helps),
            None => finding,
        }
    };
    (promised.grade() < needed).then(weak).into_iter().collect()
}
