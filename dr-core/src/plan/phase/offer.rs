//! [`Offer`] is the one offer behind the verb with which a plan changes the writer.

use crate::{
    base::{Finding, Millis, known},
    contract::{Binding, Capabilities, ForcedOffer, PromoteOffer, Rejoin, Shape, SwapOffer},
    plan::MemberFacts,
};

/// What the verb that a plan uses is offered with. It is called on the target, so the target's offer counts.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) shape: Shape,
    /// The provider's upper figure for the verb.
    pub(super) takes: Millis,
    /// How the former primary becomes a standby afterwards.
    pub(super) rejoin: Rejoin,
    /// The new writer is worked on after it took its role.
    pub(super) restarts: bool,
    /// What the call moves by itself.
    pub(super) moves: Vec<Binding>,
    /// The provider can be told when to give up.
    pub(super) limit: bool,
    /// The provider itself stops writes and waits for the candidate.
    pub(super) catches_up: bool,
}

/// The secrets and routes that the provider moves by itself in a planned change to `target`.
pub(crate) fn moves(target: &MemberFacts) -> Vec<Binding> {
    Offer::to(target, false).map(|offer| offer.moves).unwrap_or_default()
}

impl Offer {
    /// The offer behind a change to `target`. A swap is preferred to a promotion: its fence is part of the call.
    pub(super) fn to(target: &MemberFacts, forced: bool) -> Result<Self, Finding> {
        let name = &target.name;
        let Some(offers) = &target.capabilities else {
            return Err(Finding::new(
                &known::OFFERS_UNKNOWN,
                format!("`{name}` does not say what it can do ({})", target.silence.join("; ")),
            ));
        };
        // Two systems cannot swap their roles, and the former primary cannot follow the other system as it is.
        let copy = target.is_copy();
        let swap = if forced { Self::forced(offers) } else { Self::swap(offers) };
        let promotion = || {
            let offer = Self::promotion(offers)?;
            let rejoin = if copy { Rejoin::NewResource } else { offer.rejoin };
            Some(Self { rejoin, ..offer })
        };
        swap.filter(|_| !copy).or_else(promotion).ok_or_else(|| {
            let verb = if forced { "forced promotion" } else { "planned promotion" };
            Finding::new(&known::NOT_OFFERED, format!("the provider of `{name}` offers no {verb}"))
        })
    }

    /// What the call is named to people.
    pub(super) const fn word(&self) -> &'static str {
        match self.shape {
            Shape::BuiltInFence => "swap",
            Shape::SeparateFence => "promotion",
        }
    }

    fn swap(offers: &Capabilities) -> Option<Self> {
        let SwapOffer { takes, rejoin, catches_up, limit, moves, restarts } = offers.swap.clone()?;
        Some(Self { shape: Shape::BuiltInFence, takes, rejoin, restarts, moves, limit, catches_up })
    }

    fn forced(offers: &Capabilities) -> Option<Self> {
        let ForcedOffer { takes, rejoin, fence: _, moves, restarts } = offers.forced_swap.clone()?;
        let shape = Shape::BuiltInFence;
        Some(Self { shape, takes, rejoin, restarts, moves, limit: false, catches_up: false })
    }

    fn promotion(offers: &Capabilities) -> Option<Self> {
        let PromoteOffer { takes, rejoin, restarts } = offers.promote.clone()?;
        let shape = Shape::SeparateFence;
        Some(Self { shape, takes, rejoin, restarts, moves: Vec::new(), limit: false, catches_up: false })
    }
}
