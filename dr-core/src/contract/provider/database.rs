//! One member of a replication group, through its management plane.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{Endpoint, IdempotencyKey, Millis, ResourceAddress, ResourceIdentity, Timestamp},
    contract::{
        Binding, CreateOffer, CreateReplica, DestroyOffer, DestroyRequest, Follows, HardenOffer, HardenRequest,
        Lineage, OpHandle, Outcome, Planes, Position, PreserveOffer, PreserveRequest, PromoteRequest, Protections,
        ProviderError, RaiseSequences, RecoveryWindow, Rehearsal, RehearseMember, ReplicationLink, RestoreOffer,
        RestoreRequest, SwapRequest, Target, Tri,
    },
};

/// What a backend offers for one member, told per verb: `None` where a verb is not offered. Plain data; a trial proves that it agrees
/// with the verbs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Promotion of a standby that leaves the old primary alone: a separate fence is needed.
    pub promote: Option<PromoteOffer>,
    /// One call that demotes the primary and promotes the standby without loss. It brings its own fence.
    pub swap: Option<SwapOffer>,
    /// One call that takes the roles over while the primary is silent, losing what was not replicated.
    pub forced_swap: Option<ForcedOffer>,
    /// How this member, a standby, comes to follow another writer than the one that it follows now.
    pub follow: Option<FollowOffer>,
    /// A snapshot can be asked for.
    pub snapshot: Option<SnapshotOffer>,
    /// This member can be made as a standby of another one while it does not exist.
    pub create: Option<CreateOffer>,
    /// This member can be made from another one's backups while it does not exist.
    pub restore: Option<RestoreOffer>,
    /// This member can be destroyed.
    pub destroy: Option<DestroyOffer>,
    /// Protections of this member can be turned on.
    pub harden: Option<HardenOffer>,
    /// What this member lost in a change of the writer is kept by its provider for a while, and can be copied.
    pub preserve: Option<PreserveOffer>,
    /// How often a running operation or a wait may be looked at.
    pub poll_every: Millis,
    /// How long after it was sent a change may stay unseen, its own way to the provider included: two looks that must agree that
    /// nothing happened lie at least this far apart.
    pub visibility: Millis,
}

impl Capabilities {
    /// Nothing but looking.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            promote: None,
            swap: None,
            forced_swap: None,
            follow: None,
            snapshot: None,
            create: None,
            restore: None,
            destroy: None,
            harden: None,
            preserve: None,
            poll_every: Millis::seconds(1),
            visibility: Millis::seconds(1),
        }
    }

    /// How slow the service is: its pace of looking, and the slowest of its offers that change a role.
    #[must_use]
    pub fn pace(&self) -> ServicePace {
        let takes = [
            self.promote.as_ref().map(|offer| offer.takes),
            self.swap.as_ref().map(|offer| offer.takes),
            self.forced_swap.as_ref().map(|offer| offer.takes),
        ];
        let takes = takes.into_iter().flatten().max().unwrap_or(ServicePace::CAUTIOUS.takes);
        ServicePace { poll_every: self.poll_every, visibility: self.visibility, takes }
    }
}

/// How slow a service is, known without a call: what deadlines come from where no member of it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePace {
    /// As [`Capabilities::poll_every`].
    pub poll_every: Millis,
    /// As [`Capabilities::visibility`].
    pub visibility: Millis,
    /// The upper figure for the slowest change of a role.
    pub takes: Millis,
}

impl ServicePace {
    /// A cloud service of which nothing is known.
    pub const CAUTIOUS: Self =
        Self { poll_every: Millis::seconds(5), visibility: Millis::minutes(1), takes: Millis::minutes(10) };
}

/// A backend offers a promotion ([`ManagedDatabase::promote`]) on these terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteOffer {
    /// The provider's honest upper figure for one promotion. Deadlines come from it, and people read it before they agree.
    pub takes: Millis,
    /// How the old primary becomes a standby after a promotion.
    pub rejoin: Rejoin,
    /// The promoted server restarts, or is worked on otherwise, after it has left recovery; it is busy until then.
    pub restarts: bool,
}

