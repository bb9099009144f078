//! A planned operation begins in a window of its group.

use super::{
    seen,
    world::{Call, now, pair},
};
use crate::{
    contract::Window,
    plan::{
        Look, Observed,
        steps::{CheckWindow, window::Windowed},
    },
};

/// The clock of the world stands at 00:16:40 UTC on Thursday, 1970-01-01.
#[test]
fn an_operation_begins_in_a_window_or_the_run_says_when_it_opens() {
    let look = |texts: &[&str]| {
        let windows: Vec<Window> = texts.iter().map(|text| text.parse().unwrap()).collect();
        now(Windowed.look(&Call::of(&pair()).cx(), &CheckWindow { windows }))
    };
    assert_eq!(seen(&look(&["Thu 00:00-01:00"])), "done");
    assert_eq!(seen(&look(&["Sat 02:00-05:00", "daily 00:10-00:20"])), "done", "one of them is enough");
    let Ok(Observed::Conflict(cause)) = look(&["Sat 02:00-05:00", "Fri 03:00-04:00"]) else { panic!("it is closed") };
    assert!(cause.as_str().contains("next at 1970-01-02T03:00:00.000Z"), "{cause}");
    assert!(cause.as_str().contains("Sat 02:00-05:00 or Fri 03:00-04:00 UTC"), "{cause}");
}
