//! How members are made, restored, protected, kept and destroyed.

use dr_core::{
    ManagedDatabase, Outcome, ProviderError, Target, Tri,
    base::Int64,
    contract::{
        CreateReplica, Description, HardenRequest, Hardening, PreserveRequest, Protection, Protections, RaiseSequences,
        RecoveryPoint, RestoreRequest, Retry, Sequences, Table,
    },
    minutes,
};

use super::{
    Case, Contract,
    Need::{Offer as Offers, Part as Has, Power as Can},
    Offer, Part, Power, Seat, Side, Stop,
    database::follows,
    probe::offered,
    trials,
};

trials! { Contract::ManagedDatabase;
    Changed created "create::done_means_streaming"
        shows "done only when it streams from its source, which was read and not changed"
        needs [Offers(Offer::Create), Has(Part::Anew)];
    AsItWas made_before "create::a_member_that_exists_stays"
        shows "on a member that exists it changes nothing: `Conflict`, or done where that member is a standby of the source"
        needs [Offers(Offer::Create)];
    AsItWas window "recovery_window::lies_in_the_past"
        shows "`latest` lies in no future, and `earliest` not after it" needs [Offers(Offer::Restore)];
    Changed restored "restore::has_what_was_acknowledged_and_no_more"
        shows "everything that the source acknowledged up to the point is in it, and nothing that came later"
        needs [Offers(Offer::Restore), Has(Part::Anew), Has(Part::Table), Can(Power::Write)];
    AsItWas restored_over "restore::a_member_that_exists_stays"
        shows "a restore makes a new resource: on a member that exists, `Conflict`, and it keeps what it has"
        needs [Offers(Offer::Restore)];
    AsItWas outside "restore::a_point_outside_is_refused"
        shows "a point outside the window is refused for ever" needs [Offers(Offer::Restore), Has(Part::Anew)];
    Changed other_identity "destroy::another_resource_is_not_touched"
        shows "a resource with another identity than the proof's is not touched: `Conflict`"
        needs [Offers(Offer::Destroy), Can(Power::MakeAnew)];
    Changed destroyed "destroy::done_means_missing"
        shows "done only when the provider calls it missing; one that is missing already is done"
        needs [Offers(Offer::Destroy)];
    Changed kept "destroy::keeps_the_data_first"
        shows "a name to keep the data under is a snapshot before the end, or nothing is destroyed"
        needs [Offers(Offer::Destroy)];
    Changed hardened "harden::turns_on_what_is_asked_for"
        shows "what is on already, and what was not asked for, stays as it is" needs [Offers(Offer::Harden)];
    Changed hardened_twice "harden::asked_again_it_changes_nothing"
        shows "asked again, it changes nothing" needs [Offers(Offer::Harden)];
    Changed not_told "protections::silence_is_not_off"
        shows "what the provider does not tell is `Unknown`, never off"
        needs [Offers(Offer::Harden), Can(Power::DarkManagement)];
    AsItWas nothing_kept "preserve::nothing_is_kept_without_a_loss"
        shows "without anything kept since then it is `NotDone`, for now: it may come when the member returns"
        needs [Offers(Offer::Preserve)];
    Changed preserved "preserve::one_copy_under_its_name"
        shows "the same name twice is one copy, and [`has_snapshot`](Self::has_snapshot) finds it"
        needs [Offers(Offer::Preserve), Can(Power::CutReplication), Can(Power::Write), Can(Power::BreakPrimary)];
    Changed raised "raise_sequences::goes_on_beyond_the_floor"
        shows "none is ever lowered" needs [];
    Changed no_sequence "raise_sequences::an_unknown_sequence_is_refused"
        shows "a floor of a sequence that this member does not have is refused by name, and nothing is raised" needs [];
}

/// Longer than anybody keeps backups by default.
const LONG: dr_core::Millis = minutes(90 * 24 * 60);

/// What was asked for goes on or is done.
fn taken(outcome: &Outcome<()>) -> bool {
    matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_))
}

impl Case {
    fn anew(&self) -> Result<Seat, Stop> {
        self.pair.anew.clone().ok_or(Stop)
    }

    /// One side as its provider identifies it.
    async fn pinned(&self, side: Side) -> Result<Target, Stop> {
        let told = self.described(side).await?;
        Ok(Target { identity: told.identity, ..self.target(side).await? })
    }