/// A backend offers a planned swap ([`ManagedDatabase::swap_roles`]) on these terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapOffer {
    /// The provider's honest upper figure for one swap.
    pub takes: Millis,
    /// How the old primary becomes a standby after a swap.
    pub rejoin: Rejoin,
    /// The provider itself stops writes and waits until the candidate has everything: open sessions need not end before, and positions
    /// of the two sides need not compare.
    pub catches_up: bool,
    /// The provider can be told for how long it may hold writes at most ([`SwapRequest::within`]).
    pub limit: bool,
    /// The routes and the secret that the call changes by itself, by the names of the plan's bindings.
    pub moves: Vec<Binding>,
    /// The new primary restarts, or is worked on otherwise, after it took its role; it is busy until then.
    pub restarts: bool,
}

/// A backend offers a forced swap ([`ManagedDatabase::swap_roles`] with a loss allowed) on these terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForcedOffer {
    /// The provider's honest upper figure for one forced swap.
    pub takes: Millis,
    /// How the old primary becomes a standby after a forced swap.
    pub rejoin: Rejoin,
    /// What the provider's own fence is worth at worst, before it is read back.
    pub fence: Planes,
    /// The routes and the secret that the call changes by itself, by the names of the plan's bindings.
    pub moves: Vec<Binding>,
    /// The new primary restarts, or is worked on otherwise, after it took its role; it is busy until then.
    pub restarts: bool,
}

/// A backend offers a snapshot ([`ManagedDatabase::snapshot`]) on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOffer {
    /// The provider's honest upper figure for one snapshot.
    pub takes: Millis,
    /// A member whose snapshot is under way, or its standby, refuses a promotion: people are asked only after the snapshot's end. Where
    /// it is false, the snapshot is no work in the sense of [`Description::busy`]: the change goes on beside it.
    pub blocks_promotion: bool,
}

/// A standby follows a new writer on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowOffer {
    /// The honest upper figure until it receives from the new writer.
    pub takes: Millis,
    /// Who points it there.
    pub by: FollowsBy,
}

/// Who points a standby at a new writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FollowsBy {
    /// The standby or its provider finds the new writer: there is nothing to send, only to look.
    Itself,
    /// It is asked to ([`ManagedDatabase::follow`]).
    Verb,
}

/// How a former primary becomes a standby of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejoin {
    /// The provider does it by itself after a swap: there is nothing to send, only to look.
    ByProvider,
    /// The same resource is attached again (after a clean stop, a rewind or a reseed).
    InPlace,
    /// A new resource has to be made; topology is not ours, so it becomes a follow-up.
    NewResource,
    /// Not at all.
    Never,
}

/// What the management plane says of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Where it is found, as the group file and the edges of other members call it.
    pub address: ResourceAddress,
    /// Which resource it is, for ever: a resource that was deleted and made again under the same address tells another one. `None`
    /// only where the service has none.
    pub identity: Option<ResourceIdentity>,
    /// The history it carries, if the provider tells.
    pub lineage: Option<Lineage>,
    /// Whom it follows, as the provider names it; `None` when it is known to follow nobody.
    pub follows: Option<ReplicationLink>,
    /// Who follows it, as far as it knows: finds members that the group file does not list.
    pub followers: Vec<ReplicationLink>,
    /// Whether it accepts writes. The management view never says yes by silence.
    pub writable: Tri,
    /// Whether the provider calls it healthy.
    pub healthy: Tri,
    /// The provider's own word for its state, for people.
    pub status: String,
    /// Where applications connect.
    pub endpoint: Endpoint,
    /// The engine's version, such as `15.18`.
    pub version: String,
    /// An operation of the provider that is going on, by its own name.
    pub busy: Option<String>,
    /// The newest backup, if the provider tells.
    pub newest_backup: Option<Timestamp>,
    /// How often its source measures: [`Millis::ZERO`] where the resource itself is asked, a minute where a metric is read. A reading
    /// may be twice as old before it counts as stale.
    pub cadence: Millis,
    /// When this was true.
    pub at: Timestamp,
}

