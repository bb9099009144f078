//! What only the author of a backend can do: bring a pair, break it, and look behind the backend's back.

use std::sync::Arc;

use async_trait::async_trait;
use dr_core::{
    AppTier, ManagedDatabase, MemberId, Notifier, SecretStore, TrafficRouter,
    base::ResourceAddress,
    contract::{EvidenceSink, MemberProvider, Query, ReadersRouter, Runtime, Table},
};

/// How close to the real service the backend is shown. The order is the order of worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Against a simulation of the service.
    Simulated,
    /// The real client, against a double that speaks the service's protocol.
    Double,
    /// Against the real service.
    Real,
}

/// One of the two members, by what it is at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The primary at the start.
    Primary,
    /// The standby at the start.
    Standby,
}

/// A mutating verb whose reply a rig can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`ManagedDatabase::promote`] on the standby.
    Promote,
    /// [`ManagedDatabase::swap_roles`] on the standby.
    Swap,
    /// [`dr_core::Fence::engage`] on the primary.
    Engage,
    /// [`dr_core::Fence::clear`] on the standby, once it was promoted.
    Clear,
    /// [`SecretStore::patch`].
    Patch,
    /// [`TrafficRouter::apply`].
    Apply,
    /// [`AppTier::drain`].
    Drain,
}

/// What a rig can do behind the backend's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// An application commits a few rows on the present writer.
    Write,
    /// An application keeps a session open on the primary that could write.
    OpenSession,
    /// The stream of the standby stops and does not come back by itself.
    CutReplication,
    /// The server of the primary dies without a clean stop.
    BreakPrimary,
    /// Management calls for the primary get no answer; its clients notice nothing.
    DarkManagement,
    /// The service answers `describe` with a word that no version of the backend knows.
    StrangeWord,
    /// The next call of this verb has its effect, and its reply does not arrive.
    LoseReply(Verb),
    /// Somebody lifts the fence of the primary by hand.
    LiftFence,
    /// Somebody promotes the standby by hand.
    PromoteByHand,
    /// The standby is deleted and made again under its address.
    MakeAnew,
    /// Somebody writes the secret by hand: a new version with the same endpoint.
    RewriteSecret,
    /// A rotation of the secret is going on.
    RotateSecret,
    /// A transaction of an application is open on the primary, for more than two minutes or as long as the rig says.
    OpenTransaction,
    /// The standby lets the role of the applications not in.
    RefuseApplications,
    /// The primary lets the role of the applications not in.
    RefuseOnPrimary,
    /// The standby gets a setting that keeps it from being a candidate.
    SpoilCandidate,
    /// The route for readers leads to `stranger` too, which is no member.
    StrangeReader,
    /// Another object takes the lock of the group on the primary.
    RivalLock,
}

impl Power {
    /// What the rig would have to do, after "this rig cannot".
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Write => "commit a row as an application".to_owned(),
            Self::OpenSession => "keep a session of an application open".to_owned(),
            Self::CutReplication => "cut replication".to_owned(),
            Self::BreakPrimary => "let the primary's server die".to_owned(),
            Self::DarkManagement => "make the management plane dark".to_owned(),
            Self::StrangeWord => "let the service say a word that nobody knows".to_owned(),
            Self::LoseReply(verb) => format!("lose the reply of {verb:?}").to_lowercase(),
            Self::LiftFence => "lift a fence by hand".to_owned(),
            Self::PromoteByHand => "promote by hand".to_owned(),
            Self::MakeAnew => "make a member anew under its address".to_owned(),
            Self::RewriteSecret => "write the secret by hand".to_owned(),
            Self::RotateSecret => "rotate the secret".to_owned(),
            Self::OpenTransaction => "keep a transaction open for long".to_owned(),
            Self::RefuseApplications => "shut applications out of the standby".to_owned(),
            Self::RefuseOnPrimary => "shut applications out of the primary".to_owned(),
            Self::SpoilCandidate => "spoil the candidate's settings".to_owned(),
            Self::StrangeReader => "send readers to a stranger".to_owned(),
            Self::RivalLock => "take the group's lock as somebody else".to_owned(),
        }
    }
}

