//! Who follows whom: the texts of configurations and rows, compared with the members by what they mean.
//!
//! A name is resolved before it is compared, and what the other side says counts more than an address: a tunnel, a relay or a second
//! network shows one server under several addresses. What cannot be decided is told with both texts, and stays a stranger.

use std::time::Duration;

use dr_core::contract::ReplicationLink;
use dr_sql::{Addresses, Follows, Link, PgError, Place, Sender, Session, is_row_of};
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use crate::{
    database::PostgresDatabase,
    member::{Peer, slot_name},
};

/// How long another member is asked about an edge. One that does not answer contradicts nothing.
const PEER_LIMIT: Duration = Duration::from_secs(2);

/// What the member at the other end of an edge says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It knows this edge.
    Agrees,
    /// It answers, and knows nothing of it.
    Denies,
    /// It does not answer, or cannot know.
    Silent,
}

impl PostgresDatabase {
    /// Whom a standby follows: as its receiver says, else as its configuration says, which outlives the primary.
    pub(crate) async fn upstream(&self, session: &Session) -> Result<ReplicationLink, PgError> {
        let says = session.follows().await?;
        let places = says.connected.iter().cloned().chain(says.configured.iter().cloned()).collect::<Vec<_>>();
        if places.is_empty() {
            let archive = "the archive only (restore_command is set, primary_conninfo is empty)";
            return Ok(ReplicationLink::unknown(if says.archive { archive } else { "nobody" }));
        }
        // While the receiver runs, only the place where it is connected counts.
        let places = says.connected.clone().map_or(places, |place| vec![place]);
        let written: Vec<&Peer> = self.peers_where(|peer| places.iter().any(|place| is_written(place, peer)));
        if let [peer] = written.as_slice() {
            return Ok(ReplicationLink::physical(peer.address.clone()));
        }
        let meant = self.meant(&places).await;
        let words = join_all(self.member.peers.iter().zip(&self.member.peer_links).map(|(peer, link)| {
            let (says, met) = (&says, meant.contains(&peer.name));
            async move { (peer, met, sends_to(link, session, says).await) }
        }))
        .await;
        let is = |wanted: fn(bool, Word) -> bool| -> Vec<&Peer> {
            words.iter().filter(|(_, met, word)| wanted(*met, *word)).map(|(peer, ..)| *peer).collect()
        };
        let agreed = is(|met, word| met && word == Word::Agrees);
        let found = [agreed, is(|met, word| met && word == Word::Silent), is(|_, word| word == Word::Agrees)];
        match found.iter().find(|peers| !peers.is_empty()).map(Vec::as_slice) {
            Some([peer]) => Ok(ReplicationLink::physical(peer.address.clone())),
            Some(_) | None => Ok(ReplicationLink::unknown(self.undecided(&places).await)),
        }
    }

    fn peers_where(&self, wanted: impl Fn(&Peer) -> bool) -> Vec<&Peer> {
        self.member.peers.iter().filter(|peer| wanted(peer)).collect()
    }

    /// The peers whose addresses meet those of `places`. A loopback address means the standby's own machine, wherever that is.
    async fn meant(&self, places: &[Place]) -> Vec<dr_core::MemberId> {
        let resolver = &self.member.resolver;
        let own = resolver.addresses(&self.own_place()).await;
        let mut found = Vec::new();
        for place in places {
            let there = resolver.addresses(place).await;
            let there = if there.loopback() { own.clone() } else { there };
            for peer in self.member.peers.iter().filter(|peer| peer.target.port == place.port) {
                if resolver.addresses(&peer_place(peer)).await.meet(&there) {
                    found.push(peer.name.clone());
                }
            }
        }
        found
    }

    fn own_place(&self) -> Place {
        let target = self.member.link.target();
        Place::new(target.host.clone(), target.port)
    }

    async fn undecided(&self, places: &[Place]) -> String {
        let resolver = &self.member.resolver;
        let mut texts = Vec::new();
        for place in places {
            texts.push(format!("{place} ({})", resolver.addresses(place).await.text()));
        }
        let mut members = Vec::new();
        for peer in &self.member.peers {
            let place = peer_place(peer);
            members.push(format!("`{}` at {place} ({})", peer.name, resolver.addresses(&place).await.text()));
        }
        format!("{}, which cannot be told to be {}", texts.join(" or "), members.join(" or "))
    }

    /// The standbys that follow. A row is a member by its application name or slot, or because the member says so; else, when just one
    /// peer that is not found yet has its address and says nothing else, that one; else it is told as it is, so that nobody overlooks it.
    pub(crate) async fn followers(&self, session: &Session) -> Result<Vec<ReplicationLink>, PgError> {
        let mut rest: Vec<(&Peer, &Link)> = self.member.peers.iter().zip(&self.member.peer_links).collect();
        let mut found = Vec::new();
        let mut strangers = Vec::new();
        for row in session.senders().await? {
            let named = rest.iter().position(|(peer, _)| {
                row.name == peer.name.as_str() || row.slot.as_deref() == Some(&slot_name(peer.name.as_str()))
            });
            match named {
                Some(index) => found.push(ReplicationLink::physical(rest.swap_remove(index).0.address.clone())),
                None => strangers.push(row),
            }
        }
        for row in strangers {
            match self.who_is(session, &row, &rest).await {
                Some(index) => found.push(ReplicationLink::physical(rest.swap_remove(index).0.address.clone())),
                None => found.push(ReplicationLink::unknown(stranger(&row))),
            }
        }
        Ok(found)
    }

