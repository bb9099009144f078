//! A bound of the loss from how far behind the candidate was in time, where nobody tells log positions.
//!
//! ```text
//!        safe on the candidate │◄─ cadence ─►│◄── behind ──►│◄────── may have been written since ──────►│
//!  ────────────────────────────┴─────────────┴──────────────┴───────────────────────────────────────────┴────► time
//!                                                       measured                                       stop
//! ```

use super::loss::{SAMPLING, Until};
use crate::{
    base::{MemberId, Timestamp, text},
    contract::{LagSample, Loss, PositionSample, Target},
};

/// Why a loss has no bound where neither positions nor lags are told.
pub(super) fn untold(candidate: &MemberId) -> String {
    format!("the data plane of {candidate} tells no positions, and no sample has a lag of it")
}

/// The bound from the newest lag that was measured before the old side could not write any more; `None` without one.
pub(super) fn bound(
    samples: &[PositionSample],
    primary: &Target,
    candidate: &MemberId,
    until: Until,
) -> Option<(Loss, Option<Timestamp>)> {
    let same = |lag: &&LagSample| lag.lineage.as_ref().is_none_or(|lineage| *lineage == primary.lineage);
    let lags = samples.iter().flat_map(|sample| &sample.lags).filter(|lag| lag.member == *candidate).filter(same);
    // Points come late, and out of order: the newest is the one that was measured last. Of two at one time the worse one counts.
    let newest = lags.filter(|lag| lag.measured <= until.stop).max_by_key(|lag| (lag.measured, lag.behind))?;
    let (age, blur) = (until.stop.since(newest.measured), newest.cadence.max(SAMPLING));
    let time = newest.behind.saturating_add(age).saturating_add(blur);
    let stop = if until.fenced { "was fenced" } else { "is assumed to write until" };
    let because = format!(
        "{candidate} was {} behind when its provider measured it at {} (every {}); {} {stop} {} later",
        text::human(newest.behind),
        newest.measured,
        text::human(blur),
        primary.member,
        text::human(age)
    );
    Some((Loss::AtMost { time, amount: None, because }, Some(newest.measured)))
}
