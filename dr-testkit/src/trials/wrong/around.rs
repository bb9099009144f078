//! Wrong fences, probes, secrets, routes, tiers, notifiers and sinks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use dr_core::{
    Actor, AppTier, DatabaseProbe, Fence, MemberId, Millis, Notifier, Outcome, ProviderError, RunId, SecretStore,
    Target, TrafficRouter, Tri,
    base::{Digest, IdempotencyKey, SecretVersion},
    contract::{
        AppReading, ClearFence, DrainRequest, Effort, EngageFence, EvidenceSink, FencePlace, FenceReading, FenceToken,
        Health, LongTransaction, Notice, PatchSecret, Planes, Position, PositionReading, Query, Reach, ReadersReading,
        ReadersRouter, RecycleRequest, Rehearsal, RehearseRoute, RehearseSecret, ReleaseOrder, ResumeRequest,
        RetireFence, RotateSecret, RouteReading, RouteRequest, Rows, Runtime, ScaleRequest, SecretReference, Sequences,
        Sessions, SpreadReaders, Table, TableSum, WriteProbe, WritesSince,
    },
};

use super::{Wrong, database::WrongDatabase};
use crate::trials::{Pair, Seat};

/// Wraps every part of the pair. Each wrapper is wrong in the ways that are its own, and honest otherwise.
pub(super) fn pair(how: Wrong, pair: Pair, clock: &Arc<dyn Runtime>) -> Pair {
    let members = [pair.primary.member.clone(), pair.standby.member.clone()];
    let secret = pair.secret.map(|inner| -> Arc<dyn SecretStore> { Arc::new(Around::new(inner, how)) });
    let route = pair
        .route
        .map(|inner| -> Arc<dyn TrafficRouter> { Arc::new(WrongRoute { around: Around::new(inner, how), members }) });
    let readers = pair.readers.map(|inner| -> Arc<dyn ReadersRouter> { Arc::new(Around::new(inner, how)) });
    let app = pair.app.map(|inner| -> Arc<dyn AppTier> { Arc::new(Around::new(inner, how)) });
    let notifier = pair.notifier.map(|inner| -> Arc<dyn Notifier> { Arc::new(Around::new(inner, how)) });
    let evidence = pair.evidence.map(|inner| -> Arc<dyn EvidenceSink> { Arc::new(Around::new(inner, how)) });
    let (primary, standby) = (seat(how, pair.primary, clock), seat(how, pair.standby, clock));
    let anew = pair.anew.map(|new| seat(how, new, clock));
    Pair { anew, primary, standby, secret, route, readers, app, notifier, evidence, ..pair }
}

fn seat(how: Wrong, mut seat: Seat, clock: &Arc<dyn Runtime>) -> Seat {
    let (inner, clock) = (seat.provider.database, Arc::clone(clock));
    let (first, calls) = (Mutex::default(), AtomicU32::default());
    seat.provider.database = Arc::new(WrongDatabase { inner, how, clock, first, calls });
    seat.provider.probe = Arc::new(Around::new(seat.provider.probe, how));
    let fence = |inner| -> Arc<dyn Fence> {
        Arc::new(WrongFence { inner, how, engaged: Mutex::default(), best: Mutex::default() })
    };
    seat.provider.fence = seat.provider.fence.map(fence);
    seat
}

/// What stands in front of an honest part.
#[derive(Debug)]
struct Around<T: ?Sized> {
    how: Wrong,
    calls: AtomicU32,
    /// Whether a rotation was done through it.
    rotated: AtomicU32,
    inner: Arc<T>,
}

impl<T: ?Sized> Around<T> {
    fn new(inner: Arc<T>, how: Wrong) -> Self {
        Self { how, calls: AtomicU32::new(0), rotated: AtomicU32::new(0), inner }
    }

    fn is(&self, how: Wrong) -> bool {
        self.how == how
    }

