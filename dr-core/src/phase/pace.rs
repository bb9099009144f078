//! How often waits look, and how long they may take: from what each side says of itself.

use crate::{Capabilities, MemberFacts, Millis};

/// The pace of waits on one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How often a running operation may be looked at.
    pub(crate) every: Millis,
    /// How long a change may stay unseen.
    pub(crate) visibility: Millis,
    /// How long a role change may take: a minute on servers that are asked directly, hours' worth of patience on slow planes.
    pub(crate) within: Millis,
}

/// How long a check may take at least, on servers that answer at once.
pub(super) const CHECK: Millis = Millis::seconds(30);
/// How often a check looks again at most: nobody's writes wait for it.
const CHECK_EVERY: Millis = Millis::seconds(1);
/// How often a check may look before it is given up, where looks are far apart.
const CHECK_LOOKS: u64 = 4;
/// A wait is given up after this many of its looks.
const LOOKS: u64 = 200;
/// A change that stays unseen is given up after this many times its visibility.
const VISIBILITIES: u64 = 10;
/// No role change is given less.
const SHORTEST: Millis = Millis::minutes(1);

impl Pace {
    pub(crate) fn of(member: &MemberFacts) -> Self {
        let none = Capabilities::none();
        let Capabilities { poll_every, visibility, .. } = *member.capabilities.as_ref().unwrap_or(&none);
        let every = poll_every.max(Millis::new(1));
        let patience =
            Millis::new(every.count().saturating_mul(LOOKS).max(visibility.count().saturating_mul(VISIBILITIES)));
        Self { every, visibility, within: patience.max(SHORTEST) }
    }

    /// For a check that only reads: no oftener than the provider likes, and long enough for a few looks.
    pub(super) fn of_check(member: &MemberFacts) -> Self {
        let pace = Self::of(member);
        let described = member.description.as_ref().map_or(Millis::ZERO, |seen| seen.cadence);
        let measured = member.replication.as_ref().map_or(Millis::ZERO, |seen| seen.cadence);
        let looks = pace.every.max(described).max(measured).count().saturating_mul(CHECK_LOOKS);
        Self { every: pace.every.max(CHECK_EVERY), within: CHECK.max(Millis::new(looks)), ..pace }
    }

    /// For a fence: it has a pace of its own.
    pub(super) fn of_fence(member: &MemberFacts) -> Self {
        Self { every: member.fence_poll.max(Millis::new(1)), ..Self::of(member) }
    }
}
