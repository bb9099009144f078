//! What a plan is for, and everything that hangs on it: one table, so that a new purpose answers every question.

use serde::{Deserialize, Serialize};

use crate::contract::Origin;

/// What a plan is for; some rules and policies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A planned change of roles: nothing is lost, or it stops.
    Switchover,
    /// The primary is silent: loss is bounded and accepted.
    Failover,
    /// A planned change of the writer that leaves applications to somebody else.
    Promotion,
    /// The way back to the group's home.
    Failback,
    /// Applications are pointed at the writer; the writer stays.
    Redirect,
    /// Makes a standby; never touches traffic or secrets (C10).
    Standby,
    /// A writer is made from a backup.
    Restore,
    /// A rehearsal; never names a production resource (O02).
    Drill,
    /// Destroys something; stands alone (C29).
    Destroy,
    /// What is left to do after somebody else, or the provider, changed the writer.
    Hygiene,
}

/// What is said of a purpose.
struct Says {
    /// For people: `orders: switchover neu -> weu`.
    word: &'static str,
    /// What group files call it under `approval` and `automatic`.
    operation: &'static str,
    /// Where a confirmed writer comes from in a plan without a promotion.
    origin: Origin,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 10] = [
        Self::Switchover,
        Self::Failover,
        Self::Promotion,
        Self::Failback,
        Self::Redirect,
        Self::Standby,
        Self::Restore,
        Self::Drill,
        Self::Destroy,
        Self::Hygiene,
    ];

    const fn says(self) -> Says {
        let (word, operation, origin) = match self {
            Self::Switchover => ("switchover", "switchover", Origin::Promoted),
            Self::Failover => ("failover", "failover", Origin::Promoted),
            Self::Promotion => ("promotion", "promotion", Origin::Promoted),
            Self::Failback => ("failback", "failback", Origin::Observed),
            Self::Redirect => ("redirect", "redirect", Origin::Observed),
            // A standby is made on the way back to a pair: what people agree to there is that way back.
            Self::Standby => ("standby", "failback", Origin::Observed),
            Self::Restore => ("restore", "restore", Origin::Restored),
            Self::Drill => ("drill", "drill", Origin::Restored),
            Self::Destroy => ("destroy", "destroy", Origin::Observed),
            Self::Hygiene => ("hygiene", "hygiene", Origin::Observed),
        };
        Says { word, operation, origin }
    }

    /// For people, as in `orders: switchover neu -> weu`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.says().word
    }

    /// What group files call it: `[approval.failback]` holds for plans whose purpose answers `failback`.
    #[must_use]
    pub const fn operation(self) -> &'static str {
        self.says().operation
    }

    /// Whether such a plan changes the writer while both sides are well, so that it needs the checks of a planned change.
    #[must_use]
    pub const fn is_planned_change(self) -> bool {
        matches!(self, Self::Switchover | Self::Promotion | Self::Failback | Self::Drill)
    }

    /// Whether such a plan has a promotion or swap in any case; others may have one, or must not.
    #[must_use]
    pub const fn changes_the_writer(self) -> bool {
        matches!(self, Self::Switchover | Self::Failover | Self::Promotion)
    }

    /// Whether such a plan leaves the writer as it is: it promotes nobody and holds no writes back.
    #[must_use]
    pub const fn keeps_the_writer(self) -> bool {
        matches!(self, Self::Redirect | Self::Hygiene)
    }

    /// Where a confirmed writer comes from: the promotion of the same plan where it has one, else what the purpose says.
    #[must_use]
    pub const fn origin(self, promotes: bool) -> Origin {
        if promotes { Origin::Promoted } else { self.says().origin }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}