    async fn create_request(&self) -> Result<CreateReplica, Stop> {
        Ok(CreateReplica { source: self.pinned(Side::Primary).await?, key: self.key("create") })
    }

    async fn protections(&self, side: Side) -> Result<Protections, Stop> {
        let told = self.pair.seat(side).provider.database.protections().await;
        self.ok("the protections are told", told)
    }

    /// The one protection that the standby lacks and its backend can turn on.
    async fn wish(&self) -> Result<Hardening, Stop> {
        let seen = self.protections(Side::Standby).await?;
        let can = self.offers.harden.clone().map(|offer| offer.can).unwrap_or_default();
        let lacks = can.into_iter().find(|protection| seen.has(*protection, Some(LONG)) != Tri::Yes);
        let wish = self.some("there is a protection that it lacks", lacks)?;
        let none = Hardening::default();
        Ok(match wish {
            Protection::HighAvailability => Hardening { high_availability: true, ..none },
            Protection::DeletionProtection => Hardening { deletion_protection: true, ..none },
            Protection::PointInTime => Hardening { point_in_time: true, ..none },
            Protection::Retention => Hardening { retention: Some(LONG), ..none },
        })
    }

    async fn harden(&self, want: Hardening) -> Result<(), Stop> {
        let request = HardenRequest { target: self.pinned(Side::Standby).await?, want, key: self.key("harden") };
        let database = self.pair.standby.provider.database.as_ref();
        self.finish(database, database.harden(request).await).await
    }

    async fn rows(&self, seat: &Seat, table: &Table) -> Result<i64, Stop> {
        let sums = seat.provider.probe.checksum(std::slice::from_ref(table)).await;
        let sums = self.ok("the rows are counted", sums)?;
        self.some("the table is counted", sums.get(table).map(|sum| sum.rows.0))
    }

    async fn is_missing(&self, words: &'static str, seat: &Seat) -> Result<(), Stop> {
        let database = seat.provider.database.as_ref();
        let look = || async { matches!(database.describe().await, Err(ProviderError::Missing { .. })).then_some(()) };
        self.until(words, look).await
    }
}

/// It is described as it was, but for who follows it and when.
fn same(before: &Description, after: &Description) -> bool {
    (&before.identity, &before.lineage, &before.follows, before.writable)
        == (&after.identity, &after.lineage, &after.follows, after.writable)
}

async fn created(c: &Case) -> Result<(), Stop> {
    let (new, before) = (c.anew()?, c.described(Side::Primary).await?);
    c.is_missing("it does not exist before", &new).await?;
    let database = new.provider.database.as_ref();
    let outcome = database.create_replica(c.create_request().await?).await;
    c.finish(database, outcome).await?;
    let look = || async { database.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes) };
    c.until("what is done streams", look).await?;
    let primary = c.described(Side::Primary).await?;
    let look = || async { database.describe().await.ok().filter(|told| follows(told, &primary)) };
    c.until("it follows its source", look).await?;
    c.holds("its source is as it was", same(&before, &primary), &(before, primary));
    let written = c.ok("the source is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("its source takes writes", &written.accepted, &Tri::Yes);
    let again = database.create_replica(c.create_request().await?).await;
    c.holds("asked again, it is no second one", taken(&again), &again);
    Ok(())
}

