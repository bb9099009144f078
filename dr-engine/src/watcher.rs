//! The watcher: reads the positions of all members every second, and the lag of those that tell none as often as their providers like, and
//! keeps what it saw outside the patient, so that the loss of a failover has a bound when the primary is silent.

mod copies;
mod lags;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use copies::Copies;
use dr_core::{
    Binding, GroupSpec, MemberId, ProviderError, Target, Timestamp, Tri,
    base::Digest,
    contract::{IntendedRole, MemberProvider, PositionReading, PositionSample, Resolved},
    plan::RetiredLineage,
    run::LastWriter,
};
use lags::Lags;

use tokio::task::AbortHandle;

use crate::{
    backends::Bindings,
    engine::{Engine, Inner, lock},
    runtime::{forget, wall},
};

const EVERY: Duration = Duration::from_secs(1);
/// A read that takes longer is no sample of this second.
const PATIENCE: Duration = Duration::from_millis(900);

/// After how many samples with two primaries the journal is asked again which of them is a former one.
const AGAIN: u32 = 60;

/// A group that is sampled, as its file was when that began.
#[derive(Debug)]
pub(crate) struct Watcher {
    of: Option<Digest>,
    task: AbortHandle,
}

impl Watcher {
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

/// Samples a group until the engine is gone, unless that is going on already. A group file that changed begins a new watcher: members
/// that the old one does not know would have no samples, and a failover to them no bound.
pub(crate) fn start(engine: &Arc<Inner>, spec: &GroupSpec) {
    let mut watchers = lock(&engine.watchers);
    let of = spec.digest().ok();
    if watchers.get(&spec.name).is_some_and(|watcher| watcher.of == of && !watcher.task.is_finished()) {
        return;
    }
    // A group that was planned could be opened; if it cannot be now, a plan will say so.
    let Ok(bindings) = engine.backends.open(spec) else { return };
    let task = tokio::spawn(watch(Arc::downgrade(engine), spec.clone(), bindings)).abort_handle();
    if let Some(older) = watchers.insert(spec.name.clone(), Watcher { of, task }) {
        older.stop();
    }
}

async fn watch(engine: Weak<Inner>, spec: GroupSpec, bindings: Bindings) {
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut known: Option<Target> = None;
    let before = match engine.upgrade() {
        Some(engine) => last_writer(&engine, &spec).await,
        None => return,
    };
    let mut copies = Copies::default();
    let mut retired: Vec<RetiredLineage> = Vec::new();
    let mut ticks: u32 = 0;
    let mut lags = Lags::default();
    loop {
        let now = clock.tick().await;
        let Seen { positions: seen, untold } = look(&spec, &bindings).await;
        let copied = copies.of(&seen, known.as_ref().or(before.as_ref()), |name| member_of(&bindings, name), now).await;
        let seen: Vec<_> = seen.into_iter().filter(|(name, _)| !copied.contains(name)).collect();
        // The positions of a copy compare with nobody's: how far it is behind its provider tells.
        for member in untold.iter().chain(&copied) {
            if let Some(provider) = member_of(&bindings, member) {
                lags.ask(member, provider, now);
            }
        }
        let Some(engine) = engine.upgrade() else { return };
        if seen.iter().filter(|(_, reading)| reading.in_recovery == Tri::No).count() > 1 {
            if ticks.is_multiple_of(AGAIN) {
                let all = Engine::around(&engine).retired(&spec.name).await;
                retired = all.unwrap_or_default();
            }
            ticks = ticks.saturating_add(1);
        } else {
            ticks = 0;
        }
        let (mut sample, writer) = fold(&seen, &retired, wall());
        sample.lags = lags.told();
        // A sample that cannot be kept is one sample fewer: the bound then rests on an older one.
        let _kept = engine.store.registry.keep_sample(&spec.name, &sample).await.is_ok();
        let writer = match writer {
            Some((member, reading)) => target(&bindings, member, reading, known.as_ref()).await,
            None => None,
        };
        if writer.is_some()
            && writer != known
            && let Some(target) = writer.clone()
            && engine.store.registry.saw_writer(&spec.name, &LastWriter { target, at: sample.at }).await.is_ok()
        {
            known = writer;
        }
    }
}

/// Takes one sample, for a program that only looks: a failover that is planned later has a bound that is as old as this look.
pub(crate) async fn once(engine: &Arc<Inner>, spec: &GroupSpec, bindings: &Bindings) {
    let seen = look(spec, bindings).await.positions;
    let known = last_writer(engine, spec).await;
    let member = |name: &MemberId| member_of(bindings, name);
    let copied = Copies::default().of(&seen, known.as_ref(), member, tokio::time::Instant::now()).await;
    let seen: Vec<_> = seen.into_iter().filter(|(name, _)| !copied.contains(name)).collect();
    let primaries = seen.iter().filter(|(_, reading)| reading.in_recovery == Tri::No).count();
    let retired =
        if primaries > 1 { Engine::around(engine).retired(&spec.name).await.unwrap_or_default() } else { Vec::new() };
    let (sample, writer) = fold(&seen, &retired, wall());
    // What cannot be kept is missing later, and nothing else.
    let _kept = engine.store.registry.keep_sample(&spec.name, &sample).await.is_ok();
    let Some((member, reading)) = writer else { return };
    if let Some(target) = target(bindings, member, reading, None).await {
        let _kept = engine.store.registry.saw_writer(&spec.name, &LastWriter { target, at: sample.at }).await.is_ok();
    }
}

/// The writer of the last good look, where the journal has one.
async fn last_writer(engine: &Arc<Inner>, spec: &GroupSpec) -> Option<Target> {
    Some(engine.store.registry.last_writer(&spec.name).await.ok()??.target)
}

/// The writer as a silent one is pinned later: with its identity, which is asked for until its provider has told it once in this
/// history.
async fn target(
    bindings: &Bindings,
    member: MemberId,
    reading: PositionReading,
    known: Option<&Target>,
) -> Option<Target> {
    let (binding, resolved) = bindings.by_name.get(&Binding::from(&member))?;
    if let Some(known) = known.filter(|known| known.member == member && known.lineage == reading.lineage)
        && known.identity.is_some()
    {
        return Some(known.clone());
    }
    let Resolved::Member(provider) = resolved else { return None };
    let seen = tokio::time::timeout(PATIENCE, provider.database.describe()).await;
    let seen = seen.ok().and_then(Result::ok);
    if seen.as_ref().is_some_and(|seen| seen.follows.is_some()) {
        return None;
    }
    let identity = seen.and_then(|seen| seen.identity);
    Some(Target { member, address: binding.address.clone(), identity, lineage: reading.lineage, receives: None })
}

/// What the servers of a group said in one look.
#[derive(Debug, Default)]
struct Seen {
    positions: Vec<(MemberId, PositionReading)>,
    /// Members whose servers tell no positions at all.
    untold: Vec<MemberId>,
}

fn member_of<'a>(bindings: &'a Bindings, member: &MemberId) -> Option<&'a MemberProvider> {
    match bindings.by_name.get(&Binding::from(member)) {
        Some((_, Resolved::Member(provider))) => Some(provider),
        Some((_, Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_) | Resolved::App(_))) | None => None,
    }
}

