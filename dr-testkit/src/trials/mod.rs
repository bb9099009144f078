//! Contract trials: what the documentation of each provider trait promises, shown on a backend.
//!
//! ```text
//!   trial (data: sentence, needs, body) ──┐
//!   rig (what only the backend's author   ├──► shown | failed | ignored, because … ──► report, tier
//!        can do: a pair, powers, sights) ──┘
//! ```
//!
//! A [`Rig`] brings a primary with a standby and says what it can do to them. A trial that needs more than the rig can do, or a verb
//! that the backend does not offer, is ignored with the reason. The same bodies run on the simulated cloud, on doubles and on real
//! servers: where simulation and reality drift apart, one of them fails.

#![expect(clippy::unused_async, reason = "all bodies of trials have one shape")]

mod app;
mod case;
mod change;
mod database;
mod evidence;
mod fence;
mod lifecycle;
mod mutate;
mod notify;
mod probe;
mod readers;
mod report;
mod rig;
mod secret;
mod sim;
mod traffic;
mod wrong;

use futures_util::future::BoxFuture;

pub use case::{Case, Check, Stop};
pub use report::{Report, Result as TrialResult, Shown, Tier};
pub use rig::{Pair, Power, Reach, Rig, Seat, Side, Sight, Verb};
pub use sim::{SimRig, SimSubject};
pub use wrong::{Verdict as WrongVerdict, Wrong};

/// The trait whose documentation a trial quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contract {
    /// [`dr_core::ManagedDatabase`].
    ManagedDatabase,
    /// [`dr_core::DatabaseProbe`].
    DatabaseProbe,
    /// [`dr_core::Fence`].
    Fence,
    /// [`dr_core::SecretStore`].
    SecretStore,
    /// [`dr_core::TrafficRouter`].
    TrafficRouter,
    /// [`dr_core::contract::ReadersRouter`].
    ReadersRouter,
    /// [`dr_core::AppTier`].
    AppTier,
    /// [`dr_core::Notifier`].
    Notifier,
    /// [`dr_core::contract::EvidenceSink`].
    EvidenceSink,
}

impl Contract {
    /// All nine.
    pub const ALL: [Self; 9] = [
        Self::ManagedDatabase,
        Self::DatabaseProbe,
        Self::Fence,
        Self::SecretStore,
        Self::TrafficRouter,
        Self::ReadersRouter,
        Self::AppTier,
        Self::Notifier,
        Self::EvidenceSink,
    ];

    /// The first word of the names of its trials.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ManagedDatabase => "database",
            Self::DatabaseProbe => "probe",
            Self::Fence => "fence",
            Self::SecretStore => "secret",
            Self::TrafficRouter => "traffic",
            Self::ReadersRouter => "readers",
            Self::AppTier => "app",
            Self::Notifier => "notifier",
            Self::EvidenceSink => "evidence",
        }
    }
}

/// A verb or way that a backend may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Promotion that leaves the old primary alone.
    Promote,
    /// A planned role swap.
    Swap,
    /// A former primary is attached again where it is.
    Rejoin,
    /// A standby is pointed at a primary.
    Follow,
    /// A snapshot.
    Snapshot,
    /// A member is made as a standby of another one.
    Create,
    /// A member is made from another one's backups.
    Restore,
    /// A member is destroyed.
    Destroy,
    /// Protections are turned on.
    Harden,
    /// What was lost is copied.
    Preserve,
    /// Promotion or swap.
    HandOver,
}

/// A part of what is on trial that a rig may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A fence of the primary.
    Fence,
    /// A fence that replication carries to the standby.
    Travelling,
    /// The connection secret.
    Secret,
    /// A route.
    Route,
    /// A route for readers.
    Readers,
    /// The applications' write path.
    App,
    /// A way to tell people.
    Notifier,
    /// A sink of evidence.
    Evidence,
    /// A database object of a resource that does not exist.
    Missing,
    /// A member that does not exist yet, and that the backend can make.
    Anew,
    /// The probes know a login of an application.
    Login,
    /// The probes know none.
    NoLogin,
    /// The route knows a login of an application.
    RouteLogin,
    /// The route knows none.
    NoRouteLogin,
    /// A table that both members have.
    Table,
    /// The standby has its primary's log, byte for byte.
    Physical,
    /// The members tell log positions.
    Told,
    /// They do, and those of the two sides compare.
    Positions,
    /// The standby is a logical copy.
    Copy,
}

