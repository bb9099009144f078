//! What PostgreSQL's own logs say a shutdown and a promotion took: the floor that no orchestrator gets below.

use std::{fs, path::Path, time::Duration};

/// The time between the last line that contains `from` and the first one after it that contains `to`.
pub(crate) fn between(log: &Path, from: &str, to: &str) -> Option<Duration> {
    let text = fs::read_to_string(log).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let begun = lines.iter().rposition(|line| line.contains(from))?;
    let (first, rest) = lines.get(begun..)?.split_first()?;
    let last = rest.iter().find(|line| line.contains(to))?;
    Duration::from_secs_f64(seconds(last)? - seconds(first)?).into()
}

/// Seconds of the day in `2026-01-01 10:00:00.123 UTC [1] LOG: …`.
fn seconds(line: &str) -> Option<f64> {
    let mut parts = line.split_whitespace().nth(1)?.split(':');
    let (hours, minutes): (f64, f64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(hours.mul_add(3600.0, minutes * 60.0) + parts.next()?.parse::<f64>().ok()?)
}

/// Shutdown of the old primary plus promotion of the new one.
pub(crate) fn floor(old: &Path, new: &Path) -> Option<Duration> {
    let shutdown = between(old, "received fast shutdown request", "database system is shut down")?;
    let promotion = between(new, "received promote request", "database system is ready to accept connections")?;
    Some(shutdown + promotion)
}