/// Every member at once; a silent one gives nothing. A reader is not asked: it may well be a primary of its own system.
async fn look(spec: &GroupSpec, bindings: &Bindings) -> Seen {
    let mut reads = tokio::task::JoinSet::new();
    for member in spec.members.iter().filter(|member| member.role != IntendedRole::Reader) {
        let Some(provider) = member_of(bindings, &member.name) else { continue };
        let (name, probe) = (member.name.clone(), Arc::clone(&provider.probe));
        reads.spawn(async move { (name, tokio::time::timeout(PATIENCE, probe.position()).await) });
    }
    let mut seen = Seen::default();
    while let Some(read) = reads.join_next().await {
        match read {
            Ok((name, Ok(Ok(reading)))) => seen.positions.push((name, reading)),
            Ok((name, Ok(Err(ProviderError::Unsupported { .. })))) => seen.untold.push(name),
            Ok((_, Ok(Err(_)) | Err(_))) => {}
            // A probe that panics gives nothing, and ends nothing.
            Err(failed) => forget(failed),
        }
    }
    seen
}

/// Both sides of one moment. Two that call themselves primary make no primary, and such a sample bounds nothing; a former primary on a
/// history that a run promoted another member away from, which is seen to go on, is none of the two.
fn fold(
    seen: &[(MemberId, PositionReading)],
    retired: &[RetiredLineage],
    at: Timestamp,
) -> (PositionSample, Option<(MemberId, PositionReading)>) {
    let of = |recovery: Tri| seen.iter().filter(move |(_, reading)| reading.in_recovery == recovery);
    let goes_on = |one: &RetiredLineage| of(Tri::No).any(|(_, reading)| one.goes_on_as(&reading.lineage));
    let former = |(name, reading): &(MemberId, PositionReading)| {
        let same = |one: &&RetiredLineage| one.from.member == *name && one.from.lineage == reading.lineage;
        retired.iter().filter(same).any(goes_on)
    };
    let mut writers = of(Tri::No).filter(|one| !former(one));
    let writer = match (writers.next(), writers.next()) {
        (Some(one), None) => Some(one.clone()),
        (Some(_), Some(_)) | (None, _) => None,
    };
    // Of several standbys the one that has most counts: it would be promoted.
    let standby =
        of(Tri::Yes).max_by(|(_, a), (_, b)| a.durable.compare(&b.durable).unwrap_or(std::cmp::Ordering::Equal));
    let sample = PositionSample {
        primary: writer.as_ref().map(|(_, reading)| reading.durable.clone()),
        standby: standby.map(|(_, reading)| reading.durable.clone()),
        applied: standby.map(|(_, reading)| reading.applied.clone()),
        lineage: writer.as_ref().map(|(_, reading)| reading.lineage.clone()),
        lags: Vec::new(),
        at,
    };
    (sample, writer)
}

