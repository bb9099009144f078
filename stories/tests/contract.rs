//! Story 6: the backend of `reef.rs` is enrolled in the contract trials, from outside and in 50 lines.

use std::sync::Arc;

use dr_core::contract::{MemberProvider, Runtime, ServicePace};
use dr_stories::reef::{Reef, ReefMember};
use dr_testkit::VirtualRuntime;
use dr_testkit::trials::{self, Pair, Power, Reach, Rig, Seat, Tier};

struct ReefRig(Reef, VirtualRuntime);

fn seat(member: &ReefMember) -> Seat {
    let (database, probe) = (Arc::new(member.clone()), Arc::new(member.clone()));
    let provider = MemberProvider { database, probe, fence: None, late_fence: None, pace: ServicePace::CAUTIOUS };
    Seat { member: member.id(), address: member.address(), provider }
}

#[async_trait::async_trait]
impl Rig for ReefRig {
    fn pair(&self) -> Pair {
        Pair::of(seat(&self.0.member("here")), seat(&self.0.member("there")))
    }

    fn clock(&self) -> Arc<dyn Runtime> {
        Arc::new(self.1.clone())
    }

    fn powers(&self) -> Vec<Power> {
        vec![Power::Write, Power::CutReplication, Power::StrangeWord]
    }

    async fn act(&self, power: Power) -> Result<(), String> {
        match power {
            Power::Write => self.0.commit("here"),
            Power::CutReplication => self.0.clusters().get_mut("there").ok_or("gone")?.cut = true,
            Power::StrangeWord => self.0.clusters().get_mut("here").ok_or("gone")?.word = "MOLTING".into(),
            other => return Err(format!("this rig cannot {}", other.words())),
        }
        Ok(())
    }
}

#[test]
fn the_backend_keeps_the_contract() {
    let time = VirtualRuntime::new();
    let make = || async { Ok(ReefRig(Reef::new(Arc::new(time.clone())), time.clone())) };
    let report = time.run(trials::run("reef", Reach::Double, &trials::all(), make)).unwrap().unwrap();
    assert_eq!(report.tier(), Tier::Partly(Reach::Double), "{report}");
    assert!(report.held() >= 30, "{report}");
}
