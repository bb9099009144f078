//! Wrong backends: each breaks the contract in one way, as a thin wrapper over the simulated one. Trials that do not find them show
//! nothing.

mod around;
mod database;

use std::{collections::BTreeSet, sync::Arc};

use dr_core::contract::Runtime;

use super::{Pair, SimSubject};
use crate::Halt;

/// How a backend is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// An unreachable service is told as a missing resource.
    SwallowsUnreachable,
    /// A lag that nobody knows is told as zero.
    LiesAboutLag,
    /// A promotion of a primary is taken.
    PromotesWithoutLooking,
    /// A promotion that was accepted is told as done.
    IsDoneEarly,
    /// An operation that goes on is told as finished.
    FinishesEarly,
    /// A lost reply is told as "not done".
    HidesLostReplies,
    /// A member takes where it is found for which resource it is.
    NamesItselfByAddress,
    /// An old description gets a new time.
    StampsOldRoles,
    /// Describing a member changes something on it.
    TidiesWhileLooking,
    /// A rejoin discards what only the member has, whatever the request says.
    DiscardsSilently,
    /// Every change of a role is called the caller's own.
    CallsAllItsOwn,
    /// A snapshot gets another name than it was asked for.
    RenamesSnapshots,
    /// A restore brings the newest point, whatever was asked for.
    RestoresAnotherPoint,
    /// A member whose end was accepted is told as destroyed.
    SaysDestroyedEarly,
    /// A protection that nobody tells is told as off.
    TakesSilenceForOff,
    /// Sequences are told to be raised, and are not.
    RaisesNothing,
    /// A logical copy tells positions of its own for those of its source.
    TellsOwnPositions,
    /// A fence does not know that it is engaged.
    ForgetsFence,
    /// A fence calls itself engaged after it was lifted.
    RemembersFence,
    /// A fence promises in the dark what it cannot keep there.
    PromisesInTheDark,
    /// A fence calls a state known that it could not read.
    ClaimsToKnow,
    /// A fence follows the order for another member.
    ReleasesOthers,
    /// A new writer is told to be cleared of a fence, and is not.
    ForgetsToClear,
    /// A silent server is told to have refused a write.
    TakesSilenceForNo,
    /// The lock of somebody else is not seen.
    IgnoresRivals,
    /// Counts sessions with an open transaction as idle.
    CountsAllAsIdle,
    /// Nothing was ever written after any position.
    SaysNothingWasWritten,
    /// A table that is not there adds up to nothing.
    AddsUpNothing,
    /// A secret is written under a new key each time.
    DropsTheKey,
    /// A secret is written whatever its version is.
    IgnoresTheVersion,
    /// A rotation leaves no version but the new one.
    ForgetsOldCredentials,
    /// A capacity is added to the present one.
    AddsToTheCapacity,
    /// A route is switched to the other member, each time.
    TogglesTraffic,
    /// A route is moved without looking at the proof.
    MovesTrafficBlindly,
    /// Readers are sent to more members, and taken away from none.
    AddsReaders,
    /// A tier is told as drained while its work still runs.
    SaysDrainedEarly,
    /// Each notice is a new one.
    TellsTwice,
    /// A seal is answered and not made.
    SealsNothing,
}

/// What the trials said of a wrong backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it is wrong.
    pub wrong: Wrong,
    /// The trials that found it.
    pub failed: BTreeSet<String>,
}

