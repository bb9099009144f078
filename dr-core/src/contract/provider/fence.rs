//! One way (or several at once) to keep a former primary from writing.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::{
    base::{IdempotencyKey, Json, Millis, ResourceAddress, ResourceIdentity, Timestamp},
    contract::{
        Effort, Grade, Lineage, Mismatch, Outcome, Planes, Position, ProviderError, Rehearsal, ReleaseOrder, Target,
        Tri,
    },
};

/// Asks that a member be fenced.
#[derive(Clone, Debug)]
pub struct EngageFence {
    /// The member, with the lineage that shall not grow any more.
    pub target: Target,
    /// What [`Fence::prepare`] read before: it was journaled with the intent.
    pub token: FenceToken,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// What a fence needs to find its own work again and to give it back: the state before it, opaque to this crate. It is read and
/// journaled *before* the fence is engaged, so that it survives a lost answer and a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceToken {
    /// Which fence made it.
    pub fence: String,
    /// What was there before, and the names of what will be made. No secrets.
    pub state: Json,
    /// Whether all that stood before could be read. A silent primary tells nothing: its fence can be engaged, but nobody can say that
    /// taking it away leaves what was there before.
    pub known: bool,
}

impl FenceToken {
    /// Returns the part of this token that the fence `name` made, also out of the token of a [`FenceSet`].
    #[must_use]
    pub fn part(&self, name: &str) -> Option<Self> {
        if self.fence == name {
            return Some(self.clone());
        }
        let parts: Vec<Self> = serde_json::from_value(self.state.0.clone()).ok()?;
        parts.iter().find_map(|part| part.part(name))
    }
}

/// Which ways to a member were open when it was looked at. A way of which nobody can say (`Unknown`) is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Whether the management plane of the member answers.
    pub management: Tri,
    /// Whether the server itself answers: its position is read, or, where none is offered, a probe write is answered.
    pub server: Tri,
}

impl Reach {
    /// Every way is open.
    pub const ALL: Self = Self { management: Tri::Yes, server: Tri::Yes };
}

/// What is true of the fence now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceReading {
    /// Where the member that was looked at is found; `None` where nobody could say.
    pub address: Option<ResourceAddress>,
    /// Which resource it is; `None` where nobody could say.
    pub identity: Option<ResourceIdentity>,
    /// The lineage it really carries; `None` where a stopped service shows none.
    pub lineage: Option<Lineage>,
    /// The grade on each plane.
    pub planes: Planes,
    /// Whether, as it stands, nobody gets an answer from the member, this toolkit included (a stopped server). A write that passes on
    /// the member all the same then proves a second writer.
    pub silent: bool,
    /// The last position of the fenced history, where the fence can tell. Only a clean stop tells an end (a shutdown checkpoint), and
    /// while the fence stands the end does not move: what a running server has written so far is no end.
    pub end: Option<Position>,
    /// When the fence falls off by itself, if it does (a stopped instance that the provider starts again).
    pub lapses_at: Option<Timestamp>,
    /// Parts of the fence that could not be read: what is not seen to be engaged may be so all the same.
    pub unread: Vec<String>,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

impl FenceReading {
    /// What the fence is worth.
    #[must_use]
    pub fn grade(&self) -> Grade {
        self.planes.grade()
    }

    /// Whether the fence is engaged at all, on any plane. `Unknown` when nothing of it is seen and a part could not be read.
    #[must_use]
    pub fn engaged(&self) -> Tri {
        let planes = self.planes;
        let any = [planes.new_sessions, planes.open_sessions, planes.background, planes.restart];
        if any.iter().any(|grade| *grade > Grade::Unconfirmable) {
            Tri::Yes
        } else if self.unread.is_empty() {
            Tri::No
        } else {
            Tri::Unknown
        }
    }

    /// Compares the member that was looked at with `target`; a reading that names no address is not compared.
    ///
    /// # Errors
    /// [`Mismatch`], when it speaks of another resource.
    pub fn is_of(&self, target: &Target) -> Result<(), Mismatch> {
        self.address.as_ref().map_or(Ok(()), |address| target.is(address, self.identity.as_ref()))
    }