#[cfg(test)]
mod tests {
    use dr_core::{
        base::SystemId,
        contract::{Lineage, Parted, Position, PositionUnit, Tier},
    };

    use super::*;

    fn reading(name: &str, recovery: Tri, at: u64) -> (MemberId, PositionReading) {
        let position = Position { system: SystemId::new("s"), unit: PositionUnit::LogBytes, value: at };
        let lineage = Lineage { system: SystemId::new("s"), generation: 3 };
        let at = Timestamp::from_millis(1);
        let (durable, applied) = (position.clone(), position);
        (
            name.into(),
            PositionReading {
                lineage,
                in_recovery: recovery,
                durable,
                applied,
                parted_at: Parted::untold("nobody was promoted"),
                tier: Tier::Server,
                at,
            },
        )
    }

    #[test]
    fn a_sample_names_each_side_by_what_it_says_of_itself() {
        let at = Timestamp::from_millis(9);
        let (sample, writer) = fold(&[reading("a", Tri::Yes, 90), reading("b", Tri::No, 100)], &[], at);
        assert_eq!(sample.primary.unwrap().value, 100);
        assert_eq!(sample.standby.unwrap().value, 90);
        assert_eq!(writer.unwrap().0.as_str(), "b");
    }

    /// A former primary that stands fenced and answers made every sample worthless: a later failover had no bound.
    #[test]
    fn bug_a_former_primary_that_answers_took_the_samples_away() {
        let lineage = |generation| Lineage { system: SystemId::new("s"), generation };
        let target = |name: &str, generation| Target {
            member: name.into(),
            address: dr_core::base::ResourceAddress::new(name),
            identity: None,
            lineage: lineage(generation),
            receives: None,
        };
        let run = dr_core::RunId::new(dr_core::GroupName::new("g"), 1);
        let at = Timestamp::from_millis(9);
        let retired = [RetiredLineage { run, from: target("a", 3), to: target("b", 4), at }];
        let mut seen = [reading("a", Tri::No, 90), reading("b", Tri::No, 100)];
        seen[1].1.lineage = lineage(4);
        let (sample, writer) = fold(&seen, &retired, at);
        assert_eq!((sample.primary.unwrap().value, writer.unwrap().0.as_str()), (100, "b"));
        seen[1].1.lineage = lineage(3);
        assert!(fold(&seen, &retired, at).1.is_none(), "nobody is seen on what the run began");
    }

    #[test]
    fn a_silent_or_doubtful_primary_is_no_primary() {
        let at = Timestamp::from_millis(9);
        for seen in [
            vec![reading("a", Tri::Yes, 90)],
            vec![reading("a", Tri::No, 90), reading("b", Tri::No, 90)],
            vec![reading("a", Tri::Unknown, 90)],
        ] {
            let (sample, writer) = fold(&seen, &[], at);
            assert!(sample.primary.is_none() && sample.lineage.is_none() && writer.is_none());
        }
    }
}