/// What a rig can see without the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Whether an application commits on this side now, through an open session or a new one: 1 or 0.
    Commits(Side),
    /// How many writes of applications were acknowledged.
    Acknowledged,
    /// How many changes the backend's calls really made.
    Changes,
    /// How many notices people really got.
    Notices,
    /// How many seals the sink really holds.
    Seals,
}

impl Sight {
    /// What the rig would have to see, after "this rig cannot see".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Commits(_) => "whether applications commit",
            Self::Acknowledged => "what was acknowledged",
            Self::Changes => "what really changed",
            Self::Notices => "what people were told",
            Self::Seals => "what was sealed",
        }
    }
}

/// One member and what reaches it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name in the group.
    pub member: MemberId,
    /// What it was opened by.
    pub address: ResourceAddress,
    /// What reaches it.
    pub provider: MemberProvider,
}

/// What is on trial: a primary, a standby that follows it, and what stands around them.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The primary.
    pub primary: Seat,
    /// The standby; it streams.
    pub standby: Seat,
    /// The connection secret; it names the primary.
    pub secret: Option<Arc<dyn SecretStore>>,
    /// A route; it leads to the primary.
    pub route: Option<Arc<dyn TrafficRouter>>,
    /// A route for readers; it leads to the standby.
    pub readers: Option<Arc<dyn ReadersRouter>>,
    /// The applications' write path; it is open.
    pub app: Option<Arc<dyn AppTier>>,
    /// A way to tell people.
    pub notifier: Option<Arc<dyn Notifier>>,
    /// Where evidence goes.
    pub evidence: Option<Arc<dyn EvidenceSink>>,
    /// A database object of a resource that does not exist.
    pub missing: Option<Arc<dyn ManagedDatabase>>,
    /// A member that does not exist yet, and that the backend can make or restore.
    pub anew: Option<Seat>,
    /// Whether the probes know a login of an application.
    pub login: bool,
    /// Whether the route knows one.
    pub route_login: bool,
    /// A question that the databases answer with one row of `1`.
    pub question: Query,
    /// A table that both members have.
    pub table: Option<Table>,
    /// The standby is a logical copy: another system, fed with changes of rows.
    pub copy: bool,
    /// The probes tell log positions.
    pub positions: bool,
}

impl Pair {
    /// Two members, and nothing around them.
    #[must_use]
    pub fn of(primary: Seat, standby: Seat) -> Self {
        Self {
            primary,
            standby,
            secret: None,
            route: None,
            readers: None,
            app: None,
            notifier: None,
            evidence: None,
            missing: None,
            anew: None,
            login: false,
            route_login: false,
            question: Query::new("one", "SELECT 1"),
            table: None,
            copy: false,
            positions: true,
        }
    }

    /// One of the two.
    #[must_use]
    pub const fn seat(&self, side: Side) -> &Seat {
        match side {
            Side::Primary => &self.primary,
            Side::Standby => &self.standby,
        }
    }
}

/// What a backend's author brings: a pair, a clock, and as many powers and sights as there are.
///
/// Two methods are enough. Each power that is missing turns the trials that need it into "ignored, because".
#[async_trait]
pub trait Rig: Send + Sync + 'static {
    /// The pair of this rig; the same each time.
    fn pair(&self) -> Pair;

    /// The clock that the pair lives by. Trials wait on it.
    fn clock(&self) -> Arc<dyn Runtime>;

    /// What [`Rig::act`] can do.
    fn powers(&self) -> Vec<Power> {
        Vec::new()
    }

    /// What [`Rig::see`] can see.
    fn sights(&self) -> Vec<Sight> {
        Vec::new()
    }

    /// Does it, and returns when it is so.
    ///
    /// # Errors
    /// In words; the trial fails with them.
    async fn act(&self, power: Power) -> Result<(), String> {
        Err(format!("this rig cannot {}", power.words()))
    }

    /// Looks behind the backend's back.
    ///
    /// # Errors
    /// In words; the trial fails with them.
    async fn see(&self, sight: Sight) -> Result<u64, String> {
        Err(format!("this rig cannot see {}", sight.words()))
    }
}
