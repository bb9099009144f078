//! Situations as a look would find them, written by hand: data is enough to plan from.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::{collections::BTreeMap, ops::Deref};

use dr_core::{
    Binding, Grade, GroupSpec, MemberId, Millis, Situation, Target, Timestamp, Tri,
    base::{Endpoint, ResourceAddress, ResourceIdentity, SystemId},
    contract::{
        Capabilities, Description, Follows, ForcedOffer, HardenOffer, Lineage, Parted, Planes, Position,
        PositionReading, PositionUnit, PreserveOffer, PromoteOffer, Protection, Reach, Rejoin, Replication,
        ReplicationLink, ResourceKind, ResourceRef, Serves, SnapshotOffer, SwapOffer, Tier,
    },
    millis, minutes,
    plan::{AppFacts, MemberFacts, Presence, ReadersFacts, SecretFacts},
    seconds,
};
use serde_json::json;

/// When everything was read.
pub(crate) const AT: Timestamp = Timestamp::from_millis(1_764_000_000_000);

/// A situation that can be made worse.
#[derive(Clone)]
pub(crate) struct Scene(pub(crate) Situation);

impl Deref for Scene {
    type Target = Situation;

    fn deref(&self) -> &Situation {
        &self.0
    }
}

impl Scene {
    /// The primary does not answer; its standby's edge still names it.
    pub(crate) fn silent_primary(mut self) -> Self {
        let silent = MemberFacts::silent(self.0.primary.name.clone(), self.0.primary.binding.clone());
        self.0.primary = MemberFacts {
            fence: self.0.primary.fence,
            silence: vec!["`describe` got no answer: timed out".into()],
            ..silent
        };
        self.0.primary_answers = false;
        for standby in &mut self.0.standbys {
            if let Some(replication) = &mut standby.replication {
                replication.streaming = Tri::No;
                replication.lag = None;
            }
        }
        self
    }

    /// Changes the only standby.
    pub(crate) fn standby(mut self, change: impl Fn(&mut MemberFacts)) -> Self {
        self.0.standbys.iter_mut().for_each(change);
        self
    }

    /// Changes the primary.
    pub(crate) fn primary(mut self, change: impl Fn(&mut MemberFacts)) -> Self {
        change(&mut self.0.primary);
        self
    }

    /// What the rehearsal of a change to each standby found.
    #[allow(dead_code, reason = "not every test file rehearses")]
    pub(crate) fn rehearsed(mut self, find: impl Fn(&mut dr_core::contract::Rehearsal)) -> Self {
        for standby in &self.0.standbys {
            let mut found = dr_core::contract::Rehearsal::default();
            find(&mut found);
            self.0.rehearsals.insert(standby.name.clone(), found);
        }
        self
    }

    /// Changes anything.
    pub(crate) fn with(mut self, change: impl Fn(&mut Situation)) -> Self {
        change(&mut self.0);
        self
    }
}

