//! Faults and where they strike. A fault is a word without numbers: durations follow from the world's timing, so that a replay line
//! says everything.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::world::FailsHow;

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// F1: an error, and no effect.
    FailBefore,
    /// F1, for good: the provider refuses outright, and nothing is done.
    Refused,
    /// F2: the effect happens, the reply is lost.
    LostReply,
    /// F3: the effect is delivered twice, the second time later.
    Duplicate,
    /// F4: the caller gives up, the effect happens long after.
    Late,
    /// F26: the call is lost on its way, and a colleague makes the same change by hand at that moment.
    Overtaken,
    /// F5: throttled this time.
    Throttled,
    /// F6: the operation that it starts takes ten times as long.
    Slow,
    /// F7: the operation that it starts fails late.
    OperationFails(FailsHow),
    /// F8: the operation goes on, and its handle is not known any more.
    HandleLost,
    /// F9: the answer is old.
    StaleRead,
    /// F10: the answer contradicts the other sources.
    Contradiction,
    /// F11: from here on, management calls to the source's region fail for a while; its data plane goes on.
    ControlOutage,
    /// F12: from here on, nobody can connect to the source for a while; management calls it available.
    DataOutage,
    /// F13: from here on, we cannot reach the source for a while; its clients can.
    Partition,
    /// F16: the process dies before the call is sent.
    CrashBefore,
    /// F16: the process dies after the call had its effect, before the answer.
    CrashAfter,
    /// F17: here a second engine takes the run over while the first one stands still.
    Rival,
    /// F22: somebody changes something by hand.
    Drift(Drift),
    /// F23: the dead or stopped source comes back as it was.
    Zombie,
    /// F24: a client keeps its old address for hours.
    IgnoredTtl,
    /// F25: replication breaks.
    Replication(Broken),
}

/// What somebody changes by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// A standby is promoted.
    Role,
    /// A route is pointed elsewhere and back to where it was first.
    Route,
    /// The secret gets a new version with the same endpoint.
    Secret,
    /// The fence of the source is lifted.
    Fence,
    /// The source's directory is moved, and its server is started from there; its fence knows the old place.
    Place,
    /// The other member lets the applications' role in no more.
    Access,
    /// A standby is deleted and made again under its old name, as a standby of the same primary.
    Identity,
}

/// How replication breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// The stream stops and does not come back.
    Stalled,
    /// The standby turns out to be on another history.
    Diverged,
    /// The stream stops, and the lag metric stays where it was.
    MetricFrozen,
}

/// What kind of call a fault point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    /// Looks.
    Read,
    /// Changes something at once.
    Change,
    /// Starts a long operation.
    Start,
}

impl Fault {
    /// The faults of single calls, in the order in which an explorer tries them.
    pub const OF_CALLS: [Self; 15] = [
        Self::FailBefore,
        Self::Refused,
        Self::LostReply,
        Self::Duplicate,
        Self::Late,
        Self::Throttled,
        Self::Slow,
        Self::OperationFails(FailsHow::Absent),
        Self::OperationFails(FailsHow::Partial),
        Self::OperationFails(FailsHow::Complete),
        Self::HandleLost,
        Self::StaleRead,
        Self::Contradiction,
        Self::CrashBefore,
        Self::CrashAfter,
    ];

    /// Faults of the world, which may begin at any call. [`Drift::Access`] is not among them: a run waits minutes for applications that
    /// cannot write, which takes a world with long pauses between looks to play often.
    pub const OF_THE_WORLD: [Self; 14] = [
        Self::ControlOutage,
        Self::DataOutage,
        Self::Partition,
        Self::Rival,
        Self::Drift(Drift::Role),
        Self::Drift(Drift::Route),
        Self::Drift(Drift::Secret),
        Self::Drift(Drift::Fence),
        Self::Drift(Drift::Place),
        Self::Drift(Drift::Identity),
        Self::Zombie,
        Self::IgnoredTtl,
        Self::Replication(Broken::Stalled),
        Self::Replication(Broken::MetricFrozen),
    ];

    /// Whether the fault means something at a call of this kind.
    #[must_use]
    pub fn suits(self, kind: CallKind) -> bool {
        match self {
            Self::FailBefore | Self::Throttled | Self::CrashBefore | Self::CrashAfter | Self::LostReply => true,
            Self::Duplicate | Self::Late => kind != CallKind::Read,
            Self::Refused | Self::Slow | Self::OperationFails(_) | Self::HandleLost | Self::Overtaken => {
                kind == CallKind::Start
            }
            Self::StaleRead | Self::Contradiction => kind == CallKind::Read,
            Self::ControlOutage
            | Self::DataOutage
            | Self::Partition
            | Self::Rival
            | Self::Drift(_)
            | Self::Zombie
            | Self::IgnoredTtl
            | Self::Replication(_) => true,
        }
    }

