//! What a simulated service tells of itself and how it keeps its word, and the presets that are named after what they imitate.
//!
//! ```text
//!   Preset::RdsReplica ──► Setup { flavour, timing, service: Service { positions, generations, lag, … } } ──► World
//! ```

use dr_core::{Millis, contract::Rejoin, millis, minutes, seconds};
use serde::{Deserialize, Serialize};

use super::{Flavour, Setup, Timing, World};

/// The dials of a simulated service, beyond the way in which it moves the primary. The default is a server that is asked directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its members tell log positions. Where they do not, the probe refuses the question as not offered, and neither replication nor
    /// a fence tells one.
    pub positions: bool,
    /// The generation of a lineage grows with each promotion. Where it does not, every lineage is told as generation 0.
    pub generations: bool,
    /// Where the lag of a standby comes from.
    pub lag: LagSource,
    /// How a replication link names its other end.
    pub edges: Edges,
    /// How long a fence takes to come into force after its call was accepted. [`Millis::ZERO`]: the call answers when it is in force.
    pub fence_takes: Millis,
    /// When a role swap moves the endpoints that applications use.
    pub endpoint: EndpointMoves,
    /// After a promotion or a swap the new writer is busy for this long, with a backup, and restarts at its end: its sessions end, and
    /// nobody is let in for a moment.
    pub restarts_after: Option<Millis>,
    /// How the former primary becomes a standby after a promotion.
    pub rejoin: Rejoin,
    /// Its management plane goes on calling a server healthy that died, and its metrics of a stream end with the stream: nobody but the
    /// server itself can say that it is down.
    pub flatters: bool,
    /// Its standbys are logical copies: each is a system of its own, which is fed with changes of rows, is never in recovery, and has no
    /// sequence that its source has. A promoted one goes on with the history that it had.
    pub copies: bool,
    /// A member can be stopped, but not while it has a standby: a second fence that can be engaged only after the promotion.
    pub late_stop: bool,
    /// A member whose snapshot is under way is busy, and its standby is not promoted.
    pub snapshot_blocks: bool,
    /// Its members can be made, restored, protected and destroyed.
    pub lifecycle: bool,
    /// When it rebuilds a member, it keeps what only that member had for so long: a system snapshot that can be copied. `None`: it keeps
    /// nothing.
    pub preserves: Option<Millis>,
    /// How long after a change of a role its record tells who made it. `None`: there is no record that could be read.
    pub attribution: Option<Millis>,
    /// An accepted change of a role is given the name of an operation. Where it is not, an event tells that the change was given up.
    pub names_operations: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            positions: true,
            generations: true,
            lag: LagSource::Direct,
            edges: Edges::Address,
            fence_takes: Millis::ZERO,
            endpoint: EndpointMoves::AtTheEnd,
            restarts_after: None,
            rejoin: Rejoin::InPlace,
            flatters: false,
            copies: false,
            late_stop: false,
            snapshot_blocks: false,
            lifecycle: true,
            preserves: None,
            attribution: None,
            names_operations: true,
        }
    }
}

/// Where the lag of a standby comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LagSource {
    /// The standby itself is asked.
    Direct,
    /// A metric that is measured at intervals and published late.
    Metric {
        /// The interval.
        every: Millis,
        /// How long after the measurement it can be read.
        late: Millis,
    },
}

/// How a replication link names its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edges {
    /// By the address of the other member's resource.
    Address,
    /// By the endpoint at which the other member is reached.
    Endpoint,
}

/// When a role swap moves the endpoints that applications use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointMoves {
    /// As soon as the call is accepted, before the new primary takes writes.
    AtTheStart,
    /// With the promotion.
    AtTheEnd,
    /// Not at all: endpoints belong to somebody else.
    Never,
}

