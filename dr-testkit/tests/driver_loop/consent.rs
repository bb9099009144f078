//! Consent: who may say yes, to what, until when, and what makes it void (DESIGN section 6, E05).

use std::sync::Arc;

use dr_core::{
    APPROVE, Actor, Answer, Input, Millis, StepExt,
    base::{Digest, Role},
    contract::{Fact, Loss, Tolerance},
    millis, minutes,
    run::{
        Event,
        EventKind::{Answered, Asked, Finished, Intended, NotDone, Voided},
        NodePhase, Phase, REJECT, Request, RunOutcome,
    },
    seconds,
};

use crate::{
    rig::{Ended, Rig, asked, fact, person, policy},
    stubborn::Stubborn,
    world::{AskPeople, Check, Fate, Promote, Stake, Switches, Turn},
};

/// People are asked, then `a` is switched on.
fn rig(ask: AskPeople) -> Rig {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", ask);
        plan.add("a", Turn::on("a").after(&ask));
    });
    rig.world.facts(vec![fact("writer", "neu")]);
    rig
}

fn wait_asked(rig: &Rig, times: usize) {
    rig.wait("a question", |rig| rig.begun() && rig.count(Asked) == times);
}

fn begin(rig: &Rig) -> Ended {
    let ended = rig.engine().spawn_start();
    wait_asked(rig, 1);
    ended
}

fn lag(number: u64) -> Fact {
    let text = format!("{number} ms");
    let tolerance = Tolerance::AtMost(seconds(2));
    Fact { tolerance, number: Some(millis(number)), ..fact("lag", &text) }
}

fn succeeds(rig: &Rig, ended: &Ended) {
    assert_eq!(rig.wait_end(ended).unwrap(), RunOutcome::Succeeded);
    rig.assert_sound();
}

fn refused(rig: &Rig, ended: &Ended, why: &str) {
    let outcome = rig.wait_end(ended).unwrap();
    assert!(matches!(&outcome, RunOutcome::Refused { reason } if reason.contains(why)), "{outcome:?}");
    assert_eq!(rig.world.sent(), [], "nothing is touched");
}

#[test]
fn nothing_is_sent_before_people_agree() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.rt.pass(minutes(30)).unwrap();
    assert_eq!(rig.world.sent(), []);
    rig.answer("1", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
    let notices = rig.world.notices();
    assert!(notices.iter().any(|notice| notice.text.contains("switch it on?")), "people are told: {notices:?}");
}