    /// Whether it passes by itself and must not turn a success into a failure (L3).
    #[must_use]
    pub fn transient(self) -> bool {
        match self {
            Self::FailBefore
            | Self::Throttled
            | Self::LostReply
            | Self::Slow
            | Self::StaleRead
            | Self::CrashBefore
            | Self::CrashAfter
            | Self::HandleLost => true,
            Self::Refused
            | Self::Duplicate
            | Self::Late
            | Self::Overtaken
            | Self::OperationFails(_)
            | Self::Contradiction
            | Self::ControlOutage
            | Self::DataOutage
            | Self::Partition
            | Self::Rival
            | Self::Drift(_)
            | Self::Zombie
            | Self::IgnoredTtl
            | Self::Replication(_) => false,
        }
    }

    const WORDS: [(&'static str, Self); 33] = [
        ("F1", Self::FailBefore),
        ("F1-refused", Self::Refused),
        ("F2", Self::LostReply),
        ("F3", Self::Duplicate),
        ("F4", Self::Late),
        ("F5", Self::Throttled),
        ("F6", Self::Slow),
        ("F7-absent", Self::OperationFails(FailsHow::Absent)),
        ("F7-partial", Self::OperationFails(FailsHow::Partial)),
        ("F7-complete", Self::OperationFails(FailsHow::Complete)),
        ("F7-late", Self::OperationFails(FailsHow::Late)),
        ("F8", Self::HandleLost),
        ("F9", Self::StaleRead),
        ("F10", Self::Contradiction),
        ("F11", Self::ControlOutage),
        ("F12", Self::DataOutage),
        ("F13", Self::Partition),
        ("F16-before", Self::CrashBefore),
        ("F16-after", Self::CrashAfter),
        ("F17", Self::Rival),
        ("F22-role", Self::Drift(Drift::Role)),
        ("F22-route", Self::Drift(Drift::Route)),
        ("F22-secret", Self::Drift(Drift::Secret)),
        ("F22-fence", Self::Drift(Drift::Fence)),
        ("F22-place", Self::Drift(Drift::Place)),
        ("F22-access", Self::Drift(Drift::Access)),
        ("F22-identity", Self::Drift(Drift::Identity)),
        ("F23", Self::Zombie),
        ("F24", Self::IgnoredTtl),
        ("F25-stalled", Self::Replication(Broken::Stalled)),
        ("F25-diverged", Self::Replication(Broken::Diverged)),
        ("F25-frozen", Self::Replication(Broken::MetricFrozen)),
        ("F26", Self::Overtaken),
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, fault)| fault == self).map_or("?", |(word, _)| *word);
        f.pad(word)
    }
}

/// The text names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fault at a call; one looks like `weu.promote#1:F2`")]
pub struct BadFault(String);

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let known = Self::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, fault)| *fault).ok_or_else(|| BadFault(text.to_owned()))
    }
}

/// Which fault strikes at which call. Calls are named (`weu.promote#1`), so that a plan survives changes of a runbook; an index
/// (`@7`) works too.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultPlan {
    at: BTreeMap<String, Fault>,
}

impl FaultPlan {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault at one call. A name without a number means the first call of this name.
    #[must_use]
    pub fn one(call: impl Into<String>, fault: Fault) -> Self {
        Self::none().and(call, fault)
    }

    /// One more fault.
    #[must_use]
    pub fn and(mut self, call: impl Into<String>, fault: Fault) -> Self {
        let mut call = call.into();
        if !call.contains('#') && !call.starts_with('@') {
            call.push_str("#1");
        }
        self.at.insert(call, fault);
        self
    }

    /// The fault at the call with this name and index.
    #[must_use]
    pub fn at(&self, name: &str, index: u64) -> Option<Fault> {
        self.at.get(name).or_else(|| self.at.get(&format!("@{index}"))).copied()
    }

    /// All of them, by call.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Fault)> {
        self.at.iter().map(|(call, fault)| (call.as_str(), *fault))
    }

    /// The plan without the fault at `call`.
    #[must_use]
    pub fn without(&self, call: &str) -> Self {
        let mut plan = self.clone();
        plan.at.remove(call);
        plan
    }

    /// How many faults there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (call, fault)) in self.at.iter().enumerate() {
            if nth > 0 {
                f.write_str(",")?;
            }
            write!(f, "{call}:{fault}")?;
        }
        Ok(())
    }
}

impl FromStr for FaultPlan {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut plan = Self::none();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (call, fault) = part.rsplit_once(':').ok_or_else(|| BadFault(part.to_owned()))?;
            plan = plan.and(call, fault.parse()?);
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_it_is_printed_and_every_fault_has_a_word() {
        let mut plan = FaultPlan::one("weu.promote", Fault::LostReply).and("@7", Fault::CrashAfter);
        for (nth, fault) in Fault::OF_CALLS.iter().chain(&Fault::OF_THE_WORLD).enumerate() {
            assert_ne!(fault.to_string(), "?", "{fault:?}");
            plan = plan.and(format!("neu.fence.engage/2-terminate#{}", nth + 2), *fault);
        }
        assert_eq!(plan.to_string().parse::<FaultPlan>().unwrap(), plan);
        assert_eq!(plan.at("weu.promote#1", 3), Some(Fault::LostReply));
        assert_eq!(plan.at("anything#1", 7), Some(Fault::CrashAfter));
        assert!("weu.promote#1:F99".parse::<FaultPlan>().is_err());
    }
}