    async fn who_is(&self, session: &Session, row: &Sender, rest: &[(&Peer, &Link)]) -> Option<usize> {
        let port = self.own_place().port;
        let words =
            join_all(
                rest.iter().map(|(peer, link)| {
                    let from = peer_place(peer);
                    async move {
                        join(self.member.resolver.addresses(&from), receives_from(link, session, (row, port))).await
                    }
                }),
            )
            .await;
        let address = row.address.as_deref().unwrap_or("::1");
        let near = |there: &Addresses| there.contain(address);
        let pick = |wanted: &dyn Fn(&(Addresses, Word)) -> bool| -> Vec<usize> {
            words.iter().enumerate().filter(|(_, word)| wanted(word)).map(|(index, _)| index).collect()
        };
        let agreed = pick(&|(there, word)| *word == Word::Agrees && near(there));
        let agreed = if agreed.is_empty() { pick(&|(_, word)| *word == Word::Agrees) } else { agreed };
        let silent = pick(&|(there, word)| *word == Word::Silent && near(there));
        match (agreed.as_slice(), silent.as_slice()) {
            ([index], _) | ([], [index]) => Some(*index),
            _ => None,
        }
    }
}

fn peer_place(peer: &Peer) -> Place {
    Place::new(peer.target.host.clone(), peer.target.port)
}

fn is_written(place: &Place, peer: &Peer) -> bool {
    place.is_written(&peer.target.host, peer.target.port)
}

fn stranger(row: &Sender) -> String {
    let slot = row.slot.as_ref().map_or_else(String::new, |slot| format!(" (slot `{slot}`)"));
    format!("{}@{}{slot}", row.name, row.address.as_deref().unwrap_or("a local socket"))
}

/// Whether the server behind `link` has the standby `own` among its senders.
async fn sends_to(link: &Link, own: &Session, says: &Follows) -> Word {
    let asked = timeout(PEER_LIMIT, async {
        let peer = link.session().await?;
        let (theirs, mine, rows) = (peer.identity().await?, own.identity().await?, peer.senders().await?);
        Ok::<_, PgError>((
            theirs.system_identifier == mine.system_identifier,
            rows.iter().any(|row| is_row_of(row, says)),
        ))
    });
    match asked.await {
        Err(_) | Ok(Err(_)) => Word::Silent,
        Ok(Ok((false, _))) => Word::Denies,
        Ok(Ok((true, true))) => Word::Agrees,
        // Without a running receiver there is no row to find.
        Ok(Ok((true, false))) if says.connected.is_none() => Word::Silent,
        Ok(Ok((true, false))) => Word::Denies,
    }
}

/// Whether the server behind `link` says that it receives what `own` sends with this row from its port.
async fn receives_from(link: &Link, own: &Session, (row, port): (&Sender, u16)) -> Word {
    let asked = timeout(PEER_LIMIT, async {
        let peer = link.session().await?;
        let (theirs, mine, says) = (peer.identity().await?, own.identity().await?, peer.follows().await?);
        Ok::<_, PgError>((theirs.in_recovery && theirs.system_identifier == mine.system_identifier, says))
    });
    match asked.await {
        Err(_) | Ok(Err(_)) => Word::Silent,
        Ok(Ok((false, _))) => Word::Denies,
        Ok(Ok((true, says))) => match &says.connected {
            None => Word::Silent,
            Some(_) if row.slot.is_some() && is_row_of(row, &says) => Word::Agrees,
            Some(place) if place.port == port && is_row_of(row, &says) => Word::Agrees,
            Some(_) => Word::Denies,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dr_sql::{Reader, is_row_of};

    fn row(name: &str, slot: Option<&str>) -> Sender {
        Sender {
            reader: Reader::Standby,
            name: name.into(),
            address: Some("10.0.0.2".into()),
            slot: slot.map(Into::into),
            streaming: true,
            flushed: None,
            replayed: None,
            replay_lag: None,
            sync_state: "async".into(),
        }
    }

    #[test]
    fn a_row_belongs_to_a_standby_by_its_slot_else_by_its_name() {
        let says = |slot: Option<&str>| Follows {
            connected: Some(Place::new("localhost", 5432)),
            configured: Vec::new(),
            slot: slot.map(Into::into),
            name: "walreceiver".into(),
            archive: false,
        };
        assert!(is_row_of(&row("anything", Some("dr_pg2")), &says(Some("dr_pg2"))));
        assert!(!is_row_of(&row("walreceiver", Some("dr_pg3")), &says(Some("dr_pg2"))));
        assert!(is_row_of(&row("walreceiver", None), &says(None)));
        assert!(!is_row_of(&row("walreceiver", Some("dr_pg3")), &says(None)));
        assert!(!is_row_of(&row("pg3", None), &says(None)));
        assert_eq!(stranger(&row("wal-e", Some("s"))), "wal-e@10.0.0.2 (slot `s`)");
    }
}