    /// This reading and another one of the same member: the better grade on each plane, the earlier lapse. Two readings that
    /// speak of different members are worth nothing.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let addresses = contradict(self.address.as_ref(), other.address.as_ref());
        let identities = contradict(self.identity.as_ref(), other.identity.as_ref());
        let lineages = contradict(self.lineage.as_ref(), other.lineage.as_ref());
        let contradict = addresses || identities || lineages;
        Self {
            address: self.address.clone().or_else(|| other.address.clone()),
            identity: self.identity.clone().or_else(|| other.identity.clone()),
            lineage: self.lineage.clone().or_else(|| other.lineage.clone()),
            planes: if contradict { Planes::default() } else { self.planes.combined(other.planes) },
            silent: !contradict && (self.silent || other.silent),
            end: self.end.clone().or_else(|| other.end.clone()),
            lapses_at: match (self.lapses_at, other.lapses_at) {
                (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
                (mine, theirs) => mine.or(theirs),
            },
            unread: self.unread.iter().chain(&other.unread).cloned().collect(),
            detail: format!("{}; {}", self.detail, other.detail),
            at: self.at.min(other.at),
        }
    }
}

/// Tells whether two readings name different things; a reading that names none contradicts nothing.
fn contradict<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// Asks that a fence be retired: the member follows the new primary, its fence is no longer what keeps it from writing.
#[derive(Clone, Debug)]
pub struct RetireFence {
    /// The member, with the lineage that it follows now.
    pub target: Target,
    /// What was read before it was engaged.
    pub token: FenceToken,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that a new writer be freed of what a fence of its predecessor left with it.
#[derive(Clone, Debug)]
pub struct ClearFence {
    /// The new writer, with the lineage that it writes.
    pub target: Target,
    /// The lineage that ended with the promotion. Whoever still carries it may be the former primary, whose fence has to stay.
    pub was: Lineage,
    /// What was read before this run fenced the former primary; `None` where it did not: what an earlier run left travelled as well.
    /// [`FenceToken::part`] finds the part of one fence.
    pub token: Option<FenceToken>,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// When a fence can be engaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencePlace {
    /// While a standby still follows: it authorises the promotion.
    BeforePromotion,
    /// Only once no standby follows any more, because the provider refuses it before: a stop of an instance that has replicas. It keeps
    /// closed what another fence closed before the promotion.
    AfterPromotion,
}

/// One way to fence a member.
#[async_trait]
pub trait Fence: Debug + Send + Sync + 'static {
    /// The name of the fence, as in the group file: `postgres.stop`.
    fn name(&self) -> String;

    /// What it is worth on each plane once engaged and read back, at best, when only the ways of `reach` are open. Makes no call.
    ///
    /// A fence that is engaged elsewhere, where clients are, keeps its grade in the dark.
    ///
    /// - nothing is offered over a way that is closed
    fn offers(&self, reach: Reach) -> Planes;

    /// What it is worth on each plane once engaged and read back, at best.
    fn promises(&self) -> Planes {
        self.offers(Reach::ALL)
    }

