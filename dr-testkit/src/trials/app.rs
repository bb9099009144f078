//! What an application tier does, and says.

use dr_core::{
    Outcome, ProviderError, Tri,
    contract::{DrainRequest, ScaleRequest},
    millis, seconds,
};

use super::{
    Case, Contract,
    Need::{Part as Has, Power as Can, Sight as Sees},
    Part, Power, Side, Sight, Stop, Verb, trials,
};

const APP: super::Need = Has(Part::App);

trials! { Contract::AppTier;
    AsItWas limits "limit::is_named"
        shows "How long a drain may last at most before clients see errors (`query_wait_timeout` and the like)." needs [APP];
    AsItWas reads "read::an_open_tier_is_open"
        shows "Whether writes of applications are held back, everywhere." needs [APP];
    Changed drains "drain::drained_means_that_nobody_writes"
        shows "Holds writes back." needs [APP, Sees(Sight::Acknowledged)];
    Changed drained_twice "drain::a_drained_tier_does_not_change"
        shows "draining a drained tier is no change" needs [APP];
    Changed resumes "resume::applications_write_again"
        shows "Lets writes through again." needs [APP, Sees(Sight::Acknowledged), Can(Power::Write)];
    AsItWas resumed_twice "resume::a_running_tier_does_not_change"
        shows "resuming a running tier is no change" needs [APP];
    Changed expires "drain::ends_by_itself_or_not_as_it_says"
        shows "Whether a drain ends by itself when its budget is over, without us." needs [APP];
    Changed fails_fast "fail_fast::clients_are_told"
        shows "Turns a drain whose budget is over into quick errors: clients are told, they no longer hang." needs [APP];
    Changed scales "scale::the_same_capacity_twice_is_one_change"
        shows "the same capacity twice is one change" needs [APP];
    Changed scaled "scale::done_means_healthy"
        shows "done only when as many parts are healthy" needs [APP];
    Changed recycles "recycle::applications_write_on"
        shows "it is no drain: applications write on" needs [APP, Sees(Sight::Acknowledged), Can(Power::Write)];
    Changed recycled_drained "recycle::a_drained_tier_stays_drained"
        shows "a drained tier stays drained" needs [APP];
    Changed drain_lost "drain::a_lost_reply_is_unknown"
        shows "It was sent, and there is no proof either way. Only a look decides what happens next."
        needs [APP, Can(Power::LoseReply(Verb::Drain))];
    AsItWas manual "manual::names_commands"
        shows "How often it may be looked at." needs [APP];
}

async fn limits(c: &Case) -> Result<(), Stop> {
    let limit = c.ok("the limit is told", c.app()?.limit().await)?;
    c.holds("there is time for a drain", limit > millis(0), &limit);
    let again = c.ok("it is told again", c.app()?.limit().await)?;
    c.same("and is the same", &again, &limit);
    Ok(())
}

async fn reads(c: &Case) -> Result<(), Stop> {
    let seen = c.ok("the tier is read", c.app()?.read().await)?;
    c.same("nothing is held back", &seen.drained, &Tri::No);
    c.holds("no part differs from the others", seen.stragglers.is_empty(), &seen.stragglers);
    c.same("nothing expires", &seen.expires, &None);
    c.holds("the answer does not come from the future", seen.at <= c.clock().now_wall(), &seen.at);
    Ok(())
}

async fn drains(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let before = c.see(Sight::Acknowledged).await?;
    c.sleep(millis(200)).await;
    c.same("nobody writes any more", &c.see(Sight::Acknowledged).await?, &before);
    let seen = c.ok("the tier is read", c.app()?.read().await)?;
    c.holds("no part was left out", seen.stragglers.is_empty(), &seen.stragglers);
    Ok(())
}

async fn drained_twice(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let app = c.app()?;
    let before = c.ok("the tier is read", app.read().await)?;
    let request = DrainRequest { budget: seconds(5), within: seconds(3), key: c.key("drain") };
    let again = app.drain(request).await;
    c.holds("a drained tier may be drained", matches!(again, Outcome::Done(()) | Outcome::Accepted(_)), &again);
    let after = c.ok("the tier is read again", app.read().await)?;
    c.same("it is still drained", &after.drained, &Tri::Yes);
    c.same("it ends when it would have", &after.expires, &before.expires);
    c.resume(Side::Primary).await
}

