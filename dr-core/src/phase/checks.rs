//! What speaks against a plan before it is written: each reason with a number, the operands, why it matters and what helps.

use crate::{
    Finding, Grade, MemberFacts, MemberId, Millis, Obstacle, Policy, Shape, Situation, Tri, Weight,
    steps::{major, missing_extensions, transactions_in_words},
    text,
};

type Check = fn(&Situation, &MemberFacts, &Policy) -> Vec<Finding>;

/// The member that a plan goes to, by name.
pub(crate) fn target<'a>(now: &'a Situation, name: &MemberId) -> Result<&'a MemberFacts, Finding> {
    if *name == now.primary.name {
        let helps = "name another member, or nothing: it is where it should be";
        return Err(Finding::new(221, format!("`{name}` is the writer already"), "there is nothing to change", helps));
    }
    now.standbys.iter().find(|member| member.name == *name).ok_or_else(|| {
        let names: Vec<&str> = now.group.members.iter().map(|member| member.name.as_str()).collect();
        let meant = text::suggest(name.as_str(), names.iter().copied());
        let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        Finding::new(
            220,
            format!("group `{}` has no member `{name}`", now.group.name),
            "there is nothing to promote",
            format!("{meant}members: {}", names.join(", ")),
        )
    })
}

/// How the target is promoted. A swap is preferred: its fence is part of the call.
pub(super) fn shape(target: &MemberFacts, forced: bool) -> Result<Shape, Finding> {
    let name = &target.name;
    let Some(offers) = &target.capabilities else {
        return Err(Finding::new(
            222,
            format!("`{name}` does not say what it can do ({})", target.silence.join("; ")),
            "a promotion that nobody offers cannot be planned",
            "make its provider answer",
        ));
    };
    let swaps = if forced { offers.forced_swap } else { offers.swap_roles };
    if swaps {
        Ok(Shape::BuiltInFence)
    } else if offers.promote {
        Ok(Shape::SeparateFence)
    } else {
        let verb = if forced { "a forced promotion" } else { "a planned promotion" };
        Err(Finding::new(
            219,
            format!("the provider of `{name}` offers no {}", verb.trim_start_matches("a ")),
            "there is no call that would make it the writer",
            "look at edition and topology; the other kind of operation may be offered",
        ))
    }
}

/// What speaks against a planned switchover to `target`.
pub(super) fn planned(now: &Situation, target: &MemberFacts, policy: &Policy, shape: Shape) -> Vec<Finding> {
    let checks: [Check; 9] = [answers, fit, lag, transactions, parity, gap, same_history, obstacles, unseen_drops];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(now, target, policy)).collect();
    if shape == Shape::SeparateFence {
        findings.extend(fence(&now.primary, policy.fence.max(Grade::Confirmed)));
    }
    findings
}

/// What speaks against a failover to `target`.
pub(super) fn forced(
    now: &Situation,
    target: &MemberFacts,
    policy: &Policy,
    shape: Shape,
    fenced: bool,
) -> Vec<Finding> {
    let mut findings = same_history(now, target, policy);
    findings.extend(unhealthy(target));
    findings.extend(fatal_obstacles(now, target));
    if now.primary_answers && alive(&now.primary) {
        findings.push(Finding::new(
            229,
            format!("`{}` is alive", now.primary.name),
            "a failover would lose its last writes and could make a second writer",
            format!("dr plan switchover {} --to {}", now.group.name, target.name),
        ));
    }
    if shape == Shape::SeparateFence && fenced {
        findings.extend(fence(&now.primary, policy.fence.max(Grade::Enforced)));
    }
    findings
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
    Finding::new(240, found.what.as_str(), found.why.as_str(), found.helps.as_str())
}

/// Where nobody is asked, nobody agrees to what the change drops.
fn unseen_drops(now: &Situation, target: &MemberFacts, policy: &Policy) -> Vec<Finding> {
    let drops = now.rehearsals.get(&target.name).map(|found| found.drops.as_slice()).unwrap_or_default();
    if drops.is_empty() || policy.automatic.is_none() {
        return Vec::new();
    }
    let all: Vec<String> = drops.iter().map(|one| format!("{} ({})", one.what, one.detail)).collect();
    vec![Finding::new(
        241,
        format!("the change to `{}` drops, beyond the log: {}", target.name, all.join("; ")),
        "nobody is asked in automatic mode, so nobody would agree to that by name",
        "take `switchover` out of `[automatic]` for this change, or remove what would be dropped",
    )]
}

/// Whether the server itself answers: a provider that goes on calling a dead server healthy is not enough.
fn alive(primary: &MemberFacts) -> bool {
    primary.position.is_some()
}

