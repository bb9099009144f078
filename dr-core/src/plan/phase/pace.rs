//! How often waits look, and how long they may take: from what each side says of itself.
//!
//! ```text
//!  the member's own offers ──silent?──► those of another member of the same backend ──none?──► the backend's constant
//! ```

use crate::{
    base::Millis,
    contract::ServicePace,
    plan::{MemberFacts, Situation},
};

/// The pace of waits on one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How often a running operation may be looked at.
    pub(crate) every: Millis,
    /// How long a change may stay unseen.
    pub(crate) visibility: Millis,
    /// When the wait is given up.
    pub(crate) within: Millis,
}

/// How long a check may take at least, on servers that answer at once.
pub(super) const CHECK: Millis = Millis::seconds(30);
/// How often a check looks again at most: nobody's writes wait for it.
const CHECK_EVERY: Millis = Millis::seconds(1);
/// How often a check may look before it is given up, where looks are far apart.
const CHECK_LOOKS: u64 = 4;
/// A verb is given up after this many times what its provider says that it takes: once more, should the first call be lost.
const TAKES: u64 = 2;
/// A way back may be a rebuild, or begin when a dark primary returns: nobody waits for it, so it has this many times as long.
const REJOIN_TAKES: u64 = 15;
/// An absence is decided by two looks this many times the visibility apart at most.
const VISIBILITIES: u64 = 2;
/// No change is given less.
const SHORTEST: Millis = Millis::minutes(1);

fn times(span: Millis, factor: u64) -> Millis {
    Millis::new(span.count().saturating_mul(factor))
}

/// How slow the service of a member is.
fn service(now: &Situation, member: &MemberFacts) -> ServicePace {
    let prefix = |member: &MemberFacts| member.binding.provider.split('.').next().map(str::to_owned);
    let told = |member: &MemberFacts| member.capabilities.as_ref().map(crate::contract::Capabilities::pace);
    let mut others = std::iter::once(&now.primary).chain(&now.standbys);
    let other = || others.find_map(|other| told(other).filter(|_| prefix(other) == prefix(member)));
    told(member).or_else(other).unwrap_or(member.pace)
}

impl Pace {
    fn new(service: ServicePace, patience: Millis) -> Self {
        let ServicePace { poll_every, visibility, .. } = service;
        let within = patience.saturating_add(times(visibility, VISIBILITIES));
        Self { every: poll_every.max(Millis::new(1)), visibility, within: within.max(SHORTEST) }
    }

    /// For a verb that takes this long at most.
    pub(crate) fn of(now: &Situation, member: &MemberFacts, takes: Millis) -> Self {
        Self::new(service(now, member), times(takes, TAKES))
    }

    /// For a member that becomes a standby, after a change that takes this long at most.
    pub(crate) fn of_rejoin(now: &Situation, member: &MemberFacts, takes: Millis) -> Self {
        Self::new(service(now, member), times(takes, REJOIN_TAKES))
    }

    /// For a member that becomes a standby, where no verb of this plan changed the writer.
    pub(crate) fn of_standby(now: &Situation, member: &MemberFacts) -> Self {
        Self::of_rejoin(now, member, service(now, member).takes)
    }

    /// For a check that only reads: no oftener than the provider likes, and long enough for a few looks.
    pub(super) fn of_check(now: &Situation, member: &MemberFacts) -> Self {
        let ServicePace { poll_every, visibility, .. } = service(now, member);
        let described = member.description.as_ref().map_or(Millis::ZERO, |seen| seen.cadence);
        let measured = member.replication.as_ref().map_or(Millis::ZERO, |seen| seen.cadence);
        let looks = times(poll_every.max(described).max(measured), CHECK_LOOKS);
        Self { every: poll_every.max(CHECK_EVERY), visibility, within: CHECK.max(looks) }
    }

    /// For a fence: it is looked at in a pace of its own, and takes no longer than the service's slowest change of a role.
    pub(super) fn of_fence(now: &Situation, member: &MemberFacts) -> Self {
        let pace = Self::of(now, member, service(now, member).takes);
        Self { every: member.fence_poll.max(Millis::new(1)), ..pace }
    }
}