async fn made_before(c: &Case) -> Result<(), Stop> {
    let before = c.described(Side::Standby).await?;
    let standby = c.pair.standby.provider.database.as_ref();
    let outcome = standby.create_replica(c.create_request().await?).await;
    c.same("a standby of the source is there already", &outcome, &Outcome::Done(()));
    let source = c.pinned(Side::Standby).await?;
    let primary = c.pair.primary.provider.database.as_ref();
    let outcome = primary.create_replica(CreateReplica { source, key: c.key("create") }).await;
    c.holds("the primary is not made a standby", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.settle_view().await;
    let now = c.described(Side::Standby).await?;
    c.holds("the standby is as it was", same(&before, &now), &(before, now));
    let written = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes writes", &written.accepted, &Tri::Yes);
    Ok(())
}

async fn window(c: &Case) -> Result<(), Stop> {
    let told = c.pair.primary.provider.database.recovery_window().await;
    let window = c.ok("the window of the backups is told", told)?;
    c.holds("it ends in the past", window.latest <= c.clock().now_wall(), &window);
    c.holds("it does not end before it begins", window.earliest <= window.latest, &window);
    Ok(())
}

async fn restored(c: &Case) -> Result<(), Stop> {
    let (new, table) = (c.anew()?, c.some("there is a table", c.pair.table.clone())?);
    c.act(Power::Write).await?;
    let least = c.rows(&c.pair.primary, &table).await?;
    // The rows are counted a little before and after, so that the point lies between in any case.
    c.settle_view().await;
    let point = RecoveryPoint { source: c.pinned(Side::Primary).await?, at: c.clock().now_wall() };
    c.settle_view().await;
    let most = c.rows(&c.pair.primary, &table).await?;
    let backups = c.pair.primary.provider.database.as_ref();
    let look = || async { backups.recovery_window().await.ok().filter(|window| window.holds(point.at)) };
    c.until("the backups reach the point", look).await?;
    c.act(Power::Write).await?;
    c.settle_view().await;
    let later = c.rows(&c.pair.primary, &table).await?;
    c.holds("there is something that came later", later > most, &(most, later));
    let database = new.provider.database.as_ref();
    let outcome = database.restore(RestoreRequest { point: point.clone(), key: c.key("restore") }).await;
    c.finish(database, outcome).await?;
    let found = c.rows(&new, &table).await?;
    c.holds("nothing that was acknowledged before is missing", found >= least, &(least, found));
    c.holds("nothing that came later is in it", found <= most, &(most, found));
    stands_alone(c, &new, &point).await
}

/// A restored member is a resource of its own, and its source goes on.
async fn stands_alone(c: &Case, new: &Seat, point: &RecoveryPoint) -> Result<(), Stop> {
    let database = new.provider.database.as_ref();
    let told = c.until("it is described", || async { database.describe().await.ok() }).await?;
    c.same("it follows nobody", &told.follows, &None);
    let other = told.lineage.as_ref() != Some(&point.source.lineage) && told.identity != point.source.identity;
    c.holds("it is another resource with a history of its own", other, &(told.lineage, told.identity));
    let written = c.ok("the source is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("its source takes writes", &written.accepted, &Tri::Yes);
    Ok(())
}

async fn restored_over(c: &Case) -> Result<(), Stop> {
    let before = c.described(Side::Standby).await?;
    let window = c.ok("the window is told", c.pair.primary.provider.database.recovery_window().await)?;
    let point = RecoveryPoint { source: c.pinned(Side::Primary).await?, at: window.latest };
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.restore(RestoreRequest { point, key: c.key("restore") }).await;
    c.holds("what exists is not restored over", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.settle_view().await;
    let now = c.described(Side::Standby).await?;
    c.holds("it is as it was", same(&before, &now), &(before, now));
    Ok(())
}

async fn outside(c: &Case) -> Result<(), Stop> {
    let new = c.anew()?;
    let source = c.pinned(Side::Primary).await?;
    let window = c.ok("the window is told", c.pair.primary.provider.database.recovery_window().await)?;
    let database = new.provider.database.as_ref();
    for at in [window.latest + minutes(24 * 60), dr_core::Timestamp::from_millis(window.earliest.millis() - 86_400_000)]
    {
        let point = RecoveryPoint { source: source.clone(), at };
        let outcome = database.restore(RestoreRequest { point, key: c.key("restore") }).await;
        let for_ever = matches!(&outcome, Outcome::NotDone(reason) if reason.retry == Retry::Never);
        c.holds("a point that no backup reaches is refused", for_ever, &outcome);
    }
    c.is_missing("nothing was made", &new).await
}

async fn other_identity(c: &Case) -> Result<(), Stop> {
    let request = c.destroy_request("destroy").await?;
    c.act(Power::MakeAnew).await?;
    c.settle_view().await;
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.destroy(request).await;
    c.holds("another resource is a conflict", matches!(outcome, Outcome::Conflict(_)), &outcome);
    c.settle_view().await;
    let now = c.described(Side::Standby).await?;
    c.holds("it is still there", now.follows.is_some(), &now.follows);
    Ok(())
}

async fn destroyed(c: &Case) -> Result<(), Stop> {
    let (first, second) = (c.destroy_request("destroy").await?, c.destroy_request("destroy").await?);
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.destroy(first).await;
    if outcome == Outcome::Done(()) {
        let told = database.describe().await;
        let gone = matches!(told, Err(ProviderError::Missing { .. }));
        c.holds("what is called done is missing", gone, &told.map(|told| told.status));
    }
    c.finish(database, outcome).await?;
    c.is_missing("the provider calls it missing", &c.pair.standby).await?;
    let again = database.destroy(second).await;
    c.same("what is missing already is done", &again, &Outcome::Done(()));
    let written = c.ok("the primary is tried", c.pair.primary.provider.probe.write().await)?;
    c.same("the primary takes writes", &written.accepted, &Tri::Yes);
    Ok(())
}

async fn kept(c: &Case) -> Result<(), Stop> {
    let offers = c.offers.destroy.is_some_and(|offer| offer.last_snapshot);
    let request = c.destroy_request("destroy").await?.keeping("trial-last");
    let database = c.pair.standby.provider.database.as_ref();
    let outcome = database.destroy(request).await;
    if !offers {
        c.holds("without a snapshot nothing is destroyed", matches!(outcome, Outcome::NotDone(_)), &outcome);
        return Ok(());
    }
    c.finish(database, outcome).await?;
    let there = c.ok("the snapshot is asked for", database.has_snapshot("trial-last").await)?;
    c.same("the data is kept under its name", &there, &Tri::Yes);
    Ok(())
}

async fn hardened(c: &Case) -> Result<(), Stop> {
    let (wish, before) = (c.wish().await?, c.protections(Side::Standby).await?);
    c.harden(wish).await?;
    let database = c.pair.standby.provider.database.as_ref();
    let look = || async { database.protections().await.ok().filter(|seen| wish.missing(seen).is_empty()) };
    let after = c.until("what was asked for is on", look).await?;
    let wanted = wish.wants();
    let others = Protection::ALL.into_iter().filter(|protection| !wanted.contains(protection));
    let kept =
        others.map(|protection| (before.has(protection, before.retention), after.has(protection, before.retention)));
    let kept: Vec<(Tri, Tri)> = kept.collect();
    c.holds("the others are as they were", kept.iter().all(|(was, is)| was == is), &kept);
    Ok(())
}

async fn hardened_twice(c: &Case) -> Result<(), Stop> {
    let wish = c.wish().await?;
    c.harden(wish).await?;
    let before = c.protections(Side::Standby).await?;
    let request = HardenRequest { target: c.pinned(Side::Standby).await?, want: wish, key: c.key("harden") };
    let again = c.pair.standby.provider.database.harden(request).await;
    c.same("asked again, it is done already", &again, &Outcome::Done(()));
    let after = c.protections(Side::Standby).await?;
    let all =
        |seen: Protections| (seen.high_availability, seen.deletion_protection, seen.point_in_time, seen.retention);
    c.same("nothing changed", &all(after), &all(before));
    Ok(())
}

async fn not_told(c: &Case) -> Result<(), Stop> {
    c.act(Power::DarkManagement).await?;
    let told = c.pair.primary.provider.database.protections().await;
    let off = |seen: &Protections| Protection::ALL.into_iter().any(|protection| seen.has(protection, None) == Tri::No);
    c.holds("who does not answer says nothing of protections", !told.as_ref().is_ok_and(off), &told);
    Ok(())
}

impl Case {
    async fn preserve_request(&self, since: dr_core::Timestamp) -> Result<PreserveRequest, Stop> {
        let Seat { member, address, .. } = self.pair.primary.clone();
        let lineage = self.target(Side::Standby).await?.lineage;
        let target = Target { member, address, identity: None, lineage, receives: None };
        Ok(PreserveRequest { target, name: "trial-lost".into(), since, key: self.key("preserve") })
    }
}

async fn nothing_kept(c: &Case) -> Result<(), Stop> {
    let request = c.preserve_request(c.clock().now_wall()).await?;
    let outcome = c.pair.primary.provider.database.preserve(request).await;
    let for_now = matches!(&outcome, Outcome::NotDone(reason) if reason.retry != Retry::Never);
    c.holds("nothing is kept yet", for_now, &outcome);
    Ok(())
}

async fn preserved(c: &Case) -> Result<(), Stop> {
    let since = c.clock().now_wall();
    c.act(Power::CutReplication).await?;
    c.act(Power::Write).await?;
    let (forced, promotion) = (c.forced_swap().await?, c.promotion(Side::Standby).await?);
    let request = c.preserve_request(since).await?;
    c.act(Power::BreakPrimary).await?;
    let new = c.pair.standby.provider.database.as_ref();
    let outcome =
        if c.offers.forced_swap.is_some() { new.swap_roles(forced).await } else { new.promote(promotion).await };
    c.finish(new, outcome).await?;
    let old: &dyn ManagedDatabase = c.pair.primary.provider.database.as_ref();
    let ask = || async { Some(old.preserve(request.clone()).await).filter(taken) };
    let outcome = c.until("what was lost is kept for a while", ask).await?;
    c.finish(old, outcome).await?;
    let there = c.ok("the copy is asked for", old.has_snapshot("trial-lost").await)?;
    c.same("the copy is found under its name", &there, &Tri::Yes);
    c.same("the same name again is done already", &old.preserve(request).await, &Outcome::Done(()));
    Ok(())
}

impl Case {
    /// The sequences of the primary; `None` where its probe tells none.
    async fn sequences(&self) -> Result<Option<Sequences>, Stop> {
        match offered(self, self.pair.primary.provider.probe.sequences().await) {
            Some(told) => Ok(Some(self.ok("the primary tells its sequences", told)?)),
            None => Ok(None),
        }
    }

    /// What became of the call; `None` where the verb is not offered.
    async fn raise(&self, floors: Sequences, ahead: u32) -> Result<Option<Outcome<()>>, Stop> {
        let target = self.pinned(Side::Primary).await?;
        let request = RaiseSequences { target, floors, ahead, key: self.key("raise-sequences") };
        let outcome = self.pair.primary.provider.database.raise_sequences(request).await;
        let verb = "raise-sequences";
        if outcome == Outcome::unsupported(verb) {
            self.holds("what is not offered has a name", true, &verb);
            return Ok(None);
        }
        Ok(Some(outcome))
    }
}

async fn raised(c: &Case) -> Result<(), Stop> {
    let Some(before) = c.sequences().await? else { return Ok(()) };
    let further = |(name, last): (&String, &Option<Int64>)| {
        let by = if before.down.contains(name) { -5 } else { 5 };
        (name.clone(), Some(Int64(last.map_or(0, |last| last.0).saturating_add(by))))
    };
    let floors = Sequences { values: before.values.iter().map(further).collect(), ..before.clone() };
    let Some(outcome) = c.raise(floors.clone(), 10).await? else { return Ok(()) };
    c.same("the sequences are raised", &outcome, &Outcome::Done(()));
    let Some(after) = c.sequences().await? else { return Err(Stop) };
    c.same("each is at its floor or beyond", &floors.ahead_of(&after), &Vec::new());
    let Some(again) = c.raise(before, 0).await? else { return Ok(()) };
    c.same("an older floor is reached already", &again, &Outcome::Done(()));
    let Some(last) = c.sequences().await? else { return Err(Stop) };
    c.same("none was lowered", &after.ahead_of(&last), &Vec::new());
    Ok(())
}

async fn no_sequence(c: &Case) -> Result<(), Stop> {
    let Some(before) = c.sequences().await? else { return Ok(()) };
    const NOBODY: &str = "public.a_sequence_of_nobody";
    let mut floors = Sequences { values: [(NOBODY.to_owned(), Some(Int64(7)))].into(), ..before.clone() };
    floors.values.extend(before.values.keys().map(|name| (name.clone(), Some(Int64(1_000_000)))));
    let Some(outcome) = c.raise(floors.clone(), 0).await? else { return Ok(()) };
    let named = matches!(&outcome, Outcome::NotDone(why) if why.cause.to_string().contains(NOBODY));
    c.holds("it is refused by name", named, &outcome);
    floors.values.remove(NOBODY);
    let Some(after) = c.sequences().await? else { return Err(Stop) };
    let raised = floors.values.keys().filter(|name| !floors.ahead_of(&after).contains(name)).count();
    c.same("nothing was raised", &raised, &0);
    Ok(())
}