/// An answer quotes the digest of a question that exists; before it is asked there is none.
#[test]
fn an_answer_before_the_question_is_turned_away() {
    let rig = Rig::with(asked(), |plan| {
        let first = plan.add("first", Check::on("b"));
        let ask = plan.add("ask", AskPeople::of(1).after(&first));
        plan.add("a", Turn::on("a").after(&ask));
    });
    let ended = rig.engine().spawn_start();
    rig.wait_node("first", NodePhase::Looking);
    rig.post("early", &Request::Answer(Answer::choose(APPROVE, Digest::zero(), person("ana"))));
    rig.rt.pass(seconds(5)).unwrap();
    assert_eq!(rig.turned_away(), ["DR302  the run asks nothing now"]);
    rig.world.set("b", true);
    wait_asked(&rig, 1);
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.world.sent(), [], "the early answer does not count later");
    rig.answer("1", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

#[test]
fn an_answer_while_no_engine_lives_counts_when_one_resumes() {
    let rig = rig(AskPeople::of(1));
    let first = rig.engine();
    drop(first.spawn_start());
    wait_asked(&rig, 1);
    first.die();
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(minutes(10)).unwrap();
    assert_eq!(rig.count(Answered), 0, "nobody lives who could see it");
    let second = rig.engine();
    assert_eq!(second.run(second.resume()), Ok(RunOutcome::Succeeded));
    assert_eq!(rig.count(Answered), 1);
    rig.assert_sound();
}

#[test]
fn the_same_person_twice_is_one_person() {
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.answer("2", APPROVE, &person("ana"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.turned_away(), ["DR304  ana has answered already; another person must"]);
    assert_eq!(rig.world.sent(), []);
    rig.answer("3", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
}

/// The requester took another name by a file of his own, and approved his own run; a second name made him a quorum of two.
#[test]
fn bug_another_name_makes_no_other_person() {
    let known = |name: &str, subject: &str| Actor::local(name).with_role("dba").authenticated("a test", subject);
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    let requester = rig.state().by;
    let again = Actor { name: "bob".into(), ..requester };
    rig.answer("1", APPROVE, &again);
    rig.answer("2", APPROVE, &known("ana", "1002"));
    rig.answer("3", APPROVE, &known("ann", "1002"));
    rig.rt.pass(minutes(1)).unwrap();
    let away = [
        "DR305  bob asked for this run, so others must approve",
        "DR304  ann has answered already; another person must",
    ];
    assert_eq!(rig.turned_away(), away);
    assert_eq!(rig.world.sent(), []);
    // Two people may have one name: it is shown, and decides nothing.
    rig.answer("4", APPROVE, &known("ana", "1003"));
    succeeds(&rig, &ended);
}

#[test]
fn two_people_whose_identity_nobody_checked_are_one() {
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &Actor::local("ana"));
    rig.answer("2", APPROVE, &Actor::local("ben"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.turned_away(), ["DR304  ben has answered already; another person must"]);
    assert_eq!(rig.world.sent(), []);
    rig.answer("3", APPROVE, &person("cem"));
    succeeds(&rig, &ended);
}

#[test]
fn a_question_that_nobody_answers_ends_the_run_with_nothing_touched() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    refused(&rig, &ended, "nobody answered until 2026-11-02T04:12:00.000Z");
    assert!(rig.now() >= minutes(60) && rig.now() < minutes(61), "{:?}", rig.now());
}

#[test]
fn an_answer_after_the_question_expired_does_not_count() {
    let rig = rig(AskPeople::of(1));
    let first = rig.engine();
    drop(first.spawn_start());
    wait_asked(&rig, 1);
    first.die();
    rig.rt.pass(minutes(61)).unwrap();
    rig.answer("late", APPROVE, &person("ana"));
    let ended = rig.engine().spawn_resume();
    refused(&rig, &ended, "nobody answered until");
    assert!(rig.turned_away().concat().contains("DR306"), "{:?}", rig.turned_away());
}

/// DR305.
#[test]
fn whoever_asked_for_the_run_cannot_agree_to_it() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("mira"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.turned_away(), ["DR305  mira asked for this run, so others must approve"]);
    assert_eq!(rig.world.sent(), []);
    rig.answer("2", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

#[test]
fn an_answer_to_another_question_does_not_count() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.post("1", &Request::Answer(Answer::choose(APPROVE, Digest::new([7; 32]), person("ana"))));
    rig.rt.pass(minutes(1)).unwrap();
    let away = rig.turned_away();
    assert!(away.concat().starts_with("DR301"), "an answer to another question counted: turned away was {away:?}");
    assert_eq!(rig.world.sent(), []);
    rig.answer("2", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

#[test]
fn a_word_that_is_no_choice_does_not_count() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.answer("1", "yes", &person("ana"));
    rig.rt.pass(minutes(1)).unwrap();
    assert!(rig.turned_away().concat().starts_with("DR307"), "{:?}", rig.turned_away());
    rig.answer("2", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

/// What people are shown of a loss that grows is as of now. Whoever takes longer than was said is asked again, with what it has grown to,
/// and nothing is touched before.
#[test]
fn bug_a_loss_that_outgrew_its_consent_is_bounded_and_asked_about_anew() {
    for (takes, asks) in [(minutes(4), 1), (minutes(6), 2)] {
        let rig = Rig::with(asked(), |plan| {
            let stake = plan.add("stake", Stake { answer: minutes(5) });
            let ask = plan.add("ask", AskPeople { loss: Some(Input::of(&stake)), ..AskPeople::of(1) });
            plan.add("a", Turn::on("a").after(&ask));
        });
        rig.world.facts(vec![fact("writer", "neu")]);
        let ended = begin(&rig);
        let shown = |rig: &Rig| match rig.state().ask.unwrap().asked.unwrap().now {
            Loss::AtMost { time, .. } => time,
            loss @ (Loss::Nothing | Loss::Unknown { .. }) => panic!("{loss:?}"),
        };
        assert!(shown(&rig) < seconds(1), "what would be lost now");
        rig.rt.pass(takes).unwrap();
        rig.answer("1", APPROVE, &person("ana"));
        if asks == 2 {
            wait_asked(&rig, 2);
            assert!(shown(&rig) >= takes, "bounded anew: {:?}", shown(&rig));
            assert_eq!(rig.world.sent(), []);
            rig.answer("2", APPROVE, &person("ana"));
        }
        succeeds(&rig, &ended);
        assert_eq!(rig.count(Asked), asks);
    }
}

#[test]
fn a_role_that_is_needed_is_needed() {
    let rig = rig(AskPeople { roles: vec![Role::new("dba")], ..AskPeople::of(1) });
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana").with_role("support"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.turned_away(), ["DR303  this needs one of dba; ana has none of them"]);
    assert_eq!(rig.world.sent(), []);
    rig.answer("2", APPROVE, &person("ben").with_role("dba"));
    succeeds(&rig, &ended);
}

/// A step beside the question ended: the question was wiped, with the answers that it had.
#[test]
fn bug_a_step_that_ends_meanwhile_leaves_the_question_and_its_answers() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople::of(2));
        let seen = plan.add("seen", Check::on("b").within(seconds(60)));
        plan.add("a", Turn::on("a").after_all(&[&ask, &seen]));
    });
    rig.world.facts(vec![fact("writer", "neu")]);
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(seconds(5)).unwrap();
    rig.world.set("b", true);
    rig.wait_node("seen", NodePhase::Done);
    let state = rig.state();
    assert_eq!((state.ask.is_some(), state.given.len()), (true, 1), "the question stands, with its answer");
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    assert!(rig.state().ask.is_none(), "an answered question is none any more");
}

/// Anyone could decide about a parked run, past the promotion too: the roles of the approval were asked for by nobody.
#[test]
fn bug_a_parked_run_takes_a_decision_from_the_roles_of_its_approval_only() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople { roles: vec![Role::new("dba")], ..AskPeople::of(1) });
        let promote = plan.add("promote", Promote::on("weu").after(&ask));
        plan.add("a", Turn::on("a").after(&promote));
    });
    rig.world.facts(vec![fact("writer", "neu")]);
    rig.world.fates("weu", &[Fate::Nothing, Fate::No]);
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana").with_role("dba"));
    rig.wait_phase(Phase::Parked);
    for (id, choice) in [("2", "retry"), ("3", "hand-over")] {
        rig.answer(id, choice, &person("ben").with_role("support"));
        rig.rt.pass(minutes(1)).unwrap();
        assert_eq!(rig.state().phase, Phase::Parked, "{choice}: nobody asked ben");
    }
    let none = "DR303  this needs one of dba; ben has none of them";
    assert_eq!((rig.turned_away(), rig.world.sends("weu", true)), (vec![none.to_owned(), none.to_owned()], 2));
    rig.answer("4", "retry", &person("cem").with_role("dba"));
    succeeds(&rig, &ended);
}

