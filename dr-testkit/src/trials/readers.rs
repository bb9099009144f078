//! What a route for readers does, and says.

use std::{collections::BTreeSet, sync::Arc};

use dr_core::{
    MemberId, Outcome, Tri,
    contract::{ReadersReading, ReadersRouter, Retry, SpreadReaders},
};

use super::{
    Case, Contract,
    Need::{Part as Has, Power as Can},
    Part, Power, Side, Stop, trials,
};

const READERS: super::Need = Has(Part::Readers);

trials! { Contract::ReadersRouter;
    AsItWas reads "read::leads_to_standbys"
        shows "Where it sends now." needs [READERS];
    Changed stranger "read::a_stranger_leaves_it_unsettled"
        shows "an origin that is no member of the group leaves it unsettled, and `detail` names it"
        needs [READERS, Can(Power::StrangeReader)];
    Changed spreads "spread::to_these_and_to_nobody_else"
        shows "to all of them, and to nobody else" needs [READERS];
    Changed again "spread::asking_again_is_no_change"
        shows "asking again is no change" needs [READERS];
    AsItWas nobody "spread::to_nobody_is_refused"
        shows "to nobody: refused for ever" needs [READERS];
    AsItWas manual "manual::names_commands"
        shows "What a person would type to do `verb` without us." needs [READERS];
}

impl Case {
    fn readers(&self) -> Result<Arc<dyn ReadersRouter>, Stop> {
        self.pair.readers.clone().ok_or(Stop)
    }

    fn named(&self, sides: &[Side]) -> BTreeSet<MemberId> {
        sides.iter().map(|side| self.pair.seat(*side).member.clone()).collect()
    }

    async fn spread_request(&self, to: BTreeSet<MemberId>) -> Result<SpreadReaders, Stop> {
        Ok(SpreadReaders { to, writer: self.writer(Side::Primary).await?, key: self.key("readers") })
    }

    /// Sends readers to these sides, and waits until the route says so.
    async fn spread(&self, sides: &[Side]) -> Result<(), Stop> {
        let (route, to) = (self.readers()?, self.named(sides));
        let outcome = route.spread(self.spread_request(to.clone()).await?).await;
        self.holds("the route takes it", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
        let there = |seen: &ReadersReading| seen.members == to && seen.settled == Tri::Yes;
        let look = || async { route.read().await.ok().filter(there) };
        self.until("it leads to these members and to nobody else", look).await.map(drop)
    }
}

async fn reads(c: &Case) -> Result<(), Stop> {
    let seen = c.ok("the route is read", c.readers()?.read().await)?;
    c.same("it leads to the standby", &seen.members, &c.named(&[Side::Standby]));
    c.same("every part agrees", &seen.settled, &Tri::Yes);
    c.holds("people are told what was seen", !seen.detail.is_empty(), &seen.detail);
    c.holds("the answer does not come from the future", seen.at <= c.clock().now_wall(), &seen.at);
    Ok(())
}

async fn stranger(c: &Case) -> Result<(), Stop> {
    c.act(Power::StrangeReader).await?;
    let seen = c.ok("the route is read", c.readers()?.read().await)?;
    c.holds("it is not settled", seen.settled != Tri::Yes, &seen.settled);
    let known = c.named(&[Side::Primary, Side::Standby]);
    c.holds("only members are told as such", seen.members.is_subset(&known), &seen.members);
    c.holds("the stranger is named", seen.detail.contains("stranger"), &seen.detail);
    Ok(())
}

async fn spreads(c: &Case) -> Result<(), Stop> {
    for sides in [&[Side::Primary][..], &[Side::Primary, Side::Standby], &[Side::Standby]] {
        c.spread(sides).await?;
    }
    Ok(())
}

async fn again(c: &Case) -> Result<(), Stop> {
    c.spread(&[Side::Primary]).await?;
    let before = c.ok("the route is read", c.readers()?.read().await)?;
    let outcome = c.readers()?.spread(c.spread_request(c.named(&[Side::Primary])).await?).await;
    c.holds("asked again, it is taken", matches!(outcome, Outcome::Done(()) | Outcome::Accepted(_)), &outcome);
    c.settle_view().await;
    let after = c.ok("the route is read again", c.readers()?.read().await)?;
    c.same("it leads where it led", &after.members, &before.members);
    Ok(())
}

async fn nobody(c: &Case) -> Result<(), Stop> {
    let before = c.ok("the route is read", c.readers()?.read().await)?;
    let outcome = c.readers()?.spread(c.spread_request(BTreeSet::new()).await?).await;
    let for_ever = matches!(&outcome, Outcome::NotDone(reason) if reason.retry == Retry::Never);
    c.holds("to nobody is refused", for_ever, &outcome);
    c.settle_view().await;
    let after = c.ok("the route is read again", c.readers()?.read().await)?;
    c.same("it leads where it led", &after.members, &before.members);
    Ok(())
}

async fn manual(c: &Case) -> Result<(), Stop> {
    let route = c.readers()?;
    c.holds("a command is named", !route.manual("spread").is_empty(), &route.manual("spread"));
    c.holds("a pace is named", route.poll_every().count() > 0, &route.poll_every());
    Ok(())
}