async fn resumes(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let before = c.see(Sight::Acknowledged).await?;
    c.resume(Side::Primary).await?;
    c.act(Power::Write).await?;
    let after = c.see(Sight::Acknowledged).await?;
    c.holds("applications write again", after > before, &(before, after));
    let seen = c.ok("the tier is read", c.app()?.read().await)?;
    c.holds("no part was forgotten", seen.stragglers.is_empty(), &seen.stragglers);
    Ok(())
}

async fn resumed_twice(c: &Case) -> Result<(), Stop> {
    c.resume(Side::Primary).await?;
    c.resume(Side::Primary).await?;
    reads(c).await
}

async fn expires(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    let request = DrainRequest { budget: seconds(2), within: seconds(1), key: c.key("short") };
    let outcome = app.drain(request).await;
    c.holds("the tier takes the drain", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    c.sleep(millis(2500)).await;
    let seen = c.ok("the tier is read after the budget", app.read().await)?;
    if app.drain_expires_by_itself() {
        c.same("the drain has ended by itself", &seen.drained, &Tri::No);
    } else {
        c.holds("the drain waits for whoever ends it", seen.drained != Tri::No, &seen.drained);
    }
    c.resume(Side::Primary).await
}

async fn fails_fast(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let outcome = c.app()?.fail_fast().await;
    let said = matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_) | Outcome::NotDone(_));
    c.holds("it is done, or not offered", said, &outcome);
    let seen = c.ok("the tier is read", c.app()?.read().await)?;
    c.holds("writes are not let through by it", seen.drained != Tri::No, &seen.drained);
    c.resume(Side::Primary).await
}

impl Case {
    /// A tier that does not scale has no parts to count, and says so, or counts them truly.
    async fn does_not_scale(&self) -> Result<(), Stop> {
        let told = self.app()?.health().await;
        let honest = match &told {
            Ok(health) => health.healthy <= health.capacity,
            Err(error) => matches!(error, ProviderError::Unsupported { .. }),
        };
        self.holds("what does not scale tells no capacity, or a possible one", honest, &told);
        Ok(())
    }
}

async fn scales(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    for words in ["the tier is scaled", "and to the same once more"] {
        let told = app.scale(ScaleRequest { capacity: 3, key: c.key("scale") }).await;
        if told == Outcome::unsupported("scale") {
            return c.does_not_scale().await;
        }
        c.holds(words, matches!(told, Outcome::Done(()) | Outcome::Accepted(_)), &told);
    }
    let look = || async { app.health().await.ok().filter(|health| health.capacity == 3) };
    c.until("it has that capacity, and no other", look).await.map(drop)
}

async fn scaled(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    let told = app.scale(ScaleRequest { capacity: 4, key: c.key("scale") }).await;
    if told == Outcome::unsupported("scale") {
        return c.does_not_scale().await;
    }
    if told == Outcome::Done(()) {
        let health = c.ok("the tier says how it is", app.health().await)?;
        c.same("what is called done is healthy", &health.healthy, &4);
    }
    let look = || async { app.health().await.ok().filter(|health| health.capacity == 4 && health.is_whole()) };
    c.until("every part is healthy", look).await.map(drop)
}

async fn recycles(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    let told = app.recycle(c.recycling(Side::Primary).await?).await;
    if told == Outcome::unsupported("recycle") {
        return Ok(());
    }
    c.holds("pools are recycled", matches!(told, Outcome::Done(()) | Outcome::Accepted(_)), &told);
    let before = c.see(Sight::Acknowledged).await?;
    c.act(Power::Write).await?;
    let after = c.see(Sight::Acknowledged).await?;
    c.holds("applications write on", after > before, &(before, after));
    Ok(())
}

async fn recycled_drained(c: &Case) -> Result<(), Stop> {
    c.drain().await?;
    let app = c.app()?;
    let told = app.recycle(c.recycling(Side::Primary).await?).await;
    if told != Outcome::unsupported("recycle") {
        let seen = c.ok("the tier is read", app.read().await)?;
        c.same("it is still drained", &seen.drained, &Tri::Yes);
    }
    c.resume(Side::Primary).await
}

async fn drain_lost(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    c.act(Power::LoseReply(Verb::Drain)).await?;
    let outcome = app.drain(DrainRequest { budget: seconds(5), within: seconds(3), key: c.key("drain") }).await;
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    let look = || async { app.read().await.ok().filter(|reading| reading.drained == Tri::Yes) };
    c.until("a look finds the drain", look).await.map(drop)
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let app = c.app()?;
    for verb in ["drain", "resume"] {
        c.holds("the verb has a command", !app.manual(verb).is_empty(), &verb);
    }
    c.holds("a pause between looks is named", app.poll_every().count() > 0, &app.poll_every());
    Ok(())
}