#[test]
fn two_of_many_must_agree() {
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(minutes(5)).unwrap();
    assert_eq!((rig.count(Answered), rig.world.sent().len()), (1, 0));
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    let consent = rig.state().output(&"ask".into()).unwrap();
    assert_eq!(consent["given"].as_array().unwrap().len(), 2);
}

#[test]
fn the_same_request_posted_twice_is_one() {
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.answer("1", APPROVE, &person("ana"));
    rig.answer("1", APPROVE, &person("ben"));
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!((rig.count(Answered), rig.turned_away()), (1, Vec::new()));
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
}

#[test]
fn one_person_who_says_no_ends_the_run_with_nothing_touched() {
    let rig = rig(AskPeople::of(2));
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.answer("2", REJECT, &person("ben"));
    refused(&rig, &ended, "ben said no");
}

/// A no that arrives while the yes is still being acted upon is a no.
#[test]
fn bug_a_no_counts_until_the_consent_is_recorded() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.world.unreadable_facts(5);
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(seconds(2)).unwrap();
    rig.answer("2", REJECT, &person("ben"));
    refused(&rig, &ended, "ben said no");
}

/// The consent is granted; `a` is not ready yet, and meanwhile the world changes.
fn granted(ask: AskPeople, facts: Vec<Fact>) -> (Rig, Ended) {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", ask);
        // Between the question and the first change there is a look, which is done when the change begins.
        let seen = plan.add("seen", Check::off("b").after(&ask));
        plan.add("a", Turn::on("a").within(seconds(30)).after(&seen));
    });
    rig.world.facts(facts);
    rig.world.not_ready("a", 5);
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.wait_node("seen", NodePhase::Done);
    (rig, ended)
}