impl Description {
    /// Tells whether this member is fed with changes of rows as another system ([`Follows::Logical`]).
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.follows.as_ref().is_some_and(|link| link.how == Follows::Logical)
    }

    /// Whether it acts as a standby, as its provider says: it takes no writes. What the server of a logical copy says of recovery is no
    /// answer, for it is never in any.
    #[must_use]
    pub const fn standby_by_word(&self) -> Tri {
        match self.writable {
            Tri::Yes => Tri::No,
            Tri::No => Tri::Yes,
            Tri::Unknown => Tri::Unknown,
        }
    }

    /// Tells whether this member follows the resource at `address`, whose endpoint is `endpoint` if that was read.
    #[must_use]
    pub fn follows(&self, address: &ResourceAddress, endpoint: Option<&Endpoint>) -> bool {
        self.follows.as_ref().is_some_and(|link| link.peer.means(address, endpoint))
    }
}

/// How far a standby is, from its own point of view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// Whether it is attached and receiving, seen recently.
    pub streaming: Tri,
    /// The lineage that it receives, and whose positions the next two are. Of a logical copy this is its source's, and never its own.
    pub lineage: Option<Lineage>,
    /// Received and durable.
    pub received: Option<Position>,
    /// Applied: what a promotion right now would have. A logical copy applies no byte of a log: here is the position up to which it has
    /// every commit of its source, as the source or the copy's progress table has it. It must reach the end of a source that was
    /// stopped cleanly, or nothing can prove that the copy has everything.
    pub applied: Option<Position>,
    /// Behind in time. `None` means unknown, never zero (X13).
    pub lag: Option<Millis>,
    /// How often its source measures, as in [`Description::cadence`].
    pub cadence: Millis,
    /// When this was true.
    pub at: Timestamp,
}

/// How a long operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum OpProgress {
    /// Going on.
    Running {
        /// As far as the provider tells.
        percent: Option<u8>,
    },
    /// Over, and the provider says it worked. Still to be read back.
    Finished,
    /// Over, and the provider says it did not. What it left behind is to be read.
    Failed {
        /// The provider's words.
        why: String,
    },
    /// The handle is not known, or the answer is not understood: keep looking, never "done".
    Lost {
        /// What was seen.
        saw: String,
    },
}

/// The provider's own record of one change of a member's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// The operation, as the record names it.
    pub operation: String,
    /// What it did, in the provider's words.
    pub kind: String,
    /// When it began.
    pub started: Timestamp,
    /// Whether the caller is the principal with which this object calls.
    pub ours: Tri,
}

/// Asks that a former primary becomes a standby of the new one.
#[derive(Clone, Debug)]
pub struct RejoinRequest {
    /// The member that shall follow, with the lineage it had.
    pub target: Target,
    /// Whom it shall follow.
    pub primary: Target,
    /// Where that one is reached.
    pub endpoint: Endpoint,
    /// Where the histories parted, if it is known: a member whose own history ends there needs no rebuild.
    pub parted_at: Option<Position>,
    /// Whether data that only the old primary has may be destroyed by a rewind or a rebuild (E14, E17).
    pub may_discard: bool,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that a running standby receives from another primary than before.
#[derive(Clone, Debug)]
pub struct FollowRequest {
    /// The standby, with the lineage that it carries.
    pub target: Target,
    /// Whom it shall follow.
    pub primary: Target,
    /// Where that one is reached.
    pub endpoint: Endpoint,
    /// Where the primary's history parted from the one before, if it is known: a standby that has received more cannot follow.
    pub parted_at: Option<Position>,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks for a last snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    /// Of which member.
    pub target: Target,
    /// The deterministic name: asking twice makes one snapshot.
    pub name: String,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// One member of a replication group.
///
/// A mutating verb takes the engine's key, answers an [`Outcome`] and never waits for the end: waiting belongs to the driver.
/// Verbs beyond `capabilities`, `describe`, `replication` and `poll` answer "not offered" unless a backend writes them: the one
/// kind of default that is allowed, because it fails closed. Retries inside a client are off for mutations.
#[async_trait]
pub trait ManagedDatabase: Debug + Send + Sync + 'static {
    /// What is offered for this member, as its edition, engine and topology are now.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn capabilities(&self) -> Result<Capabilities, ProviderError>;

    /// Facts about this member.
    ///
    /// - tells a primary from a standby by its edge `follows`
    /// - a word that is not understood is [`ProviderError::Strange`], never a default
    /// - a missing resource is [`ProviderError::Missing`], and no other answer is
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn describe(&self) -> Result<Description, ProviderError>;

