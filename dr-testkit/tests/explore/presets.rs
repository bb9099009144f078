//! The built-in runbooks on every preset of the simulated cloud, at the pace of the real services: a planned switchover, a failover whose
//! primary died, and one whose whole region is dark. Every kill comes to the end of the run without one; no single fault breaks a law.
//! The suite plays a sample of the faults; `DR_EXPLORE=all` plays every one.

use dr_core::{
    MemberId, PlannedSwitchover, UnplannedFailover,
    contract::{Hardening, Loss, Rejoin},
    minutes,
    run::RunOutcome,
    seconds,
};
use dr_testkit::{
    ChangeKind, Edges, Explorer, FailsHow, Fault, FaultPlan, Played, Preset, RunEnd, Service, Setup, SimCloud,
    TruthLine, Tweak, sim,
};

use crate::tell;

/// One fault of so many is played where not all are.
const SAMPLE: usize = 29;

fn setup(preset: Preset) -> Setup {
    Setup::preset(preset, "orders", "neu", "weu").writers(3)
}

fn planned(preset: Preset) -> Explorer {
    Explorer::new(setup(preset), PlannedSwitchover::to("weu"))
}

/// The primary's server died; its management plane answers.
fn server_died(preset: Preset) -> Explorer {
    Explorer::new(setup(preset), UnplannedFailover::to("weu")).given(|cloud| cloud.break_down("neu"))
}

/// The primary's whole region is dark: its server, and the management calls that could fence it or say what the swap did to it. Nobody
/// fails over before the view that calls the stream alive is as old as that.
fn region_lost(preset: Preset) -> Explorer {
    Explorer::new(setup(preset), UnplannedFailover::to("weu"))
        .given(|cloud| cloud.lose_region("neu"))
        .noticed_after(minutes(1))
}

fn ends(preset: Preset, what: &str, explorer: &Explorer) -> Played {
    let played = explorer.play(&FaultPlan::none());
    tell(&format!("{preset}, {what}: {} in {} calls", played.end.words(), played.calls.len()));
    assert_eq!((played.end.class(), &played.violations), ("success", &Vec::new()), "{preset}, {what}");
    assert_eq!(played.state.promotions, 1, "{preset}, {what}");
    played
}

fn obeys_the_laws(preset: Preset, what: &str, explorer: &Explorer) {
    ends(preset, what, explorer);
    let all = std::env::var("DR_EXPLORE").is_ok_and(|wanted| wanted == "all");
    let kills = if all { explorer.crashes() } else { explorer.every_nth_crash(SAMPLE / 4) };
    tell(&format!("{preset}, {what}, kill matrix: {kills}"));
    assert_eq!(kills.ends.get("success"), Some(&kills.schedules), "{preset}, {what}: {kills}");
    kills.assert_clean();
    let faults = if all { explorer.single_faults() } else { explorer.every_nth_fault(SAMPLE) };
    tell(&format!("{preset}, {what}, single faults: {faults}"));
    faults.assert_clean();
}

macro_rules! on_presets {
    ($($test:ident: $preset:ident),* $(,)?) => { $(
        #[test]
        fn $test() {
            obeys_the_laws(Preset::$preset, "planned", &planned(Preset::$preset));
            obeys_the_laws(Preset::$preset, "forced", &server_died(Preset::$preset));
        }
    )* };
}

on_presets! {
    azure_pg_flexible: AzurePgFlexible,
    sql_managed_instance: SqlManagedInstance,
    rds_replica: RdsReplica,
    aurora_global: AuroraGlobal,
    cloud_sql: CloudSql,
    cloud_sql_external: CloudSqlExternal,
    patroni_less_postgres: PatronilessPostgres,
}

macro_rules! lost_on_presets {
    ($($test:ident: $preset:ident),* $(,)?) => { $(
        /// A forced swap whose own fence nobody can confirm parked behind the promotion for good. Two people accept what was measured,
        /// and the fence is owed.
        #[test]
        fn $test() {
            let explorer = region_lost(Preset::$preset);
            let played = ends(Preset::$preset, "lost region", &explorer);
            let RunEnd::Ended(RunOutcome::SucceededWithDebt { debts }) = &played.end else { panic!("{}", played.end.words()) };
            let owed = |debt: &&String| debt.starts_with("fence neu") && debt.contains("`unconfirmable` was accepted");
            assert_eq!(debts.iter().filter(owed).count(), 1, "{debts:?}");
            obeys_the_laws(Preset::$preset, "lost region", &explorer);
        }
    )* };
}

