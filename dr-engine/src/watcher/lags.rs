//! How far behind the members are whose servers tell no positions, as their providers tell it: asked no oftener than they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dr_core::{
    ManagedDatabase, MemberId, Millis,
    contract::{LagSample, MemberProvider, ServicePace},
};
use tokio::{task::JoinSet, time::Instant};

use crate::runtime::{forget, wall};

/// A management plane that takes longer is silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of the providers, and when they are asked again.
#[derive(Debug, Default)]
pub(super) struct Lags {
    due: BTreeMap<MemberId, Instant>,
    every: BTreeMap<MemberId, Millis>,
    asked: BTreeSet<MemberId>,
    reads: JoinSet<Read>,
}

/// What one read of one member gave.
#[derive(Debug)]
struct Read {
    member: MemberId,
    every: Option<Millis>,
    lag: Option<LagSample>,
}

impl Lags {
    /// Begins to read the lag of `member`, unless that is going on or it is too soon.
    pub(super) fn ask(&mut self, member: &MemberId, provider: &MemberProvider, now: Instant) {
        if self.due.get(member).is_some_and(|due| now < *due) || !self.asked.insert(member.clone()) {
            return;
        }
        let every = self.every.get(member).copied();
        let pause = every.unwrap_or(ServicePace::CAUTIOUS.poll_every);
        self.due.insert(member.clone(), now + Duration::from_millis(pause.count()));
        self.reads.spawn(read(member.clone(), Arc::clone(&provider.database), every));
    }

    /// Takes what has been told since the last time.
    pub(super) fn told(&mut self) -> Vec<LagSample> {
        let mut lags = Vec::new();
        while let Some(read) = self.reads.try_join_next() {
            match read {
                Ok(Read { member, every, lag }) => {
                    self.asked.remove(&member);
                    if let Some(every) = every {
                        self.every.insert(member, every);
                    }
                    lags.extend(lag);
                }
                // A backend that panics gives nothing, and ends nothing.
                Err(failed) => {
                    forget(failed);
                    self.asked.clear();
                }
            }
        }
        lags
    }
}

async fn read(member: MemberId, database: Arc<dyn ManagedDatabase>, every: Option<Millis>) -> Read {
    let every = match every {
        Some(known) => Some(known),
        None => {
            let offers = tokio::time::timeout(PATIENCE, database.capabilities()).await;
            offers.ok().and_then(Result::ok).map(|offers| offers.poll_every)
        }
    };
    let reading = tokio::time::timeout(PATIENCE, database.replication()).await.ok().and_then(Result::ok);
    let lag = reading.and_then(|reading| LagSample::of(&member, &reading, wall()));
    Read { member, every, lag }
}

#[cfg(test)]
mod tests {
    use dr_core::{base::Digest, contract::Resolved, seconds};
    use dr_testkit::{Service, Setup, SimCloud};

    use super::*;

    #[tokio::test]
    async fn a_standby_without_positions_is_sampled_as_often_as_its_provider_likes() {
        let setup = Setup::pair("orders", "neu", "weu").service(Service { positions: false, ..Service::default() });
        let delay = setup.timing.replica_delay;
        let cloud = SimCloud::new(setup, Arc::new(crate::TokioRuntime::current().unwrap()));
        let (mut lags, now) = (Lags::default(), Instant::now());
        for name in ["neu", "weu"] {
            let resolved = cloud.providers().resolve(Digest::zero(), &cloud.member_ref(name)).await.unwrap();
            let Resolved::Member(provider) = resolved else { panic!("no member") };
            lags.ask(&name.into(), &provider, now);
            lags.ask(&name.into(), &provider, now);
        }
        assert_eq!(lags.reads.len(), 2, "one read of a member at a time");
        let mut told = Vec::new();
        let all = async {
            while !lags.asked.is_empty() {
                told.extend(lags.told());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
        let [only] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((only.member.as_str(), only.behind), ("weu", delay), "a primary is behind nobody");
        assert!(lags.every.contains_key(&MemberId::new("weu")), "its pace is known now");
        assert!(only.measured <= wall() && wall().since(only.measured) < seconds(60));
    }
}
