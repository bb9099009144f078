//! Requests with their proofs, and a whole change of the writer, for trials that look at what comes after one.

use dr_core::{
    Actor, Grade, ManagedDatabase, Outcome, ProviderError, Target, Timestamp, Tri,
    base::{Digest, Epoch, SecretVersion},
    contract::{
        CatchUpReceipt, ClearFence, Consent, Description, DestroyRequest, DrainRequest, Ends, EngageFence,
        FenceReceipt, FollowRequest, Given, Loss, LossBound, OpHandle, OpProgress, PatchSecret, PromoteRequest,
        QuiesceReceipt, RecycleRequest, RejoinRequest, ReleaseOrder, ResumeRequest, RotateSecret, RouteRequest,
        SwapRequest, WriterOrigin, WriterReceipt, admit,
    },
    minutes, seconds,
};

use super::{Case, Offer, Part, Seat, Side, Stop};

/// The yes of one person.
fn agreed(person: &str, at: Timestamp) -> Given {
    Given {
        by: Actor::local(person).authenticated("a trial", person),
        role: None,
        choice: dr_core::APPROVE.into(),
        at,
        note: None,
    }
}

impl Case {
    /// What the member says of itself.
    pub(super) async fn described(&self, side: Side) -> Result<Description, Stop> {
        let told = self.pair.seat(side).provider.database.describe().await;
        self.ok("the member is described", told)
    }

    /// The member as a request means it, with the history that its database says it carries.
    pub(super) async fn target(&self, side: Side) -> Result<Target, Stop> {
        let seat = self.pair.seat(side);
        let lineage = match seat.provider.probe.position().await {
            // Where nobody tells positions, the provider tells the history.
            Err(ProviderError::Unsupported { .. }) => self.described(side).await?.lineage.ok_or(Stop)?,
            told => self.ok("the database says where it is", told)?.lineage,
        };
        let fed = if self.pair.copy && side == Side::Standby {
            self.ok("the copy says what it is fed", seat.provider.database.replication().await)?.lineage
        } else {
            None
        };
        Ok(Target {
            member: seat.member.clone(),
            address: seat.address.clone(),
            identity: None,
            lineage,
            receives: fed,
        })
    }

    /// Whether the member is a standby, and when that was so: as its server says, or, where nobody tells positions and where a server is never
    /// in recovery, as its provider does.
    pub(super) async fn standing(&self, side: Side) -> Option<(Tri, Timestamp)> {
        let seat = self.pair.seat(side);
        if !self.pair.copy {
            match seat.provider.probe.position().await {
                Err(ProviderError::Unsupported { .. }) => {}
                told => return told.ok().map(|told| (told.in_recovery, told.at)),
            }
        }
        let told = seat.provider.database.describe().await.ok().filter(|told| told.busy.is_none())?;
        Some((Tri::from(told.follows.is_some()), told.at))
    }

    /// Waits until the candidate is no standby any more, and answers when that was seen.
    pub(super) async fn left(&self, what: &'static str) -> Result<Timestamp, Stop> {
        let look = || async { self.standing(Side::Standby).await.filter(|(standby, _)| *standby == Tri::No) };
        Ok(self.until(what, look).await?.1)
    }