lost_on_presets! {
    bug_a_lost_region_parks_no_forced_swap_of_azure_pg_flexible: AzurePgFlexible,
    bug_a_lost_region_parks_no_forced_swap_of_sql_managed_instance: SqlManagedInstance,
    bug_a_lost_region_parks_no_forced_swap_of_cloud_sql: CloudSql,
}

/// The calls to a dead server hung for longer than the steps that looked at it had: the failover was refused before the promotion, or
/// parked behind it because its loss could not be counted.
#[test]
fn bug_calls_that_hang_neither_refuse_nor_park_a_failover() {
    for preset in Preset::ALL {
        ends(preset, "forced", &server_died(preset));
    }
}

/// The member that becomes the writer has none of the protections that the group asks for, and gets them.
#[test]
fn a_new_writer_is_protected_as_the_group_asks() {
    let week = Some(minutes(7 * 24 * 60));
    let wanted = Hardening { high_availability: true, deletion_protection: true, point_in_time: true, retention: week };
    for preset in [Preset::AzurePgFlexible, Preset::RdsReplica, Preset::CloudSql] {
        let explorer = planned(preset).finally("the writer is protected", move |truth, ()| {
            truth.member("weu").is_some_and(|member| member.protections() == wanted)
        });
        ends(preset, "planned", &explorer);
    }
    // A service that cannot turn them on: somebody owes it.
    let bare = Service { lifecycle: false, ..Preset::AzurePgFlexible.service() };
    let explorer = Explorer::new(setup(Preset::AzurePgFlexible).service(bare), PlannedSwitchover::to("weu"));
    let played = ends(Preset::AzurePgFlexible, "without a way to protect", &explorer);
    let RunEnd::Ended(RunOutcome::SucceededWithDebt { debts }) = &played.end else { panic!("{}", played.end.words()) };
    assert!(debts.iter().any(|debt| debt.contains("weu, the new writer, has: high availability")), "{debts:?}");
}

/// Readers are never left on a member that does not receive: they go to the former primary once it follows, and to the writer until then.
#[test]
fn readers_are_sent_to_the_standby_of_the_new_writer() {
    for (preset, explorer, to) in [
        (Preset::AzurePgFlexible, planned(Preset::AzurePgFlexible), "neu"),
        (Preset::RdsReplica, planned(Preset::RdsReplica), "weu"),
        (Preset::CloudSql, region_lost(Preset::CloudSql), "weu"),
        (Preset::PatronilessPostgres, server_died(Preset::PatronilessPostgres), "neu"),
    ] {
        let explorer = explorer
            .finally("readers have what the writer writes", move |truth, ()| truth.readers(0) == [MemberId::new(to)]);
        ends(preset, "readers", &explorer);
    }
}

/// What the storage of a former primary had and its successor had not is thrown away when the provider rebuilds it: it is copied first.
#[test]
fn what_a_rebuilt_member_lost_is_kept() {
    let explorer = server_died(Preset::AuroraGlobal).finally("every lost write is kept", |truth, ()| {
        let lost = u64::try_from(truth.lost_acknowledged().len()).unwrap_or(u64::MAX);
        let kept: u64 = truth.kept().iter().map(|(_, writes)| writes).sum();
        lost > 0 && kept == lost
    });
    ends(Preset::AuroraGlobal, "forced", &explorer);
}

/// One old answer said that the stream of a dead primary lives, and the failover was refused at once instead of looked at again.
#[test]
fn bug_one_old_answer_about_a_stream_refuses_no_failover() {
    let explorer = server_died(Preset::PatronilessPostgres);
    for look in 1..=4 {
        let line = format!("{} weu.replication#{look}:F9", explorer.scenario());
        explorer.replay(&line).unwrap().assert_clean();
    }
}

/// A call that was on its way when the orchestrator died took effect after the first look, and was sent again: the member was busy with
/// the first one, and somebody owed a standby that came by itself.
#[test]
fn bug_a_call_that_was_on_its_way_at_a_kill_is_waited_for() {
    let in_place = Service { rejoin: Rejoin::InPlace, ..Preset::RdsReplica.service() };
    let explorer = Explorer::new(setup(Preset::RdsReplica).service(in_place), PlannedSwitchover::to("weu"));
    let appends = explorer.play(&FaultPlan::none()).appends;
    for append in appends.saturating_sub(12)..=appends {
        let verdict = explorer.replay(&format!("{} journal.append#{append}:F16-before", explorer.scenario())).unwrap();
        assert!(verdict.is_clean(), "{verdict}");
    }
}

