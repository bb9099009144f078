//! Hand-made runs, seen as people see them (covers E06, J10).

use serde_json::{Value, json};

use super::{Standing, StepTook, View};
use crate::{
    base::{Actor, Digest, Epoch, Json, Kind, Millis, NodeId, RunId, RunbookId, Timestamp, minutes, seconds},
    contract::{Class, Fact, Given, Grade, Lineage, Loss, OpHandle, Target, Tolerance},
    plan::{Call, Effect, Hold, Marks, Node, OnFailure, Plan, Policy, Purpose},
    run::{Ask, AskKind, Choice, Event, Head, NodePhase, Record, RunOutcome, RunState},
    show::Report,
};

pub(crate) struct Tape {
    pub(crate) state: Option<RunState>,
    pub(crate) records: Vec<Record>,
    head: Head,
    pub(crate) now: Timestamp,
}

fn call(kind: &'static str, class: Class, output: &str, sentence: &str) -> Call {
    Call {
        kind: Kind::new(kind, 1),
        class,
        effect: Effect::Reconcilable,
        output: output.into(),
        params: Json(json!({})),
        sentence: sentence.into(),
        touches: vec![],
        manual: vec![],
        marks: Marks::default(),
    }
}

fn node(call: Call, after: &[&str], about: Option<Millis>) -> Node {
    Node {
        call,
        after: after.iter().map(|id| NodeId::new(*id)).collect(),
        why: None,
        within: minutes(5),
        every: seconds(1),
        visibility: seconds(1),
        attempts: 4,
        on_failure: OnFailure::Stop,
        about,
    }
}

pub(crate) fn plan() -> Plan {
    let undrain = call("dr.undrain", Class::Resume, "dr.nothing", "let the app write again");
    let mut rejoin =
        node(call("dr.rejoin", Class::Rejoin, "dr.nothing", "make neu follow weu"), &["confirm-writer"], None);
    rejoin.on_failure = OnFailure::Debt { text: "rebuild neu".into(), owner: "dba".into() };
    let swap = call("dr.swap", Class::Pivot, "dr.promotion-receipt", "neu follows, weu writes");
    let confirm = call("dr.confirm-writer", Class::ConfirmWriter, "dr.writer-receipt", "exactly one writer");
    let steps = [
        ("look", node(call("dr.look", Class::Guard, "dr.nothing", "read both sides again"), &[], Some(seconds(4)))),
        ("consent", node(call("dr.ask", Class::Consent, "dr.consent", "ask one person"), &["look"], None)),
        (
            "drain",
            node(call("dr.drain", Class::Drain, "dr.drain-receipt", "set the app read-only"), &["consent"], None),
        ),
        ("swap-roles", node(swap, &["drain"], Some(seconds(260)))),
        ("confirm-writer", node(confirm, &["swap-roles"], Some(seconds(8)))),
        ("release-drain", node(undrain.clone(), &["drain", "confirm-writer"], Some(seconds(2)))),
        ("rejoin", rejoin),
    ];
    Plan {
        format: 1,
        rules: 1,
        fence_travels: false,
        runbook: RunbookId::new("dr.planned-switchover", 1),
        purpose: Purpose::Switchover,
        group: "orders".into(),
        environment: "prod".into(),
        group_digest: Digest::zero(),
        expects: Target {
            member: "neu".into(),
            address: "id-neu".into(),
            identity: None,
            lineage: Lineage { system: "sys".into(), generation: 1 },
            receives: None,
        },
        to: Some("weu".into()),
        loss: Loss::Nothing,
        facts: vec![],
        bindings: std::collections::BTreeMap::new(),
        lineages: std::collections::BTreeMap::new(),
        leaves_out: std::collections::BTreeMap::new(),
        allow: std::collections::BTreeSet::new(),
        policy: Policy {
            gap_budget: minutes(5),
            client_limit: None,
            proof_age: seconds(10),
            fact_age: minutes(1),
            fence: Grade::Confirmed,
            unguarded: true,
            automatic: None,
        },
        order: steps.iter().map(|(id, _)| NodeId::new(*id)).collect(),
        nodes: steps.into_iter().map(|(id, node)| (NodeId::new(id), node)).collect(),
        holds: [("drain".into(), Hold { released_by: Some("release-drain".into()), undo: undrain })].into(),
        receives: std::collections::BTreeMap::new(),
    }
}

impl Tape {
    /// A run that mira asked for at 03:18:00.
    pub(crate) fn started() -> Self {
        Self::of(plan())
    }

