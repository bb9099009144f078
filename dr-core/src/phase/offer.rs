//! The one offer behind the verb with which a plan changes the writer.

use crate::{Capabilities, Finding, MemberFacts, Rejoin, Shape, known};

/// What the verb that a plan uses is offered with. It is called on the target, so the target's offer counts.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) shape: Shape,
    /// How the former primary becomes a standby afterwards.
    pub(super) rejoin: Rejoin,
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
        let swap = if forced { Self::forced(offers) } else { Self::swap(offers) };
        swap.or_else(|| Self::promotion(offers)).ok_or_else(|| {
            let verb = if forced { "forced promotion" } else { "planned promotion" };
            Finding::new(&known::NOT_OFFERED, format!("the provider of `{name}` offers no {verb}"))
        })
    }

    fn swap(offers: &Capabilities) -> Option<Self> {
        let rejoin = offers.swap.as_ref()?.rejoin;
        Some(Self { shape: Shape::BuiltInFence, rejoin })
    }

    fn forced(offers: &Capabilities) -> Option<Self> {
        let rejoin = offers.forced_swap.as_ref()?.rejoin;
        Some(Self { shape: Shape::BuiltInFence, rejoin })
    }

    fn promotion(offers: &Capabilities) -> Option<Self> {
        let rejoin = offers.promote.as_ref()?.rejoin;
        Some(Self { shape: Shape::SeparateFence, rejoin })
    }
}