/// The new writer was confirmed, and applications were sent to it, before the provider restarted it.
#[test]
fn bug_the_writer_is_confirmed_after_its_reboot() {
    for (what, explorer) in [("planned", planned(Preset::RdsReplica)), ("forced", server_died(Preset::RdsReplica))] {
        let explorer = explorer.finally("applications are sent to a writer that has restarted", |truth, ()| {
            let at = |wanted: &dyn Fn(&TruthLine) -> bool| truth.log().iter().position(wanted);
            let back = at(&|line| line.what == "weu" && line.text == "is back after its restart");
            let sent = at(&|line| line.kind == ChangeKind::Secret);
            back.is_some() && sent > back
        });
        ends(Preset::RdsReplica, what, &explorer);
    }
}

/// The former primary of a replica never follows it: somebody owes a new standby, and its fence stays up and is owed too.
#[test]
fn a_standby_that_has_to_be_made_anew_is_owed_with_the_fence() {
    let explorer = planned(Preset::RdsReplica).finally("the former primary stays fenced", |truth, ()| {
        truth.member("neu").is_some_and(|member| member.is_fenced() && !member.takes_commits())
    });
    let played = ends(Preset::RdsReplica, "planned", &explorer);
    let RunEnd::Ended(RunOutcome::SucceededWithDebt { debts }) = &played.end else { panic!("{}", played.end.words()) };
    let owed = |words: &str| debts.iter().any(|debt| debt.contains(words));
    assert!(owed("make a standby of the new writer") && owed("the fence of neu"), "{debts:?}");
}

/// A service that stops no member with standbys had no use for its stop: the fence list refused to be engaged before the promotion. It is
/// a fence of its own now, behind the promotion, and says until when it stands.
#[test]
fn bug_a_stop_that_cannot_precede_the_promotion_is_engaged_behind_it() {
    for (what, explorer) in [("planned", planned(Preset::RdsReplica)), ("forced", server_died(Preset::RdsReplica))] {
        let explorer = explorer.finally("the former primary is stopped, after the promotion", |truth, ()| {
            let at = |wanted: &dyn Fn(&TruthLine) -> bool| truth.log().iter().position(wanted);
            let stopped =
                at(&|line| line.what == "neu" && ["stopped cleanly", "kept down"].contains(&line.text.as_str()));
            let promoted = at(&|line| line.kind == ChangeKind::Promoted);
            stopped.is_some() && promoted.is_some() && stopped > promoted
        });
        let played = ends(Preset::RdsReplica, what, &explorer);
        assert!(!played.end.words().contains("is not stopped"), "{what}: {}", played.end.words());
    }
    // Somebody moves the server while it is to be stopped: that look is no look at the fence, and people are told to look.
    for call in ["app.resume#1", "neu.fence.engage/stop-alone#1"] {
        let line = format!("{} {call}:F22-place", planned(Preset::RdsReplica).scenario());
        planned(Preset::RdsReplica).replay(&line).unwrap().assert_clean();
    }
    // In the dark it cannot be had, and is owed.
    let played = region_lost_unfenced().play(&FaultPlan::none());
    let RunEnd::Ended(RunOutcome::SucceededWithDebt { debts }) = &played.end else { panic!("{}", played.end.words()) };
    assert!(debts.iter().any(|debt| debt.starts_with("neu is not stopped")), "{debts:?}");
}

/// The management plane called the dead server healthy and the metric of the stream had ended with it: nobody could say that the primary
/// was down, and the failover could never be asked for. Two people who know say it; it is one more place, and outweighs no answer.
#[test]
fn bug_a_death_that_only_people_can_see_is_attested() {
    for preset in [Preset::SqlManagedInstance, Preset::AuroraGlobal] {
        let flattered = Service { flatters: true, ..preset.service() };
        let failover = || Explorer::new(setup(preset).service(flattered), UnplannedFailover::to("weu"));
        let dead = failover().given(|cloud| cloud.break_down("neu"));
        let played = ends(preset, "attested", &dead);
        assert_eq!(played.asked, 2, "{preset}: whether it is down, and whether to fail over");
        obeys_the_laws(preset, "attested", &dead);
        // It comes back while people think, and after they said so: its own answer outweighs their word.
        let mut outweighed = 0;
        for after in (70..130).step_by(10) {
            let returns = move |cloud: &SimCloud| {
                cloud.break_down("neu");
                cloud.comes_back("neu", seconds(after));
            };
            let played = failover().given(returns).play(&FaultPlan::none());
            assert_eq!(played.violations, [], "{preset}, back after {after} s: {}", played.end.words());
            outweighed += usize::from(played.asked > 0 && played.state.promotions == 0);
        }
        assert!(outweighed > 0, "{preset}: nobody came back in time");
    }
}

