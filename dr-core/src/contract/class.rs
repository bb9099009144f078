//! What part a step plays in the safety rules, and everything that hangs on it: one table, so that a new class answers every question.

use serde::{Deserialize, Serialize};

/// What part a step plays in the safety rules. A user's own steps are [`Class::Other`] or [`Class::Guard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A check that must not be dropped or bypassed.
    Guard,
    /// Asks people.
    Consent,
    /// Changes something that leaves nothing to give back: a snapshot, a checkpoint, a notice.
    Harmless,
    /// Holds writes of applications back.
    Drain,
    /// Lets them through again.
    Resume,
    /// Keeps the former primary from writing.
    Fence,
    /// Lets it write again.
    ReleaseFence,
    /// Proves that the candidate has everything.
    CatchUp,
    /// Promotes or swaps: its intent is the point of no return.
    Pivot,
    /// Takes from the new writer what the fence of its predecessor left with it.
    ClearFence,
    /// Proves that there is exactly one writer.
    ConfirmWriter,
    /// Changes a secret.
    Secret,
    /// Changes where traffic goes.
    Traffic,
    /// Makes a member a standby of the writer.
    Rejoin,
    /// Takes away what is left of a fence.
    RetireFence,
    /// Destroys something.
    Destroy,
    /// Changes topology: not ours (A03).
    Topology,
    /// Anything else.
    Other,
}

/// What the rules ask about a class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Reserved,
    ReliedUpon,
    StopsWrites,
    OpensTraffic,
    WantsGrade,
    WayBackElsewhere,
}

impl Class {
    /// The only place that lists the classes.
    const fn says(self) -> &'static [Says] {
        use Says::{OpensTraffic, ReliedUpon, Reserved, StopsWrites, WantsGrade, WayBackElsewhere};
        match self {
            Self::Guard | Self::Destroy => &[ReliedUpon],
            Self::Consent | Self::Resume | Self::ReleaseFence | Self::CatchUp | Self::ClearFence => {
                &[Reserved, ReliedUpon]
            }
            Self::Harmless => &[WayBackElsewhere],
            Self::Drain => &[Reserved, ReliedUpon, StopsWrites, WayBackElsewhere],
            Self::Fence => &[Reserved, ReliedUpon, StopsWrites, WantsGrade, WayBackElsewhere],
            Self::Pivot => &[Reserved, ReliedUpon, StopsWrites, WantsGrade],
            Self::ConfirmWriter => &[Reserved, ReliedUpon, WantsGrade],
            Self::Secret | Self::Traffic => &[Reserved, ReliedUpon, OpensTraffic],
            Self::Rejoin | Self::RetireFence => &[Reserved],
            Self::Topology | Self::Other => &[],
        }
    }

    fn is(self, what: Says) -> bool {
        self.says().contains(&what)
    }

    /// Whether only steps of this library may have the class: the safety rules trust it (DR112).
    #[must_use]
    pub fn reserved(self) -> bool {
        self.is(Says::Reserved)
    }

    /// Whether other steps rely on such a step for their safety, so that it may not fail and be owed (DR180).
    #[must_use]
    pub fn relied_upon(self) -> bool {
        self.is(Says::ReliedUpon)
    }

    /// Whether applications cannot write while or after such a step works (DR164).
    #[must_use]
    pub fn stops_writes(self) -> bool {
        self.is(Says::StopsWrites)
    }

    /// Whether such a step sends applications to the new writer, so that writes are let through only after it (DR128, DR150).
    #[must_use]
    pub fn opens_traffic(self) -> bool {
        self.is(Says::OpensTraffic)
    }

    /// Whether such a step is only as good as the grade that it asks for (DR137).
    #[must_use]
    pub fn wants_grade(self) -> bool {
        self.is(Says::WantsGrade)
    }

    /// Whether the way back of such a step is the business of another rule than DR140, or none is needed.
    #[must_use]
    pub fn way_back_elsewhere(self) -> bool {
        self.is(Says::WayBackElsewhere)
    }
}
