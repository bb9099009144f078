//! Requests that cannot be written without their proofs.

use crate::{
    base::{Actor, Epoch, IdempotencyKey, Millis, Mono},
    contract::{
        CaughtUp, Consented, FenceToken, Fenced, Grade, Loss, LossBounded, NotWriter, Position, Quiesced, Target,
        Waived, Waiver, guard::proof::Seal,
    },
};

/// On which grounds a promotion was asked for. Data, for records and for backends that pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromotionTerms {
    /// Nothing is lost.
    Planned {
        /// The fence's grade.
        fence: Grade,
        /// The candidate has everything up to here.
        caught_up_to: Position,
    },
    /// At most this is lost.
    Forced {
        /// The fence's grade.
        fence: Grade,
        /// The bound.
        loss: Loss,
    },
    /// Two people took the risk of a second writer.
    Dangerous {
        /// Who and why.
        waived: Waived,
        /// The bound.
        loss: Loss,
    },
}

/// What a request's proofs say about themselves; asked by the gate in the same poll as the send.
#[derive(Debug)]
pub struct Certified {
    seals: Vec<Seal>,
}

impl Certified {
    /// Why the proofs may not be used now, if so.
    #[must_use]
    pub fn refuse(&self, now: Mono, epoch: Epoch) -> Option<String> {
        self.seals.iter().find_map(|seal| seal.refuse(now, epoch))
    }
}

/// The two members between which the writer changes. Named fields, because two targets in a row can be swapped by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The former primary, as it was expected.
    pub from: Target,
    /// The member that becomes the writer, with the lineage that it follows.
    pub to: Target,
}

/// Asks for the promotion of a standby. Consumes its proofs.
#[derive(Debug)]
pub struct PromoteRequest {
    target: Target,
    from: Target,
    terms: PromotionTerms,
    key: IdempotencyKey,
    certified: Certified,
}

impl PromoteRequest {
    /// Without loss: the old primary is fenced (grade by [`admit`](super::admit)), the candidate has everything, people agreed.
    #[must_use]
    pub fn planned(key: IdempotencyKey, fenced: Fenced, caught_up: CaughtUp, consented: Consented) -> Self {
        Self {
            target: caught_up.receipt.target.clone(),
            from: fenced.receipt.target.clone(),
            terms: PromotionTerms::Planned { fence: fenced.grade(), caught_up_to: caught_up.receipt.end.clone() },
            key,
            certified: Certified { seals: vec![fenced.seal, caught_up.seal, consented.seal] },
        }
    }

    /// With bounded loss: the old primary is fenced at G2 or better.
    ///
    /// # Errors
    /// The grade, when the fence is worth less than [`Grade::Enforced`].
    pub fn forced(
        key: IdempotencyKey,
        target: Target,
        fenced: Fenced,
        bounded: LossBounded,
        consented: Consented,
    ) -> Result<Self, Grade> {
        if fenced.grade() < Grade::Enforced {
            return Err(fenced.grade());
        }
        Ok(Self {
            target,
            from: fenced.receipt.target.clone(),
            terms: PromotionTerms::Forced { fence: fenced.grade(), loss: bounded.bound.loss },
            key,
            certified: Certified { seals: vec![fenced.seal, bounded.seal, consented.seal] },
        })
    }

    /// With the risk of a second writer, which two people took.
    #[must_use]
    pub fn dangerous(
        key: IdempotencyKey,
        Ends { from, to }: Ends,
        bounded: LossBounded,
        consented: Consented,
        waiver: Waiver,
    ) -> Self {
        Self {
            target: to,
            from,
            terms: PromotionTerms::Dangerous { waived: waiver.waived, loss: bounded.bound.loss },
            key,
            certified: Certified { seals: vec![bounded.seal, consented.seal, waiver.seal] },
        }
    }

    /// Which standby, with the lineage that it follows.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The former primary, as it was expected: a provider that compares and sets is told, so that a late send is no switch back.
    #[must_use]
    pub fn from(&self) -> &Target {
        &self.from
    }

    /// On which grounds.
    #[must_use]
    pub fn terms(&self) -> &PromotionTerms {
        &self.terms
    }

    /// The run-scoped key.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// What the proofs say about themselves.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.certified
    }
}

/// Asks for a role swap. Consumes its proofs.
#[derive(Debug)]
pub struct SwapRequest {
    from: Target,
    to: Target,
    allow_loss: Option<Loss>,
    waived: Option<Waived>,
    within: Option<Millis>,
    key: IdempotencyKey,
    certified: Certified,
}

impl SwapRequest {
    /// Without loss: nothing writes, both sides are equal, people agreed. The provider must refuse rather than lose.
    #[must_use]
    pub fn planned(key: IdempotencyKey, quiesced: Quiesced, consented: Consented) -> Self {
        Self {
            from: quiesced.receipt.primary.clone(),
            to: quiesced.receipt.target.clone(),
            allow_loss: None,
            waived: None,
            within: None,
            key,
            certified: Certified { seals: vec![quiesced.seal, consented.seal] },
        }
    }

