//! One trial on one rig: the pair, the checks so far, and the waiting.

use std::{
    fmt::{Debug, Display},
    sync::{Arc, Mutex, PoisonError},
};

use dr_core::{
    AppTier, Fence, GroupName, Millis, Notifier, RunId, SecretStore, TrafficRouter,
    base::{Digest, IdempotencyKey},
    contract::{Capabilities, EvidenceSink, FollowsBy, Rejoin, Runtime},
    millis, minutes,
};

use super::{
    Need, Offer, Pair, Part, Power, Rig, Sight, Trial,
    report::{Result as TrialResult, Shown},
};

/// One assertion that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What has to hold.
    pub words: &'static str,
    /// What was seen instead; `None` when it held.
    pub failure: Option<String>,
}

/// A check failed without which the rest of the trial makes no sense. What failed is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Stop;

/// A trial on a rig.
pub struct Case {
    rig: Arc<dyn Rig>,
    clock: Arc<dyn Runtime>,
    pub(super) run: RunId,
    pub(super) pair: Pair,
    pub(super) offers: Capabilities,
    checks: Mutex<Vec<Check>>,
}

impl Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("pair", &self.pair).finish_non_exhaustive()
    }
}

/// How long a wait of a trial may take on the pair's own clock.
const PATIENCE: Millis = minutes(1);
/// How often a wait looks.
const EVERY: Millis = millis(3);

impl Trial {
    /// Shows this behaviour on the pair of `rig`, or says why it could not.
    pub async fn show(&self, rig: Arc<dyn Rig>) -> TrialResult {
        let pair = rig.pair();
        let of = |shown, checks| TrialResult { trial: self.full_name(), of: self.of, shows: self.shows, shown, checks };
        let offers = match pair.standby.provider.database.capabilities().await {
            Ok(offers) => offers,
            Err(error) => {
                let failure = Some(error.to_string());
                return of(Shown::Failed, vec![Check { words: "the standby says what is offered", failure }]);
            }
        };
        if let Some(ignored) = self.needs.iter().find_map(|need| unmet(*need, &offers, &pair, rig.as_ref())) {
            return of(ignored, Vec::new());
        }
        let (clock, run) = (rig.clock(), RunId::new(GroupName::new("trials"), 1));
        let case = Case { rig, clock, run, pair, offers, checks: Mutex::default() };
        let ended = (self.body)(&case).await;
        let checks = case.checks.into_inner().unwrap_or_else(PoisonError::into_inner);
        // A body that checks nothing shows nothing.
        let failed = ended.is_err() || checks.is_empty() || checks.iter().any(|check| check.failure.is_some());
        of(if failed { Shown::Failed } else { Shown::Held }, checks)
    }
}

impl Offer {
    pub(super) fn is_in(self, offers: &Capabilities) -> bool {
        match self {
            Self::Promote => offers.promote.is_some(),
            Self::Swap => offers.swap.is_some(),
            Self::Rejoin => {
                let swapped = offers.swap.as_ref().map(|offer| offer.rejoin);
                swapped.or_else(|| offers.promote.as_ref().map(|offer| offer.rejoin)) == Some(Rejoin::InPlace)
            }
            Self::Follow => offers.follow.is_some_and(|offer| offer.by == FollowsBy::Verb),
            Self::Snapshot => offers.snapshot.is_some(),
            Self::Create => offers.create.is_some(),
            Self::Restore => offers.restore.is_some(),
            Self::Destroy => offers.destroy.is_some(),
            Self::Harden => offers.harden.is_some(),
            Self::Preserve => offers.preserve.is_some(),
            Self::HandOver => offers.promote.is_some() || offers.swap.is_some(),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Swap => "swap-roles",
            Self::Rejoin => "rejoin",
            Self::Follow => "follow",
            Self::Snapshot => "snapshot",
            Self::Create => "create-replica",
            Self::Restore => "restore",
            Self::Destroy => "destroy",
            Self::Harden => "harden",
            Self::Preserve => "preserve",
            Self::HandOver => "promote or swap-roles",
        }
    }
}

impl Part {
    pub(super) fn is_in(self, pair: &Pair) -> bool {
        match self {
            Self::Fence => pair.primary.provider.fence.is_some(),
            Self::Travelling => pair.primary.provider.fence.as_ref().is_some_and(|fence| fence.travels()),
            Self::Secret => pair.secret.is_some(),
            Self::Route => pair.route.is_some(),
            Self::Readers => pair.readers.is_some(),
            Self::App => pair.app.is_some(),
            Self::Notifier => pair.notifier.is_some(),
            Self::Evidence => pair.evidence.is_some(),
            Self::Missing => pair.missing.is_some(),
            Self::Anew => pair.anew.is_some(),
            Self::Login => pair.login,
            Self::NoLogin => !pair.login,
            Self::RouteLogin => pair.route_login,
            Self::NoRouteLogin => !pair.route_login,
            Self::Table => pair.table.is_some(),
            Self::Physical => !pair.copy,
            Self::Told => pair.positions,
            Self::Positions => pair.positions && !pair.copy,
            Self::Copy => pair.copy,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Fence => "there is no fence",
            Self::Travelling => "no fence travels",
            Self::Secret => "there is no secret",
            Self::Route => "there is no route",
            Self::Readers => "there is no route for readers",
            Self::App => "there is no application tier",
            Self::Notifier => "there is no notifier",
            Self::Evidence => "there is no sink of evidence",
            Self::Missing => "the rig brings no object of a missing resource",
            Self::Anew => "the rig brings no member that could be made",
            Self::Table => "the rig names no table",
            Self::Physical => "the standby is a logical copy",
            Self::Copy => "the standby is no logical copy",
            Self::Told => "nobody tells log positions",
            Self::Positions => "no positions of the two sides compare",
            Self::Login | Self::RouteLogin => "no login of an application is known",
            Self::NoLogin | Self::NoRouteLogin => "a login of an application is known",
        }
    }
}

