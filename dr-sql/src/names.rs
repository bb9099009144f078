//! Names and addresses: whether two texts mean one place.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::conninfo::ConnInfo;

/// How long a name server may take. A name that is not resolved in time has no addresses.
const LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is kept: a look inside a write gap waits for no name server.
const KEPT: Duration = Duration::from_secs(30);

/// A host and port as somebody wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Host name, address, or the directory of a socket.
    pub host: String,
    /// An address that is used in place of the host's.
    pub address: Option<String>,
    /// Port.
    pub port: u16,
}

impl Place {
    /// The place `host:port`.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), address: None, port }
    }

    /// Every place that a connection string names, in its order: `host`, `hostaddr` and `port` may be lists.
    pub fn all(info: &ConnInfo) -> Vec<Self> {
        let list =
            |key| -> Vec<&str> { info.get(key).map_or_else(Vec::new, |text| text.split(',').map(str::trim).collect()) };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let port = |index: usize| {
            let text = if ports.len() == 1 { ports.first() } else { ports.get(index) };
            text.and_then(|port| port.parse().ok()).unwrap_or(5432)
        };
        let place = |index: usize| {
            let filled = |all: &[&str]| all.get(index).filter(|text| !text.is_empty()).map(|text| (*text).to_owned());
            let address = filled(&addresses);
            Self { host: filled(&hosts).or_else(|| address.clone()).unwrap_or_default(), address, port: port(index) }
        };
        (0..hosts.len().max(addresses.len())).map(place).filter(|place| !place.host.is_empty()).collect()
    }

    /// Whether it is written in the same way.
    pub fn is_written(&self, host: &str, port: u16) -> bool {
        self.port == port && (self.host == host || self.address.as_deref() == Some(host))
    }

    /// What a name server is asked for.
    fn dialled(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.host)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Some(address) if *address != self.host => write!(f, "{}:{} ({address})", self.host, self.port),
            Some(_) | None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where a place leads, as seen from this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    /// Whether one of them is common to both. All loopback addresses are one machine.
    pub fn meet(&self, other: &Self) -> bool {
        (self.loopback() && other.loopback()) || !self.0.is_disjoint(&other.0)
    }

    /// Whether this address is one of them.
    pub fn contain(&self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let address = plain(address);
        self.0.contains(&address) || (address.is_loopback() && self.loopback())
    }

    /// Whether it means whichever machine resolves it.
    pub fn loopback(&self) -> bool {
        self.0.iter().any(IpAddr::is_loopback)
    }

    /// The addresses as text, for messages.
    pub fn text(&self) -> String {
        if self.0.is_empty() {
            return "which resolves to no address".into();
        }
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(all: I) -> Self {
        Self(all.into_iter().map(plain).collect())
    }
}

/// `::ffff:10.0.0.1` is `10.0.0.1`.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Asks the name server, and remembers the answers for a while.
#[derive(Debug, Default)]
pub struct Resolver {
    known: Mutex<Vec<(String, Instant, Addresses)>>,
}

impl Resolver {
    /// The addresses of a place. A socket's directory is this machine; a name that nobody resolves has none.
    pub async fn addresses(&self, place: &Place) -> Addresses {
        let name = place.dialled();
        if name.starts_with('/') || name.starts_with('@') {
            return [IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter().collect();
        }
        if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return [address].into_iter().collect();
        }
        if let Some(addresses) = self.remembered(name) {
            return addresses;
        }
        let asked = timeout(LIMIT, tokio::net::lookup_host((name, place.port))).await;
        let addresses: Addresses = match asked {
            Ok(Ok(all)) => all.map(|socket| socket.ip()).collect(),
            Ok(Err(_)) | Err(_) => Addresses::default(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _, _)| known != name);
        known.push((name.to_owned(), Instant::now(), addresses.clone()));
        addresses
    }

    fn remembered(&self, name: &str) -> Option<Addresses> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(known, since, _)| known == name && since.elapsed() < KEPT);
        found.map(|(_, _, addresses)| addresses.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(all: &[&str]) -> Addresses {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_connection_string_may_name_several_places() {
        let info = ConnInfo::parse("host=db1,db2 port=5433,5434 hostaddr=,10.0.0.2").unwrap();
        let all = Place::all(&info);
        assert_eq!(all[0], Place::new("db1", 5433));
        assert_eq!(all[1].to_string(), "db2:5434 (10.0.0.2)");
        assert!(all[1].is_written("10.0.0.2", 5434) && all[1].is_written("db2", 5434));
        let one_port = ConnInfo::parse("host=db1,db2 port=5433").unwrap();
        assert_eq!(Place::all(&one_port)[1], Place::new("db2", 5433));
        assert!(Place::all(&ConnInfo::parse("user=replicator port=5433").unwrap()).is_empty());
        assert_eq!(
            Place::all(&ConnInfo::parse("hostaddr=::1").unwrap())[0],
            Place { address: Some("::1".into()), ..Place::new("::1", 5432) }
        );
    }

    #[test]
    fn texts_mean_one_place_when_their_addresses_meet() {
        assert!(addresses(&["127.0.0.1"]).meet(&addresses(&["::1", "127.0.0.1"])));
        assert!(addresses(&["127.0.0.1"]).meet(&addresses(&["::1"])), "one machine");
        assert!(addresses(&["::ffff:10.0.0.1"]).meet(&addresses(&["10.0.0.1"])));
        assert!(!addresses(&["10.0.0.1"]).meet(&addresses(&["10.0.0.2"])));
        assert!(!Addresses::default().meet(&Addresses::default()), "two unknown names are not one place");
        assert!(addresses(&["10.0.0.1", "10.1.0.1"]).contain("10.1.0.1"));
        assert!(!addresses(&["10.0.0.1"]).contain("a name"));
    }

    #[tokio::test]
    async fn names_are_resolved_and_sockets_are_here() {
        let resolver = Resolver::default();
        let here = resolver.addresses(&Place::new("127.0.0.1", 1)).await;
        for name in ["localhost", "/var/run/postgresql", "::1"] {
            assert!(resolver.addresses(&Place::new(name, 1)).await.meet(&here), "{name}");
        }
        assert_eq!(resolver.addresses(&Place::new("no-such-host.invalid", 1)).await, Addresses::default());
    }
}
