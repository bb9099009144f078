//! What the benchmarks share.

use dr_core::{
    Epoch, Head, Line, Timestamp,
    run::{Event, Record},
};

/// The next line of a journal that ends at `head`: an event of a usual size.
///
/// # Panics
/// Never: the event has a canonical form.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark may stop when its own fixture is wrong")]
pub fn next_line(head: Head) -> Line {
    let event =
        Event::LeaseTaken { holder: "an engine on a host, with a name of a usual length, process 48121".into() };
    let record = Record::after(head, Timestamp::from_millis(1_790_000_000_000), Epoch::new(1), event);
    record.line().expect("the event has a canonical form")
}

/// The middle one.
#[must_use]
pub fn median(mut of: Vec<std::time::Duration>) -> std::time::Duration {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or_default()
}