/// What a kind of service is like.
struct Service {
    name: &'static str,
    backend: &'static str,
    members: [&'static str; 2],
    offers: Capabilities,
    fence: Option<Planes>,
    positions: bool,
    generation: u32,
}

fn resource(kind: ResourceKind, provider: &str, id: &str) -> ResourceRef {
    ResourceRef {
        provider: provider.into(),
        kind,
        address: ResourceAddress::new(id),
        identity: None,
        region: None,
        profile: None,
    }
}

fn lineage(service: &Service) -> Lineage {
    Lineage { system: SystemId::new(format!("{}-system", service.name)), generation: service.generation }
}

fn identity(service: &Service, name: &str) -> ResourceIdentity {
    ResourceIdentity::new(format!("{}-{name}-1", service.name))
}

fn member(service: &Service, name: &str, follows: Option<&str>) -> MemberFacts {
    let id = |name: &str| ResourceAddress::new(format!("{}/{name}", service.name));
    let identity = Some(identity(service, name));
    let binding = ResourceRef {
        identity: identity.clone(),
        ..resource(ResourceKind::Database, service.backend, id(name).as_str())
    };
    let lineage = lineage(service);
    let at = Position { system: lineage.system.clone(), unit: PositionUnit::LogBytes, value: 0x1_0000 };
    let standby = follows.is_some();
    MemberFacts {
        presence: Presence::Seen,
        description: Some(Description {
            address: id(name),
            identity,
            lineage: (!service.positions).then(|| lineage.clone()),
            follows: follows.map(id).map(ReplicationLink::physical),
            followers: Vec::new(),
            writable: if standby { Tri::No } else { Tri::Unknown },
            healthy: Tri::Yes,
            status: "ready".into(),
            endpoint: Endpoint::new(format!("{name}.example:5432")),
            version: "15.18".into(),
            busy: None,
            newest_backup: Some(AT),
            cadence: Millis::ZERO,
            at: AT,
        }),
        replication: Some(Replication {
            streaming: Tri::from(standby),
            lineage: standby.then(|| lineage.clone()),
            received: standby.then(|| at.clone()),
            applied: standby.then(|| at.clone()),
            lag: standby.then(|| seconds(1)),
            cadence: Millis::ZERO,
            at: AT,
        }),
        capabilities: Some(service.offers.clone()),
        reach: Reach::ALL,
        fence: service.fence,
        fence_poll: service.offers.poll_every,
        position: service.positions.then(|| PositionReading {
            lineage: lineage.clone(),
            in_recovery: Tri::from(standby),
            durable: at.clone(),
            applied: at,
            parted_at: Parted::untold("nobody was promoted"),
            tier: Tier::Managed,
            at: AT,
        }),
        transactions: Some(Vec::new()),
        extensions: Some(BTreeMap::from([("plpgsql".into(), "1.0".into())])),
        available_extensions: Some(BTreeMap::from([("plpgsql".into(), vec!["1.0".into()])])),
        ..MemberFacts::silent(MemberId::new(name), binding)
    }
}

fn scene(service: &Service, group: &serde_json::Value) -> Scene {
    let group = GroupSpec::read(group).unwrap();
    let [primary, standby] = service.members;
    let secrets = group.secrets.iter().filter(|secret| !secret.store.is_none()).map(|secret| {
        let binding = resource(ResourceKind::Secret, secret.store.as_str(), &format!("secret/{}", secret.name));
        (secret.name.clone(), SecretFacts { binding, reference: None })
    });
    let poll = service.offers.poll_every.min(millis(500));
    let apps = group.apps.iter().map(|app| {
        let binding = resource(ResourceKind::App, app.tier.as_str(), &format!("app/{}", app.name));
        let (limit, within) = (Some(seconds(120)), app.drain.within);
        (app.name.clone(), AppFacts { binding, limit, within, poll, expires: false })
    });
    let (writers, readers): (Vec<_>, Vec<_>) = group.traffic.iter().partition(|route| route.serves == Serves::Writer);
    let readers = readers.into_iter().map(|route| {
        let binding = resource(ResourceKind::Readers, route.router.as_str(), &format!("readers/{}", route.name));
        (route.name.clone(), ReadersFacts { binding, members: route.members.keys().cloned().collect(), poll })
    });
    let routes = writers.into_iter().map(|route| {
        let binding = resource(ResourceKind::Traffic, route.router.as_str(), &format!("route/{}", route.name));
        (route.name.clone(), binding)
    });
    Scene(Situation {
        primary_answers: true,
        writer: Target {
            member: primary.into(),
            address: ResourceAddress::new(format!("{}/{primary}", service.name)),
            identity: Some(identity(service, primary)),
            lineage: lineage(service),
            receives: None,
        },
        primary: member(service, primary, None),
        standbys: vec![member(service, standby, Some(primary))],
        missing: Vec::new(),
        secrets: secrets.collect(),
        apps: apps.collect(),
        rehearsals: BTreeMap::new(),
        routes: routes.collect(),
        readers: readers.collect(),
        route_poll: service.offers.poll_every.min(seconds(5)),
        route_ttl: seconds(60),
        at: AT,
        group,
    })
}

fn group(service: &Service, rest: &serde_json::Value) -> serde_json::Value {
    let member = |name: &str| json!({"name": name, "region": name, "backend": service.backend, "at": {"name": name}});
    let mut group = json!({
        "format": GroupSpec::FORMAT,
        "name": service.name,
        "home": service.members[0],
        "member": service.members.map(member),
        "approval": {
            "switchover": {"people": 1, "roles": ["dba"], "expires": "15 min"},
            "failover": {"people": 2, "roles": ["dba", "incident-commander"], "expires": "10 min"},
        },
    });
    group.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    group
}

fn routes(service: &Service, router: &str) -> serde_json::Value {
    let members: BTreeMap<&str, &str> = service.members.iter().map(|name| (*name, "{member.endpoint}")).collect();
    json!([{"name": "public", "router": router, "member": members}])
}

fn secret(service: &Service, store: &str) -> serde_json::Value {
    json!([{"name": service.name, "store": store, "set": {"host": "{writer.endpoint}"}}])
}

fn promotes(takes: Millis, rejoin: Rejoin) -> Option<PromoteOffer> {
    Some(PromoteOffer { takes, rejoin, restarts: false })
}

fn moved(names: &[&str]) -> Vec<Binding> {
    names.iter().map(|name| Binding::parse(name)).collect()
}

fn swaps(takes: Millis, catches_up: bool, moves: &[&str]) -> Option<SwapOffer> {
    let rejoin = Rejoin::ByProvider;
    Some(SwapOffer { takes, rejoin, catches_up, limit: false, moves: moved(moves), restarts: false })
}

fn forces(takes: Millis, moves: &[&str]) -> Option<ForcedOffer> {
    let fence = Planes::all(Grade::Unconfirmable);
    Some(ForcedOffer { takes, rejoin: Rejoin::ByProvider, fence, moves: moved(moves), restarts: false })
}

fn everything(poll_every: Millis, visibility: Millis) -> Capabilities {
    Capabilities { poll_every, visibility, ..Capabilities::none() }
}

/// Self-managed PostgreSQL behind PgBouncer: a clean stop is the fence.
pub(crate) fn postgres() -> Scene {
    let service = Service {
        name: "billing",
        backend: "postgres",
        members: ["pg1", "pg2"],
        offers: Capabilities { promote: promotes(seconds(30), Rejoin::InPlace), ..everything(millis(2), millis(100)) },
        fence: Some(Planes::all(Grade::Confirmed)),
        positions: true,
        generation: 3,
    };
    let traffic = routes(&service, "pgbouncer");
    scene(&service, &group(&service, &json!({"traffic": traffic, "app": [{"name": "pooler", "tier": "pgbouncer"}]})))
}

/// SQL Managed Instance in a failover group: no positions, the provider catches up by itself.
pub(crate) fn mi() -> Scene {
    let service = Service {
        name: "crm",
        backend: "azure.sql-mi",
        members: ["neu", "weu"],
        offers: Capabilities {
            swap: swaps(minutes(5), true, &[]),
            forced_swap: forces(minutes(10), &[]),
            ..everything(seconds(15), minutes(3))
        },
        fence: None,
        positions: false,
        generation: 0,
    };
    let secret = secret(&service, "azure.key-vault");
    scene(
        &service,
        &group(&service, &json!({"secret": secret, "app": [{"name": "api", "tier": "azure.container-apps"}]})),
    )
}

/// PostgreSQL Flexible Server with a geo-replica and virtual endpoints.
pub(crate) fn azure_pg() -> Scene {
    let service = Service {
        name: "orders",
        backend: "azure.pg-flexible",
        members: ["neu", "weu"],
        offers: Capabilities {
            promote: promotes(minutes(10), Rejoin::NewResource),
            swap: swaps(minutes(5), false, &["traffic:public"]),
            forced_swap: forces(minutes(5), &["traffic:public"]),
            ..everything(seconds(15), minutes(2))
        },
        fence: Some(Planes::all(Grade::Confirmed)),
        positions: true,
        generation: 1,
    };
    let traffic = routes(&service, "azure.front-door");
    let secret = secret(&service, "azure.key-vault");
    let app = json!([{"name": "api", "tier": "azure.container-apps"}]);
    scene(&service, &group(&service, &json!({"traffic": traffic, "secret": secret, "app": app})))
}

/// RDS with a cross-region read replica and a weighted record.
pub(crate) fn rds() -> Scene {
    let service = Service {
        name: "ledger",
        backend: "aws.rds",
        members: ["ireland", "frankfurt"],
        offers: Capabilities {
            promote: promotes(minutes(20), Rejoin::NewResource).map(|offer| PromoteOffer { restarts: true, ..offer }),
            snapshot: Some(SnapshotOffer { takes: minutes(60), blocks_promotion: true }),
            ..everything(seconds(5), minutes(3))
        },
        fence: Some(Planes::all(Grade::Confirmed)),
        positions: true,
        generation: 1,
    };
    let traffic = routes(&service, "aws.route53");
    let secret = secret(&service, "aws.secrets-manager");
    let app = json!([{"name": "api", "tier": "aws.ecs"}]);
    scene(&service, &group(&service, &json!({"traffic": traffic, "secret": secret, "app": app})))
}

/// Aurora Global Database: a storage fence, told by an event.
pub(crate) fn aurora() -> Scene {
    let service = Service {
        name: "catalog",
        backend: "aws.aurora-global",
        members: ["ireland", "frankfurt"],
        offers: Capabilities {
            swap: swaps(minutes(5), true, &[]),
            forced_swap: forces(minutes(10), &[]),
            snapshot: Some(SnapshotOffer { takes: minutes(30), blocks_promotion: false }),
            harden: Some(HardenOffer {
                takes: minutes(10),
                can: vec![Protection::DeletionProtection, Protection::Retention],
            }),
            preserve: Some(PreserveOffer { takes: minutes(60), kept_for: Some(minutes(7 * 24 * 60)) }),
            ..everything(seconds(5), minutes(3))
        },
        fence: None,
        positions: false,
        generation: 0,
    };
    let secret = json!([{"name": "none", "store": "none", "because": "the global writer endpoint follows the writer"}]);
    let readers = json!([{"name": "reports", "serves": "readers", "router": "aws.route53",
        "member": {"ireland": "r1", "frankfurt": "r2"}}]);
    let hardening = json!({"deletion_protection": true, "retention": "7 d"});
    scene(&service, &group(&service, &json!({"secret": secret, "traffic": readers, "hardening": hardening})))
}

/// Cloud SQL with a designated replica: both shapes are offered.
pub(crate) fn cloud_sql_pair() -> Scene {
    let service = Service {
        name: "stock",
        backend: "gcp.cloud-sql",
        members: ["belgium", "netherlands"],
        offers: Capabilities {
            promote: promotes(minutes(10), Rejoin::NewResource),
            swap: swaps(minutes(10), true, &[]).map(|offer| SwapOffer { limit: true, ..offer }),
            forced_swap: forces(minutes(10), &[]),
            ..everything(seconds(2), minutes(1))
        },
        fence: Some(Planes::all(Grade::Confirmed)),
        positions: true,
        generation: 1,
    };
    let traffic = routes(&service, "gcp.dns");
    scene(&service, &group(&service, &json!({"traffic": traffic, "app": [{"name": "api", "tier": "gcp.flag"}]})))
}

/// A server of one's own, whose standby is a logical copy: another system, fed with changes of rows.
pub(crate) fn cloud_sql_external() -> Scene {
    let service = Service {
        name: "orders",
        backend: "gcp.cloud-sql",
        members: ["onprem", "cloud"],
        offers: Capabilities {
            promote: promotes(minutes(10), Rejoin::Never),
            swap: None,
            forced_swap: None,
            ..everything(seconds(5), minutes(1))
        },
        fence: Some(Planes::all(Grade::Confirmed)),
        positions: true,
        generation: 3,
    };
    let traffic = routes(&service, "gcp.dns");
    let scene =
        scene(&service, &group(&service, &json!({"traffic": traffic, "app": [{"name": "api", "tier": "gcp.flag"}]})));
    scene.standby(|member| {
        let own = SystemId::new("copy-system");
        member.description.as_mut().unwrap().follows.as_mut().unwrap().how = Follows::Logical;
        let position = member.position.as_mut().unwrap();
        position.lineage = Lineage { system: own.clone(), generation: 1 };
        position.in_recovery = Tri::No;
        for place in [&mut position.durable, &mut position.applied] {
            *place = Position { system: own.clone(), unit: PositionUnit::LogBytes, value: 0x7_0000 };
        }
    })
}