    /// Names the parts that offer less over `reach` than they would if every way were open. Makes no call.
    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        if self.offers(reach) == self.promises() { Vec::new() } else { vec![self.name()] }
    }

    /// Reads what a later release needs. Changes nothing; called before the intent.
    ///
    /// - a token is `known` only if all that stood before was read
    ///
    /// # Errors
    /// Any [`ProviderError`]; a fence whose state before it cannot be read is still engaged when the primary is silent, so a
    /// backend answers a token that is not `known` there instead.
    async fn prepare(&self) -> Result<FenceToken, ProviderError>;

    /// Tries the way to the member that engaging will take: it is the server that answers, its files can be written, its supervisor
    /// can be asked. Changes nothing that lasts.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn rehearse(&self, _effort: Effort) -> Result<Rehearsal, ProviderError> {
        Ok(Rehearsal::untried("this fence rehearses nothing"))
    }

    /// Keeps the member from writing.
    ///
    /// - stops the path that applications use, for new *and* open sessions as far as [`Fence::promises`] says
    /// - engaging an engaged fence is no change
    /// - replication to standbys goes on until they have everything, where the kind of fence allows it
    async fn engage(&self, request: EngageFence) -> Outcome<()>;

    /// Looks, and changes nothing.
    ///
    /// - sees a fence that was lifted behind its back
    /// - unreachability never raises a grade
    ///
    /// # Errors
    /// Any [`ProviderError`]; a fence that cannot be asked is an error, not a reading.
    async fn inspect(&self) -> Result<FenceReading, ProviderError>;

    /// Lets the member write again. The order is built by an abort before the promotion (same plan, no promote intent), or by an
    /// operator, by nobody else.
    ///
    /// - releasing a released fence is no change
    async fn release(&self, order: ReleaseOrder) -> Outcome<()>;

    /// Takes what is left of the fence away from a member that follows the new primary.
    ///
    /// - refused with `Conflict` unless the member is seen to be a standby of the named lineage
    async fn retire(&self, request: RetireFence) -> Outcome<()>;

    /// Tells whether replication carries this fence to the standbys, so that the new writer keeps its own applications out until
    /// [`Fence::clear`]. Makes no call.
    ///
    /// - a fence that does not travel leaves the new writer open
    fn travels(&self) -> bool {
        false
    }

    /// Lists what is left at this member of a fence that travelled here, in the words of the service. Changes nothing.
    ///
    /// - empty only if nothing of it keeps applications out
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        Ok(Vec::new())
    }

    /// Takes from a new writer what travelled to it, so that its applications are let in. The fence of the *new* writer is asked, while
    /// writes are held back: one call to the server is all that this should cost.
    ///
    /// - gives back what a fence took, and nothing else
    /// - clearing what is clear is no change
    /// - refused unless the member is seen to write on a later history than [`ClearFence::was`]
    ///
    /// A caller may drop the call at any time; what it left behind [`Fence::carried`] tells.
    async fn clear(&self, _request: ClearFence) -> Outcome<()> {
        Outcome::refused(format_args!("`{}` does not travel: there is nothing to clear", self.name()))
    }

    /// Tells when the fence can be engaged. Makes no call. Fences of both kinds may be listed for one member: the first kind is engaged before
    /// the promotion, the second by a step of its own behind the confirmed writer, where the former primary does not come back as a
    /// standby.
    ///
    /// - a fence that stands before the promotion is engaged while a standby follows
    fn place(&self) -> FencePlace {
        FencePlace::BeforePromotion
    }

    /// How often it may be looked at while it is being engaged.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` (`engage`, `release`, and where the fence travels `clear`) without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}

/// Several fences of one member, engaged in order; on each plane the best one counts.
#[derive(Debug)]
pub struct FenceSet {
    fences: Vec<Arc<dyn Fence>>,
}

impl FenceSet {
    /// All of `fences`, engaged in this order and released in the reverse order.
    #[must_use]
    pub fn new(fences: Vec<Arc<dyn Fence>>) -> Self {
        Self { fences }
    }

    /// The token of each fence, in order; `None` when it was made by other fences than these.
    fn tokens(&self, token: &FenceToken) -> Option<Vec<FenceToken>> {
        let tokens: Vec<FenceToken> = serde_json::from_value(token.state.0.clone()).ok()?;
        (token.fence == self.name() && tokens.len() == self.fences.len()).then_some(tokens)
    }
}

/// What became of all parts of a set: each is told, whatever the others answered, because nobody tells them later.
#[derive(Default)]
struct AllParts {
    worst: Option<Outcome<()>>,
}

impl AllParts {
    fn add(&mut self, name: &str, outcome: Outcome<()>) {
        /// The larger one says more of what is left to do.
        fn weight(outcome: &Outcome<()>) -> u8 {
            match outcome {
                Outcome::Done(()) => 0,
                Outcome::Accepted(_) => 1,
                Outcome::NotDone(_) => 2,
                Outcome::Unknown(_) => 3,
                Outcome::Conflict(_) => 4,
            }
        }
        let named = |cause: &crate::contract::Cause| crate::contract::Cause::new(format!("{name}: {cause}"));
        let outcome = match outcome {
            Outcome::NotDone(reason) => {
                Outcome::NotDone(crate::contract::NotDone { cause: named(&reason.cause), ..reason })
            }
            Outcome::Unknown(cause) => Outcome::Unknown(named(&cause)),
            Outcome::Conflict(cause) => Outcome::Conflict(named(&cause)),
            // The handle of one part tells nothing of the others: all of them are looked at.
            Outcome::Accepted(_) => Outcome::accepted(),
            Outcome::Done(()) => Outcome::Done(()),
        };
        if self.worst.as_ref().is_none_or(|worst| weight(&outcome) > weight(worst)) {
            self.worst = Some(outcome);
        }
    }

    fn outcome(self) -> Outcome<()> {
        self.worst.unwrap_or(Outcome::Done(()))
    }
}

const FOREIGN_TOKEN: &str =
    "the fence's record was made by other fences than the group file lists now; put the list back";

#[async_trait]
impl Fence for FenceSet {
    fn name(&self) -> String {
        self.fences.iter().map(|fence| fence.name()).collect::<Vec<_>>().join(" + ")
    }