    fn of(plan: Plan) -> Self {
        let at = Timestamp::from_millis(1_790_000_000_000 - 1_790_000_000_000 % 86_400_000 + 11_880_000);
        let mut tape = Self { state: None, records: vec![], head: Head::EMPTY, now: at };
        let hash = plan.hash().unwrap();
        let by = Actor::local("mira").with_role("dba");
        tape.push(0, Event::Started { plan: Box::new(plan), hash, by, because: "CHG-4711".into() });
        tape.push(0, Event::LeaseTaken { holder: "host-a".into() });
        tape
    }

    pub(crate) fn push(&mut self, later: u64, event: Event) -> &mut Self {
        self.now = self.now + seconds(later);
        let record = Record::after(self.head, self.now, Epoch::new(18), event);
        let line = record.line().unwrap();
        self.head = Head { seq: line.seq, hash: line.hash };
        match &mut self.state {
            None => self.state = Some(RunState::begin(RunId::new("orders".into(), 17), &record).unwrap()),
            Some(state) => state.apply(&record).unwrap(),
        }
        self.records.push(record);
        self
    }

    pub(crate) fn looked(&mut self, node: &str, later: u64, output: Value) -> &mut Self {
        self.push(0, Event::Began { node: node.into() });
        self.push(later, Event::Finished { node: node.into(), output: Json(output), calls: vec![] })
    }

    pub(crate) fn intended(&mut self, node: &str) -> &mut Self {
        let node = NodeId::new(node);
        let key = RunId::new("orders".into(), 17).key(&Digest::zero(), &node);
        self.push(0, Event::Intended { node, attempt: 1, key, facts: vec![], pre_image: None, request: Digest::zero() })
    }

    pub(crate) fn finished(&mut self, node: &str, later: u64, output: Value) -> &mut Self {
        self.push(later, Event::Finished { node: node.into(), output: Json(output), calls: vec![] })
    }

    fn ask(&self) -> Ask {
        let fact = Fact { tolerance: Tolerance::AtMost(seconds(10)), ..Fact::equal("lag", "3 s", "metrics", self.now) };
        Ask {
            asked: None,
            kind: AskKind::Consent,
            node: Some("consent".into()),
            plan: plan().hash().unwrap(),
            question: "switch orders from neu to weu; writes stop for about 5 min".into(),
            facts: vec![fact],
            loss: Loss::Nothing,
            choices: vec![
                Choice::new("approve", "go on", "what the plan says"),
                Choice::new("reject", "turn back", "nothing"),
            ],
            people: 1,
            roles: vec!["dba".into(), "service-owner".into()],
            not: Some(Actor::local("mira")),
            since: self.now,
            expires: Some(self.now + minutes(15)),
            rule: None,
            short: None,
        }
    }

    pub(crate) fn asked(&mut self) -> &mut Self {
        let ask = Box::new(self.ask());
        self.push(0, Event::Asked { node: "consent".into(), ask })
    }

    pub(crate) fn agreed(&mut self, later: u64) -> &mut Self {
        let ask = self.state.as_ref().unwrap().ask.clone().unwrap();
        self.push(later, Event::Answered { row: format!("row-{later}"), given: self.given("ana") });
        let given = vec![self.given("ana")];
        let consent = json!({
            "run": "orders-17", "plan": ask.plan, "ask": ask.digest().unwrap(), "facts": [], "loss": {"is": "nothing"},
            "given": given, "at": self.now, "expires": self.now + minutes(15),
        });
        self.finished("consent", 0, consent)
    }

    fn given(&self, who: &str) -> Given {
        Given {
            by: Actor::local(who).authenticated("a test", who).with_role("dba"),
            role: Some("dba".into()),
            choice: "approve".into(),
            at: self.now,
            note: None,
        }
    }

    /// Up to the swap, sent and accepted.
    pub(crate) fn swapping() -> Self {
        let mut tape = Self::started();
        tape.looked("look", 4, json!(null)).asked().agreed(250);
        tape.intended("drain").finished("drain", 18, json!({"detail": "drained on 6 of 6"}));
        tape.intended("swap-roles");
        let handle = OpHandle::new("0c9e7f1c-8ad1-4e55-9b0e-000000000041").unwrap();
        tape.push(1, Event::Accepted { node: "swap-roles".into(), handle, calls: vec![] });
        tape
    }