impl Verdict {
    /// Whether exactly the trials that match it failed.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.failed.iter().map(String::as_str).eq(self.wrong.fails().iter().copied())
    }
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::SwallowsUnreachable,
        Self::LiesAboutLag,
        Self::PromotesWithoutLooking,
        Self::IsDoneEarly,
        Self::FinishesEarly,
        Self::HidesLostReplies,
        Self::NamesItselfByAddress,
        Self::StampsOldRoles,
        Self::TidiesWhileLooking,
        Self::DiscardsSilently,
        Self::CallsAllItsOwn,
        Self::RenamesSnapshots,
        Self::RestoresAnotherPoint,
        Self::SaysDestroyedEarly,
        Self::TakesSilenceForOff,
        Self::RaisesNothing,
        Self::TellsOwnPositions,
        Self::ForgetsFence,
        Self::RemembersFence,
        Self::PromisesInTheDark,
        Self::ClaimsToKnow,
        Self::ReleasesOthers,
        Self::ForgetsToClear,
        Self::TakesSilenceForNo,
        Self::IgnoresRivals,
        Self::CountsAllAsIdle,
        Self::SaysNothingWasWritten,
        Self::AddsUpNothing,
        Self::DropsTheKey,
        Self::IgnoresTheVersion,
        Self::ForgetsOldCredentials,
        Self::AddsToTheCapacity,
        Self::TogglesTraffic,
        Self::MovesTrafficBlindly,
        Self::AddsReaders,
        Self::SaysDrainedEarly,
        Self::TellsTwice,
        Self::SealsNothing,
    ];

    /// Its name and, sorted, the trials that must fail on it; no others may.
    const fn row(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::SwallowsUnreachable => {
                ("wrong.swallows-unreachable", &["database::describe::silence_is_not_absence"])
            }
            Self::LiesAboutLag => ("wrong.lies-about-lag", &["database::replication::a_cut_stream_has_no_lag"]),
            Self::PromotesWithoutLooking => {
                ("wrong.promotes-without-looking", &["database::promote::a_primary_is_a_conflict"])
            }
            Self::IsDoneEarly => ("wrong.is-done-early", &["database::promote::answers_before_it_is_done"]),
            Self::FinishesEarly => ("wrong.finishes-early", END_OF_AN_OPERATION),
            Self::HidesLostReplies => ("wrong.hides-lost-replies", &["database::promote::a_lost_reply_is_unknown"]),
            Self::NamesItselfByAddress => ("wrong.names-itself-by-address", IDENTITY),
            Self::StampsOldRoles => ("wrong.stamps-old-roles", TIME_OF_A_ROLE),
            Self::TidiesWhileLooking => {
                ("wrong.tidies-while-looking", &["database::describe::looking_changes_nothing"])
            }
            Self::DiscardsSilently => ("wrong.discards-silently", &["database::rejoin::keeps_what_only_it_has"]),
            Self::CallsAllItsOwn => ("wrong.calls-all-its-own", BY_HAND),
            Self::RenamesSnapshots => ("wrong.renames-snapshots", &["database::snapshot::the_same_name_twice_is_one"]),
            Self::RestoresAnotherPoint => ("wrong.restores-another-point", ANOTHER_POINT),
            Self::SaysDestroyedEarly => ("wrong.says-destroyed-early", DESTROYED_EARLY),
            Self::TakesSilenceForOff => ("wrong.takes-silence-for-off", &["database::protections::silence_is_not_off"]),
            Self::RaisesNothing => ("wrong.raises-nothing", SEQUENCES),
            Self::TellsOwnPositions => ("wrong.tells-own-positions", OWN_POSITIONS),
            Self::ForgetsFence => ("wrong.forgets-a-fence", UNREAD_FENCE),
            Self::RemembersFence => ("wrong.remembers-a-fence", &["fence::inspect::sees_a_fence_lifted_by_hand"]),
            Self::PromisesInTheDark => ("wrong.promises-in-the-dark", &["fence::offers::nothing_over_a_closed_way"]),
            Self::ClaimsToKnow => ("wrong.claims-to-know", &["fence::prepare::claims_to_know_only_what_was_read"]),
            Self::ReleasesOthers => {
                ("wrong.releases-others", &["fence::release::an_order_for_another_member_is_not_followed"])
            }
            Self::ForgetsToClear => ("wrong.forgets-to-clear", CARRIED_FENCE),
            Self::TakesSilenceForNo => ("wrong.takes-silence-for-no", &["probe::write::no_answer_is_unknown"]),
            Self::IgnoresRivals => ("wrong.ignores-rivals", &["probe::group_lock::is_taken_once"]),
            Self::CountsAllAsIdle => {
                ("wrong.counts-all-as-idle", &["probe::writing_sessions::tells_open_transactions_apart"])
            }
            Self::SaysNothingWasWritten => {
                ("wrong.says-nothing-was-written", &["probe::writes_since::an_acknowledged_write_is_never_denied"])
            }
            Self::AddsUpNothing => ("wrong.adds-up-nothing", &["probe::checksum::a_missing_table_is_refused"]),
            Self::DropsTheKey => ("wrong.drops-the-key", KEY_OF_A_SECRET),
            Self::IgnoresTheVersion => ("wrong.ignores-the-version", VERSION_OF_A_SECRET),
            Self::ForgetsOldCredentials => ("wrong.forgets-old-credentials", ROTATION),
            Self::AddsToTheCapacity => ("wrong.adds-to-the-capacity", CAPACITY),
            Self::TogglesTraffic => ("wrong.toggles-traffic", ROUTE_TWICE),
            Self::MovesTrafficBlindly => {
                ("wrong.moves-traffic-blindly", &["traffic::apply::the_present_writer_is_no_change"])
            }
            Self::AddsReaders => ("wrong.adds-readers", ADDED_READERS),
            Self::SaysDrainedEarly => ("wrong.says-drained-early", &["app::drain::drained_means_that_nobody_writes"]),
            Self::TellsTwice => ("wrong.tells-twice", &["notifier::notify::the_same_key_twice_is_one_notice"]),
            Self::SealsNothing => ("wrong.seals-nothing", &["evidence::seal::is_there_when_it_is_answered"]),
        }
    }

    /// Its name, such as `wrong.lies-about-lag`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The trials that must fail on it, sorted. No others may.
    #[must_use]
    pub const fn fails(self) -> &'static [&'static str] {
        self.row().1
    }

    /// The pair behind a backend that is wrong in this way.
    #[must_use]
    pub(super) fn around(self, pair: Pair, clock: &Arc<dyn Runtime>) -> Pair {
        around::pair(self, pair, clock)
    }

    /// The simulated backend that is made wrong.
    fn on(self) -> &'static str {
        if self == Self::ForgetsToClear {
            "sim.separate-login"
        } else if self == Self::TellsOwnPositions {
            "sim.logical-copy"
        } else {
            "sim.separate"
        }
    }

    /// Runs every trial on it.
    ///
    /// # Errors
    /// The simulation did not come to an end.
    pub fn judge(self) -> Result<Verdict, Halt> {
        let subject = SimSubject::all().into_iter().find(|subject| subject.name == self.on());
        let report = subject.map(|subject| subject.run(Some(self))).transpose()?;
        let failed = report.iter().flat_map(|report| report.failed().into_iter().map(str::to_owned)).collect();
        Ok(Verdict { wrong: self, failed })
    }
}