/// A service that the simulated cloud imitates: a set of dials under the name of the real one. What a preset does not imitate is the
/// real service's own affair: quotas, permissions, wire formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Azure Database for PostgreSQL Flexible Server with a virtual endpoint: one call swaps the roles in minutes.
    AzurePgFlexible,
    /// A failover group of Azure SQL Managed Instance: no positions, no generations, a lag that is a metric, a listener that moves at
    /// the start.
    SqlManagedInstance,
    /// A cross-region read replica of Amazon RDS: promotion after a fence of the network, which is accepted and takes effect later; the
    /// new writer is backed up and restarts, and the former primary never follows it.
    RdsReplica,
    /// An Aurora Global Database: a lag in milliseconds and no positions; a forced takeover brings a fence of the storage.
    AuroraGlobal,
    /// Cloud SQL Enterprise Plus with a designated replica: a switchover with a time limit.
    CloudSql,
    /// Cloud SQL as a logical copy of a PostgreSQL server of one's own: it is promoted as another system, and nothing leads back.
    CloudSqlExternal,
    /// PostgreSQL servers with streaming replication and no cluster manager.
    PatronilessPostgres,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AzurePgFlexible,
        Self::SqlManagedInstance,
        Self::RdsReplica,
        Self::AuroraGlobal,
        Self::CloudSql,
        Self::CloudSqlExternal,
        Self::PatronilessPostgres,
    ];

    /// Its name, as the command line and [`std::str::FromStr`] know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AzurePgFlexible => "azure-pg-flexible",
            Self::SqlManagedInstance => "sql-managed-instance",
            Self::RdsReplica => "rds-replica",
            Self::AuroraGlobal => "aurora-global",
            Self::CloudSql => "cloud-sql",
            Self::CloudSqlExternal => "cloud-sql-external",
            Self::PatronilessPostgres => "patroni-less-postgres",
        }
    }

    const fn flavour(self) -> Flavour {
        match self {
            Self::AzurePgFlexible | Self::SqlManagedInstance | Self::CloudSql => Flavour::RoleSwap,
            Self::RdsReplica | Self::CloudSqlExternal | Self::PatronilessPostgres => Flavour::Separate,
            Self::AuroraGlobal => Flavour::StorageFence,
        }
    }

    /// What the service tells and how it keeps its word, at the pace of the real one.
    #[must_use]
    pub fn service(self) -> Service {
        let direct = Service::default();
        match self {
            Self::AzurePgFlexible => direct,
            Self::PatronilessPostgres => Service { lifecycle: false, ..direct },
            // One operation at a time on an instance.
            Self::CloudSql => Service { snapshot_blocks: true, ..direct },
            Self::CloudSqlExternal => Service {
                copies: true,
                // The copy names the host and port of its source.
                edges: Edges::Endpoint,
                endpoint: EndpointMoves::Never,
                rejoin: Rejoin::Never,
                snapshot_blocks: true,
                attribution: Some(seconds(10)),
                ..direct
            },
            Self::SqlManagedInstance => Service {
                positions: false,
                generations: false,
                lag: LagSource::Metric { every: minutes(1), late: minutes(1) },
                endpoint: EndpointMoves::AtTheStart,
                attribution: Some(seconds(30)),
                ..direct
            },
            Self::RdsReplica => Service {
                fence_takes: seconds(5),
                endpoint: EndpointMoves::Never,
                restarts_after: Some(minutes(2)),
                rejoin: Rejoin::NewResource,
                late_stop: true,
                snapshot_blocks: true,
                ..direct
            },
            Self::AuroraGlobal => Service {
                positions: false,
                generations: false,
                lag: LagSource::Metric { every: seconds(5), late: Millis::ZERO },
                attribution: Some(minutes(1)),
                // As long as automated backups are kept.
                preserves: Some(minutes(7 * 24 * 60)),
                names_operations: false,
                ..direct
            },
        }
    }

    /// How long things take there: the pages of the services speak of these orders of magnitude.
    #[must_use]
    pub const fn timing(self) -> Timing {
        let cloud = Timing::realistic();
        match self {
            Self::AzurePgFlexible => {
                Timing { swap: minutes(3), poll: seconds(15), view_lag: seconds(5), rejoin: minutes(4), ..cloud }
            }
            Self::SqlManagedInstance => {
                Timing { swap: minutes(2), poll: seconds(15), view_lag: seconds(10), rejoin: minutes(4), ..cloud }
            }
            Self::RdsReplica => Timing {
                promote: minutes(5),
                poll: seconds(15),
                view_lag: seconds(30),
                rejoin: minutes(4),
                snapshot: minutes(40),
                // A stopped instance is started again after seven days.
                restarts_after: Some(minutes(7 * 24 * 60)),
                ..cloud
            },
            Self::AuroraGlobal => {
                Timing { swap: minutes(2), poll: seconds(10), view_lag: seconds(10), rejoin: minutes(4), ..cloud }
            }
            Self::CloudSql => {
                Timing { swap: seconds(70), poll: seconds(10), view_lag: seconds(30), rejoin: minutes(4), ..cloud }
            }
            Self::CloudSqlExternal => {
                Timing { promote: minutes(3), poll: seconds(5), view_lag: seconds(5), rejoin: minutes(4), ..cloud }
            }
            Self::PatronilessPostgres => Timing {
                read: (millis(1), millis(5)),
                send: (millis(5), millis(20)),
                timeout: seconds(5),
                promote: millis(300),
                rejoin: seconds(5),
                snapshot: seconds(30),
                drain: millis(100),
                propagation: millis(50),
                ttl: Millis::ZERO,
                secret_replication: millis(50),
                replica_delay: millis(20),
                view_lag: Millis::ZERO,
                poll: millis(100),
                restarts_after: None,
                ..cloud
            },
        }
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            format!("`{text}` is no preset; there are: {}", names.join(", "))
        })
    }
}

impl Service {
    /// The same dials where everything takes milliseconds.
    #[must_use]
    pub fn fast(self) -> Self {
        let soon = |time: Millis, fast: u64| if time == Millis::ZERO { time } else { millis(fast) };
        Self {
            lag: match self.lag {
                LagSource::Direct => LagSource::Direct,
                LagSource::Metric { every, late } => LagSource::Metric { every: soon(every, 40), late: soon(late, 40) },
            },
            fence_takes: soon(self.fence_takes, 20),
            restarts_after: self.restarts_after.map(|time| soon(time, 30)),
            attribution: self.attribution.map(|time| soon(time, 20)),
            ..self
        }
    }
}

impl Setup {
    /// The group `group` on the service that `preset` imitates, at the real one's pace: clients that wait give up after two minutes.
    #[must_use]
    pub fn preset(preset: Preset, group: &str, primary: &str, standby: &str) -> Self {
        Self {
            flavour: preset.flavour(),
            timing: preset.timing(),
            service: preset.service(),
            drain_limit: minutes(2),
            network_fence: preset == Preset::RdsReplica,
            swap_gives_up: preset == Preset::CloudSql,
            readers: 1,
            hardening: preset.service().lifecycle.then_some(World::PROTECTED),
            ..Self::pair(group, primary, standby)
        }
    }
}