    /// With bounded loss, while the primary is silent.
    #[must_use]
    pub fn forced(key: IdempotencyKey, from: Target, to: Target, bounded: LossBounded, consented: Consented) -> Self {
        Self {
            from,
            to,
            allow_loss: Some(bounded.bound.loss),
            waived: None,
            within: None,
            key,
            certified: Certified { seals: vec![bounded.seal, consented.seal] },
        }
    }

    /// Says that the former primary may stay without a fence: two people took the risk of a second writer.
    #[must_use]
    pub fn without_fence(mut self, waiver: Waiver) -> Self {
        self.certified.seals.push(waiver.seal);
        self.waived = Some(waiver.waived);
        self
    }

    /// Who took the risk of a second writer, and why; `None` where nobody did.
    #[must_use]
    pub fn waived(&self) -> Option<&Waived> {
        self.waived.as_ref()
    }

    /// The primary.
    #[must_use]
    pub fn from(&self) -> &Target {
        &self.from
    }

    /// The standby that becomes primary.
    #[must_use]
    pub fn to(&self) -> &Target {
        &self.to
    }

    /// Tells for how long the provider may hold writes.
    #[must_use]
    pub fn giving_up_after(self, within: Millis) -> Self {
        Self { within: Some(within), ..self }
    }

    /// For how long the provider may hold writes from now on, before it must give up with the roles as they were; `None` where nobody
    /// waits. A backend whose service can be told passes it on, and says so in [`SwapOffer::limit`](crate::contract::SwapOffer::limit).
    #[must_use]
    pub fn within(&self) -> Option<Millis> {
        self.within
    }

    /// The loss that may happen; `None` means none at all.
    #[must_use]
    pub fn allow_loss(&self) -> Option<&Loss> {
        self.allow_loss.as_ref()
    }

    /// The run-scoped key.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// What the proofs say about themselves.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.certified
    }
}

/// Asks that a member is destroyed. Consumes its proofs.
#[derive(Debug)]
pub struct DestroyRequest {
    target: Target,
    keep: Option<String>,
    key: IdempotencyKey,
    certified: Certified,
}

impl DestroyRequest {
    /// Destroys what `not_writer` was seen to be, and nothing that has another identity; people agreed.
    #[must_use]
    pub fn of(key: IdempotencyKey, not_writer: NotWriter, consented: Consented) -> Self {
        let NotWriter { seal, target } = not_writer;
        Self { target, keep: None, key, certified: Certified { seals: vec![seal, consented.seal] } }
    }

    /// Keeps the data under `name` first.
    #[must_use]
    pub fn keeping(self, name: impl Into<String>) -> Self {
        Self { keep: Some(name.into()), ..self }
    }

    /// Which member, with its identity.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The name under which the data is kept; `None` where nothing is.
    #[must_use]
    pub fn keep(&self) -> Option<&str> {
        self.keep.as_deref()
    }

    /// The run-scoped key.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// What the proofs say about themselves.
    #[must_use]
    pub fn certified(&self) -> &Certified {
        &self.certified
    }
}

/// Why a member may write again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseGround {
    /// A planned run turns back: its plan holds the fence by name, no promote intent was ever durable, and two spaced looks saw the
    /// candidate in recovery on the old lineage.
    AbortBeforePromotion,
    /// A person ordered it, naming this member and lineage.
    Operator {
        /// Who.
        by: Actor,
    },
}

/// The order to lift a fence. Nothing else lifts one (S9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOrder {
    target: Target,
    token: FenceToken,
    ground: ReleaseGround,
    key: IdempotencyKey,
}

impl ReleaseOrder {
    pub(crate) fn abort(key: IdempotencyKey, target: Target, token: FenceToken) -> Self {
        Self { target, token, ground: ReleaseGround::AbortBeforePromotion, key }
    }

    /// A person's order.
    #[must_use]
    pub fn by_operator(key: IdempotencyKey, target: Target, token: FenceToken, by: Actor) -> Self {
        Self { target, token, ground: ReleaseGround::Operator { by }, key }
    }

    /// Which member, with its lineage.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What was read before it was engaged.
    #[must_use]
    pub fn token(&self) -> &FenceToken {
        &self.token
    }

    /// The same order for one fence of several.
    pub(crate) fn with_token(self, token: FenceToken) -> Self {
        Self { token, ..self }
    }

    /// Why.
    #[must_use]
    pub fn ground(&self) -> &ReleaseGround {
        &self.ground
    }

    /// The run-scoped key.
    #[must_use]
    pub fn key(&self) -> &IdempotencyKey {
        &self.key
    }
}
