//! One member of a group: its server, its control session and its peers. What all its providers share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dr_core::{
    MemberId, Outcome, Target as Bound,
    base::{Endpoint, ResourceAddress, ResourceIdentity},
    contract::{Lineage, Position},
};
use dr_sql::{
    ApplicationLogin, Link, Lsn, Password, PgError, Probe, Resolver, Session, Target, lineage, position,
    still_a_standby,
};
use tokio::sync::Mutex;

use crate::{
    control_data::ControlData,
    place::Proof,
    reach::{Address, Learned},
    rejoin::RejoinTask,
    server::Server,
};

/// How long a clean stop may take unless somebody says otherwise.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Another member of the group, as this one may have to find it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name.
    pub name: MemberId,
    /// Its control session's target: also where it is reached for replication.
    pub target: Target,
    /// Where it is found.
    pub address: ResourceAddress,
}

/// How a standby logs in at its primary. Without one, the login that the present standby uses is used the other way round.
#[derive(Clone, Debug)]
pub struct ReplicationLogin {
    /// The role.
    pub user: String,
    /// Its password, if it has one; it is written into `primary_conninfo` on the standby.
    pub password: Option<Password>,
}

/// One member.
#[derive(Debug)]
pub struct Member {
    pub(crate) name: MemberId,
    pub(crate) server: Server,
    /// What it says over SQL, and the session that says it.
    pub(crate) probe: Probe,
    pub(crate) link: Arc<Link>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) peer_links: Vec<Link>,
    pub(crate) login: Option<ReplicationLogin>,
    /// How an application logs in, where the group file says so.
    pub(crate) application: Option<ApplicationLogin>,
    /// The group's name: the key of the lock that an operation holds on a member.
    pub(crate) group: String,
    pub(crate) rejoin: Mutex<RejoinTask>,
    /// The addresses behind the names of places.
    pub(crate) resolver: Resolver,
    /// The proof of the place of its session.
    pub(crate) proof: Proof,
    /// Further addresses by which applications reach it.
    pub(crate) also_at: Vec<Address>,
    /// The addresses by which its standbys reach it.
    pub(crate) learned: Mutex<Learned>,
    /// Since when its host could not be asked for a proof.
    pub(crate) host_silent: Mutex<Option<Instant>>,
    /// Whether its host gave no answer when it was asked last what became of a silent server.
    host_closed: AtomicBool,
    /// How long a clean stop may take before it is made an immediate one.
    pub(crate) stop_within: Duration,
}

impl Member {
    /// The member `name` of `group`: its server, the way to log in, and the others.
    #[must_use]
    pub fn new(group: impl Into<String>, server: Server, target: Target, peers: Vec<Peer>) -> Self {
        let group = group.into();
        let probe = Probe::new(&group, target);
        let peer_links = peers.iter().map(|peer| Link::new(peer.target.clone())).collect();
        Self {
            name: MemberId::new(server.site().name.clone()),
            server,
            link: probe.link(),
            probe,
            peers,
            peer_links,
            login: None,
            application: None,
            group,
            rejoin: Mutex::new(RejoinTask::default()),
            resolver: Resolver::default(),
            proof: Proof::default(),
            also_at: Vec::new(),
            learned: Mutex::default(),
            host_silent: Mutex::default(),
            host_closed: AtomicBool::new(false),
            stop_within: STOP_WITHIN,
        }
    }

    /// Logs in for replication with a role of its own.
    #[must_use]
    pub fn with_replication_login(mut self, login: Option<ReplicationLogin>) -> Self {
        self.login = login;
        self
    }

    /// Names further addresses by which applications reach this member: nothing may answer there as a primary once it is fenced.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Vec<(String, u16)>) -> Self {
        self.also_at = addresses;
        self
    }

    /// Bounds how long a clean stop may take before it is made an immediate one; 10 s unless said.
    #[must_use]
    pub const fn with_stop_within(mut self, within: Duration) -> Self {
        self.stop_within = within;
        self
    }

    /// Proves the writer by a write of this application, too.
    #[must_use]
    pub fn with_application(mut self, application: Option<ApplicationLogin>) -> Self {
        self.probe = self.probe.with_application(application.clone());
        self.application = application;
        self
    }

    /// Tells whether the host of a silent server gave no answer, either, when it was asked last.
    pub(crate) fn host_is_closed(&self) -> bool {
        self.host_closed.load(Ordering::SeqCst)
    }

    /// Keeps whether the host of a silent server answers.
    pub(crate) fn host_answered(&self, answered: bool) {
        self.host_closed.store(!answered, Ordering::SeqCst);
    }

    /// Where it is found: where it listens and its data directory.
    #[must_use]
    pub fn address(&self) -> ResourceAddress {
        resource_address(self.link.target(), &self.server)
    }

    /// Where applications connect.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let target = self.link.target();
        Endpoint::new(format!("{}:{}", target.host, target.port))
    }

    /// The data plane of this member, over the session that its other providers use.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    pub(crate) async fn session(&self) -> Result<Arc<Session>, PgError> {
        self.link.session().await
    }

    /// This member as a proof or a request means it, with the history that it carries.
    #[must_use]
    pub fn bound(&self, lineage: Lineage) -> Bound {
        let identity = Some(identity(&lineage));
        Bound { member: self.name.clone(), address: self.address(), identity, lineage, receives: None }
    }

    /// The peer of this name and a session to it.
    pub(crate) async fn peer_session(&self, name: &MemberId) -> Result<(&Peer, Arc<Session>), PgError> {
        let found = self.peers.iter().zip(&self.peer_links).find(|(peer, _)| peer.name == *name);
        let (peer, link) = found.ok_or_else(|| PgError::Refused {
            server: self.name.to_string(),
            why: format!("`{name}` is no other member of the group `{}`", self.group),
        })?;
        Ok((peer, link.session().await?))
    }

    /// What speaks against this member being a streaming standby of `lineage`.
    pub(crate) async fn still_a_standby(&self, lineage: &Lineage) -> Result<Option<Outcome<()>>, PgError> {
        still_a_standby(&*self.session().await?, self.name.as_str(), lineage).await
    }

    pub(crate) fn slot(&self) -> String {
        slot_name(self.name.as_str())
    }
}

/// Which server it is, whatever its address: the system identifier, which `initdb` makes once and every physical copy keeps
/// (<https://www.postgresql.org/docs/current/protocol-replication.html>, `IDENTIFY_SYSTEM`).
pub(crate) fn identity(lineage: &Lineage) -> ResourceIdentity {
    ResourceIdentity::new(lineage.system.as_str())
}

/// The address of a server: where it listens and its data directory.
#[must_use]
pub fn resource_address(target: &Target, server: &Server) -> ResourceAddress {
    ResourceAddress::new(format!("{}:{}{}", target.host, target.port, server.site().data.display()))
}

/// The slot through which a member follows: `dr_` and its name, in the letters that slots may have.
pub(crate) fn slot_name(member: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("dr_{}", member.chars().map(letter).take(60).collect::<String>())
}

impl ControlData {
    /// The history that the data directory carries.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        lineage(self.system_identifier, self.timeline)
    }

    /// Where a clean stop ended this history: the first position that only a server which replayed the shutdown checkpoint has
    /// passed. The control file names where that record *begins*, so having reached that position proves nothing, and one byte more
    /// proves it.
    #[must_use]
    pub fn end_of_history(&self) -> Option<Position> {
        let past = Lsn::new(self.checkpoint.bytes().saturating_add(1));
        self.is_clean_primary_stop().then(|| position(self.system_identifier, past))
    }
}
