//! Runs a runbook under every fault at every call, and says which schedule breaks a law.
//!
//! ```text
//!   baseline run ──► list of calls and appends ──► every (position, fault) ──► run, crash, resume ──► laws ──► Verdict
//! ```

mod evidence;
mod people;
mod stage;
mod verdict;

use std::{collections::BTreeSet, fmt, sync::Arc};

use dr_core::{
    Catalog, Runbook,
    contract::{Providers, Rows},
};

pub use stage::{RunEnd, Stage};
pub use verdict::{Failure, Verdict};

use crate::{
    cloud::{CallKind, CallRecord, Fault, FaultPlan, SimCloud},
    truth::{EndState, MemberTruth, Truth},
    world::{Flavour, Law, Setup, Violation},
};

type Prepare = Arc<dyn Fn(&SimCloud) + Send + Sync>;
type Answer = Arc<dyn Fn(&MemberTruth<'_>) -> Rows + Send + Sync>;
type Through = Arc<dyn Fn(Arc<dyn Providers>) -> Arc<dyn Providers> + Send + Sync>;
type OwnLaw<T> = Arc<dyn Fn(&Truth<'_>, &T) -> bool + Send + Sync>;

/// Explores a runbook in a simulated world.
///
/// `T` is what the author's own part of the world is: `()`, or what [`Explorer::outside`] made.
pub struct Explorer<T = ()> {
    setup: Setup,
    runbook: Arc<dyn Runbook>,
    outside: Arc<dyn Fn(&SimCloud) -> T + Send + Sync>,
    inside: Arc<dyn Fn(&T) -> Catalog + Send + Sync>,
    through: Option<Through>,
    given: Vec<Prepare>,
    noticed_after: dr_core::Millis,
    then: Vec<Prepare>,
    answers: Vec<(String, Answer)>,
    always: Vec<(String, OwnLaw<T>)>,
    finally: Vec<(String, OwnLaw<T>)>,
    may_park: BTreeSet<(String, Fault)>,
    expected: &'static str,
}

impl<T> fmt::Debug for Explorer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explorer").field("setup", &self.setup).field("runbook", &self.runbook).finish_non_exhaustive()
    }
}

/// One played schedule.
#[derive(Clone, Debug)]
pub struct Played {
    /// How it ended.
    pub end: RunEnd,
    /// Every call.
    pub calls: Vec<CallRecord>,
    /// How often the journal was appended to.
    pub appends: u64,
    /// How often people were asked, each park and each question that was asked again included.
    pub asked: usize,
    /// The loss that the run bounded.
    pub loss: dr_core::contract::Loss,
    /// How everything is at the end.
    pub state: EndState,
    /// The laws that were broken.
    pub violations: Vec<Violation>,
    began: i64,
}

impl Explorer<()> {
    /// Explores `runbook` in the world of `setup`, with the built-in step kinds.
    #[must_use]
    pub fn new(setup: Setup, runbook: impl Runbook + 'static) -> Self {
        Self {
            setup,
            runbook: Arc::new(runbook),
            outside: Arc::new(|_| ()),
            inside: Arc::new(|()| Catalog::built_in()),
            through: None,
            given: Vec::new(),
            noticed_after: dr_core::seconds(2),
            then: Vec::new(),
            answers: Vec::new(),
            always: Vec::new(),
            finally: Vec::new(),
            may_park: BTreeSet::new(),
            expected: RunEnd::SUCCESS,
        }
    }

    /// What belongs to the world and survives a crash: services of one's own. Comes before laws that speak of it.
    #[must_use]
    pub fn outside<T>(self, make: impl Fn(&SimCloud) -> T + Send + Sync + 'static) -> Explorer<T> {
        Explorer {
            setup: self.setup,
            runbook: self.runbook,
            outside: Arc::new(make),
            inside: Arc::new(|_| Catalog::built_in()),
            through: self.through,
            given: self.given,
            noticed_after: self.noticed_after,
            then: self.then,
            answers: self.answers,
            always: Vec::new(),
            finally: Vec::new(),
            may_park: self.may_park,
            expected: self.expected,
        }
    }
}