const SEQUENCES: &[&str] = &[
    "database::raise_sequences::an_unknown_sequence_is_refused",
    "database::raise_sequences::goes_on_beyond_the_floor",
];
/// What cannot be shown where nothing proves that a copy has everything: a promotion behind a fence.
const OWN_POSITIONS: &[&str] = &[
    "database::describe::an_old_role_has_an_old_time",
    "database::promote::a_copy_goes_on_as_another_system",
    "database::replication::a_copy_tells_positions_of_its_source",
    "database::replication::applies_what_is_written",
    "fence::engage::the_standby_gets_everything",
    "fence::travels::a_fence_that_stays_leaves_the_new_writer_open",
];
const ANOTHER_POINT: &[&str] =
    &["database::restore::a_point_outside_is_refused", "database::restore::has_what_was_acknowledged_and_no_more"];
const DESTROYED_EARLY: &[&str] = &["database::destroy::done_means_missing", "database::destroy::keeps_the_data_first"];
/// What cannot be shown where a provider does not know the identity that it tells: nothing is destroyed by it.
const IDENTITY: &[&str] = &[
    "database::describe::a_resource_made_anew_is_another_one",
    "database::destroy::done_means_missing",
    "database::destroy::keeps_the_data_first",
];
const ADDED_READERS: &[&str] =
    &["readers::spread::asking_again_is_no_change", "readers::spread::to_these_and_to_nobody_else"];
const BY_HAND: &[&str] = &["database::attribution::a_change_by_hand_is_not_ours"];

/// What cannot be shown where a fence that travelled is never taken away.
const CARRIED_FENCE: &[&str] = &[
    "fence::clear::a_cleared_writer_does_not_change",
    "fence::clear::a_former_primary_keeps_its_fence",
    "fence::clear::a_lost_reply_is_unknown",
    "fence::clear::the_applications_are_let_in",
];

const KEY_OF_A_SECRET: &[&str] =
    &["secret::patch::the_same_token_twice_is_one_version", "secret::read::tells_the_token_of_the_last_write"];
const VERSION_OF_A_SECRET: &[&str] =
    &["secret::patch::a_write_by_hand_is_a_conflict", "secret::patch::another_version_is_a_conflict"];
const ROUTE_TWICE: &[&str] =
    &["traffic::apply::saying_it_twice_is_no_change", "traffic::apply::the_present_writer_is_no_change"];
const ROTATION: &[&str] = &["secret::rotate::sent_twice_is_one", "secret::rotate::the_version_before_stays_valid"];
const CAPACITY: &[&str] = &["app::scale::done_means_healthy", "app::scale::the_same_capacity_twice_is_one_change"];
const END_OF_AN_OPERATION: &[&str] = &[
    "database::destroy::keeps_the_data_first",
    "database::harden::asked_again_it_changes_nothing",
    "database::poll::finished_is_true",
    "database::rejoin::done_means_streaming",
    "database::restore::has_what_was_acknowledged_and_no_more",
];
const TIME_OF_A_ROLE: &[&str] =
    &["database::describe::an_old_role_has_an_old_time", "database::describe::sees_a_promotion_by_hand"];

/// What cannot be shown where no look ever finds a fence engaged: everything that comes after fencing.
const UNREAD_FENCE: &[&str] = &[
    "database::describe::an_old_role_has_an_old_time",
    "database::promote::begins_a_new_generation",
    "database::rejoin::done_means_streaming",
    "database::rejoin::keeps_what_only_it_has",
    "fence::engage::a_lost_reply_is_unknown",
    "fence::engage::an_engaged_fence_does_not_change",
    "fence::engage::is_worth_what_it_promises",
    "fence::engage::stops_the_applications_path",
    "fence::engage::the_standby_gets_everything",
    "fence::inspect::only_a_clean_stop_tells_an_end",
    "fence::inspect::sees_a_fence_lifted_by_hand",
    "fence::inspect::the_end_does_not_move",
    "fence::place::is_engaged_while_a_standby_follows",
    "fence::release::a_released_fence_does_not_change",
    "fence::release::an_order_for_another_member_is_not_followed",
    "fence::release::the_member_writes_again",
    "fence::retire::a_primary_keeps_its_fence",
    "fence::retire::a_standby_needs_none",
    "fence::travels::a_fence_that_stays_leaves_the_new_writer_open",
    "probe::position::says_where_histories_parted",
];
