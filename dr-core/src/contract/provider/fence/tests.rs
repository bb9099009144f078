use std::sync::Mutex;

use futures_util::FutureExt as _;

use super::*;
use crate::{
    base::{NodeId, RunId, SystemId},
    contract::{Lineage, Planes},
};

#[derive(Debug)]
struct Part {
    name: &'static str,
    planes: Result<Planes, ()>,
    resource: &'static str,
    answers: Mutex<Vec<Outcome<()>>>,
    calls: std::sync::Arc<Mutex<Vec<String>>>,
}

impl Part {
    fn answer(&self, verb: &str) -> Outcome<()> {
        self.calls.lock().unwrap().push(format!("{verb} {}", self.name));
        self.answers.lock().unwrap().pop().unwrap_or(Outcome::Done(()))
    }
}

#[async_trait]
impl Fence for Part {
    fn name(&self) -> String {
        self.name.into()
    }

    fn offers(&self, reach: Reach) -> Planes {
        let closed = self.name == "far" && reach.management == Tri::No;
        self.planes.ok().filter(|_| !closed).unwrap_or_default()
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(FenceToken { fence: self.name(), state: Json::default(), known: self.name != "unread" })
    }

    async fn engage(&self, _request: EngageFence) -> Outcome<()> {
        self.answer("engage")
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let planes = self.planes.map_err(|()| ProviderError::unreachable("inspect", "no route"))?;
        Ok(FenceReading {
            address: Some(ResourceAddress::new(self.resource)),
            identity: None,
            lineage: Some(Lineage { system: SystemId::new("s"), generation: 1 }),
            planes,
            silent: false,
            end: None,
            lapses_at: None,
            unread: Vec::new(),
            detail: self.name.into(),
            at: Timestamp::default(),
        })
    }

    async fn release(&self, _order: ReleaseOrder) -> Outcome<()> {
        self.answer("release")
    }

    async fn retire(&self, _request: RetireFence) -> Outcome<()> {
        self.answer("retire")
    }

    fn travels(&self) -> bool {
        self.name.starts_with("login")
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        self.planes.map(|_| vec![self.name.to_owned()]).map_err(|()| ProviderError::unreachable("carried", "no route"))
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        let known = request.token.and_then(|token| token.part(self.name)).is_some();
        self.answer(if known { "clear what it took:" } else { "clear" })
    }

    fn poll_every(&self) -> Millis {
        Millis::new(1)
    }

    fn manual(&self, _verb: &str) -> Vec<String> {
        Vec::new()
    }
}

/// The grade of a fence changed nothing but a minimum over all fences: one that the file wants confirmed counted all the same when it was
/// only enforced.
#[test]
fn bug_the_grade_of_a_strong_fence_raised_nothing() {
    let part = |name, planes| -> Arc<dyn Fence> {
        let (answers, calls) = (Mutex::default(), std::sync::Arc::default());
        Arc::new(Part { name, planes: Ok(planes), resource: "r", answers, calls })
    };
    let graded = |name, worth, least| -> Arc<dyn Fence> {
        Arc::new(crate::contract::GradedFence::new(part(name, Planes::all(worth)), least))
    };
    let read = |fence: &dyn Fence| fence.inspect().now_or_never().unwrap().unwrap();
    for (worth, least, counts) in [
        (Grade::Confirmed, Grade::Enforced, Grade::Confirmed),
        (Grade::Enforced, Grade::Enforced, Grade::Enforced),
        (Grade::Enforced, Grade::Confirmed, Grade::Partial),
        (Grade::Unconfirmable, Grade::Confirmed, Grade::Unconfirmable),
    ] {
        let fence = graded("stop", worth, least);
        assert_eq!((read(fence.as_ref()).grade(), fence.promises().grade()), (counts, counts), "{worth} of {least}");
    }
    let weak = read(graded("stop", Grade::Enforced, Grade::Confirmed).as_ref());
    assert_eq!(weak.engaged(), Tri::Yes, "what is engaged is not taken for released");
    assert_eq!(weak.detail, "stop (worth `enforced`, counts from `confirmed` on)");
    let set = |network| {
        FenceSet::new(vec![
            graded("stop", Grade::Enforced, Grade::Confirmed),
            graded("network", network, Grade::Enforced),
        ])
    };
    assert_eq!(read(&set(Grade::Enforced)).grade(), Grade::Enforced, "the other fence decides");
    assert_eq!(read(&set(Grade::Partial)).grade(), Grade::Partial);
}