    /// A whole run, ended with a debt.
    pub(crate) fn done() -> Self {
        let mut tape = Self::swapping();
        let target = json!({"member": "weu", "resource": "id-weu", "lineage": {"system": "sys", "generation": 2}});
        tape.finished("swap-roles", 262, json!({}));
        tape.intended("confirm-writer");
        let receipt = json!({
            "run": "orders-17", "target": target, "endpoint": "weu.example:5432", "old_side": "role-swap", "at": tape.now,
        });
        tape.finished("confirm-writer", 239, receipt);
        tape.intended("release-drain").finished("release-drain", 14, json!(null));
        tape.intended("rejoin");
        tape.push(5, Event::Owed { node: "rejoin".into(), cause: crate::contract::Cause::new("neu did not answer") });
        let debts = vec!["rebuild neu (owed by dba): neu did not answer".to_owned()];
        tape.push(0, Event::Ended { outcome: RunOutcome::SucceededWithDebt { debts } });
        tape
    }

    pub(crate) fn view(&self) -> View {
        View::of(self.state.as_ref().unwrap(), self.now, &[])
    }
}

#[test]
fn a_running_view_tells_step_held_and_operation() {
    let mut tape = Tape::swapping();
    tape.now = tape.now + seconds(17);
    let view = tape.view();
    assert_eq!(view.state, Standing::Running);
    assert_eq!(view.sentence.text, "neu follows, weu writes");
    assert_eq!(view.sentence.rule, 513);
    assert_eq!((view.progress.done, view.progress.total), (3, 7));
    assert!(view.writes_stopped() && view.no_return);
    assert_eq!(view.held[0].lasts, seconds(36));
    let page = view.to_string();
    let expected = concat!(
        " ✓ 1 look            4 s\n",
        " ✓ 2 consent         ana (dba) 03:22:14\n",
        " ✓ 3 drain           18 s        drained on 6 of 6\n",
        " ▶ 4 swap-roles      18 s of about 4 min 20 s  sent 03:22:32, operation 0c9e7f1c…000041\n",
        "   5 confirm-writer  6 release-drain  7 rejoin\n",
        "held: drain for 36 s\n",
    );
    assert_eq!(page.split_once('\n').unwrap().1, expected);
    assert!(page.starts_with("orders-17  neu -> weu   plan "));
}

#[test]
fn a_question_about_a_grade_tells_what_was_measured_and_what_is_owed() {
    let mut tape = Tape::swapping();
    tape.finished("swap-roles", 262, json!({}));
    tape.push(0, Event::Began { node: "confirm-writer".into() });
    let fact = |name: &str, value: &str| Fact::any(name, value.to_owned(), "measured", tape.now);
    let ask = Ask {
        kind: AskKind::Waiver,
        node: Some("confirm-writer".into()),
        question: "the former primary is worth `unconfirmable`: is that enough?".into(),
        facts: vec![fact("why", "`neu` does not answer"), fact("owed afterwards", "fence neu")],
        people: 2,
        ..tape.ask()
    };
    tape.push(0, Event::Asked { node: "confirm-writer".into(), ask: Box::new(ask) });
    let view = tape.view();
    assert_eq!((view.state.clone(), view.no_return), (Standing::Asking, true));
    let (page, code) = (view.question().unwrap(), view.code().unwrap());
    assert!(page.starts_with(&format!("ASK  orders-17  5 confirm-writer   code {code}   until ")), "{page}");
    for words in ["is that enough?", "does not answer", "fence neu", "needs 2 of dba", "dr approve orders-17"] {
        assert!(page.contains(words), "`{words}` is missing: {page}");
    }
    assert!(!page.contains("may lose"), "{page}");
}

#[test]
fn an_expected_end_is_learnt_from_earlier_runs_only_when_every_step_is_known() {
    let tape = Tape::swapping();
    assert_eq!(tape.view().progress.eta, None, "nobody knows how long a rejoin takes");
    let took = |kind, time| StepTook { kind: Kind::new(kind, 1), took: seconds(time) };
    let history = [took("dr.rejoin", 10), took("dr.rejoin", 30), took("dr.swap", 200), took("dr.swap", 300)];
    let view = View::of(tape.state.as_ref().unwrap(), tape.now, &history);
    let eta = view.progress.eta.unwrap();
    // The swap has run for 1 s; then 8 s to confirm; then the rejoin, beside a release of 2 s.
    assert_eq!(eta.earliest.since(tape.now), seconds(199 + 8 + 10));
    assert_eq!(eta.latest.since(tape.now), seconds(299 + 8 + 30));
    assert!(view.holding().ends_with("± 1 min"), "{}", view.holding());
    assert_eq!(super::took(Tape::done().state.as_ref().unwrap()).len(), 6, "an owed step teaches nothing");
}

