//! Members that are logical copies: their servers are in no recovery, like a primary's, and only their providers tell that they are none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dr_core::{
    MemberId, Target, Tri,
    contract::{MemberProvider, PositionReading},
};
use tokio::{task::JoinSet, time::Instant};

use crate::runtime::forget;

/// A management plane that takes longer is silent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a member is asked again while the writer is seen beside it.
const AGAIN: Duration = Duration::from_secs(60);
/// How often it is asked while nobody else is seen to write: it may have been promoted.
const SOON: Duration = Duration::from_secs(5);

/// What the providers said of members that look like a primary from inside.
#[derive(Debug, Default)]
pub(super) struct Copies {
    told: BTreeMap<MemberId, (Instant, bool)>,
}

impl Copies {
    /// The members of `seen` that are copies. One whose provider never answered is taken for a copy if it is another system than
    /// `known`, the writer of the last good look: nobody is made the writer because somebody is silent.
    pub(super) async fn of<'a>(
        &mut self,
        seen: &'a [(MemberId, PositionReading)],
        known: Option<&Target>,
        member: impl Fn(&MemberId) -> Option<&'a MemberProvider>,
        now: Instant,
    ) -> BTreeSet<MemberId> {
        let alike = seen.iter().filter(|(_, reading)| reading.in_recovery == Tri::No);
        let is_known = |name: &MemberId| known.is_some_and(|known| known.member == *name);
        let writer_seen = alike.clone().any(|(name, _)| is_known(name));
        let others: Vec<&(MemberId, PositionReading)> = alike.filter(|(name, _)| !is_known(name)).collect();
        let age = if writer_seen { AGAIN } else { SOON };
        let due = |name: &MemberId| self.told.get(name).is_none_or(|(at, _)| now.duration_since(*at) >= age);
        let mut reads = JoinSet::new();
        for (name, _) in others.iter().filter(|(name, _)| due(name)) {
            let Some(provider) = member(name) else { continue };
            let (name, database) = (name.clone(), Arc::clone(&provider.database));
            reads.spawn(async move { (name, tokio::time::timeout(PATIENCE, database.describe()).await) });
        }
        while let Some(read) = reads.join_next().await {
            match read {
                Ok((name, Ok(Ok(seen)))) => {
                    self.told.insert(name, (now, seen.is_copy()));
                }
                Ok((_, Ok(Err(_)) | Err(_))) => {}
                // A backend that panics tells nothing, and ends nothing.
                Err(failed) => forget(failed),
            }
        }
        let another =
            |reading: &PositionReading| known.is_some_and(|known| known.lineage.system != reading.lineage.system);
        let copy = |(name, reading): &&&(MemberId, PositionReading)| {
            self.told.get(name).map_or_else(|| another(reading), |(_, copy)| *copy)
        };
        others.iter().filter(copy).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use dr_core::{base::Digest, contract::Resolved};
    use dr_testkit::{Condition, Preset, Setup, SimCloud, Timing};

    use super::*;

    async fn seen(members: &[(MemberId, MemberProvider)]) -> Vec<(MemberId, PositionReading)> {
        let mut seen = Vec::new();
        for (name, provider) in members {
            if let Ok(reading) = provider.probe.position().await {
                seen.push((name.clone(), reading));
            }
        }
        seen
    }

    /// The server of a copy says of itself what the server of a primary says. Once the primary was silent, the copy was the writer.
    #[tokio::test]
    async fn bug_a_logical_copy_was_taken_for_the_writer() {
        let setup = Setup::preset(Preset::CloudSqlExternal, "orders", "onprem", "cloud").timing(Timing::fast());
        let cloud = SimCloud::new(setup, Arc::new(crate::TokioRuntime::current().unwrap()));
        let mut members = Vec::new();
        for name in ["onprem", "cloud"] {
            let resolved = cloud.providers().resolve(Digest::zero(), &cloud.member_ref(name)).await.unwrap();
            let Resolved::Member(provider) = resolved else { panic!("no member") };
            members.push((MemberId::new(name), provider));
        }
        let of = |name: &MemberId| members.iter().find(|(known, _)| known == name).map(|(_, provider)| provider);
        let both = seen(&members).await;
        assert!(both.iter().all(|(_, reading)| reading.in_recovery == Tri::No), "both look like a primary: {both:?}");
        let known = Target {
            member: "onprem".into(),
            address: cloud.member_ref("onprem").address,
            identity: None,
            lineage: both[0].1.lineage.clone(),
            receives: None,
        };
        let copy = BTreeSet::from([MemberId::new("cloud")]);
        let mut copies = Copies::default();
        let now = Instant::now();
        assert_eq!(copies.of(&both, Some(&known), of, now).await, copy);
        cloud.break_down("onprem");
        cloud.suffer(Condition::ControlOutage("region-cloud".into()), None);
        let alone = seen(&members).await;
        assert_eq!(copies.of(&alone, Some(&known), of, now + SOON).await, copy, "what was told stays");
        let first = Copies::default().of(&alone, Some(&known), of, now).await;
        assert_eq!(first, copy, "another system than the last writer, and nobody says that it was promoted");
    }
}
