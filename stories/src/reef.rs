//! Story 6: somebody else's service, and a backend for it. Clusters copy each other in step; a cutover promotes the copy.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dr_core::{contract::{Capabilities, Description, Lineage, LongTransaction, OpHandle, OpProgress, Parted, Position, PositionReading, PositionUnit, PromoteOffer, PromoteRequest, Query, Rejoin, Replication, ReplicationLink, Rows, Runtime, Sessions, Tier, WriteProbe}, DatabaseProbe, ManagedDatabase, MemberId, Millis, Outcome, ProviderError, base::{ResourceAddress, ResourceIdentity, SystemId}, Timestamp, Tri, millis, seconds};

/// One cluster as the service knows it.
#[derive(Debug)]
pub struct Cluster {
    /// Whom it copies.
    pub copies: Option<String>,
    /// Whether the copy is cut.
    pub cut: bool,
    /// The service's word for its state.
    pub word: String,
    /// How many cutovers its history has seen.
    pub generation: u32,
    /// How many commits it has.
    pub commits: u64,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Reef {
    clusters: Arc<Mutex<BTreeMap<String, Cluster>>>,
    clock: Arc<dyn Runtime>,
}

impl Reef {
    /// Two clusters, the second one copies the first.
    pub fn new(clock: Arc<dyn Runtime>) -> Self {
        let cluster = |copies: Option<&str>| Cluster {
            copies: copies.map(str::to_owned),
            cut: false,
            word: "LIVE".to_owned(),
            generation: 1,
            commits: 10,
        };
        let clusters = [("here".to_owned(), cluster(None)), ("there".to_owned(), cluster(Some("here")))];
        Self { clusters: Arc::new(Mutex::new(clusters.into())), clock }
    }

    /// The clusters, for whoever plays the service.
    pub fn clusters(&self) -> MutexGuard<'_, BTreeMap<String, Cluster>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One commit of an application on a cluster, and on what copies it.
    pub fn commit(&self, name: &str) {
        for (other, cluster) in self.clusters().iter_mut() {
            if other == name || cluster.copies.as_deref() == Some(name) && !cluster.cut {
                cluster.commits += 1;
            }
        }
    }

    /// The backend's object for one cluster.
    pub fn member(&self, name: &str) -> ReefMember {
        ReefMember { reef: self.clone(), name: name.to_owned() }
    }

    fn now(&self) -> Timestamp {
        self.clock.now_wall()
    }
}

/// What reaches one cluster.
#[derive(Clone, Debug)]
pub struct ReefMember {
    reef: Reef,
    name: String,
}

fn address(name: &str) -> ResourceAddress {
    ResourceAddress::new(format!("reef:{name}"))
}

fn lineage(cluster: &Cluster) -> Lineage {
    Lineage { system: SystemId::new("reef-1"), generation: cluster.generation }
}

fn position(cluster: &Cluster) -> Position {
    Position { system: SystemId::new("reef-1"), unit: PositionUnit::Counter, value: cluster.commits }
}

impl ReefMember {
    /// What it was opened by.
    pub fn address(&self) -> ResourceAddress {
        address(&self.name)
    }

    /// Its name in the group.
    pub fn id(&self) -> MemberId {
        MemberId::new(self.name.as_str())
    }

    fn look<T>(&self, verb: &'static str, look: impl FnOnce(&Cluster) -> T) -> Result<T, ProviderError> {
        let clusters = self.reef.clusters();
        let cluster = clusters.get(&self.name);
        let cluster =
            cluster.ok_or_else(|| ProviderError::Missing { verb, why: format!("there is no {}", self.name) })?;
        match cluster.word.as_str() {
            "LIVE" => Ok(look(cluster)),
            other => Err(ProviderError::Strange { verb, saw: other.to_owned() }),
        }
    }
}

#[async_trait]
impl ManagedDatabase for ReefMember {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        Ok(Capabilities {
            promote: Some(PromoteOffer { takes: seconds(5), rejoin: Rejoin::Never, restarts: false }),
            poll_every: millis(10),
            visibility: millis(10),
            ..Capabilities::none()
        })
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        let at = self.reef.now();
        let mut told = self.look("describe", |cluster| Description {
            address: self.address(),
            identity: Some(ResourceIdentity::new(format!("reef-id-{}", self.name))),
            lineage: Some(lineage(cluster)),
            follows: cluster.copies.as_deref().map(|name| ReplicationLink::physical(address(name))),
            followers: Vec::new(),
            writable: Tri::from(cluster.copies.is_none()),
            healthy: Tri::Yes,
            status: cluster.word.clone(),
            endpoint: format!("{}.reef.example:5432", self.name).into(),
            version: "24.1".to_owned(),
            busy: None,
            newest_backup: None,
            cadence: Millis::ZERO,
            at,
        })?;
        let clusters = self.reef.clusters();
        let copies = clusters.iter().filter(|(_, other)| other.copies.as_ref() == Some(&self.name));
        told.followers = copies.map(|(name, _)| ReplicationLink::physical(address(name))).collect();
        Ok(told)
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        let at = self.reef.now();
        self.look("replication", |cluster| {
            let streaming = cluster.copies.is_some() && !cluster.cut;
            let has = cluster.copies.as_ref().map(|_| position(cluster));
            Replication {
                streaming: Tri::from(streaming),
                lineage: Some(lineage(cluster)),
                received: has.clone(),
                applied: has,
                lag: streaming.then_some(Millis::ZERO),
                cadence: Millis::ZERO,
                at,
            }
        })
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        if op.as_str() != format!("cutover-{}", self.name) {
            return Ok(OpProgress::Lost { saw: "404".to_owned() });
        }
        self.look("poll", |cluster| match cluster.copies {
            None => OpProgress::Finished,
            Some(_) => OpProgress::Running { percent: None },
        })
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        let mut clusters = self.reef.clusters();
        let Some(cluster) = clusters.get_mut(&self.name) else { return Outcome::refused("there is no such cluster") };
        if cluster.copies.is_none() || lineage(cluster) != request.target().lineage {
            return Outcome::Conflict(dr_core::Cause::new("it copies nobody"));
        }
        cluster.copies = None;
        cluster.generation += 1;
        Outcome::accepted_as(format!("cutover-{}", self.name))
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        vec![format!("reef {verb} {}", self.name)]
    }
}

#[async_trait]
impl DatabaseProbe for ReefMember {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        let at = self.reef.now();
        self.look("write", |cluster| {
            let here = cluster.copies.is_none();
            let detail = if here { "committed" } else { "this cluster is a copy" }.to_owned();
            WriteProbe { accepted: Tri::from(here), lineage: here.then(|| lineage(cluster)), detail, at }
        })
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        let at = self.reef.now();
        self.look("position", |cluster| PositionReading {
            lineage: lineage(cluster),
            in_recovery: Tri::from(cluster.copies.is_some()),
            durable: position(cluster),
            applied: position(cluster),
            parted_at: match cluster.generation {
                1 => Parted::untold("the first history has no parent"),
                _ => Parted::At(position(cluster)),
            },
            tier: Tier::Managed,
            at,
        })
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        Ok(BTreeMap::new())
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        Ok(BTreeMap::new())
    }

    async fn long_transactions(&self, _limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        Ok(Vec::new())
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        Ok(Sessions::default())
    }

    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError> {
        match query.sql.as_str() {
            "SELECT 1" => Ok(Rows::one(1)),
            other => Err(ProviderError::Refused { verb: "ask", why: format!("cannot run {other}") }),
        }
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        Ok(Millis::ZERO)
    }
}