/// Why a need is not met, if it is not.
fn unmet(need: Need, offers: &Capabilities, pair: &Pair, rig: &dyn Rig) -> Option<Shown> {
    let (met, because, beyond_rig) = match need {
        Need::Power(power) => (rig.powers().contains(&power), format!("this rig cannot {}", power.words()), true),
        Need::Sight(sight) => (rig.sights().contains(&sight), format!("this rig cannot see {}", sight.words()), true),
        Need::Offer(offer) => (offer.is_in(offers), format!("the backend does not offer {}", offer.word()), false),
        Need::Lacks(offer) => (!offer.is_in(offers), format!("the backend offers {}", offer.word()), false),
        Need::Part(part) => (part.is_in(pair), part.words().to_owned(), matches!(part, Part::Missing | Part::Anew)),
    };
    (!met).then_some(Shown::Ignored { because, beyond_rig })
}

impl Case {
    /// Records that `words` hold, or what was seen instead.
    pub fn holds(&self, words: &'static str, held: bool, saw: &impl Debug) {
        let failure = (!held).then(|| format!("saw {saw:?}"));
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(Check { words, failure });
    }

    /// Records that two values are the same.
    pub fn same<T: PartialEq + Debug>(&self, words: &'static str, saw: &T, wanted: &T) {
        self.holds(words, saw == wanted, &format_args!("{saw:?}, not {wanted:?}"));
    }

    /// Records that it was answered, and gives the answer.
    ///
    /// # Errors
    /// [`Stop`] when it was not.
    pub fn ok<T, E: Display>(&self, words: &'static str, answer: Result<T, E>) -> Result<T, Stop> {
        match answer {
            Ok(value) => {
                self.holds(words, true, &());
                Ok(value)
            }
            Err(error) => {
                self.holds(words, false, &format_args!("{error}"));
                Err(Stop)
            }
        }
    }

    /// Records that there is one, and gives it.
    ///
    /// # Errors
    /// [`Stop`] when there is none.
    pub fn some<T>(&self, words: &'static str, found: Option<T>) -> Result<T, Stop> {
        self.ok(words, found.ok_or("nothing"))
    }

    /// Looks until `look` answers something, and records it.
    ///
    /// # Errors
    /// [`Stop`] when nothing came in a minute.
    pub async fn until<T: Send, F: Future<Output = Option<T>> + Send>(
        &self,
        words: &'static str,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<T, Stop> {
        let end = self.clock.now_mono() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                self.holds(words, true, &());
                return Ok(found);
            }
            if self.clock.now_mono() >= end {
                self.holds(words, false, &"nothing of it within a minute");
                return Err(Stop);
            }
            self.sleep(EVERY).await;
        }
    }

    /// Lets time pass on the pair's clock.
    pub async fn sleep(&self, time: Millis) {
        self.clock.sleep_until(self.clock.now_mono() + time).await;
    }

    /// Lets as much time pass as a view may lag, and a little more.
    pub(super) async fn settle_view(&self) {
        self.sleep(self.offers.visibility.saturating_add(millis(5))).await;
    }

    /// Uses a power of the rig.
    ///
    /// # Errors
    /// [`Stop`] when it did not work.
    pub async fn act(&self, power: Power) -> Result<(), Stop> {
        // The rig's own work is no assertion: only a failure of it is told.
        match self.rig.act(power).await {
            Ok(()) => Ok(()),
            Err(error) => self.ok("the rig does what it says", Err(error)),
        }
    }

    /// Looks behind the backend's back.
    ///
    /// # Errors
    /// [`Stop`] when it did not work.
    pub async fn see(&self, sight: Sight) -> Result<u64, Stop> {
        match self.rig.see(sight).await {
            Ok(value) => Ok(value),
            Err(error) => self.ok("the rig sees what it says", Err(error)),
        }
    }

    /// Whether the rig can see it.
    pub(super) fn sees(&self, sight: Sight) -> bool {
        self.rig.sights().contains(&sight)
    }

    pub(super) fn clock(&self) -> &dyn Runtime {
        self.clock.as_ref()
    }

    /// A key of this trial's run.
    pub(super) fn key(&self, node: &str) -> IdempotencyKey {
        self.run.key(&Digest::zero(), &dr_core::NodeId::new(node))
    }

    pub(super) fn fence(&self) -> Result<Arc<dyn Fence>, Stop> {
        self.pair.primary.provider.fence.clone().ok_or(Stop)
    }

    /// The fence of the standby, which the standby carries once it travelled.
    pub(super) fn far_fence(&self) -> Result<Arc<dyn Fence>, Stop> {
        self.pair.standby.provider.fence.clone().ok_or(Stop)
    }

    pub(super) fn secret(&self) -> Result<Arc<dyn SecretStore>, Stop> {
        self.pair.secret.clone().ok_or(Stop)
    }

    pub(super) fn route(&self) -> Result<Arc<dyn TrafficRouter>, Stop> {
        self.pair.route.clone().ok_or(Stop)
    }

    pub(super) fn app(&self) -> Result<Arc<dyn AppTier>, Stop> {
        self.pair.app.clone().ok_or(Stop)
    }

    pub(super) fn notifier(&self) -> Result<Arc<dyn Notifier>, Stop> {
        self.pair.notifier.clone().ok_or(Stop)
    }

    pub(super) fn evidence(&self) -> Result<Arc<dyn EvidenceSink>, Stop> {
        self.pair.evidence.clone().ok_or(Stop)
    }
}