    fn offers(&self, reach: Reach) -> Planes {
        self.fences.iter().fold(Planes::default(), |planes, fence| planes.combined(fence.offers(reach)))
    }

    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        self.fences.iter().flat_map(|fence| fence.out_of_reach(reach)).collect()
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        let mut tokens = Vec::new();
        for fence in &self.fences {
            tokens.push(fence.prepare().await?);
        }
        let state = crate::base::canonical::to_value(&tokens)
            .map_err(|error| ProviderError::Strange { verb: "prepare", saw: error.to_string() })?;
        let known = tokens.iter().all(|token| token.known);
        Ok(FenceToken { fence: self.name(), state: Json(state), known })
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        let mut found = Rehearsal::default();
        for fence in &self.fences {
            found.extend(fence.rehearse(effort).await?);
        }
        Ok(found)
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        let Some(tokens) = self.tokens(&request.token) else { return Outcome::refused(FOREIGN_TOKEN) };
        let mut begun = false;
        let mut pending = None;
        for (fence, token) in self.fences.iter().zip(tokens) {
            match fence.engage(EngageFence { token, ..request.clone() }).await {
                Outcome::Done(()) => begun = true,
                Outcome::Accepted(handle) => pending = Some(handle),
                Outcome::NotDone(reason) if !begun && pending.is_none() => return Outcome::NotDone(reason),
                Outcome::NotDone(reason) => {
                    let name = fence.name();
                    return Outcome::unknown(format_args!("{name} did not follow the others: {}", reason.cause));
                }
                Outcome::Unknown(cause) => return Outcome::Unknown(cause),
                Outcome::Conflict(cause) => return Outcome::Conflict(cause),
            }
        }
        pending.map_or(Outcome::Done(()), Outcome::Accepted)
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let mut best: Option<FenceReading> = None;
        let mut unread = Vec::new();
        let mut last_error = None;
        for fence in &self.fences {
            match fence.inspect().await {
                Ok(reading) => best = Some(best.map_or_else(|| reading.clone(), |best| best.with(&reading))),
                Err(error) => {
                    unread.push(format!("{}: {}", fence.name(), crate::contract::Cause::chain(&error)));
                    last_error = Some(error);
                }
            }
        }
        let mut best = best.ok_or_else(|| last_error.unwrap_or(ProviderError::Unsupported { verb: "inspect" }))?;
        best.unread.extend(unread);
        Ok(best)
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        let Some(tokens) = self.tokens(order.token()) else { return Outcome::refused(FOREIGN_TOKEN) };
        let mut all = AllParts::default();
        for (fence, token) in self.fences.iter().zip(tokens).rev() {
            all.add(&fence.name(), fence.release(order.clone().with_token(token)).await);
        }
        all.outcome()
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        let Some(tokens) = self.tokens(&request.token) else { return Outcome::refused(FOREIGN_TOKEN) };
        let mut all = AllParts::default();
        for (fence, token) in self.fences.iter().zip(tokens).rev() {
            all.add(&fence.name(), fence.retire(RetireFence { token, ..request.clone() }).await);
        }
        all.outcome()
    }

    fn travels(&self) -> bool {
        self.fences.iter().any(|fence| fence.travels())
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        let travelling = self.fences.iter().filter(|fence| fence.travels());
        let told = join_all(travelling.map(|fence| fence.carried())).await;
        Ok(told.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// All that travel are cleared at once. Each finds its own part of the token; a fence that was added since has none, and clears what
    /// it can see for itself.
    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        let travelling = self.fences.iter().filter(|fence| fence.travels());
        let cleared = travelling.map(|fence| async { (fence.name(), fence.clear(request.clone()).await) });
        let mut all = AllParts::default();
        for (name, outcome) in join_all(cleared).await {
            all.add(&name, outcome);
        }
        all.outcome()
    }

    fn place(&self) -> FencePlace {
        let late = self.fences.iter().any(|fence| fence.place() == FencePlace::AfterPromotion);
        if late { FencePlace::AfterPromotion } else { FencePlace::BeforePromotion }
    }

    fn poll_every(&self) -> Millis {
        self.fences.iter().map(|fence| fence.poll_every()).min().unwrap_or(Millis::seconds(1))
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        let asked = self.fences.iter().filter(|fence| verb != "clear" || fence.travels());
        asked.flat_map(|fence| fence.manual(verb)).collect()
    }
}

#[cfg(test)]
mod tests;
