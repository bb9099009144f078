//! Proofs: what is true now, for as long as it may be trusted. Only [`admit`](super::admit) makes them.

use crate::{
    base::{Epoch, Millis, Mono},
    contract::{CatchUpReceipt, Consent, FenceReceipt, Grade, Loss, LossBound, Planes, QuiesceReceipt, Target, Waived},
};

/// What every proof knows of its own making.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) epoch: Epoch,
    pub(super) at: Mono,
    pub(super) max_age: Millis,
}

impl Seal {
    /// Why the proof may not be used now, if so.
    pub(super) fn refuse(&self, now: Mono, epoch: Epoch) -> Option<String> {
        if self.epoch != epoch {
            return Some(format!("the proof was made under epoch {}, this is {epoch}", self.epoch));
        }
        let age = Millis::of(now.since(self.at));
        (age > self.max_age)
            .then(|| format!("the proof is {} ms old, the limit is {} ms", age.count(), self.max_age.count()))
    }
}

/// The former primary is fenced: asked just now.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct Fenced {
    pub(super) seal: Seal,
    pub(super) receipt: FenceReceipt,
    pub(super) planes: Planes,
}

impl Fenced {
    /// What the fence is worth now.
    #[must_use]
    pub fn grade(&self) -> Grade {
        self.planes.grade()
    }

    /// The receipt that was looked at again.
    #[must_use]
    pub fn receipt(&self) -> &FenceReceipt {
        &self.receipt
    }
}

/// The candidate has everything: asked just now.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct CaughtUp {
    pub(super) seal: Seal,
    pub(super) receipt: CatchUpReceipt,
}

/// Nothing writes and both sides are equal, asked just now; or the provider itself sees to both.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct Quiesced {
    pub(super) seal: Seal,
    pub(super) receipt: QuiesceReceipt,
}

/// People agreed to this plan, and what they were shown still holds.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct Consented {
    pub(super) seal: Seal,
    pub(super) consent: Consent,
}

impl Consented {
    /// What was agreed to.
    #[must_use]
    pub fn consent(&self) -> &Consent {
        &self.consent
    }
}

/// The loss is bounded and people accepted at least that much.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct LossBounded {
    pub(super) seal: Seal,
    pub(super) bound: LossBound,
}

impl LossBounded {
    /// The bound.
    #[must_use]
    pub fn loss(&self) -> &Loss {
        &self.bound.loss
    }
}

/// A member is not the writer, and nobody follows it: asked just now. What it has is elsewhere, or this run put it there.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct NotWriter {
    pub(super) seal: Seal,
    pub(super) target: Target,
}

impl NotWriter {
    /// The member, with the identity that was seen.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Two people took a risk that a guard would refuse: asked for just now, with the time compared until which they said so.
#[derive(Debug)]
#[must_use = "a proof that is not moved into a request proves nothing"]
pub struct Waiver {
    pub(super) seal: Seal,
    pub(super) waived: Waived,
}

/// Two people attest that a member is down: asked for just now, with the time compared until which they said so.
#[derive(Debug)]
#[must_use = "a proof that nobody looks at proves nothing"]
pub struct Attested {
    #[expect(dead_code, reason = "only `admit` can make one")]
    pub(super) seal: Seal,
}

impl Waiver {
    /// What was accepted, for the receipt that rests on it.
    pub fn into_record(self) -> Waived {
        self.waived
    }
}