    /// How far this member is as a standby.
    ///
    /// - a stalled or detached stream is never lag zero
    /// - on a primary, `streaming` is `No`
    /// - of a logical copy, the lineage and the positions are its source's, and never its own
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn replication(&self) -> Result<Replication, ProviderError>;

    /// How the operation behind a handle stands.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError>;

    /// Makes this standby a primary and leaves the old one alone.
    ///
    /// - answers before it is done
    /// - a lost reply is `Unknown`
    /// - on a member that is no standby: `Conflict`
    /// - a logical copy goes on with the history that it had, and follows nobody
    async fn promote(&self, _request: PromoteRequest) -> Outcome<()> {
        Outcome::unsupported("promote")
    }

    /// Makes this standby the primary and the primary a standby in one provider call.
    ///
    /// - a planned swap loses nothing or does not happen
    /// - a lost reply is `Unknown`
    async fn swap_roles(&self, _request: SwapRequest) -> Outcome<()> {
        Outcome::unsupported("swap-roles")
    }

    /// What the fence that a swap brought is worth now, for this former primary; `since` is when the swap was asked for. Where the
    /// provider tells by an event, it is read here.
    ///
    /// - before the provider says so it is worth nothing
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn swap_fence(&self, _since: Timestamp) -> Result<crate::contract::FenceReading, ProviderError> {
        Err(ProviderError::Unsupported { verb: "swap-fence" })
    }

    /// Reads the newest change of this member's role that began at `since` or later, as the provider's own record has it: its list of
    /// operations, its activity log, its trail. Where histories are not counted (generation 0), a new role alone does not tell whether a
    /// swap was this run's or a colleague's; where they are, nobody asks.
    ///
    /// - a change by another caller is never ours
    /// - a change by this object is ours, once the record shows it; until then the answer is `None`
    ///
    /// # Errors
    /// Any [`ProviderError`]. `Unsupported`: a swap whose answer was lost is then judged by people.
    async fn attribution(&self, _since: Timestamp) -> Result<Option<Attribution>, ProviderError> {
        Err(ProviderError::Unsupported { verb: "attribution" })
    }

    /// Reads the provider's word that a change of this member's role that began at `since` or later was given up. Asked where the
    /// provider accepts a change without naming an operation that [`poll`](Self::poll) could be asked about.
    ///
    /// - `None` as long as the change may still happen, and after it has happened
    ///
    /// # Errors
    /// Any [`ProviderError`]. `Unsupported`: a person decides what a change without a name has led to.
    async fn gave_up(&self, _since: Timestamp) -> Result<Option<String>, ProviderError> {
        Err(ProviderError::Unsupported { verb: "gave-up" })
    }

    /// Makes this former primary a standby of another.
    ///
    /// - done only when it streams on the primary's current lineage
    /// - data that only this member has is destroyed only if the request says so; otherwise `NotDone`
    async fn rejoin(&self, _request: RejoinRequest) -> Outcome<()> {
        Outcome::unsupported("rejoin")
    }

    /// Points this running standby at another primary. Nothing that it has received is destroyed: where that is more than the primary's
    /// history holds, the answer is `NotDone`.
    ///
    /// - done only when it streams on the primary's current lineage
    /// - on a member that is no standby: `Conflict`, and what only it has stays
    async fn follow(&self, _request: FollowRequest) -> Outcome<()> {
        Outcome::unsupported("follow")
    }

    /// Takes a last snapshot.
    ///
    /// - the same name twice is one snapshot
    /// - under way, the member is [busy](Description::busy) only where the offer says that it blocks a promotion
    async fn snapshot(&self, _request: SnapshotRequest) -> Outcome<()> {
        Outcome::unsupported("snapshot")
    }

    /// Whether the snapshot, or the [preserved](Self::preserve) copy, of this name exists.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn has_snapshot(&self, _name: &str) -> Result<Tri, ProviderError> {
        Err(ProviderError::Unsupported { verb: "snapshot" })
    }

