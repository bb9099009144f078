//! A catch-up that never comes, and what may be released until when (DESIGN section 5, "abort after the fence").

use dr_core::MemberId;
use dr_testkit::{Broken, FailsHow, Fault, FaultPlan, Flavour, Played};

use crate::matrix::switchover;

fn sent(played: &Played, verb: &str) -> usize {
    played.calls.iter().filter(|call| call.touch.as_ref().is_some_and(|touch| touch.verb == verb)).count()
}

/// The standby stalls at the last part of the fence: the end of the fenced history never arrives.
#[test]
fn a_catch_up_that_never_comes_releases_the_fence_and_resumes_on_the_old_primary() {
    let plan = FaultPlan::one("neu.fence.engage/3-stop", Fault::Replication(Broken::Stalled));
    let played = switchover(Flavour::Separate).play(&plan);
    let words = played.end.words();
    assert!(words.contains("Aborted") && words.contains("the drain has outlived its budget"), "{words}");
    assert_eq!(played.violations, []);
    assert_eq!((sent(&played, "promote"), played.state.promotions), (0, 0));
    assert!(sent(&played, "release-fence") > 0 && sent(&played, "resume") > 0);
    let released = played.calls.iter().rposition(|call| call.name.contains("fence.release"));
    let resumed = played.calls.iter().position(|call| call.name.starts_with("app.resume"));
    assert!(released < resumed, "the fence is released before the applications write again");
    assert!(played.state.app_open && !played.state.lost);
    assert_eq!(played.state.routes, [MemberId::new("neu")]);
    assert_eq!(played.state.secret, Some(MemberId::new("neu")));
    let neu = played.state.members.first().cloned().unwrap_or_default();
    assert!(neu.starts_with("neu") && !neu.contains("fenced"), "{neu}");
}

/// After the promote intent nothing is released, whatever becomes of the promotion: the run goes forward or parks.
#[test]
fn after_a_promote_intent_the_fence_is_never_released() {
    let absent = Fault::OperationFails(FailsHow::Absent);
    let plans = [
        FaultPlan::one("weu.promote#1", absent).and("weu.promote#2", absent),
        FaultPlan::one("weu.promote#1", Fault::LostReply).and("weu.promote#2", Fault::LostReply),
        FaultPlan::one("weu.promote#1", Fault::Late),
        FaultPlan::one("weu.promote#1", Fault::CrashBefore).and("weu.promote#2", absent),
        FaultPlan::one("weu.promote#1", Fault::Replication(Broken::Stalled)),
    ];
    for plan in plans {
        let played = switchover(Flavour::Separate).play(&plan);
        assert!(["parked", "success"].contains(&played.end.class()), "{plan}: {}", played.end.words());
        assert_eq!(played.violations, [], "{plan}");
        assert_eq!(sent(&played, "release-fence"), 0, "{plan}");
        assert!(sent(&played, "promote") <= 2 && played.state.promotions <= 1, "{plan}");
    }
}