/// Covers: a fact that changes beyond its tolerance between the grant and the first change.
#[test]
fn bug_a_fact_that_changed_voids_the_consent_and_people_are_asked_again() {
    let (rig, ended) = granted(AskPeople::of(1), vec![fact("writer", "neu")]);
    let old = Request::Answer(Answer::choose(APPROVE, asked_digest(&rig), person("cem")));
    rig.world.facts(vec![fact("writer", "weu")]);
    wait_asked(&rig, 2);
    let diff = rig
        .events()
        .into_iter()
        .find_map(|event| if let Event::Voided { diff, .. } = event { Some(diff.join("; ")) } else { None });
    let diff = diff.unwrap();
    assert!(diff.contains("writer") && diff.contains("neu") && diff.contains("weu"), "{diff}");
    rig.post("old", &old);
    // People think for long; whoever waits for them does not lose its time by it.
    rig.rt.pass(minutes(20)).unwrap();
    assert!(rig.turned_away().concat().starts_with("DR301"), "{:?}", rig.turned_away());
    assert_eq!(rig.world.sent(), [], "the old consent is not used");
    rig.world.not_ready("a", 5);
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    assert_eq!((rig.count(Voided), rig.world.sends("a", true)), (1, 1));
}

fn asked_digest(rig: &Rig) -> Digest {
    let last = rig
        .events()
        .into_iter()
        .rev()
        .find_map(|event| if let Event::Asked { ask, .. } = event { Some(ask) } else { None });
    last.unwrap().digest().unwrap()
}

#[test]
fn a_fact_that_changed_within_its_tolerance_does_not_void_the_consent() {
    let (rig, ended) = granted(AskPeople::of(1), vec![lag(100)]);
    rig.world.facts(vec![lag(1999)]);
    succeeds(&rig, &ended);
    assert_eq!((rig.count(Voided), rig.count(Asked)), (0, 1));
}

#[test]
fn a_fact_that_grew_beyond_its_tolerance_voids_the_consent() {
    let (rig, ended) = granted(AskPeople::of(1), vec![lag(100)]);
    rig.world.facts(vec![lag(2001)]);
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!((rig.count(Voided), rig.count(Asked), rig.world.sent().len()), (1, 1, 0));
    rig.world.facts(vec![lag(50)]);
    wait_asked(&rig, 2);
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
}

/// A yes to a lag beyond its limit, or to one that nobody knows, would be void at once: nobody is asked for it over and over.
#[test]
fn bug_people_are_not_asked_for_ever_about_facts_beyond_their_limits() {
    let unknown = Fact { number: None, ..lag(0) };
    for beyond in [lag(2001), unknown] {
        let (rig, ended) = granted(AskPeople::of(1), vec![lag(100)]);
        rig.world.facts(vec![beyond]);
        refused(&rig, &ended, "beyond what the plan lets pass: lag");
        assert_eq!((rig.count(Voided), rig.count(Asked)), (1, 1));
        assert!(rig.now() < minutes(20), "{:?}", rig.now());
    }
}

#[test]
fn a_consent_that_expired_before_the_first_change_is_void() {
    let (rig, ended) = granted(AskPeople { expires_in: millis(3500), ..AskPeople::of(1) }, vec![fact("writer", "neu")]);
    wait_asked(&rig, 2);
    let voided = rig.events().into_iter().find(|event| event.kind() == Voided).unwrap();
    assert!(format!("{voided:?}").contains("the consent was good until"), "{voided:?}");
    assert_eq!(rig.world.sent(), []);
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
}