fn new_sessions() -> Planes {
    Planes { new_sessions: Grade::Confirmed, ..Planes::default() }
}

fn open_sessions() -> Planes {
    Planes { open_sessions: Grade::Enforced, ..Planes::default() }
}

type Calls = std::sync::Arc<Mutex<Vec<String>>>;

/// Name, planes (or silence), resource, answers.
type Wanted = (&'static str, Result<Planes, ()>, &'static str, Vec<Outcome<()>>);

fn set(parts: [Wanted; 2]) -> (FenceSet, Calls) {
    let calls = Calls::default();
    let part = |(name, planes, resource, answers): (_, _, _, Vec<_>)| {
        let (answers, calls) = (Mutex::new(answers), Calls::clone(&calls));
        Arc::new(Part { name, planes, resource, answers, calls }) as Arc<dyn Fence>
    };
    (FenceSet::new(parts.into_iter().map(part).collect()), calls)
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn retire(set: &FenceSet) -> Outcome<()> {
    let target = Target {
        member: "a".into(),
        address: ResourceAddress::new("r"),
        identity: None,
        lineage: Lineage { system: SystemId::new("s"), generation: 2 },
        receives: None,
    };
    let key = RunId::new(crate::base::GroupName::new("g"), 1).key(&crate::base::Digest::zero(), &NodeId::new("n"));
    now(set.retire(RetireFence { target, token: now(set.prepare()).unwrap(), key }))
}

fn clear(set: &FenceSet, token: Option<FenceToken>) -> Outcome<()> {
    let lineage = |generation| Lineage { system: SystemId::new("s"), generation };
    let target = Target {
        member: "b".into(),
        address: ResourceAddress::new("r"),
        identity: None,
        lineage: lineage(2),
        receives: None,
    };
    let key = RunId::new(crate::base::GroupName::new("g"), 1).key(&crate::base::Digest::zero(), &NodeId::new("n"));
    now(set.clear(ClearFence { target, was: lineage(1), token, key }))
}

/// Only what travels is cleared, with its own part of a token, whichever set made that.
#[test]
fn a_set_clears_the_parts_that_travel() {
    let part = |name| (name, Ok(new_sessions()), "r", vec![]);
    let (mixed, calls) = set([part("login"), part("stop")]);
    assert!(mixed.travels());
    assert!(!set([part("hba"), part("stop")]).0.travels());
    assert_eq!(now(mixed.carried()).unwrap(), ["login"]);
    let of_another_set = now(set([part("hba"), part("login")]).0.prepare()).unwrap();
    assert_eq!(clear(&mixed, Some(of_another_set)), Outcome::Done(()));
    assert_eq!(clear(&mixed, Some(now(set([part("hba"), part("stop")]).0.prepare()).unwrap())), Outcome::Done(()));
    assert_eq!(clear(&mixed, None), Outcome::Done(()));
    assert_eq!(*calls.lock().unwrap(), ["clear what it took: login", "clear login", "clear login"]);
}

/// A part that cannot be cleared or read is not passed over because another one could.
#[test]
fn a_set_is_clear_when_each_part_is() {
    let refuses = vec![Outcome::refused("no right")];
    let (half, calls) = set([("login", Ok(new_sessions()), "r", refuses), ("login-b", Err(()), "r", vec![])]);
    assert!(matches!(clear(&half, None), Outcome::NotDone(reason) if reason.cause.to_string() == "login: no right"));
    assert_eq!(*calls.lock().unwrap(), ["clear login", "clear login-b"]);
    assert!(now(half.carried()).is_err());
}

/// Two parts complement each other plane by plane: neither lifts a plane that it does not close.
#[test]
fn bug_a_set_is_worth_what_its_parts_are_on_each_plane() {
    let (both, _) = set([("hba", Ok(new_sessions()), "r", vec![]), ("kill", Ok(open_sessions()), "r", vec![])]);
    let reading = now(both.inspect()).unwrap();
    assert_eq!(reading.planes, Planes { open_sessions: Grade::Enforced, ..new_sessions() });
    assert_eq!(reading.grade(), Grade::Unconfirmable, "jobs and a restart are open");
}

/// A part that is out of reach takes its planes away from what the set offers, and is named.
#[test]
fn a_set_offers_what_its_parts_can_keep() {
    let (both, _) = set([("hba", Ok(new_sessions()), "r", vec![]), ("far", Ok(open_sessions()), "r", vec![])]);
    let dark = Reach { management: Tri::No, server: Tri::Yes };
    assert_eq!(both.promises(), Planes { open_sessions: Grade::Enforced, ..new_sessions() });
    assert_eq!(both.offers(dark), new_sessions());
    assert_eq!(both.out_of_reach(dark), ["far"]);
    assert_eq!(both.out_of_reach(Reach::ALL), [""; 0]);
}

/// A set knows what stood before only if every part does.
#[test]
fn a_set_knows_what_each_part_knows() {
    let known = |name| {
        now(set([("hba", Ok(new_sessions()), "r", vec![]), (name, Ok(new_sessions()), "r", vec![])]).0.prepare())
    };
    assert!(known("stop").unwrap().known);
    assert!(!known("unread").unwrap().known);
}

/// Readings that speak of two members are worth nothing together.
#[test]
fn bug_readings_of_different_members_do_not_combine() {
    let all = Planes::all(Grade::Confirmed);
    let (mixed, _) = set([("hba", Ok(all), "r", vec![]), ("stop", Ok(all), "other", vec![])]);
    assert_eq!(now(mixed.inspect()).unwrap().planes, Planes::default());
}

/// One part was released, the other could not be asked: that read as released, with the fence still closed.
#[test]
fn bug_a_part_that_is_silent_is_not_released() {
    let (half, _) = set([("hba", Ok(Planes::default()), "r", vec![]), ("stop", Err(()), "r", vec![])]);
    let reading = now(half.inspect()).unwrap();
    assert_eq!(reading.engaged(), Tri::Unknown);
    assert!(reading.unread[0].starts_with("stop: "), "{:?}", reading.unread);
    let (open, _) = set([("hba", Ok(Planes::default()), "r", vec![]), ("stop", Ok(Planes::default()), "r", vec![])]);
    assert_eq!(now(open.inspect()).unwrap().engaged(), Tri::No);
}

/// The first part answered "accepted", and the others were never told.
#[test]
fn bug_every_part_is_told_whatever_the_others_answer() {
    let answers = [
        (vec![Outcome::accepted()], vec![], "accepted"),
        (vec![Outcome::refused("no")], vec![Outcome::accepted()], "refused"),
        (vec![Outcome::unknown("lost")], vec![Outcome::refused("no")], "unknown"),
        (vec![], vec![Outcome::Conflict(crate::contract::Cause::new("stranger"))], "conflict"),
        (vec![], vec![], "done"),
    ];
    for (last, first, want) in answers {
        let (parts, calls) = set([("hba", Ok(new_sessions()), "r", first), ("stop", Ok(open_sessions()), "r", last)]);
        let outcome = retire(&parts);
        let word = match &outcome {
            Outcome::Done(()) => "done",
            Outcome::Accepted(_) => "accepted",
            Outcome::NotDone(_) => "refused",
            Outcome::Unknown(_) => "unknown",
            Outcome::Conflict(_) => "conflict",
        };
        assert_eq!(word, want, "{outcome:?}");
        assert_eq!(*calls.lock().unwrap(), ["retire stop", "retire hba"]);
    }
}
