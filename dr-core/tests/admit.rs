//! The one door from receipts to proofs: what it refuses at run time. Each test is one refusal that no compiler can make.
//! Covers the guards of DESIGN section 6 (never two writers, never a silent loss), E05, E10 and I04.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use dr_core::{
    DatabaseProbe, Fence, Grade, GroupName, ManagedDatabase, MemberId, Millis, NodeId, Outcome, ProviderError, RunId,
    Target, Timestamp, Tri,
    base::{Digest, Epoch, Json, Mono, ResourceAddress, ResourceIdentity, SystemId},
    contract::{
        Capabilities, CatchUpReceipt, Consent, Description, EngageFence, Fact, FenceReading, FenceReceipt, FenceToken,
        Lineage, LongTransaction, Loss, LossBound, OpHandle, OpProgress, Parted, Planes, Position, PositionReading,
        PositionUnit, PromoteRequest, PromotionTerms, Query, QuiesceReceipt, Reach, ReleaseOrder, Replication,
        RetireFence, Retry, Rows, Runtime, Sessions, SwapRequest, Task, Tier, Tolerance, WriteProbe,
        admit::{self, Door, Refused},
    },
};
use futures_util::FutureExt;

const AGE: Millis = Millis::seconds(60);

/// A clock that stands where the test puts it.
#[derive(Debug)]
struct Clock(Mono);

impl Runtime for Clock {
    fn now_mono(&self) -> Mono {
        self.0
    }
    fn now_wall(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000)
    }
    fn sleep_until(&self, _until: Mono) -> Task {
        Box::pin(async {})
    }
    fn spawn_detached(&self, _task: Task) {}
}

fn clock(seconds: u64) -> Clock {
    Clock(Mono::new(Duration::from_secs(seconds)))
}

/// A fence that answers what the test says; `None` is silence.
#[derive(Debug)]
struct Says(Option<FenceReading>);

#[async_trait]
impl Fence for Says {
    fn name(&self) -> String {
        "test.stop".into()
    }
    fn offers(&self, _reach: Reach) -> Planes {
        Planes::all(Grade::Confirmed)
    }
    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        Ok(token())
    }
    async fn engage(&self, _request: EngageFence) -> Outcome<()> {
        Outcome::Done(())
    }
    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.0.clone().ok_or_else(silence)
    }
    async fn release(&self, _order: ReleaseOrder) -> Outcome<()> {
        Outcome::Done(())
    }
    async fn retire(&self, _request: RetireFence) -> Outcome<()> {
        Outcome::Done(())
    }
    fn poll_every(&self) -> Millis {
        Millis::seconds(1)
    }
    fn manual(&self, _verb: &str) -> Vec<String> {
        Vec::new()
    }
}

/// A server that stands where the test puts it; `None` is silence.
#[derive(Debug)]
struct At {
    position: Option<PositionReading>,
    sessions: Sessions,
}

#[async_trait]
impl DatabaseProbe for At {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        Err(silence())
    }
    async fn position(&self) -> Result<PositionReading, ProviderError> {
        self.position.clone().ok_or_else(silence)
    }
    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        Ok(BTreeMap::new())
    }
    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        Ok(BTreeMap::new())
    }
    async fn long_transactions(&self, _limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        Ok(Vec::new())
    }
    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        Ok(self.sessions)
    }
    async fn ask(&self, _query: &Query) -> Result<Rows, ProviderError> {
        Err(silence())
    }
    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        Ok(Millis::ZERO)
    }
}

/// A member that says of its replication what the test says; `None` is silence.
#[derive(Debug)]
struct Fed(Option<Replication>);

#[async_trait]
impl ManagedDatabase for Fed {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        Ok(Capabilities::none())
    }
    async fn describe(&self) -> Result<Description, ProviderError> {
        Err(silence())
    }
    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.0.clone().ok_or_else(silence)
    }
    async fn poll(&self, _op: &OpHandle) -> Result<OpProgress, ProviderError> {
        Err(silence())
    }
    fn manual(&self, _verb: &str) -> Vec<String> {
        Vec::new()
    }
}