#[test]
fn a_fact_that_changed_before_the_answer_is_asked_about_again() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.world.facts(vec![fact("writer", "weu")]);
    rig.answer("1", APPROVE, &person("ana"));
    wait_asked(&rig, 2);
    rig.rt.pass(minutes(1)).unwrap();
    assert_eq!(rig.world.sent(), []);
    rig.answer("2", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

/// What was surely not done is no change: the facts are looked at again before the next attempt.
#[test]
fn bug_a_first_attempt_that_did_nothing_does_not_spend_the_look_at_the_facts() {
    let rig = rig(AskPeople::of(1));
    rig.world.fates("a", &[Fate::Busy(seconds(10))]);
    let ended = begin(&rig);
    rig.answer("1", APPROVE, &person("ana"));
    rig.wait_node("a", NodePhase::Backoff);
    rig.world.facts(vec![fact("writer", "weu")]);
    wait_asked(&rig, 2);
    assert_eq!((rig.story("a"), rig.world.sends("a", true)), (vec![Intended, NotDone], 1));
    rig.answer("2", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

/// Nobody is asked again once something has been changed: the run is under way.
#[test]
fn bug_a_consent_is_not_voided_after_the_first_change() {
    let rig = Rig::with(asked(), |plan| {
        let ask = plan.add("ask", AskPeople::of(1));
        plan.add("a", Turn::on("a").after(&ask));
        plan.add("b", Turn::on("b").after(&ask));
    });
    rig.world.facts(vec![fact("writer", "neu")]);
    let ended = begin(&rig);
    // For the answer, for `a`, for `b`, which begin together.
    rig.world.facts_take(&[Millis::ZERO, Millis::ZERO, seconds(5)]);
    rig.answer("1", APPROVE, &person("ana"));
    rig.wait_node("a", NodePhase::Done);
    rig.world.facts(vec![fact("writer", "weu")]);
    succeeds(&rig, &ended);
    assert_eq!((rig.count(Voided), rig.count(Asked)), (0, 1));
}

/// How long people think is not charged to the step that asks them.
#[test]
fn bug_a_slow_answer_leaves_time_to_read_the_facts_again() {
    let rig = rig(AskPeople::of(1));
    let ended = begin(&rig);
    rig.rt.pass(minutes(50)).unwrap();
    rig.world.unreadable_facts(3);
    rig.answer("1", APPROVE, &person("ana"));
    succeeds(&rig, &ended);
}

#[test]
fn facts_that_cannot_be_read_end_the_run_when_the_time_of_the_step_is_over() {
    let rig = rig(AskPeople::of(1));
    rig.world.unreadable_facts(u32::MAX);
    let ended = rig.engine().spawn_start();
    refused(&rig, &ended, "metrics do not answer");
    assert_eq!(rig.now(), minutes(5));
}

/// The second answer is posted while the first one is being recorded.
#[test]
fn bug_an_answer_that_is_posted_while_another_is_recorded_is_seen() {
    let mut rig = rig(AskPeople::of(2));
    let slow = Stubborn::new(&rig.journal, &rig.rt);
    rig.stubborn = Some(Arc::clone(&slow));
    let ended = begin(&rig);
    slow.takes(millis(100));
    rig.answer("1", APPROVE, &person("ana"));
    rig.rt.pass(millis(50)).unwrap();
    rig.answer("2", APPROVE, &person("ben"));
    succeeds(&rig, &ended);
    assert!(rig.now() < seconds(10), "{:?}", rig.now());
}

#[test]
fn an_automatic_plan_asks_nobody_and_records_what_it_stood_on() {
    let rig = Rig::with(policy(), |plan| {
        let ask = plan.add("ask", AskPeople::of(0));
        plan.add("a", Turn::on("a").after(&ask));
    });
    rig.world.facts(vec![lag(100)]);
    assert_eq!(rig.go(), RunOutcome::Succeeded);
    assert_eq!((rig.count(Asked), rig.story("ask")), (0, vec![Finished]));
    assert_eq!(rig.state().output(&"ask".into()).unwrap()["facts"][0]["value"], "100 ms");
}

/// Without people who could think again, facts beyond their own limits end the run instead of being granted over and over.
#[test]
fn bug_an_automatic_plan_does_not_grant_what_is_beyond_its_own_limits() {
    let rig = Rig::with(policy(), |plan| {
        let ask = plan.add("ask", AskPeople::of(0));
        plan.add("a", Turn::on("a").after(&ask));
    });
    rig.world.facts(vec![lag(9000)]);
    let ended = rig.engine().spawn_start();
    refused(&rig, &ended, "lag");
    assert!(rig.events().len() < 10, "{:?}", rig.events());
}