/// The region of a replica's primary is lost, and nobody can fence it.
fn region_lost_unfenced() -> Explorer {
    let failover = UnplannedFailover::to("weu").without_fence("the region is dark");
    Explorer::new(setup(Preset::RdsReplica), failover).given(|cloud| cloud.lose_region("neu")).noticed_after(minutes(1))
}

/// The last snapshot was taken between the answer and the drain: when it ended, the consent was over, and people were asked again.
#[test]
fn bug_a_long_snapshot_voids_no_consent() {
    let blocks = Preset::RdsReplica.service();
    assert!(blocks.snapshot_blocks);
    for service in [blocks, Service { snapshot_blocks: false, ..blocks }] {
        let explorer = Explorer::new(setup(Preset::RdsReplica).service(service), PlannedSwitchover::to("weu"));
        let explorer = explorer.finally("the snapshot was taken", |truth, ()| {
            truth.log().iter().any(|line| line.what == "snapshot" && line.kind == ChangeKind::Ended)
        });
        let played = ends(Preset::RdsReplica, "long snapshot", &explorer);
        assert_eq!(played.asked, 1, "people were asked again, because a snapshot took long");
    }
}

/// The provider told how far the standby was behind, and the loss was called unknown, because nobody told log positions.
#[test]
fn bug_a_lag_bounds_the_loss_where_nobody_tells_positions() {
    for preset in [Preset::SqlManagedInstance, Preset::AuroraGlobal] {
        let played = ends(preset, "forced", &server_died(preset));
        let Loss::AtMost { because, .. } = &played.loss else { panic!("{preset}: {}", played.loss) };
        assert!(because.starts_with("weu was 0.4 s behind when its provider measured it at"), "{because}");
    }
}

/// A colleague swapped the roles in the portal a moment after the run's intent was durable, and its own call was lost. Histories are not
/// counted there: the run called the swap its own.
#[test]
fn bug_a_colleagues_swap_is_not_called_the_runs_own() {
    for preset in [Preset::SqlManagedInstance, Preset::AuroraGlobal] {
        let explorer = planned(preset);
        let played = explorer.play(&FaultPlan::one("weu.swap-roles#1", Fault::Overtaken));
        let words = played.end.words();
        assert_eq!(played.end.class(), "parked", "{preset}: {words}");
        assert!(words.contains("`weu` was made the writer by another caller"), "{preset}: {words}");
        // The same with a reply that is lost while the call gets through: the record says that it was ours.
        let lost = explorer.play(&FaultPlan::one("weu.swap-roles#1", Fault::LostReply));
        assert_eq!((lost.end.class(), &lost.violations), ("success", &Vec::new()), "{preset}: {}", lost.end.words());
    }
}

/// Aurora names no operation: that it gave a swap up could not be asked, and the run parked although nothing had changed.
#[test]
fn bug_a_swap_without_a_name_that_was_given_up_is_turned_back() {
    assert!(!Preset::AuroraGlobal.service().names_operations);
    let given_up = FaultPlan::one("weu.swap-roles#1", Fault::OperationFails(FailsHow::Absent));
    let played = planned(Preset::AuroraGlobal).play(&given_up);
    let words = played.end.words();
    assert_eq!((played.end.class(), &played.violations), ("turned back", &Vec::new()), "{words}");
    assert!(words.contains("the provider gave it up"), "{words}");
}

/// Clients that waited for longer than their limit were told so by a call that no plan named.
#[test]
fn bug_the_plan_names_the_call_that_turns_clients_away() {
    let held = Setup { drain_expires: false, ..setup(Preset::AzurePgFlexible) };
    let played = ends(Preset::AzurePgFlexible, "planned", &Explorer::new(held, PlannedSwitchover::to("weu")));
    assert!(played.calls.iter().any(|call| call.name.starts_with("app.fail-fast")), "nobody was turned away");
}

/// Where only the provider tells who follows whom, one answer from before the promotion parked the run behind it.
#[test]
fn bug_an_answer_from_before_the_promotion_does_not_unmake_the_writer() {
    let explorer = planned(Preset::AuroraGlobal);
    let looks =
        explorer.play(&FaultPlan::none()).calls.iter().filter(|call| call.name.starts_with("weu.describe#")).count();
    for look in looks.saturating_sub(12)..=looks {
        let verdict = explorer.replay(&format!("{} weu.describe#{look}:F9", explorer.scenario())).unwrap();
        assert!(verdict.is_clean(), "{verdict}");
    }
}