    fn door(&self) -> admit::Door<'_> {
        let (run, runtime) = (&self.run, self.clock());
        admit::Door { run, plan: Digest::zero(), epoch: Epoch::new(1), max_age: minutes(10), runtime }
    }

    fn consent(&self) -> Consent {
        let at = self.clock().now_wall();
        Consent {
            run: self.run.clone(),
            plan: Digest::zero(),
            ask: Digest::zero(),
            facts: Vec::new(),
            loss: Loss::Unknown { because: "a trial loses nothing that anybody needs".into() },
            given: ["ana", "ben"].map(|person| agreed(person, at)).into(),
            at,
            expires: at + minutes(15),
        }
    }

    fn bound(&self) -> LossBound {
        let loss = Loss::Unknown { because: "nobody looked".into() };
        LossBound { run: self.run.clone(), loss, sampled_at: None, fenced_at: None, asked: None }
    }

    /// A promotion of `side` in place of the other, on a person's own risk: the shape that needs no fence.
    pub(super) async fn promotion(&self, side: Side) -> Result<PromoteRequest, Stop> {
        let other = if side == Side::Standby { Side::Primary } else { Side::Standby };
        let ends = Ends { from: self.target(other).await?, to: self.target(side).await? };
        let consent = self.consent();
        let bounded = self.ok("the loss is bounded", admit::loss_bounded(&self.door(), &self.bound(), &consent))?;
        let consented = self.ok("people agreed", admit::consented(&self.door(), &consent, &[]))?;
        let waiver = self.ok("two people took the risk", admit::unfenced(&self.door(), &consent, "a trial"))?;
        Ok(PromoteRequest::dangerous(self.key("promote"), ends, bounded, consented, waiver))
    }

    /// A planned swap, once nothing writes.
    pub(super) async fn swap(&self) -> Result<SwapRequest, Stop> {
        let (primary, target) = (self.target(Side::Primary).await?, self.target(Side::Standby).await?);
        let at = self.clock().now_wall();
        let receipt = QuiesceReceipt { run: self.run.clone(), primary, target, sessions: None, position: None, at };
        let (old, new) = (&self.pair.primary.provider.probe, &self.pair.standby.provider.probe);
        let (door, waits) = (self.door(), self.offers.swap.as_ref().is_some_and(|offer| offer.catches_up));
        let quiesced = self
            .until("nothing writes and both sides are equal", || async {
                admit::quiesced(&door, old.as_ref(), new.as_ref(), &receipt, waits).await.ok()
            })
            .await?;
        let consented = self.ok("people agreed", admit::consented(&self.door(), &self.consent(), &[]))?;
        Ok(SwapRequest::planned(self.key("swap"), quiesced, consented))
    }

    /// A forced swap, which may lose anything.
    pub(super) async fn forced_swap(&self) -> Result<SwapRequest, Stop> {
        let (from, to) = (self.target(Side::Primary).await?, self.target(Side::Standby).await?);
        let consent = self.consent();
        let bounded = self.ok("the loss is bounded", admit::loss_bounded(&self.door(), &self.bound(), &consent))?;
        let consented = self.ok("people agreed", admit::consented(&self.door(), &consent, &[]))?;
        Ok(SwapRequest::forced(self.key("swap"), from, to, bounded, consented))
    }

    /// The request to destroy the standby, as the resource that it is now.
    pub(super) async fn destroy_request(&self, key: &str) -> Result<DestroyRequest, Stop> {
        let writer = self.target(Side::Primary).await?;
        let identity = self.described(Side::Standby).await?.identity;
        let target = Target { identity, ..self.target(Side::Standby).await? };
        let (door, seat) = (self.door(), &self.pair.standby.provider);
        let endpoint = self.described(Side::Primary).await?.endpoint;
        let writer = (&writer, Some(&endpoint));
        let proof = admit::not_writer(&door, seat.database.as_ref(), seat.probe.as_ref(), &target, writer).await;
        let proof = self.ok("the standby is admitted as no writer", proof)?;
        let consented = self.ok("people agreed", admit::consented(&door, &self.consent(), &[]))?;
        Ok(DestroyRequest::of(self.key(key), proof, consented))
    }

    /// The request to fence the primary.
    pub(super) async fn engage_request(&self) -> Result<EngageFence, Stop> {
        let target = self.target(Side::Primary).await?;
        let token = self.ok("the fence reads what a release needs", self.fence()?.prepare().await)?;
        Ok(EngageFence { target, token, key: self.key("fence") })
    }

    /// Fences the primary and waits until it is worth what the fence promises.
    pub(super) async fn engage(&self) -> Result<FenceReceipt, Stop> {
        let fence = self.fence()?;
        let request = self.engage_request().await?;
        let outcome = fence.engage(request.clone()).await;
        let taken = matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_));
        self.holds("the fence takes the request", taken, &outcome);
        let promised = fence.promises().grade();
        let reading = self
            .until("the fence reads back as worth what it promises", || async {
                fence.inspect().await.ok().filter(|reading| reading.grade() >= promised)
            })
            .await?;
        Ok(FenceReceipt {
            run: self.run.clone(),
            epoch: Epoch::new(1),
            target: request.target,
            fence: fence.name(),
            token: request.token,
            planes: reading.planes,
            silent: reading.silent,
            end: reading.end,
            effective_at: reading.at,
            lapses_at: reading.lapses_at,
            detail: reading.detail,
        })
    }

    /// The order to lift a fence, for the member that it names.
    pub(super) fn release_order(&self, receipt: &FenceReceipt, target: Target) -> ReleaseOrder {
        ReleaseOrder::by_operator(self.key("release"), target, receipt.token.clone(), Actor::local("trial"))
    }

    /// Waits for the end of what an outcome began.
    pub(super) async fn finish(&self, database: &dyn ManagedDatabase, outcome: Outcome<()>) -> Result<(), Stop> {
        match outcome {
            Outcome::Done(()) => Ok(()),
            // An operation without a name: what the provider works on tells its end.
            Outcome::Accepted(op) if op.is_none() => {
                self.settle_view().await;
                let idle = || async { database.describe().await.ok().filter(|told| told.busy.is_none()) };
                self.until("the provider is done", idle).await.map(drop)
            }
            Outcome::Accepted(op) => self.polled(database, &op).await,
            Outcome::NotDone(_) | Outcome::Unknown(_) | Outcome::Conflict(_) => {
                self.ok("the backend takes the request", Err(format!("{outcome:?}")))
            }
        }
    }

    /// Asks for the promotion of the standby, and waits until its database has left recovery, whatever the end is called.
    pub(super) async fn promote(&self, request: PromoteRequest) -> Result<(), Stop> {
        let database = self.pair.standby.provider.database.as_ref();
        let outcome = database.promote(request).await;
        self.finish(database, outcome).await?;
        self.left("the candidate is no standby any more").await.map(drop)
    }

    /// Polls an operation to its good end.
    pub(super) async fn polled(&self, database: &dyn ManagedDatabase, op: &OpHandle) -> Result<(), Stop> {
        let ended = self
            .until("the operation ends", || async {
                match database.poll(op).await {
                    Ok(ended @ (OpProgress::Finished | OpProgress::Failed { .. })) => Some(ended),
                    Ok(OpProgress::Running { .. } | OpProgress::Lost { .. }) | Err(_) => None,
                }
            })
            .await?;
        self.same("the operation worked", &ended, &OpProgress::Finished);
        if ended == OpProgress::Finished { Ok(()) } else { Err(Stop) }
    }

    /// A whole planned change: fence, catch up, promote, clear; or drain and swap. Answers the fence's receipt if there was one.
    pub(super) async fn hand_over(&self) -> Result<Option<FenceReceipt>, Stop> {
        let receipt = self.hand_over_uncleared().await?;
        if let Some(receipt) = receipt.as_ref().filter(|_| Part::Travelling.is_in(&self.pair)) {
            let outcome = self.far_fence()?.clear(self.clear_request(receipt).await?).await;
            self.same("the new writer is cleared", &outcome, &Outcome::Done(()));
        }
        Ok(receipt)
    }

    /// The request to free the new writer of what travelled to it.
    pub(super) async fn clear_request(&self, receipt: &FenceReceipt) -> Result<ClearFence, Stop> {
        let (target, was) = (self.target(Side::Standby).await?, receipt.target.lineage.clone());
        Ok(ClearFence { target, was, token: Some(receipt.token.clone()), key: self.key("clear") })
    }

    /// The same, but what travelled stays.
    pub(super) async fn hand_over_uncleared(&self) -> Result<Option<FenceReceipt>, Stop> {
        let new = self.pair.standby.provider.database.as_ref();
        if self.offers.swap.is_some() {
            self.drain().await?;
            let outcome = new.swap_roles(self.swap().await?).await;
            self.finish(new, outcome).await?;
            self.resume(Side::Standby).await?;
            return Ok(None);
        }
        let Some(fence) = self.pair.primary.provider.fence.clone() else {
            self.promote(self.promotion(Side::Standby).await?).await?;
            return Ok(None);
        };
        let receipt = self.engage().await?;
        let target = self.target(Side::Standby).await?;
        let (database, probe) = (new, self.pair.standby.provider.probe.as_ref());
        let applied = if target.is_copy() {
            self.ok("the copy says what it has", database.replication().await)?.applied.ok_or(Stop)?
        } else {
            self.ok("the candidate says where it is", probe.position().await)?.applied
        };
        let end = receipt.end.clone().unwrap_or_else(|| applied.clone());
        let caught_up = CatchUpReceipt { run: self.run.clone(), target, end, applied, at: self.clock().now_wall() };
        let door = self.door();
        let fenced = admit::fenced(&door, fence.as_ref(), &receipt, receipt.grade()).await;
        let fenced = self.ok("the fence is admitted as a proof", fenced)?;
        let caught_up = self
            .until("the candidate has everything", || async {
                admit::caught_up(&door, (database, probe), &caught_up, &receipt).await.ok()
            })
            .await?;
        let consented = self.ok("people agreed", admit::consented(&door, &self.consent(), &[]))?;
        self.promote(PromoteRequest::planned(self.key("promote"), fenced, caught_up, consented)).await?;
        Ok(Some(receipt))
    }

    /// Attaches the old primary to the new one.
    pub(super) async fn rejoin_request(
        &self,
        lineage: dr_core::contract::Lineage,
        may_discard: bool,
    ) -> Result<RejoinRequest, Stop> {
        let Seat { member, address, .. } = self.pair.primary.clone();
        let endpoint = self.described(Side::Standby).await?.endpoint;
        let primary = self.target(Side::Standby).await?;
        let target = Target { member, address, identity: None, lineage, receives: None };
        Ok(RejoinRequest { target, primary, endpoint, parted_at: None, may_discard, key: self.key("rejoin") })
    }

    /// Points one side at the other.
    pub(super) async fn follow_request(&self, side: Side) -> Result<FollowRequest, Stop> {
        let other = if side == Side::Primary { Side::Standby } else { Side::Primary };
        let endpoint = self.described(other).await?.endpoint;
        let (target, primary) = (self.target(side).await?, self.target(other).await?);
        Ok(FollowRequest { target, primary, endpoint, parted_at: None, key: self.key("follow") })
    }

    /// The proof that one side is the writer, as steps hand it to secret and route.
    pub(super) async fn writer(&self, side: Side) -> Result<WriterReceipt, Stop> {
        let endpoint = self.described(side).await?.endpoint;
        let target = self.target(side).await?;
        Ok(WriterReceipt {
            run: self.run.clone(),
            target,
            endpoint,
            origin: WriterOrigin::Observed,
            old_side: Grade::Confirmed,
            waived: None,
            at: self.clock().now_wall(),
        })
    }

    pub(super) async fn patch_request(
        &self,
        side: Side,
        expected: SecretVersion,
        key: &str,
    ) -> Result<PatchSecret, Stop> {
        Ok(PatchSecret { writer: self.writer(side).await?, expected, key: self.key(key) })
    }

    pub(super) async fn rotation(&self, side: Side, expected: SecretVersion, key: &str) -> Result<RotateSecret, Stop> {
        Ok(RotateSecret { writer: self.writer(side).await?, expected, key: self.key(key) })
    }

    pub(super) async fn recycling(&self, side: Side) -> Result<RecycleRequest, Stop> {
        Ok(RecycleRequest { writer: self.writer(side).await?, key: self.key("recycle") })
    }

    pub(super) async fn route_request(&self, side: Side) -> Result<RouteRequest, Stop> {
        Ok(RouteRequest { writer: self.writer(side).await?, key: self.key("traffic") })
    }

    /// Drains the applications, where there is a tier, and waits until they are.
    pub(super) async fn drain(&self) -> Result<(), Stop> {
        let Some(app) = self.pair.app.clone() else { return Ok(()) };
        let request = DrainRequest { budget: seconds(5), within: seconds(3), key: self.key("drain") };
        let outcome = app.drain(request).await;
        self.holds("the tier takes the drain", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
        let look = || async { app.read().await.ok().filter(|reading| reading.drained == Tri::Yes) };
        self.until("the tier reads back as drained", look).await.map(drop)
    }

    /// Lets the applications write again.
    pub(super) async fn resume(&self, onto: Side) -> Result<(), Stop> {
        let Some(app) = self.pair.app.clone() else { return Ok(()) };
        let onto = self.pair.seat(onto).member.clone();
        let outcome = app.resume(ResumeRequest { onto, key: self.key("resume") }).await;
        self.holds("the tier takes the resume", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
        let look = || async { app.read().await.ok().filter(|reading| reading.drained == Tri::No) };
        self.until("the tier reads back as open", look).await.map(drop)
    }

    /// Whether a verb is offered, as the backend says.
    pub(super) fn offers_verb(&self, offer: Offer) -> bool {
        offer.is_in(&self.offers)
    }
}
