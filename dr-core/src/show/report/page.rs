//! The terminal's page of a report.

use std::fmt;

use super::Report;
use crate::{
    base::{Timestamp, text::human},
    contract::Loss,
    run::RunOutcome,
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
        writeln!(f, "{}  {}  {} {}{to}", headline(self.outcome.as_ref()), self.run, purpose(self), self.from)?;
        if let Some(reason) = reason(self.outcome.as_ref()) {
            writeln!(f, "  because      {reason}")?;
        }
        writeln!(f, "  writes       {}", self.gap())?;
        writeln!(f, "  lost         {}", self.loss())?;
        for (index, dropped) in self.dropped.iter().enumerate() {
            let label = if index == 0 { "not in log" } else { "" };
            writeln!(f, "  {label:<11}  dropped: {} ({})", dropped.what, dropped.detail)?;
        }
        if let Some(total) = self.rto.total {
            let work = self.rto.work.map(human).unwrap_or_default();
            writeln!(f, "  took         {}, of which people {}, work {work}", human(total), human(self.rto.people))?;
        }
        let phases: Vec<String> =
            self.rto.phases.iter().map(|phase| format!("{} {}", phase.phase, human(phase.took))).collect();
        if !phases.is_empty() {
            writeln!(f, "  phases       {}", phases.join(" · "))?;
        }
        writeln!(f, "  asked by     {}: {}", self.by, self.because)?;
        for (index, left) in self.follow_ups.iter().enumerate() {
            let label = if index == 0 { "follow-ups" } else { "" };
            writeln!(f, "  {label:<11}  {left}")?;
        }
        if let Some(place) = &self.evidence {
            writeln!(f, "  evidence     {}", place.display())?;
        }
        Ok(())
    }
}

impl Report {
    /// The write gap in words, held against the target if there is one.
    pub(super) fn gap(&self) -> String {
        let Some(gap) = self.write_gap else {
            let held = |since: Timestamp| format!("still held back, since {} UTC", since.clock());
            return self.held_since.map_or_else(|| "not held back by this run".into(), held);
        };
        match self.target {
            None => format!("stopped for {}", human(gap)),
            Some(target) if gap > target => {
                let missed = human(gap.saturating_sub(target));
                format!("stopped for {} (target {}: MISSED by {missed})", human(gap), human(target))
            }
            Some(target) => format!("stopped for {} (target {}: met)", human(gap), human(target)),
        }
    }

    /// The loss in words, with how it is known.
    pub(super) fn loss(&self) -> String {
        match &self.lost {
            Loss::Nothing if self.lost_by == super::NOT_PROMOTED => format!("nothing: {}", self.lost_by),
            Loss::Nothing => format!("nothing of the log: {}", self.lost_by),
            Loss::AtMost { .. } | Loss::Unknown { .. } => format!("{}; {}", self.lost, self.lost_by),
        }
    }
}

pub(super) fn headline(outcome: Option<&RunOutcome>) -> &'static str {
    match outcome {
        None => "GOING ON",
        Some(RunOutcome::Succeeded) => "DONE",
        Some(RunOutcome::SucceededWithDebt { .. }) => "DONE, WITH DEBTS",
        Some(RunOutcome::Refused { .. }) => "REFUSED",
        Some(RunOutcome::Aborted { .. }) => "TURNED BACK",
        Some(RunOutcome::Cancelled { .. }) => "CANCELLED",
        Some(RunOutcome::HandedOver { .. }) => "HANDED OVER",
    }
}

fn reason(outcome: Option<&RunOutcome>) -> Option<&str> {
    match outcome? {
        RunOutcome::Succeeded | RunOutcome::SucceededWithDebt { .. } => None,
        RunOutcome::Refused { reason }
        | RunOutcome::Aborted { reason }
        | RunOutcome::Cancelled { reason }
        | RunOutcome::HandedOver { reason } => Some(reason),
    }
}

pub(super) fn purpose(report: &Report) -> &'static str {
    match report.purpose {
        crate::plan::Purpose::Standby => "standby for",
        crate::plan::Purpose::Drill => "drill on",
        crate::plan::Purpose::Destroy => "destruction beside",
        crate::plan::Purpose::Redirect => "redirect to",
        crate::plan::Purpose::Hygiene => "hygiene on",
        other @ (crate::plan::Purpose::Switchover
        | crate::plan::Purpose::Failover
        | crate::plan::Purpose::Promotion
        | crate::plan::Purpose::Failback
        | crate::plan::Purpose::Restore) => other.word(),
    }
}
