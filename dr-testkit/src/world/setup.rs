//! What a world is made from: members, flavour, timing, clients.

use dr_core::{
    GroupName, Millis,
    contract::{Hardening, IntendedRole},
    millis, minutes, seconds,
};
use serde::{Deserialize, Serialize};

use super::Service;

/// How a simulated provider moves the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// Fence, then promote: self-managed PostgreSQL, RDS read replicas. The old primary rejoins in place.
    Separate,
    /// The provider swaps the roles, planned and forced, and moves the endpoint: Azure PostgreSQL, failover groups.
    RoleSwap,
    /// A planned switchover is a swap; a forced takeover brings a fence of the storage whose grade is known only afterwards:
    /// Aurora Global Database.
    StorageFence,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Separate, Self::RoleSwap, Self::StorageFence];
}

impl std::fmt::Display for Flavour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Separate => "separate",
            Self::RoleSwap => "role-swap",
            Self::StorageFence => "storage-fence",
        })
    }
}

impl std::str::FromStr for Flavour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|flavour| flavour.to_string() == text);
        known.ok_or_else(|| format!("`{text}` is no flavour; there are: separate, role-swap, storage-fence"))
    }
}

/// How long things take. A pair is a range from which each call draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// A read, there and back.
    pub read: (Millis, Millis),
    /// A mutating call, there and back.
    pub send: (Millis, Millis),
    /// After how long a caller gives up on a reply.
    pub timeout: Millis,
    /// A promotion.
    pub promote: Millis,
    /// A role swap.
    pub swap: Millis,
    /// How long running work of applications takes to end.
    pub drain: Millis,
    /// How a former primary is attached again.
    pub rejoin: Millis,
    /// A snapshot.
    pub snapshot: Millis,
    /// Until every resolver answers the new route.
    pub propagation: Millis,
    /// How long clients keep a resolved route.
    pub ttl: Millis,
    /// Until applications see a new secret version.
    pub secret_replication: Millis,
    /// How long applications keep a secret that they read.
    pub secret_cache: Millis,
    /// How far a healthy standby is behind.
    pub replica_delay: Millis,
    /// How old the management view is.
    pub view_lag: Millis,
    /// How often a running thing may be looked at.
    pub poll: Millis,
    /// The pause between two writes of one client.
    pub write_every: Millis,
    /// After how long the provider starts a stopped instance by itself.
    pub restarts_after: Option<Millis>,
}

impl Timing {
    /// What a cloud does: reads of 50 to 300 ms, changes of 1 to 3 s, operations of minutes, a TTL of 60 s.
    #[must_use]
    pub const fn realistic() -> Self {
        Self {
            read: (millis(50), millis(300)),
            send: (seconds(1), seconds(3)),
            timeout: seconds(30),
            promote: minutes(2),
            swap: seconds(260),
            drain: seconds(5),
            rejoin: minutes(5),
            snapshot: minutes(3),
            propagation: seconds(20),
            ttl: seconds(60),
            secret_replication: seconds(10),
            secret_cache: seconds(30),
            replica_delay: millis(400),
            view_lag: seconds(5),
            poll: seconds(2),
            write_every: millis(100),
            restarts_after: Some(minutes(7 * 24 * 60)),
        }
    }

    /// Everything in milliseconds, for tests and for demonstrations on a real clock.
    #[must_use]
    pub const fn fast() -> Self {
        Self {
            read: (millis(1), millis(2)),
            send: (millis(2), millis(4)),
            timeout: millis(200),
            promote: millis(60),
            swap: millis(120),
            drain: millis(15),
            rejoin: millis(200),
            snapshot: millis(100),
            propagation: millis(20),
            ttl: millis(50),
            secret_replication: millis(10),
            secret_cache: millis(50),
            replica_delay: millis(5),
            view_lag: millis(3),
            poll: millis(3),
            write_every: millis(10),
            restarts_after: Some(minutes(7 * 24 * 60)),
        }
    }
}

impl Timing {
    /// [`Timing::fast`] with few looks at each long operation: for explorations, where every look is a fault point.
    #[must_use]
    pub const fn brisk() -> Self {
        Self {
            timeout: millis(100),
            promote: millis(16),
            swap: millis(20),
            drain: millis(6),
            rejoin: millis(16),
            snapshot: millis(8),
            propagation: millis(8),
            ttl: millis(20),
            secret_replication: millis(4),
            secret_cache: millis(20),
            replica_delay: millis(3),
            view_lag: millis(2),
            poll: millis(8),
            ..Self::fast()
        }
    }
}