fn answers(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let silent = [&now.primary, target].into_iter().filter(|member| member.description.is_none());
    silent
        .map(|member| {
            Finding::new(
                223,
                format!("`{}` does not answer ({})", member.name, member.silence.join("; ")),
                "a planned operation reads both sides, or stops",
                "make it answer; a writer that is down is failed over",
            )
        })
        .collect()
}

fn fit(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    [&now.primary, target].into_iter().flat_map(unhealthy).collect()
}

fn unhealthy(member: &MemberFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(seen) = &member.description else { return findings };
    if seen.healthy == Tri::No {
        findings.push(Finding::new(
            217,
            format!("`{}` is not healthy: {}", member.name, seen.status),
            "a role change on an unhealthy server is one more fault",
            "repair it first",
        ));
    }
    if let Some(busy) = &seen.busy {
        findings.push(Finding::new(
            218,
            format!("the provider is at work on `{}`: {busy}", member.name),
            "it would refuse the role change, or do it later",
            "wait for its end",
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
            210,
            format!("`{}` receives nothing from `{}`", target.name, now.primary.name),
            "it would not get what is written from now on",
            "attach it again, or rebuild it",
        )];
    }
    if lag.is_some_and(|lag| lag <= limit) {
        return Vec::new();
    }
    let why = "the lag is waited for while writes are held back; an unknown one is no small one";
    let (name, limit) = (&target.name, text::human(limit));
    let rule = if lag.is_some() { 212 } else { 211 };
    let what = format!(
        "the lag of `{name}` is {}, the limit is {limit}",
        lag.map_or_else(|| "unknown".to_owned(), text::human)
    );
    vec![Finding::new(rule, what, why, "wait until it is smaller, or make the metric readable")]
}

fn transactions(now: &Situation, _target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let old = now.primary.transactions.iter().flatten();
    let limit = text::human(now.group.limits.long_transaction);
    old.map(|one| {
        Finding::new(
            214,
            format!(
                "a transaction on {} is {} old, the limit is {limit} ({})",
                now.primary.name,
                text::human(one.age),
                transactions_in_words(std::slice::from_ref(one))
            ),
            "the drain would wait for it, or cut it off",
            format!("let it end, or: {}", one.helps),
        )
    })
    .collect()
}

fn parity(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some(old), Some(new)) = (&now.primary.description, &target.description)
        && major(&old.version) != major(&new.version)
    {
        findings.push(Finding::new(
            216,
            format!("`{}` runs version {}, `{}` runs {}", now.primary.name, old.version, target.name, new.version),
            "applications would meet another engine",
            "upgrade one of them first",
        ));
    }
    if let (Some(used), Some(available)) = (&now.primary.extensions, &target.available_extensions) {
        findings.extend(missing_extensions(used, available).into_iter().map(|missing| {
            Finding::new(
                215,
                format!("an extension of `{}` is missing on `{}`: {missing}", now.primary.name, target.name),
                "statements that use it would fail after the promotion",
                "install it there",
            )
        }));
    }
    findings
}

fn gap(now: &Situation, _target: &MemberFacts, policy: &Policy) -> Vec<Finding> {
    let over = now.app.is_some() && now.drain_limit.is_some_and(|limit| policy.gap_budget >= limit);
    let words = |limit: Millis| {
        Finding::new(
            226,
            format!(
                "a drain may last {}, clients give up after {}",
                text::human(policy.gap_budget),
                text::human(limit)
            ),
            "every client would see an error before the drain is given back",
            "make `limits.gap_budget` smaller, or the clients' own limit larger",
        )
    };
    now.drain_limit.filter(|_| over).map(words).into_iter().collect()
}

fn same_history(now: &Situation, target: &MemberFacts, _policy: &Policy) -> Vec<Finding> {
    let told = target.lineage();
    let wrong = told.is_none_or(|lineage| *lineage != now.writer.lineage);
    let what = || {
        let found = told.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        Finding::new(
            213,
            format!(
                "the lineage of `{}` is {found}, that of `{}` is {}",
                target.name, now.writer.member, now.writer.lineage
            ),
            "promoting another history, or an unknown one, loses what the writer has",
            "rebuild it from the writer, or make its lineage readable",
        )
    };
    wrong.then(what).into_iter().collect()
}

fn fence(primary: &MemberFacts, needed: Grade) -> Vec<Finding> {
    let name = &primary.name;
    let Some(promised) = primary.fence else {
        return vec![Finding::new(
            224,
            format!("`{name}` has no fence"),
            "a promotion beside a primary that may still write makes two writers",
            "list a fence in the group file",
        )];
    };
    let weak = || {
        Finding::new(
            225,
            format!("the fences of `{name}` are worth `{}` at best, this needs `{needed}`", promised.grade()),
            "some way to write would stay open",
            "add a fence that closes it: new sessions, open sessions, jobs, restart",
        )
    };
    (promised.grade() < needed).then(weak).into_iter().collect()
}
