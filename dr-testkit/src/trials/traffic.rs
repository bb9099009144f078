//! What a route does, and says.

use dr_core::{
    Outcome, ProviderError, TrafficRouter, Tri,
    contract::{Effort, RehearseRoute, RouteReading},
};

use super::{
    Case, Contract,
    Need::{Part as Has, Power as Can},
    Part, Power, Side, Stop, Verb, trials,
};

const ROUTE: super::Need = Has(Part::Route);

trials! { Contract::TrafficRouter;
    AsItWas reads "read::leads_to_the_writer"
        shows "Where it sends now." needs [ROUTE];
    Changed applies "apply::sends_to_the_writer"
        shows "Sends to the writer." needs [ROUTE];
    Changed twice "apply::saying_it_twice_is_no_change"
        shows "saying it twice is no change" needs [ROUTE];
    AsItWas stays "apply::the_present_writer_is_no_change"
        shows "Asks that a route send to one member, and to no other." needs [ROUTE];
    Changed apply_lost "apply::a_lost_reply_is_unknown"
        shows "It was sent, and there is no proof either way. Only a look decides what happens next."
        needs [ROUTE, Can(Power::LoseReply(Verb::Apply))];
    AsItWas no_login "write::without_a_login_it_is_not_offered"
        shows "without a login of an application ([`ApplicationSpec`](crate::contract::ApplicationSpec)): `Unsupported`"
        needs [ROUTE, Has(Part::NoRouteLogin)];
    AsItWas writes "write::an_application_writes_through_every_part"
        shows "Makes one write through every part of the route (every pooler process), as an application makes it."
        needs [ROUTE, Has(Part::RouteLogin)];
    Changed refused "write::a_refusal_has_the_servers_words"
        shows "a refused write is `accepted: No` with the server's words"
        needs [ROUTE, Has(Part::RouteLogin), Can(Power::RefuseOnPrimary)];
    AsItWas samples "sample::answers_what_was_seen"
        shows "about `samples` values, or all that were seen at once; fewer where fewer could be seen, none where nobody was connected"
        needs [ROUTE];
    AsItWas rehearses "rehearse::compares_with_the_present_writer"
        shows "Tries and compares what sending to another writer will need: what is written is what counts, every part can be asked."
        needs [ROUTE];
    AsItWas manual "manual::names_commands"
        shows "How often it may be looked at." needs [ROUTE];
}

async fn read(c: &Case, route: &dyn TrafficRouter) -> Result<RouteReading, Stop> {
    c.ok("the route is read", route.read().await)
}

async fn reads(c: &Case) -> Result<(), Stop> {
    let seen = read(c, c.route()?.as_ref()).await?;
    c.same("it leads to the primary", &seen.member.as_ref(), &Some(&c.pair.primary.member));
    c.same("every part agrees", &seen.settled, &Tri::Yes);
    c.holds("people are told what was seen", !seen.detail.is_empty(), &seen.detail);
    c.holds("the answer does not come from the future", seen.at <= c.clock().now_wall(), &seen.at);
    Ok(())
}

/// The route leads to `side`, everywhere.
async fn leads_to(c: &Case, route: &dyn TrafficRouter, side: Side) -> Result<(), Stop> {
    let wanted = &c.pair.seat(side).member;
    let look = || async {
        let seen = route.read().await.ok()?;
        (seen.member.as_ref() == Some(wanted) && seen.settled == Tri::Yes).then_some(())
    };
    c.until("every part leads to the writer of the proof", look).await
}

async fn applies(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    let outcome = route.apply(c.route_request(Side::Standby).await?).await;
    c.holds("the request is taken", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    leads_to(c, route.as_ref(), Side::Standby).await
}

async fn twice(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    for _ in 0..2_u8 {
        let outcome = route.apply(c.route_request(Side::Standby).await?).await;
        c.holds("the request is taken", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
        leads_to(c, route.as_ref(), Side::Standby).await?;
    }
    c.settle_view().await;
    let seen = read(c, route.as_ref()).await?;
    c.same("it leads where it was told, not to and fro", &seen.member.as_ref(), &Some(&c.pair.standby.member));
    Ok(())
}

async fn stays(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    let before = read(c, route.as_ref()).await?;
    let outcome = route.apply(c.route_request(Side::Primary).await?).await;
    c.holds("the request is taken", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    c.settle_view().await;
    let after = read(c, route.as_ref()).await?;
    c.same("it leads where it led", &after.member, &before.member);
    c.same("it was settled all the time", &after.settled, &Tri::Yes);
    Ok(())
}

async fn apply_lost(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    let request = c.route_request(Side::Standby).await?;
    c.act(Power::LoseReply(Verb::Apply)).await?;
    let outcome = route.apply(request).await;
    c.holds("without a reply nobody knows", matches!(outcome, Outcome::Unknown(_)), &outcome);
    leads_to(c, route.as_ref(), Side::Standby).await
}

async fn no_login(c: &Case) -> Result<(), Stop> {
    let told = c.route()?.write().await;
    c.holds("without a login it is not offered", matches!(told, Err(ProviderError::Unsupported { .. })), &told);
    Ok(())
}

async fn writes(c: &Case) -> Result<(), Stop> {
    let probes = c.ok("an application writes through the route", c.route()?.write().await)?;
    c.holds("every part was tried", !probes.is_empty(), &probes);
    c.holds("every part takes it", probes.iter().all(|probe| probe.accepted == Tri::Yes), &probes);
    Ok(())
}

async fn refused(c: &Case) -> Result<(), Stop> {
    c.act(Power::RefuseOnPrimary).await?;
    let probes = c.ok("an application writes through the route", c.route()?.write().await)?;
    // A pooler may keep its client waiting instead: then nobody refused, and nobody took it.
    c.holds("no part says that it was taken", probes.iter().all(|probe| probe.accepted != Tri::Yes), &probes);
    c.holds("the server's words are told", probes.iter().all(|probe| !probe.detail.is_empty()), &probes);
    Ok(())
}

async fn samples(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    // Behind a pooler there is something to see once somebody has come through.
    let connected = route.write().await.is_ok();
    match route.sample(3).await {
        Ok(seen) => {
            let none_other = seen.iter().flatten().all(|member| *member == c.pair.primary.member);
            c.holds("nobody but the primary answers", none_other, &seen);
            c.holds("who came through is seen", !connected || seen.iter().any(Option::is_some), &seen);
        }
        Err(error) => c.holds("or it is not offered", matches!(error, ProviderError::Unsupported { .. }), &error),
    }
    Ok(())
}

async fn rehearses(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    let (here, there) = (c.pair.primary.member.clone(), c.pair.standby.member.clone());
    let request = RehearseRoute { from: here.clone(), to: there.clone(), effort: Effort::Try };
    let found = c.ok("the route rehearses", route.rehearse(&request).await)?;
    c.holds("nothing speaks against the change", found.obstacles.is_empty(), &found.obstacles);
    let wrong = RehearseRoute { from: there, to: here, effort: Effort::Look };
    let found = c.ok("the route rehearses another one", route.rehearse(&wrong).await)?;
    let told = !found.obstacles.is_empty() || !found.untried.is_empty();
    c.holds("a route that leads elsewhere is an obstacle, or untried", told, &found);
    let seen = read(c, route.as_ref()).await?;
    c.same("it leads where it led", &seen.member.as_ref(), &Some(&c.pair.primary.member));
    Ok(())
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let route = c.route()?;
    c.holds("the change has a command", !route.manual("apply").is_empty(), &route.manual("apply"));
    c.holds("a pause between looks is named", route.poll_every().count() > 0, &route.poll_every());
    Ok(())
}