fn silence() -> ProviderError {
    ProviderError::Unreachable { verb: "look", why: "no route to host".into(), source: None }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn run(group: &str) -> RunId {
    RunId::new(GroupName::new(group), 17)
}

fn plan() -> Digest {
    Digest::new([7; 32])
}

fn door<'a>(run: &'a RunId, epoch: u64, runtime: &'a Clock) -> Door<'a> {
    Door { run, plan: plan(), epoch: Epoch::new(epoch), max_age: AGE, runtime }
}

fn lineage(generation: u32) -> Lineage {
    Lineage { system: SystemId::new("7311"), generation }
}

fn position(value: u64) -> Position {
    Position { system: SystemId::new("7311"), unit: PositionUnit::LogBytes, value }
}

fn target(member: &str, generation: u32) -> Target {
    Target {
        member: MemberId::new(member),
        address: ResourceAddress::new(format!("id-{member}")),
        identity: Some(ResourceIdentity::new(format!("uid-{member}"))),
        lineage: lineage(generation),
        receives: None,
    }
}

fn at() -> Timestamp {
    Timestamp::from_millis(900_000)
}

fn token() -> FenceToken {
    FenceToken { fence: "test.stop".into(), state: Json(serde_json::Value::Null), known: true }
}

fn fence_receipt() -> FenceReceipt {
    FenceReceipt {
        run: run("orders"),
        epoch: Epoch::new(1),
        target: target("neu", 4),
        fence: "test.stop".into(),
        token: token(),
        planes: Planes::all(Grade::Confirmed),
        silent: false,
        end: Some(position(1000)),
        effective_at: at(),
        lapses_at: None,
        detail: "stopped".into(),
    }
}

fn fence_reading() -> FenceReading {
    FenceReading {
        silent: false,
        unread: Vec::new(),
        address: Some(ResourceAddress::new("id-neu")),
        identity: Some(ResourceIdentity::new("uid-neu")),
        lineage: Some(lineage(4)),
        planes: Planes::all(Grade::Confirmed),
        end: Some(position(1000)),
        lapses_at: None,
        detail: "stopped".into(),
        at: at(),
    }
}

fn catch_up_receipt() -> CatchUpReceipt {
    CatchUpReceipt {
        run: run("orders"),
        target: target("weu", 4),
        end: position(1000),
        applied: position(1000),
        at: at(),
    }
}

fn server(generation: u32, durable: u64, applied: u64) -> At {
    let position = PositionReading {
        lineage: lineage(generation),
        in_recovery: Tri::Yes,
        durable: position(durable),
        applied: position(applied),
        parted_at: Parted::untold("a standby is not asked"),
        tier: Tier::Server,
        at: at(),
    };
    At { position: Some(position), sessions: Sessions::default() }
}

fn lag(ms: u64, tolerance: Tolerance) -> Fact {
    Fact { number: Some(Millis::new(ms)), tolerance, ..Fact::any("lag", format!("{ms} ms"), "SQL", at()) }
}

fn consent() -> Consent {
    Consent {
        run: run("orders"),
        plan: plan(),
        ask: Digest::new([9; 32]),
        facts: vec![Fact::equal("writer", "neu", "SQL", at()), lag(3000, Tolerance::AtMost(Millis::seconds(10)))],
        loss: Loss::Nothing,
        given: Vec::new(),
        at: at(),
        expires: at() + AGE,
    }
}

fn facts_now() -> Vec<Fact> {
    vec![Fact::any("writer", "neu", "SQL", at()), lag(9000, Tolerance::Any)]
}

fn at_most(seconds: u64) -> Loss {
    Loss::AtMost { time: Millis::seconds(seconds), amount: None, because: "gap at the last good sample".into() }
}

fn admit_fence(receipt: &FenceReceipt, reading: Option<FenceReading>, least: Grade) -> Result<(), Refused> {
    let run = run("orders");
    now(admit::fenced(&door(&run, 1, &clock(100)), &Says(reading), receipt, least)).map(drop)
}

fn admit_catch_up(receipt: &CatchUpReceipt, server: &At, fence: &FenceReceipt) -> Result<(), Refused> {
    let run = run("orders");
    now(admit::caught_up(&door(&run, 1, &clock(100)), (&Fed(None), server), receipt, fence)).map(drop)
}

fn lost(result: Result<(), Refused>, words: &str) {
    let refused = result.expect_err(words);
    assert!(matches!(refused, Refused::Lost { .. }), "{refused:?}");
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!(refused.retry(), Retry::Never);
}

fn request(epoch: u64, at: u64) -> PromoteRequest {
    let run = run("orders");
    let clock = clock(at);
    let door = door(&run, epoch, &clock);
    let fenced = now(admit::fenced(&door, &Says(Some(fence_reading())), &fence_receipt(), Grade::Enforced)).unwrap();
    let caught =
        now(admit::caught_up(&door, (&Fed(None), &server(4, 1000, 1000)), &catch_up_receipt(), &fence_receipt()))
            .unwrap();
    let consented = admit::consented(&door, &consent(), &facts_now()).unwrap();
    PromoteRequest::planned(run.key(&Digest::zero(), &NodeId::new("promote")), fenced, caught, consented)
}

fn mono(seconds: u64) -> Mono {
    Mono::new(Duration::from_secs(seconds))
}

#[test]
fn a_whole_chain_of_receipts_is_admitted() {
    let request = request(1, 100);
    assert_eq!(request.target(), &target("weu", 4));
    assert_eq!(request.from(), &target("neu", 4));
    let terms = PromotionTerms::Planned { fence: Grade::Confirmed, caught_up_to: position(1000) };
    assert_eq!(request.terms(), &terms);
    assert_eq!(request.certified().refuse(mono(160), Epoch::new(1)), None);
}

#[test]
fn a_receipt_of_another_group_proves_nothing() {
    let foreign = FenceReceipt { run: run("ledger"), ..fence_receipt() };
    let refused = admit_fence(&foreign, Some(fence_reading()), Grade::Enforced)
        .expect_err("the fence of another group was admitted");
    assert_eq!(refused.to_string(), "the fence receipt belongs to ledger-17, this is orders-17");
    let foreign = CatchUpReceipt { run: run("ledger"), ..catch_up_receipt() };
    let refused = admit_catch_up(&foreign, &server(4, 1000, 1000), &fence_receipt())
        .expect_err("the catch-up of another group was admitted");
    assert!(matches!(refused, Refused::Foreign { .. }), "{refused:?}");
    let run = run("orders");
    let clock = clock(100);
    let foreign = Consent { run: RunId::new(GroupName::new("orders"), 16), ..consent() };
    let refused = admit::consented(&door(&run, 1, &clock), &foreign, &facts_now())
        .expect_err("the consent of another run was admitted");
    assert!(refused.to_string().contains("orders-16"), "{refused}");
}

#[test]
fn a_fence_that_does_not_answer_proves_nothing() {
    let refused =
        admit_fence(&fence_receipt(), None, Grade::Enforced).expect_err("a fence that does not answer was admitted");
    assert!(matches!(refused, Refused::Silent { what: "fence", .. }), "{refused:?}");
}

#[test]
fn a_fence_that_was_lifted_proves_nothing() {
    let lifted = FenceReading { planes: Planes::default(), detail: "it accepts sessions".into(), ..fence_reading() };
    lost(admit_fence(&fence_receipt(), Some(lifted), Grade::Unconfirmable), "it accepts sessions");
}

#[test]
fn a_fence_on_a_plane_less_is_worth_its_least_plane() {
    let planes = Planes { restart: Grade::Partial, ..Planes::all(Grade::Confirmed) };
    let refused = admit_fence(&fence_receipt(), Some(FenceReading { planes, ..fence_reading() }), Grade::Enforced);
    assert_eq!(
        refused.expect_err("a weak fence was admitted").to_string(),
        "the fence is worth `partial`, this needs `enforced`"
    );
}

#[test]
fn a_fence_on_an_older_lineage_proves_nothing() {
    let older = FenceReceipt { target: target("neu", 3), ..fence_receipt() };
    lost(admit_fence(&older, Some(fence_reading()), Grade::Enforced), "the member carries lineage 7311/4");
}

#[test]
fn a_fence_on_another_resource_of_the_same_name_proves_nothing() {
    let other = FenceReading { address: Some(ResourceAddress::new("id-neu-2")), ..fence_reading() };
    lost(admit_fence(&fence_receipt(), Some(other), Grade::Enforced), "`neu` is now the resource id-neu-2");
    let anew = FenceReading { identity: Some(ResourceIdentity::new("uid-neu-2")), ..fence_reading() };
    lost(admit_fence(&fence_receipt(), Some(anew), Grade::Enforced), "was made anew: its identity is uid-neu-2");
}

#[test]
fn a_fenced_history_that_grew_proves_nothing() {
    let grown = FenceReading { end: Some(position(1008)), ..fence_reading() };
    lost(admit_fence(&fence_receipt(), Some(grown), Grade::Enforced), "now it ends at");
}

#[test]
fn a_fence_that_lapses_while_its_proof_would_be_trusted_proves_nothing() {
    let wall = Timestamp::from_millis(1_000_000);
    let lapses = |after| Some(FenceReading { lapses_at: Some(wall + after), ..fence_reading() });
    lost(admit_fence(&fence_receipt(), lapses(AGE), Grade::Enforced), "falls off by itself");
    let later = AGE.saturating_add(Millis::new(1));
    assert!(admit_fence(&fence_receipt(), lapses(later), Grade::Enforced).is_ok());
}

#[test]
fn a_candidate_on_another_timeline_has_not_caught_up() {
    let candidate = server(5, 1000, 1000);
    lost(admit_catch_up(&catch_up_receipt(), &candidate, &fence_receipt()), "carries lineage 7311/5");
    let other = CatchUpReceipt { target: target("weu", 3), ..catch_up_receipt() };
    lost(admit_catch_up(&other, &server(3, 1000, 1000), &fence_receipt()), "fenced was 7311/4");
}

#[test]
fn a_candidate_that_is_behind_the_fenced_end_may_come() {
    let refused = admit_catch_up(&catch_up_receipt(), &server(4, 1000, 999), &fence_receipt())
        .expect_err("a candidate that lost ground was admitted");
    assert!(matches!(refused, Refused::NotYet { .. }), "{refused:?}");
    assert_eq!(refused.retry(), Retry::After(Millis::new(2)));
}

#[test]
fn a_catch_up_to_an_earlier_end_than_the_fenced_one_is_none() {
    let early = CatchUpReceipt { end: position(900), applied: position(900), ..catch_up_receipt() };
    lost(admit_catch_up(&early, &server(4, 1000, 1000), &fence_receipt()), "the fenced history ends at");
}

#[test]
fn a_position_of_another_system_reaches_nothing() {
    let foreign = Position { system: SystemId::new("9999"), ..position(5000) };
    let receipt = CatchUpReceipt { end: foreign, ..catch_up_receipt() };
    lost(admit_catch_up(&receipt, &server(4, 5000, 5000), &fence_receipt()), "the fenced history ends at");
}

#[test]
fn a_primary_with_writing_sessions_or_a_candidate_behind_is_not_quiet() {
    let receipt = QuiesceReceipt {
        run: run("orders"),
        primary: target("neu", 4),
        target: target("weu", 4),
        sessions: Some(Sessions::default()),
        position: Some(position(1000)),
        at: at(),
    };
    let run = run("orders");
    let clock = clock(100);
    let door = door(&run, 1, &clock);
    let of = |in_transaction, idle| At { sessions: Sessions { in_transaction, idle }, ..server(4, 1000, 1000) };
    for (busy, words) in [(of(2, 0), "2 sessions (2 of them"), (of(0, 3), "3 sessions (0 of them")] {
        let refused = now(admit::quiesced(&door, &busy, &server(4, 1000, 1000), &receipt, false))
            .expect_err("a session that can write was admitted");
        let told = format!("{words} in a transaction) can still write on the primary");
        assert_eq!(refused.to_string(), told);
        // The provider that waits for the candidate stops them itself.
        drop(now(admit::quiesced(&door, &busy, &server(4, 999, 999), &receipt, true)).unwrap());
    }
    let behind = now(admit::quiesced(&door, &server(4, 1000, 1000), &server(4, 999, 999), &receipt, false));
    assert!(matches!(behind, Err(Refused::NotYet { .. })), "{behind:?}");
    let forked = now(admit::quiesced(&door, &server(5, 1000, 1000), &server(4, 1000, 1000), &receipt, false));
    assert!(matches!(forked, Err(Refused::Lost { .. })), "{forked:?}");
    let quiet = now(admit::quiesced(&door, &server(4, 1000, 1000), &server(4, 1000, 1000), &receipt, false)).unwrap();
    let consented = admit::consented(&door, &consent(), &facts_now()).unwrap();
    let swap = SwapRequest::planned(run.key(&Digest::zero(), &NodeId::new("swap")), quiet, consented);
    assert_eq!(swap.allow_loss(), None);
    assert_eq!((swap.from(), swap.to()), (&target("neu", 4), &target("weu", 4)));
}

#[test]
fn a_consent_for_another_plan_is_none() {
    let run = run("orders");
    let other = Consent { plan: Digest::new([8; 32]), ..consent() };
    let refused = admit::consented(&door(&run, 1, &clock(100)), &other, &facts_now()).map(drop);
    lost(refused, "it was given for plan");
}

#[test]
fn a_material_change_voids_a_consent_with_a_readable_difference() {
    let run = run("orders");
    let clock = clock(100);
    let door = door(&run, 1, &clock);
    let within = vec![Fact::any("writer", "neu", "SQL", at()), lag(10_000, Tolerance::Any)];
    assert!(admit::consented(&door, &consent(), &within).is_ok());
    let beyond = vec![Fact::any("writer", "weu", "SQL", at()), lag(10_001, Tolerance::Any)];
    let refused = admit::consented(&door, &consent(), &beyond).expect_err("a fact beyond its limit was admitted");
    let words = "what was agreed to does not hold any more: writer was neu, is weu; lag was 3000 ms, is 10001 ms";
    assert_eq!(refused.to_string(), words);
    let silent = vec![lag(3000, Tolerance::Any)];
    let refused =
        admit::consented(&door, &consent(), &silent).expect_err("a fact that nobody can read now was admitted");
    assert!(refused.to_string().ends_with("writer was neu, is not known now"), "{refused}");
}

#[test]
fn more_loss_than_was_accepted_is_refused() {
    let run = run("orders");
    let clock = clock(100);
    let door = door(&run, 1, &clock);
    let bound = |loss| LossBound { run: run.clone(), loss, sampled_at: None, fenced_at: None, asked: None };
    let accepts = |loss| Consent { loss, ..consent() };
    let unknown = || Loss::Unknown { because: "no sample".into() };
    let refused = |bound, accepted| admit::loss_bounded(&door, &bound, &accepted).is_err();
    assert!(refused(bound(at_most(6)), accepts(at_most(5))));
    assert!(refused(bound(at_most(1)), accepts(Loss::Nothing)));
    assert!(refused(bound(unknown()), accepts(at_most(3600))));
    assert!(!refused(bound(at_most(5)), accepts(at_most(5))));
    assert!(!refused(bound(unknown()), accepts(unknown())));
    let foreign = LossBound { run: RunId::new(GroupName::new("ledger"), 17), ..bound(Loss::Nothing) };
    assert!(refused(foreign, consent()));
}

#[test]
fn a_forced_promotion_needs_an_enforced_fence() {
    let run = run("orders");
    let clock = clock(100);
    let door = door(&run, 1, &clock);
    let forced = |grade| {
        let reading = FenceReading { planes: Planes::all(grade), ..fence_reading() };
        let fenced = now(admit::fenced(&door, &Says(Some(reading)), &fence_receipt(), Grade::Partial)).unwrap();
        let bound = LossBound { run: run.clone(), loss: Loss::Nothing, sampled_at: None, fenced_at: None, asked: None };
        let bounded = admit::loss_bounded(&door, &bound, &consent()).unwrap();
        let consented = admit::consented(&door, &consent(), &facts_now()).unwrap();
        let key = run.key(&Digest::zero(), &NodeId::new("promote"));
        PromoteRequest::forced(key, target("weu", 4), fenced, bounded, consented).map(drop)
    };
    assert_eq!(forced(Grade::Partial), Err(Grade::Partial));
    assert_eq!(forced(Grade::Enforced), Ok(()));
}

#[test]
fn a_proof_that_is_too_old_is_refused_at_the_gate() {
    let refusal = request(1, 100).certified().refuse(mono(161), Epoch::new(1));
    assert_eq!(refusal.unwrap(), "the proof is 61000 ms old, the limit is 60000 ms");
}

#[test]
fn a_proof_of_another_epoch_is_refused_at_the_gate() {
    let refusal = request(1, 100).certified().refuse(mono(100), Epoch::new(2));
    assert_eq!(refusal.unwrap(), "the proof was made under epoch 1, this is 2");
}

/// The receipt of a logical copy: it has a history of its own, and what was proved is a position of its source.
fn copy_receipt() -> CatchUpReceipt {
    let own = Lineage { system: SystemId::new("9900"), generation: 1 };
    let copy = Target { lineage: own, receives: Some(lineage(4)), ..target("weu", 4) };
    CatchUpReceipt { target: copy, ..catch_up_receipt() }
}

fn fed(lineage: Option<Lineage>, applied: Option<Position>) -> Fed {
    let received = applied.clone();
    let at = at();
    Fed(Some(Replication { streaming: Tri::No, lineage, received, applied, lag: None, cadence: Millis::ZERO, at }))
}

fn admit_copy(fed: &Fed) -> Result<(), Refused> {
    let run = run("orders");
    // Its own server is in no recovery, far ahead in positions of its own, and is not asked.
    let own = At { position: None, sessions: Sessions::default() };
    now(admit::caught_up(&door(&run, 1, &clock(100)), (fed, &own), &copy_receipt(), &fence_receipt())).map(drop)
}

#[test]
fn a_logical_copy_has_everything_by_positions_of_its_source_alone() {
    admit_copy(&fed(Some(lineage(4)), Some(position(1000)))).unwrap();
    let behind = admit_copy(&fed(Some(lineage(4)), Some(position(999)))).unwrap_err();
    assert!(matches!(behind, Refused::NotYet { .. }), "{behind:?}");
    let own = Position { system: SystemId::new("9900"), ..position(5000) };
    for (lineage_told, applied, words) in [
        (Some(lineage(3)), Some(position(5000)), "is fed from lineage 7311/3, it was 7311/4"),
        (Some(lineage(4)), Some(own), "is none of its source's"),
        (None, Some(position(5000)), "nobody can say up to which position of 7311/4"),
        (Some(lineage(4)), None, "nobody can say up to which position of 7311/4"),
    ] {
        let refused = admit_copy(&fed(lineage_told, applied)).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    }
    assert!(matches!(admit_copy(&Fed(None)).unwrap_err(), Refused::Silent { .. }));
}

#[test]
fn a_logical_copy_of_another_history_than_the_fenced_one_is_refused() {
    let run = run("orders");
    let own = At { position: None, sessions: Sessions::default() };
    let copy = copy_receipt();
    let other = CatchUpReceipt { target: Target { receives: Some(lineage(3)), ..copy.target.clone() }, ..copy };
    let fed = fed(Some(lineage(3)), Some(position(1000)));
    let answer = now(admit::caught_up(&door(&run, 1, &clock(100)), (&fed, &own), &other, &fence_receipt()));
    lost(answer.map(drop), "the candidate follows 7311/3, fenced was 7311/4");
}