    /// A word that was never said before.
    fn new_word(&self, word: &str) -> String {
        format!("{word}-{}", self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct WrongFence {
    inner: Arc<dyn Fence>,
    how: Wrong,
    /// For whom it was engaged.
    engaged: Mutex<Option<Target>>,
    /// The best that was read.
    best: Mutex<Option<FenceReading>>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Fence for WrongFence {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn offers(&self, reach: Reach) -> Planes {
        if self.how == Wrong::PromisesInTheDark { self.inner.promises() } else { self.inner.offers(reach) }
    }

    fn promises(&self) -> Planes {
        self.inner.promises()
    }

    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        if self.how == Wrong::PromisesInTheDark { Vec::new() } else { self.inner.out_of_reach(reach) }
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        let token = self.inner.prepare().await?;
        Ok(FenceToken { known: token.known || self.how == Wrong::ClaimsToKnow, ..token })
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(effort).await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        *self.engaged.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.target.clone());
        self.inner.engage(request).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let reading = self.inner.inspect().await?;
        if self.how == Wrong::ForgetsFence {
            return Ok(FenceReading { planes: Planes::default(), ..reading });
        }
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if best.as_ref().is_none_or(|best| best.grade() <= reading.grade()) {
            *best = Some(reading.clone());
        }
        let kept = best.clone().filter(|_| self.how == Wrong::RemembersFence);
        Ok(kept.unwrap_or(reading))
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        let engaged = self.engaged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let order = match engaged.filter(|_| self.how == Wrong::ReleasesOthers) {
            Some(target) => {
                let by = Actor::local("anybody");
                ReleaseOrder::by_operator(order.key().clone(), target, order.token().clone(), by)
            }
            None => order,
        };
        *self.best.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.inner.release(order).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        self.inner.retire(request).await
    }

    fn travels(&self) -> bool {
        self.inner.travels()
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        self.inner.carried().await
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        if self.how == Wrong::ForgetsToClear { Outcome::Done(()) } else { self.inner.clear(request).await }
    }

    fn place(&self) -> FencePlace {
        self.inner.place()
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DatabaseProbe for Around<dyn DatabaseProbe> {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        let told = self.inner.write().await?;
        let silent = told.accepted == Tri::Unknown && self.is(Wrong::TakesSilenceForNo);
        Ok(if silent { WriteProbe { accepted: Tri::No, ..told } } else { told })
    }

    async fn write_as_application(&self) -> Result<WriteProbe, ProviderError> {
        self.inner.write_as_application().await
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        self.inner.position().await
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        self.inner.extensions().await
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        self.inner.available_extensions().await
    }

    async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        self.inner.long_transactions(limit).await
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        let found = self.inner.writing_sessions().await?;
        Ok(if self.is(Wrong::CountsAllAsIdle) { Sessions { in_transaction: 0, idle: found.all() } } else { found })
    }

    async fn writes_since(&self, since: &Position) -> Result<WritesSince, ProviderError> {
        let told = self.inner.writes_since(since).await?;
        Ok(if self.is(Wrong::SaysNothingWasWritten) { WritesSince { written: Tri::No, ..told } } else { told })
    }

    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        self.inner.sequences().await
    }

    async fn checksum(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError> {
        match self.inner.checksum(tables).await {
            Err(ProviderError::Refused { .. }) if self.is(Wrong::AddsUpNothing) => Ok(BTreeMap::new()),
            told => told,
        }
    }

    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError> {
        self.inner.ask(query).await
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        self.inner.warm_up().await
    }

    async fn group_lock(&self, holder: &str) -> Result<bool, ProviderError> {
        Ok(self.inner.group_lock(holder).await? || self.is(Wrong::IgnoresRivals))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SecretStore for Around<dyn SecretStore> {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        self.inner.read().await
    }

    async fn patch(&self, mut request: PatchSecret) -> Outcome<SecretVersion> {
        if self.is(Wrong::DropsTheKey) {
            request.key = IdempotencyKey::new(self.new_word("key"));
        }
        if self.is(Wrong::IgnoresTheVersion)
            && let Ok(current) = self.inner.read().await
        {
            request.expected = current.version;
        }
        self.inner.patch(request).await
    }

    async fn rotate(&self, request: RotateSecret) -> Outcome<SecretVersion> {
        let told = self.inner.rotate(request).await;
        self.rotated.fetch_or(u32::from(matches!(told, Outcome::Done(_))), Ordering::Relaxed);
        told
    }

    async fn rotating(&self) -> Result<Tri, ProviderError> {
        self.inner.rotating().await
    }

    async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        let mut kept = self.inner.versions().await?;
        if self.is(Wrong::ForgetsOldCredentials) && self.rotated.load(Ordering::Relaxed) > 0 {
            kept.truncate(1);
        }
        Ok(kept)
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
struct WrongRoute {
    around: Around<dyn TrafficRouter>,
    /// The primary and the standby.
    members: [MemberId; 2],
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TrafficRouter for WrongRoute {
    async fn read(&self) -> Result<RouteReading, ProviderError> {
        self.around.inner.read().await
    }

    async fn apply(&self, mut request: RouteRequest) -> Outcome<()> {
        let [primary, standby] = &self.members;
        let wanted = request.writer.target.member.clone();
        let there = self.around.inner.read().await.ok().and_then(|seen| seen.member) == Some(wanted.clone());
        if self.around.is(Wrong::TogglesTraffic) && there {
            request.writer.target.member = if wanted == *primary { standby.clone() } else { primary.clone() };
        }
        if self.around.is(Wrong::MovesTrafficBlindly) {
            request.writer.target.member = standby.clone();
        }
        self.around.inner.apply(request).await
    }

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        self.around.inner.rehearse(request).await
    }

    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        self.around.inner.write().await
    }

    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError> {
        self.around.inner.sample(samples).await
    }

    fn poll_every(&self) -> Millis {
        self.around.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.around.inner.manual(verb)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ReadersRouter for Around<dyn ReadersRouter> {
    async fn read(&self) -> Result<ReadersReading, ProviderError> {
        self.inner.read().await
    }

    async fn spread(&self, mut request: SpreadReaders) -> Outcome<()> {
        if self.is(Wrong::AddsReaders)
            && !request.to.is_empty()
            && let Ok(seen) = self.inner.read().await
        {
            request.to.extend(seen.members);
        }
        self.inner.spread(request).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AppTier for Around<dyn AppTier> {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.inner.limit().await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        let told = self.inner.read().await?;
        let runs = told.drained == Tri::No && told.expires.is_some();
        Ok(if runs && self.is(Wrong::SaysDrainedEarly) {
            AppReading { drained: Tri::Yes, stragglers: Vec::new(), ..told }
        } else {
            told
        })
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        self.inner.drain(request).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        self.inner.resume(request).await
    }

    async fn fail_fast(&self) -> Outcome<()> {
        self.inner.fail_fast().await
    }

    async fn scale(&self, mut request: ScaleRequest) -> Outcome<()> {
        if self.is(Wrong::AddsToTheCapacity)
            && let Ok(now) = self.inner.health().await
        {
            request.capacity = request.capacity.saturating_add(now.capacity);
        }
        self.inner.scale(request).await
    }

    async fn health(&self) -> Result<Health, ProviderError> {
        self.inner.health().await
    }

    async fn recycle(&self, request: RecycleRequest) -> Outcome<()> {
        self.inner.recycle(request).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[async_trait]
impl Notifier for Around<dyn Notifier> {
    async fn notify(&self, mut notice: Notice) -> Result<(), ProviderError> {
        if self.is(Wrong::TellsTwice) {
            notice.key = self.new_word(&notice.key);
        }
        self.inner.notify(notice).await
    }

    fn closes(&self) -> bool {
        self.inner.closes()
    }
}

#[async_trait]
impl EvidenceSink for Around<dyn EvidenceSink> {
    async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError> {
        if self.is(Wrong::SealsNothing) {
            return Ok(());
        }
        self.inner.seal(run, seq, head).await
    }
}