impl<T: Send + Sync + 'static> Explorer<T> {
    /// What belongs to the process and is made anew after every crash: the step kinds.
    #[must_use]
    pub fn inside(mut self, make: impl Fn(&T) -> Catalog + Send + Sync + 'static) -> Self {
        self.inside = Arc::new(make);
        self
    }

    /// Without faults the runbook is meant to turn back or to be refused: that is what is explored here. Otherwise a run that does not
    /// succeed breaks [`Law::L3`], because every comparison with it would prove nothing.
    #[must_use]
    pub fn expect_refusal(mut self) -> Self {
        self.expected = RunEnd::TURNED_BACK;
        self
    }

    /// Without faults the runbook is meant to ask people what to do: that is what is explored here.
    #[must_use]
    pub fn expect_parking(mut self) -> Self {
        self.expected = RunEnd::PARKED;
        self
    }

    /// What every process puts between itself and the providers: a decorator, or a backend with a planted bug.
    #[must_use]
    pub fn through(mut self, wrap: impl Fn(Arc<dyn Providers>) -> Arc<dyn Providers> + Send + Sync + 'static) -> Self {
        self.through = Some(Arc::new(wrap));
        self
    }

    /// With another flavour of provider.
    #[must_use]
    pub fn on(mut self, flavour: Flavour) -> Self {
        self.setup.flavour = flavour;
        self
    }

    /// What is so before the plan is made: a dead primary, an outage.
    #[must_use]
    pub fn given(mut self, prepare: impl Fn(&SimCloud) + Send + Sync + 'static) -> Self {
        self.given.push(Arc::new(prepare));
        self
    }

    /// How long after what is [given](Self::given) somebody makes the plan; two seconds if this is not said.
    #[must_use]
    pub fn noticed_after(mut self, time: dr_core::Millis) -> Self {
        self.noticed_after = time;
        self
    }

    /// What happens between plan and start.
    #[must_use]
    pub fn then(mut self, happens: impl Fn(&SimCloud) + Send + Sync + 'static) -> Self {
        self.then.push(Arc::new(happens));
        self
    }

    /// What a member answers to the named query.
    #[must_use]
    pub fn answer(mut self, query: &str, answer: impl Fn(&MemberTruth<'_>) -> Rows + Send + Sync + 'static) -> Self {
        self.answers.push((query.to_owned(), Arc::new(answer)));
        self
    }

    /// A law of one's own, checked after every change.
    #[must_use]
    pub fn always(mut self, law: &str, holds: impl Fn(&Truth<'_>, &T) -> bool + Send + Sync + 'static) -> Self {
        self.always.push((law.to_owned(), Arc::new(holds)));
        self
    }

    /// A law of one's own about the end of a run that succeeded.
    #[must_use]
    pub fn finally(mut self, law: &str, holds: impl Fn(&Truth<'_>, &T) -> bool + Send + Sync + 'static) -> Self {
        self.finally.push((law.to_owned(), Arc::new(holds)));
        self
    }

    /// This fault at this call may park the run, although it is transient. A name without a number means every call of this name.
    #[must_use]
    pub fn may_park(mut self, call: &str, fault: Fault) -> Self {
        self.may_park.insert((call.to_owned(), fault));
        self
    }

    /// What the failing test's replay line begins with: group, flavour and runbook.
    #[must_use]
    pub fn scenario(&self) -> String {
        format!("{}/{}/{}", self.setup.group, self.setup.flavour, self.runbook.id())
    }

    /// Plays one schedule.
    #[must_use]
    pub fn play(&self, plan: &FaultPlan) -> Played {
        let stage = Stage::new(self.setup.clone()).through(self.through.clone());
        let own = Arc::new((self.outside)(&stage.cloud));
        for (query, answer) in &self.answers {
            let answer = Arc::clone(answer);
            stage.cloud.answer(query, move |member| answer(member));
        }
        for (name, law) in &self.always {
            let (law, own) = (Arc::clone(law), Arc::clone(&own));
            stage.cloud.always(name, move |truth| law(truth, &own));
        }
        self.given.iter().for_each(|prepare| prepare(&stage.cloud));
        stage.pass(self.noticed_after);
        let catalog = || (self.inside)(&own);
        let end = match stage.plan(self.runbook.as_ref(), &catalog()) {
            Ok(verified) => {
                self.then.iter().for_each(|happens| happens(&stage.cloud));
                stage.faults(plan);
                stage.drive(&verified, &catalog)
            }
            Err(refusal) => {
                stage.cloud.violate(Law::L2, &format!("the plan was refused: {refusal}"));
                RunEnd::Failed(refusal.to_string())
            }
        };
        if end.class() == "success" {
            for (name, law) in &self.finally {
                if !stage.cloud.look(|truth| law(truth, &own)) {
                    stage.cloud.violate(Law::Own(name.clone()), name);
                }
            }
        }
        let (state, began) = stage.cloud.look(|truth| (truth.end_state(), truth.world.began));
        let violations = stage.cloud.violations();
        let calls = stage.cloud.calls();
        Played {
            end,
            calls,
            appends: stage.journal.appends(),
            asked: stage.asked(),
            loss: stage.reported_loss(),
            state,
            violations,
            began,
        }
    }

    /// All positions at which a fault can strike a run like `baseline`, the appends of the journal included. Of the looks of one
    /// wait (the same call again and again), the first two and the last one are taken: those between are alike.
    #[must_use]
    pub fn positions(&self, baseline: &Played) -> Vec<(String, Fault)> {
        let mut positions = Vec::new();
        for call in baseline.calls.iter().filter(|call| !is_middle_look(call, &baseline.calls)) {
            let suited = Fault::OF_CALLS.into_iter().filter(|fault| fault.suits(call.kind));
            positions.extend(suited.map(|fault| (call.name.clone(), fault)));
            if call.kind != CallKind::Read {
                positions.extend(Fault::OF_THE_WORLD.into_iter().map(|fault| (call.name.clone(), fault)));
            }
        }
        positions.extend(append_positions(baseline));
        positions
    }

    /// All positions at which a crash makes a difference: before and after each change, so also inside compound verbs, and before
    /// and after each append.
    #[must_use]
    pub fn crash_positions(&self, baseline: &Played) -> Vec<(String, Fault)> {
        let changes = baseline.calls.iter().filter(|call| call.kind != CallKind::Read);
        let around =
            |call: &CallRecord| [Fault::CrashBefore, Fault::CrashAfter].map(|fault| (call.name.clone(), fault));
        changes.flat_map(around).chain(append_positions(baseline)).collect()
    }

    /// Plays the run without faults, and with every single fault at every position.
    pub fn single_faults(&self) -> Verdict {
        self.explore(|baseline| {
            let positions = self.positions(baseline).into_iter();
            positions.map(|(call, fault)| FaultPlan::one(call, fault)).collect()
        })
    }

    /// Plays every `nth` of the single faults: a sample for tests that must be quick.
    pub fn every_nth_fault(&self, nth: usize) -> Verdict {
        self.explore(|baseline| {
            let positions = self.positions(baseline).into_iter().step_by(nth.max(1));
            positions.map(|(call, fault)| FaultPlan::one(call, fault)).collect()
        })
    }

    /// The kill matrix: one crash at each of [`Explorer::crash_positions`], then a new engine resumes.
    pub fn crashes(&self) -> Verdict {
        self.explore(|baseline| {
            let positions = self.crash_positions(baseline).into_iter();
            positions.map(|(call, fault)| FaultPlan::one(call, fault)).collect()
        })
    }

    /// Plays every `nth` kill of the matrix: a sample for tests that must be quick.
    pub fn every_nth_crash(&self, nth: usize) -> Verdict {
        self.explore(|baseline| {
            let positions = self.crash_positions(baseline).into_iter().step_by(nth.max(1));
            positions.map(|(call, fault)| FaultPlan::one(call, fault)).collect()
        })
    }

    /// Plays a second engine that takes over at each call while the first one stands still and wakes up later.
    pub fn two_orchestrators(&self) -> Verdict {
        self.explore(|baseline| {
            let calls = baseline.calls.iter().filter(|call| !is_middle_look(call, &baseline.calls));
            calls.map(|call| FaultPlan::one(call.name.clone(), Fault::Rival)).collect()
        })
    }

    /// Plays every pair of faults at changes and appends.
    pub fn fault_pairs(&self) -> Verdict {
        self.explore(|baseline| {
            let reads: BTreeSet<&str> = baseline
                .calls
                .iter()
                .filter(|call| call.kind == CallKind::Read)
                .map(|call| call.name.as_str())
                .collect();
            let positions = self.positions(baseline);
            let positions: Vec<&(String, Fault)> =
                positions.iter().filter(|(call, _)| !reads.contains(call.as_str())).collect();
            let mut plans = Vec::new();
            for (nth, first) in positions.iter().enumerate() {
                for second in positions.iter().skip(nth.saturating_add(1)).filter(|second| second.0 != first.0) {
                    plans.push(FaultPlan::one(first.0.clone(), first.1).and(second.0.clone(), second.1));
                }
            }
            plans
        })
    }

    /// Plays `count` schedules of one to three faults drawn from `seed`.
    pub fn random(&self, seed: u64, count: usize) -> Verdict {
        self.explore(|baseline| {
            let positions = self.positions(baseline);
            let mut state = seed;
            let mut draw = |below: usize| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut x = state;
                x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                x ^= x >> 31;
                usize::try_from(x % u64::try_from(below.max(1)).unwrap_or(1)).unwrap_or(0)
            };
            (0..count)
                .map(|_| {
                    let faults = draw(3).saturating_add(1);
                    (0..faults).fold(FaultPlan::none(), |plan, _| match positions.get(draw(positions.len())) {
                        Some((call, fault)) => plan.and(call.clone(), *fault),
                        None => plan,
                    })
                })
                .collect()
        })
    }

    /// Plays the schedule of a replay line.
    ///
    /// # Errors
    /// The line names another scenario, or a fault that does not exist.
    pub fn replay(&self, line: &str) -> Result<Verdict, String> {
        let (scenario, faults) = line.trim().rsplit_once(' ').unwrap_or_else(|| (line.trim(), ""));
        if scenario != self.scenario() {
            return Err(format!("the line is for `{scenario}`, this is `{}`", self.scenario()));
        }
        let plan: FaultPlan = faults.parse().map_err(|error: crate::BadFault| error.to_string())?;
        Ok(self.judge_all(|_| vec![plan]))
    }

    /// With `DR_REPLAY` set for this scenario, only that schedule is played.
    fn explore(&self, plans: impl FnOnce(&Played) -> Vec<FaultPlan>) -> Verdict {
        let wanted = std::env::var("DR_REPLAY").ok().and_then(|line| self.replay(&line).ok());
        wanted.unwrap_or_else(|| self.judge_all(plans))
    }

    fn judge_all(&self, plans: impl FnOnce(&Played) -> Vec<FaultPlan>) -> Verdict {
        let baseline = self.play(&FaultPlan::none());
        let mut verdict = Verdict {
            scenario: self.scenario(),
            schedules: 1,
            failures: Vec::new(),
            ends: [(baseline.end.class(), 1)].into(),
            parked: Vec::new(),
        };
        verdict.failures.extend(self.judge(&FaultPlan::none(), &baseline, &baseline));
        if verdict.is_clean() && baseline.end.class() != self.expected {
            verdict.failures.push(self.unexpected(&baseline));
        }
        if !verdict.is_clean() {
            return verdict;
        }
        for plan in plans(&baseline) {
            let played = self.play(&plan);
            verdict.schedules = verdict.schedules.saturating_add(1);
            let count = verdict.ends.entry(played.end.class()).or_insert(0);
            *count = count.saturating_add(1);
            if let RunEnd::Parked(ask) = &played.end {
                verdict.parked.push((plan.clone(), ask.question.clone()));
            }
            if let Some(failure) = self.judge(&plan, &played, &baseline) {
                verdict.failures.push(self.shrink(failure, &baseline));
            }
        }
        verdict
    }

    /// The run without faults ends otherwise than it is meant to.
    fn unexpected(&self, baseline: &Played) -> Failure {
        let text = format!(
            "without any fault it ends as `{}`, not as `{}`; where that is meant, say `expect_refusal` or `expect_parking`",
            baseline.end.class(),
            self.expected
        );
        Failure {
            law: Law::L3,
            text,
            plan: FaultPlan::none(),
            end: baseline.end.words(),
            calls: baseline.calls.len(),
            excerpt: Vec::new(),
            began: baseline.began,
        }
    }

    /// Leaves faults out as long as the same law is still broken.
    fn shrink(&self, mut failure: Failure, baseline: &Played) -> Failure {
        loop {
            let calls: Vec<String> = failure.plan.iter().map(|(call, _)| call.to_owned()).collect();
            let smaller = calls.iter().filter(|_| calls.len() > 1).find_map(|call| {
                let plan = failure.plan.without(call);
                let found = self.judge(&plan, &self.play(&plan), baseline)?;
                (found.law == failure.law).then_some(found)
            });
            match smaller {
                Some(found) => failure = found,
                None => return failure,
            }
        }
    }

    fn judge(&self, plan: &FaultPlan, played: &Played, baseline: &Played) -> Option<Failure> {
        let fail = |law: Law, text: String, excerpt: Vec<crate::TruthLine>| Failure {
            law,
            text,
            plan: plan.clone(),
            end: played.end.words(),
            calls: played.calls.len(),
            excerpt,
            began: played.began,
        };
        if let Some(broken) = played.violations.first() {
            return Some(fail(broken.law.clone(), broken.text.clone(), broken.excerpt.clone()));
        }
        let (class, expected) = (played.end.class(), baseline.end.class());
        let passes =
            |call: &str, fault: Fault| fault.transient() && !(fault == Fault::Slow && self.setup.outlasts(call));
        let transient = plan.len() <= 1 && plan.iter().all(|(call, fault)| passes(call, fault));
        let declared = plan.iter().all(|(call, fault)| {
            self.may_park.iter().any(|(named, kind)| {
                *kind == fault
                    && (named == call || call.strip_prefix(named.as_str()).is_some_and(|rest| rest.starts_with('#')))
            })
        });
        if transient && class != expected && !(declared && class == "parked") {
            let text = format!("one transient fault turns {expected} into {class}");
            return Some(fail(Law::L3, text, Vec::new()));
        }
        let crash = plan.iter().all(|(_, fault)| matches!(fault, Fault::CrashBefore | Fault::CrashAfter));
        if crash && class == expected && played.state != baseline.state {
            let text = format!("without the crash it ends as {:?}, with it as {:?}", baseline.state, played.state);
            return Some(fail(Law::S12, text, Vec::new()));
        }
        None
    }
}

fn is_middle_look(call: &CallRecord, calls: &[CallRecord]) -> bool {
    let number = |name: &str| name.rsplit_once('#').and_then(|(_, number)| number.parse::<u64>().ok()).unwrap_or(0);
    let verb = |name: &str| name.rsplit_once('#').map_or(0, |(verb, _)| verb.len());
    let same = |other: &&CallRecord| other.name.get(..verb(&other.name)) == call.name.get(..verb(&call.name));
    let last = calls.iter().filter(same).map(|other| number(&other.name)).max().unwrap_or(0);
    call.kind == CallKind::Read && number(&call.name) > 2 && number(&call.name) < last
}

fn append_positions(baseline: &Played) -> impl Iterator<Item = (String, Fault)> + use<> {
    let appends = 1..=baseline.appends;
    appends
        .flat_map(|nth| [Fault::CrashBefore, Fault::CrashAfter].map(|fault| (format!("journal.append#{nth}"), fault)))
}

/// Ready-made worlds.
pub mod sim {
    use crate::world::{Setup, Timing};

    /// The group `group` with the primary `primary` and the standby `standby`: everything takes milliseconds, three clients write.
    #[must_use]
    pub fn pair(group: &str, primary: &str, standby: &str) -> Setup {
        Setup::pair(group, primary, standby).fast().timing(Timing::brisk()).writers(3)
    }
}