#[test]
fn a_question_shows_facts_code_and_who_may_answer() {
    let mut tape = Tape::started();
    tape.looked("look", 4, json!(null)).asked();
    let view = tape.view();
    assert_eq!(view.state, Standing::Asking);
    let digest = tape.state.as_ref().unwrap().ask.as_ref().unwrap().digest().unwrap();
    assert_eq!(view.code(), Some(digest.code()));
    let page = view.to_string();
    for part in [
        " ? 2 consent         waiting, 0 of 1, until 03:33:04\n",
        "held: nothing\n",
        "ASK  orders-17  consent   code ",
        "   until 03:33:04 UTC\n  switch orders from neu to weu; writes stop for about 5 min\n",
        "  may lose nothing acknowledged\n  lag 3 s (metrics, 03:18:04)\n",
        "requested by mira: CHG-4711\n  needs 1 of dba, service-owner, not mira; has 0\n",
    ] {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
}

#[test]
fn a_parked_view_names_rule_choices_and_that_writes_are_stopped() {
    let mut tape = Tape::swapping();
    tape.push(260, Event::Finished { node: "swap-roles".into(), output: Json(json!({})), calls: vec![] });
    tape.push(0, Event::Began { node: "confirm-writer".into() });
    let cause = crate::contract::Cause::new("two members call themselves writer");
    tape.push(9, Event::Failed { node: "confirm-writer".into(), cause, doubt: false });
    let commands = crate::run::decide(tape.state.as_ref().unwrap());
    let [crate::run::Command::Record(event)] = commands.as_slice() else { panic!("{commands:?}") };
    tape.push(1, (**event).clone());
    let view = tape.view();
    assert_eq!(view.state, Standing::Parked);
    assert!(view.waits_for_people());
    let page = view.to_string();
    for part in [
        "PARKED  orders-17  5 confirm-writer  since 03:27:03   writes are stopped (drain held 4 min 49 s)   code ",
        "two members call themselves writer",
        "  sent   swap-roles once, 03:22:32, done\n",
        "  who    1 of any role; has 0\n",
        "     hand-over  stop here; the rest is done by hand   changes: nothing; what is held stays held\n",
        "  not offered: turning back. The promotion may have been sent; this run only goes forward.\n",
        "  decide with:  dr decide orders-17 retry --code ",
    ] {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
}

#[test]
fn a_run_in_doubt_says_that_it_looks_and_does_not_send_again() {
    let mut tape = Tape::swapping();
    let cause = crate::contract::Cause::new("no answer");
    tape.push(3, Event::InDoubt { node: "swap-roles".into(), cause, calls: vec![] });
    let view = tape.view();
    assert_eq!(view.steps[3].state, NodePhase::InDoubt);
    assert!(view.sentence.text.contains("only a look decides"));
    assert!(view.to_string().contains(" ↻ 4 swap-roles      "), "{view}");
    assert!(view.to_string().contains("not sent again; asking the provider what is true (no answer)"));
}

#[test]
fn a_view_is_json_with_every_field_a_page_needs() {
    let value = serde_json::to_value(Tape::swapping().view()).unwrap();
    assert_eq!(value["state"], json!({"is": "running"}));
    assert_eq!(value["run"], "orders-17");
    assert_eq!(value["steps"][3]["state"], "accepted");
    assert_eq!(value["held"][0]["node"], "drain");
    assert_eq!(value["seq"], 11);
}

#[test]
fn the_report_measures_gap_phases_loss_and_debts() {
    let tape = Tape::done();
    let run = RunId::new("orders".into(), 17);
    let report = Report::of(&run, &tape.records).unwrap().with_target(minutes(5));
    assert_eq!(report.write_gap, Some(seconds(18 + 1 + 262 + 239 + 14)));
    assert_eq!(report.rto.total, Some(seconds(4 + 250 + 534)));
    assert_eq!(report.rto.people, seconds(250));
    assert_eq!(report.rto.phases.len(), 6);
    let due = &report.follow_ups[0];
    assert_eq!((due.text.as_str(), due.owner.as_ref().unwrap().as_str()), ("rebuild neu", "dba"));
    assert_eq!(report.follow_ups.len(), 1, "the outcome's debt is the same one: {:?}", report.follow_ups);
    let page = report.to_string();
    for part in [
        "DONE, WITH DEBTS  orders-17  switchover neu -> weu\n",
        "  writes       stopped for 8 min 54 s (target 5 min: MISSED by 3 min 54 s)\n",
        "  follow-ups   rebuild neu (owed by dba): neu did not answer\n",
    ] {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
}

#[test]
fn a_swap_without_a_proof_of_catching_up_is_never_reported_as_a_loss_of_nothing() {
    let report = Report::of(&RunId::new("orders".into(), 17), &Tape::done().records).unwrap();
    assert!(matches!(report.lost, Loss::Unknown { .. }), "{:?}", report.lost);
    let mut early = Tape::started();
    early.looked("look", 4, json!(null));
    let report = Report::of(&RunId::new("orders".into(), 17), &early.records).unwrap();
    assert_eq!((report.lost, report.outcome, report.write_gap), (Loss::Nothing, None, None));
}

/// A report asked for in the middle of the gap said that the run held no writes back.
#[test]
fn a_report_in_the_middle_of_the_gap_says_that_writes_are_held_back() {
    let report = Report::of(&RunId::new("orders".into(), 17), &Tape::swapping().records).unwrap();
    assert_eq!((report.write_gap, report.held_since), (None, Tape::swapping().state.unwrap().drained_since()));
    let page = report.to_string();
    assert!(page.contains("  writes       still held back, since 03:22:14 UTC\n"), "{page}");
}

/// A look after the promotion made the checks last as long as the whole run.
#[test]
fn looks_after_the_first_change_are_no_part_of_the_checks() {
    let mut plan = plan();
    let look = plan.nodes[&NodeId::new("look")].call.clone();
    plan.nodes.insert("count".into(), node(look, &["consent"], None));
    plan.order.push("count".into());
    let mut tape = Tape::of(plan);
    tape.looked("look", 4, json!(null)).asked().agreed(250).looked("count", 6, json!(null));
    let report = Report::of(&RunId::new("orders".into(), 17), &tape.records).unwrap();
    let took: Vec<(String, Millis)> =
        report.rto.phases.iter().map(|phase| (phase.phase.to_string(), phase.took)).collect();
    assert_eq!(took, [("check".to_owned(), seconds(4)), ("decide".to_owned(), seconds(250))]);
}

#[test]
fn a_turned_back_run_counts_the_gap_up_to_its_undo() {
    let mut tape = Tape::started();
    tape.looked("look", 4, json!(null)).asked().agreed(10);
    tape.intended("drain").finished("drain", 18, json!({}));
    tape.push(2, Event::Aborting { reason: "a transaction did not end".into() });
    assert_eq!(tape.view().state, Standing::TurningBack);
    tape.intended("drain.undo").finished("drain.undo", 3, json!(null));
    let view = tape.view();
    assert!(view.held.is_empty());
    assert!(view.steps.iter().any(|step| step.id.as_str() == "drain.undo" && step.number.is_none()));
    tape.push(0, Event::Ended { outcome: RunOutcome::Aborted { reason: "a transaction did not end".into() } });
    let report = Report::of(&RunId::new("orders".into(), 17), &tape.records).unwrap();
    assert_eq!(report.write_gap, Some(seconds(23)));
    assert_eq!(report.lost, Loss::Nothing);
    assert!(report.to_string().starts_with("TURNED BACK  orders-17  switchover neu -> weu\n  because      a trans"));
}

#[test]
fn html_escapes_what_people_wrote_and_json_names_its_form() {
    let mut tape = Tape::started();
    let by = Actor::local("mallory");
    tape.push(1, Event::CancelAsked { row: "r".into(), by, because: "<script>alert('x')</script>".into() });
    let report =
        Report::of(&RunId::new("orders".into(), 17), &tape.records).unwrap().with_evidence("evidence/orders-17");
    let html = report.to_html();
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    assert!(html.ends_with("</body></html>\n"));
    let json = report.to_json();
    assert_eq!(json["schema"], "dr.report/2");
    assert_eq!(json["evidence"], "evidence/orders-17");
    assert_eq!(json["timeline"][2]["rule"], 421);
}

#[test]
fn records_of_no_run_have_no_report() {
    let run = RunId::new("orders".into(), 17);
    assert_eq!(Report::of(&run, &[]).unwrap_err().to_string(), "the journal of orders-17 is empty");
    let mut records = Tape::done().records;
    records.remove(5);
    records.remove(0);
    assert!(Report::of(&run, &records).is_err());
}