/// What a trial cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The rig can do this.
    Power(Power),
    /// The rig can see this.
    Sight(Sight),
    /// The backend offers this.
    Offer(Offer),
    /// The backend does not offer this.
    Lacks(Offer),
    /// The rig brings this part.
    Part(Part),
}

/// In which state a trial leaves the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// As it was: the next trial may use the same pair.
    AsItWas,
    /// Changed: the next trial needs a fresh one.
    Changed,
}

/// What a body does with a pair: checks are recorded in the [`Case`], and [`Stop`] says that the rest makes no sense.
pub type Body = for<'a> fn(&'a Case) -> BoxFuture<'a, Result<(), Stop>>;

/// One behaviour of the contract, and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The trait.
    pub of: Contract,
    /// The verb and the behaviour: `promote::a_lost_reply_is_unknown`.
    pub name: &'static str,
    /// The sentence of the trait's documentation that it shows, word for word.
    pub shows: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// What it leaves behind.
    pub leaves: Leaves,
    /// What it does.
    pub body: Body,
}

impl Trial {
    /// `database::promote::a_lost_reply_is_unknown`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.of.word(), self.name)
    }
}

/// Every trial, in the order of the traits.
#[must_use]
pub fn all() -> Vec<&'static Trial> {
    let parts: [&'static [Trial]; 11] = [
        database::TRIALS,
        mutate::TRIALS,
        lifecycle::TRIALS,
        probe::TRIALS,
        fence::TRIALS,
        secret::TRIALS,
        traffic::TRIALS,
        readers::TRIALS,
        app::TRIALS,
        notify::TRIALS,
        evidence::TRIALS,
    ];
    parts.into_iter().flatten().collect()
}

/// The trials of some traits.
#[must_use]
pub fn of(contracts: &[Contract]) -> Vec<&'static Trial> {
    all().into_iter().filter(|trial| contracts.contains(&trial.of)).collect()
}

/// Runs `trials` on what `make` makes: a fresh rig after each trial that changed the last one.
///
/// # Errors
/// The author's own words when a rig could not be made; nothing is shown then.
pub async fn run<R, F, M>(subject: &str, reach: Reach, trials: &[&Trial], make: M) -> Result<Report, String>
where
    R: Rig,
    F: Future<Output = Result<R, String>> + Send,
    M: Fn() -> F + Send + Sync,
{
    let mut report = Report::new(subject, reach);
    let mut kept: Option<std::sync::Arc<dyn Rig>> = None;
    for trial in trials {
        let rig = match kept.take() {
            Some(rig) => rig,
            None => std::sync::Arc::new(make().await?),
        };
        let result = trial.show(std::sync::Arc::clone(&rig)).await;
        let untouched = match result.shown {
            Shown::Ignored { .. } => true,
            Shown::Held => trial.leaves == Leaves::AsItWas,
            Shown::Failed => false,
        };
        kept = untouched.then_some(rig);
        report.results.push(result);
    }
    Ok(report)
}

/// Trials as a table: one line of name, sentence and needs each.
macro_rules! trials {
    ($of:expr; $($leaves:ident $body:ident $name:literal shows $shows:literal needs [$($need:expr),* $(,)?];)+) => {
        pub(super) const TRIALS: &[$crate::trials::Trial] = &[$(
            $crate::trials::Trial {
                of: $of,
                name: $name,
                shows: $shows,
                needs: &[$($need),*],
                leaves: $crate::trials::Leaves::$leaves,
                body: |case| Box::pin($body(case)),
            },
        )+];
    };
}
pub(crate) use trials;