/// A pool that keeps its connections open while the tier is drained kept the provider's own swap from being asked for.
#[test]
fn bug_a_pool_of_idle_sessions_does_not_block_the_providers_swap() {
    for preset in [Preset::AzurePgFlexible, Preset::SqlManagedInstance, Preset::CloudSql, Preset::AuroraGlobal] {
        ends(preset, "idle pool", &planned(preset).given(|cloud| cloud.tweak("neu", Tweak::Stray(20))));
    }
}

/// Nobody could end the sessions of a group that names no application tier: its swap waited for zero until it was turned back.
#[test]
fn bug_a_group_without_an_application_tier_is_swapped_by_its_provider() {
    for preset in [Preset::AzurePgFlexible, Preset::SqlManagedInstance, Preset::CloudSql, Preset::AuroraGlobal] {
        let setup = Setup { tier: false, ..setup(preset) };
        let explorer = Explorer::new(setup, PlannedSwitchover::to("weu"));
        ends(preset, "without a tier", &explorer);
        explorer.every_nth_fault(SAMPLE).assert_clean();
    }
}

/// The time that a provider may take was counted from a drain that held nothing back: a look that hung before the swap left it too
/// little, and it gave up.
#[test]
fn bug_a_hung_look_takes_nothing_from_a_swap_for_which_nobody_waits_yet() {
    let setup = Setup { tier: false, ..setup(Preset::CloudSql) };
    let explorer = Explorer::new(setup, PlannedSwitchover::to("weu"));
    explorer.replay(&format!("{} weu.probe.group-lock#2:F2", explorer.scenario())).unwrap().assert_clean();
}

/// Links may name the endpoint of a member that answers.
#[test]
fn links_by_endpoint_mean_the_members() {
    let setup = sim::pair("orders", "neu", "weu").service(Service { edges: Edges::Endpoint, ..Service::default() });
    let verdict = Explorer::new(setup, PlannedSwitchover::to("weu")).every_nth_fault(SAMPLE);
    assert_eq!(verdict.ends.get("never ended"), None, "{verdict}");
    verdict.assert_clean();
}

/// A logical copy names the host and port of its source. With the source's whole site dark nobody could say whom that means, and the
/// copy followed a stranger: no failover could be planned when it was needed most.
#[test]
fn bug_a_copy_of_a_dark_site_followed_a_stranger() {
    let failover = UnplannedFailover::to("weu").without_fence("the site is dark");
    let explorer = Explorer::new(setup(Preset::CloudSqlExternal), failover)
        .given(|cloud| cloud.lose_region("neu"))
        .noticed_after(minutes(1));
    let played = ends(Preset::CloudSqlExternal, "dark site", &explorer);
    let RunEnd::Ended(RunOutcome::SucceededWithDebt { debts }) = &played.end else { panic!("{}", played.end.words()) };
    assert!(debts.iter().any(|debt| debt.contains("fence neu")), "{debts:?}");
    let kills = explorer.every_nth_crash(SAMPLE / 4);
    assert_eq!(kills.ends.get("success"), Some(&kills.schedules), "{kills}");
    kills.assert_clean();
}

/// A logical copy keeps the history that it had, so its new role does not tell whose promotion it was. The provider's record does, and
/// without one the run waits for two people.
#[test]
fn whose_promotion_of_a_copy_it_was_its_provider_tells() {
    let explorer = planned(Preset::CloudSqlExternal);
    let by = |explorer: &Explorer, fault| explorer.play(&FaultPlan::one("weu.promote#1", fault));
    let overtaken = by(&explorer, Fault::Overtaken);
    assert_eq!(overtaken.end.class(), "parked", "{}", overtaken.end.words());
    assert!(overtaken.end.words().contains("`weu` was made the writer by another caller"), "{}", overtaken.end.words());
    let lost = by(&explorer, Fault::LostReply);
    assert_eq!((lost.end.class(), &lost.violations), ("success", &Vec::new()), "{}", lost.end.words());
    let silent = Service { attribution: None, ..Preset::CloudSqlExternal.service() };
    let explorer = Explorer::new(setup(Preset::CloudSqlExternal).service(silent), PlannedSwitchover::to("weu"));
    let unsaid = by(&explorer, Fault::LostReply);
    assert_eq!((unsaid.end.class(), &unsaid.violations), ("parked", &Vec::new()), "{}", unsaid.end.words());
}

/// What broke after the last look at the rejoin was held against the run, because a later look at the same member had sent readers on.
#[test]
fn bug_a_look_that_sends_readers_on_is_no_look_at_the_rejoin() {
    let explorer = server_died(Preset::PatronilessPostgres);
    for how in ["stalled", "frozen"] {
        explorer.replay(&format!("{} neu.fence.retire#1:F25-{how}", explorer.scenario())).unwrap().assert_clean();
    }
}