    /// Makes this member, which does not exist yet, a standby of another one. Its own table of the group file says what it is made of.
    ///
    /// - done only when it streams from its source, which was read and not changed
    /// - on a member that exists it changes nothing: `Conflict`, or done where that member is a standby of the source
    async fn create_replica(&self, _request: CreateReplica) -> Outcome<()> {
        Outcome::unsupported("create-replica")
    }

    /// From when to when this member's backups can be restored. A member that is gone or dark may still have some.
    ///
    /// - `latest` lies in no future, and `earliest` not after it
    ///
    /// # Errors
    /// Any [`ProviderError`]. `Unsupported`: no backup of it can be restored.
    async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError> {
        Err(ProviderError::Unsupported { verb: "recovery-window" })
    }

    /// Makes this member, which does not exist yet, from the backups of another one. It carries a history of its own and follows nobody.
    ///
    /// - a restore makes a new resource: on a member that exists, `Conflict`, and it keeps what it has
    /// - everything that the source acknowledged up to the point is in it, and nothing that came later
    /// - a point outside the window is refused for ever
    async fn restore(&self, _request: RestoreRequest) -> Outcome<()> {
        Outcome::unsupported("restore")
    }

    /// Destroys this member's resource. There is no way back but a snapshot.
    ///
    /// - a resource with another identity than the proof's is not touched: `Conflict`
    /// - done only when the provider calls it missing; one that is missing already is done
    /// - a name to keep the data under is a snapshot before the end, or nothing is destroyed
    async fn destroy(&self, _request: DestroyRequest) -> Outcome<()> {
        Outcome::unsupported("destroy")
    }

    /// Turns protections of this member on.
    ///
    /// - what is on already, and what was not asked for, stays as it is
    /// - asked again, it changes nothing
    async fn harden(&self, _request: HardenRequest) -> Outcome<()> {
        Outcome::unsupported("harden")
    }

    /// The protections of this member.
    ///
    /// - what the provider does not tell is `Unknown`, never off
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn protections(&self) -> Result<Protections, ProviderError> {
        Err(ProviderError::Unsupported { verb: "protections" })
    }

    /// Copies what the provider keeps, for a while, of the writes that this member lost in a change of the writer.
    ///
    /// - without anything kept since then it is `NotDone`, for now: it may come when the member returns
    /// - the same name twice is one copy, and [`has_snapshot`](Self::has_snapshot) finds it
    async fn preserve(&self, _request: PreserveRequest) -> Outcome<()> {
        Outcome::unsupported("preserve")
    }

    /// Lets the sequences of this member, a new writer, go on beyond what its predecessor handed out: each beyond its floor, and each that
    /// belongs to a column beyond the greatest value there.
    ///
    /// - none is ever lowered
    /// - a floor of a sequence that this member does not have is refused by name, and nothing is raised
    async fn raise_sequences(&self, _request: RaiseSequences) -> Outcome<()> {
        Outcome::unsupported("raise-sequences")
    }

    /// Called before the write gap opens: whatever makes the coming stop and promotion short and changes no data
    /// (a checkpoint, retry intervals). Harmless to repeat.
    ///
    /// - a refusal that asking again does not change stops the run while nothing is held back
    async fn settle(&self) -> Outcome<()> {
        Outcome::Done(())
    }

    /// Tries and compares what this member's part of a change will need: as the coming writer (settings, logins of applications,
    /// what the promotion drops), or as the coming standby (login for replication, sizes, its own files). Changes nothing that an
    /// application could notice.
    ///
    /// - what would make applications unable to write, or a rejoin impossible, is an [`Obstacle`](crate::contract::Obstacle)
    /// - what could not be tried is named, never taken for granted
    ///
    /// # Errors
    /// Any [`ProviderError`]: nothing is known then, and the run looks again.
    async fn rehearse(&self, _request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        Ok(Rehearsal::untried("this backend rehearses nothing of a member"))
    }

    /// Returns where applications reach this member, as far as the group file says it: no call is made. Where replication links name
    /// their other end by an endpoint, a silent member is recognised by it.
    ///
    /// - it is the endpoint that [`describe`](Self::describe) tells, or none
    fn known_endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// What a person would type to do `verb` on this member without us, one command a line.
    fn manual(&self, verb: &str) -> Vec<String>;
}