/// A group of one primary and its standbys with everything around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The group.
    pub group: GroupName,
    /// The members; the first one is the primary at the start.
    pub members: Vec<MemberSetup>,
    /// How the provider moves the primary.
    pub flavour: Flavour,
    /// What the service tells of itself, and how it keeps its word.
    pub service: Service,
    /// How long things take.
    pub timing: Timing,
    /// How many clients write.
    pub writers: u32,
    /// How many of them are told nothing by a drain.
    pub rude_writers: u32,
    /// How many routes there are; half of the writers use them.
    pub routes: usize,
    /// How many routes for readers there are. They lead to every standby at the start.
    pub readers: usize,
    /// How long a drain may last before clients see errors.
    pub drain_limit: Millis,
    /// How long a drain may last before the promotion; without it, four fifths of `drain_limit`.
    pub gap_budget: Option<Millis>,
    /// A drain ends by itself when its budget is over.
    pub drain_expires: bool,
    /// The fence of the storage works when the roles are taken over by force.
    pub storage_fence_works: bool,
    /// A member's fence exists besides the provider's swap (always so for [`Flavour::Separate`]).
    pub own_fence: bool,
    /// A planned swap can be told when to give up, and does so with the roles as they were.
    pub swap_gives_up: bool,
    /// The fence of [`Flavour::Separate`] is a network rule: it keeps applications out and leaves the server running, which goes on
    /// calling itself a primary.
    pub network_fence: bool,
    /// The fence of [`Flavour::Separate`] takes the login away from the applications' roles. That is written to the log, so it reaches the
    /// standby, and a new writer refuses its applications until it is cleared.
    pub login_fence: bool,
    /// The applications have a tier that can hold their writes back. Without one they write until the change of the writer stops them.
    pub tier: bool,
    /// The protections that the group asks its writer to have.
    pub hardening: Option<Hardening>,
    /// From which number the latencies of calls are drawn.
    pub seed: u64,
}

/// One member of a [`Setup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSetup {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// What it is meant for.
    pub role: IntendedRole,
}

impl MemberSetup {
    fn new(name: &str, role: IntendedRole) -> Self {
        Self { name: name.to_owned(), region: format!("region-{name}"), role }
    }
}

impl Setup {
    /// Whether the operation that a call starts, ten times as slow, takes longer than any run waits: at the pace of a real service that is no
    /// trouble that passes, and the run asks people.
    pub(crate) fn outlasts(&self, call: &str) -> bool {
        let Timing { promote, swap, rejoin, snapshot, .. } = self.timing;
        let verbs = [
            (".promote#", promote),
            (".swap-roles#", swap),
            (".rejoin#", rejoin),
            (".snapshot#", snapshot),
            (".harden#", snapshot),
            (".preserve#", snapshot),
        ];
        let takes = verbs.into_iter().find(|(verb, _)| call.contains(verb)).map_or(Millis::ZERO, |(_, takes)| takes);
        takes.count().saturating_mul(10) > Millis::minutes(1).count()
    }

    /// The group `group` with the primary `primary` and the standby `standby`: 8 writers, one route, realistic timing.
    #[must_use]
    pub fn pair(group: &str, primary: &str, standby: &str) -> Self {
        let member = |name: &str| MemberSetup::new(name, IntendedRole::Candidate);
        Self {
            group: GroupName::new(group),
            members: vec![member(primary), member(standby)],
            flavour: Flavour::Separate,
            service: Service::default(),
            timing: Timing::realistic(),
            writers: 8,
            rude_writers: 0,
            routes: 1,
            readers: 0,
            drain_limit: minutes(20),
            gap_budget: None,
            drain_expires: true,
            storage_fence_works: true,
            own_fence: false,
            swap_gives_up: false,
            network_fence: false,
            login_fence: false,
            tier: true,
            hardening: None,
            seed: 1,
        }
    }

    /// With one member more, which follows the primary.
    #[must_use]
    pub fn with(mut self, name: &str, role: IntendedRole) -> Self {
        self.members.push(MemberSetup::new(name, role));
        self
    }

    /// With another flavour.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// With [`Timing::fast`], dials that are as fast, and a drain limit of 10 s.
    #[must_use]
    pub fn fast(mut self) -> Self {
        self.timing = Timing::fast();
        self.service = self.service.fast();
        self.drain_limit = seconds(10);
        self
    }

    /// With other dials.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.service = service;
        self
    }

    /// With other timing.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// With another number of writers.
    #[must_use]
    pub fn writers(mut self, writers: u32) -> Self {
        self.writers = writers;
        self
    }

    /// With another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}
