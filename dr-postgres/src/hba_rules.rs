//! Which rule of `pg_hba.conf` a login would meet, worked out without logging in: the first rule that matches decides.
//!
//! The rules are those that the server itself reads from its files, with `@` lists and included files in place. A rule that cannot be
//! judged from here, such as one by a host's name that does not resolve, leaves the verdict open unless every way ends alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use dr_core::Tri;
use dr_sql::{Addresses, PgError, Session};

/// How a rule's connections arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Over a socket of the server's host.
    Local,
    /// Over the network.
    Host,
    /// Over the network with TLS.
    HostSsl,
    /// Over the network without TLS.
    HostNoSsl,
    /// Over the network with GSSAPI encryption.
    HostGssEnc,
    /// Over the network without GSSAPI encryption.
    HostNoGssEnc,
}

impl Arrival {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "local" => Self::Local,
            "host" => Self::Host,
            "hostssl" => Self::HostSsl,
            "hostnossl" => Self::HostNoSsl,
            "hostgssenc" => Self::HostGssEnc,
            "hostnogssenc" => Self::HostNoGssEnc,
            _ => return None,
        })
    }
}

/// Where a rule's connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Anywhere; also every rule for sockets.
    All,
    /// One of the server's own addresses.
    SameHost,
    /// A network that the server is directly connected to.
    SameNet,
    /// A network: its address and mask.
    Net(IpAddr, IpAddr),
    /// A host by its name, or all hosts of a domain: `.example.com`.
    Name(String),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Where it is written: `line 12 of /etc/.../pg_hba.conf`.
    pub(crate) place: String,
    /// How connections arrive.
    pub(crate) arrival: Arrival,
    /// The databases, or keywords.
    pub(crate) databases: Vec<String>,
    /// The roles, or keywords.
    pub(crate) users: Vec<String>,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// The method: `scram-sha-256`, `reject`.
    pub(crate) method: String,
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Encryption {
    /// Not at all.
    Plain,
    /// By TLS.
    Tls,
    /// By GSSAPI.
    Gss,
}

/// A login that is about to be tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Login {
    /// The role.
    pub(crate) user: String,
    /// The database; none for physical replication.
    pub(crate) database: Option<String>,
    /// The client's address; none over a socket.
    pub(crate) address: Option<IpAddr>,
    /// How it is encrypted.
    pub(crate) encryption: Encryption,
}

/// What rules refer to and do not say themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// Member and role, direct or through others.
    pub(crate) memberships: BTreeSet<(String, String)>,
    /// The addresses of the hosts that rules name.
    pub(crate) hosts: BTreeMap<String, Addresses>,
    /// The server's own addresses, as far as they are known.
    pub(crate) own: Addresses,
    /// Whether a name that begins with `/` is a regular expression (PostgreSQL 16 and newer).
    pub(crate) expressions: bool,
    /// What the server says of an expression and a text.
    pub(crate) matches: BTreeMap<(String, String), bool>,
}

/// How a login would end, as far as rules decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is asked to prove itself in this way.
    Asked {
        /// The method of the rule.
        method: String,
    },
    /// It is turned away: by the rule at this place, or because no rule matches.
    TurnedAway {
        /// The rule that rejects it.
        by: Option<String>,
    },
    /// It depends on a rule that cannot be judged from here.
    Open {
        /// Where that rule is written.
        place: String,
    },
}

/// How `login` would end under `rules`.
pub(crate) fn admission(rules: &[Rule], login: &Login, world: &World) -> Admission {
    let (mut possible, mut doubtful, mut decided) = (Vec::new(), None, false);
    for rule in rules {
        match rule.matches(login, world) {
            Tri::No => continue,
            Tri::Unknown => doubtful = doubtful.or(Some(rule)),
            Tri::Yes => decided = true,
        }
        possible.push(Some(rule));
        if decided {
            break;
        }
    }
    if !decided {
        possible.push(None);
    }
    let last = possible.last().copied().flatten();
    let rejecting = possible.iter().filter(|rule| rule.is_none_or(|rule| rule.method == "reject")).count();
    match (last, doubtful) {
        (last, _) if rejecting == possible.len() => Admission::TurnedAway { by: last.map(|rule| rule.place.clone()) },
        (Some(rule), _) if rejecting == 0 => Admission::Asked { method: rule.method.clone() },
        (_, Some(rule)) | (Some(rule), None) => Admission::Open { place: rule.place.clone() },
        (None, None) => Admission::TurnedAway { by: None },
    }
}

fn and(a: Tri, b: Tri) -> Tri {
    match (a, b) {
        (Tri::No, _) | (_, Tri::No) => Tri::No,
        (Tri::Yes, Tri::Yes) => Tri::Yes,
        (Tri::Yes | Tri::Unknown, Tri::Unknown) | (Tri::Unknown, Tri::Yes) => Tri::Unknown,
    }
}

fn any(all: impl Iterator<Item = Tri>) -> Tri {
    all.fold(Tri::No, |found, next| match (found, next) {
        (Tri::Yes, _) | (_, Tri::Yes) => Tri::Yes,
        (Tri::No, Tri::No) => Tri::No,
        (Tri::No | Tri::Unknown, Tri::Unknown) | (Tri::Unknown, Tri::No) => Tri::Unknown,
    })
}

impl Rule {
    fn matches(&self, login: &Login, world: &World) -> Tri {
        if !self.arrives(login) {
            return Tri::No;
        }
        let database = any(self.databases.iter().map(|name| database_matches(name, login, world)));
        let user = any(self.users.iter().map(|name| user_matches(name, login, world)));
        and(and(database, user), self.comes_from(login, world))
    }

    fn arrives(&self, login: &Login) -> bool {
        let network = login.address.is_some();
        match self.arrival {
            Arrival::Local => !network,
            Arrival::Host => network,
            Arrival::HostSsl => network && login.encryption == Encryption::Tls,
            Arrival::HostNoSsl => network && login.encryption != Encryption::Tls,
            Arrival::HostGssEnc => network && login.encryption == Encryption::Gss,
            Arrival::HostNoGssEnc => network && login.encryption != Encryption::Gss,
        }
    }

    fn comes_from(&self, login: &Login, world: &World) -> Tri {
        let Some(address) = login.address else { return Tri::Yes };
        let own = || world.own.contain(&address.to_string()) || address.is_loopback();
        match &self.origin {
            Origin::All => Tri::Yes,
            Origin::Net(net, mask) => Tri::from(in_net(address, *net, *mask)),
            Origin::SameHost | Origin::SameNet if own() => Tri::Yes,
            Origin::SameHost | Origin::SameNet => Tri::Unknown,
            // The server asks for the name of the address, which only its own name server answers.
            Origin::Name(name) if name.starts_with('.') => Tri::Unknown,
            Origin::Name(name) => match world.hosts.get(name) {
                Some(addresses) if addresses.contain(&address.to_string()) => Tri::Yes,
                Some(addresses) if *addresses != Addresses::default() => Tri::No,
                Some(_) | None => Tri::Unknown,
            },
        }
    }
}

fn in_net(address: IpAddr, net: IpAddr, mask: IpAddr) -> bool {
    match (address, net, mask) {
        (IpAddr::V4(address), IpAddr::V4(net), IpAddr::V4(mask)) => {
            u32::from(address) & u32::from(mask) == u32::from(net) & u32::from(mask)
        }
        (IpAddr::V6(address), IpAddr::V6(net), IpAddr::V6(mask)) => {
            u128::from(address) & u128::from(mask) == u128::from(net) & u128::from(mask)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), ..) => false,
    }
}

fn database_matches(name: &str, login: &Login, world: &World) -> Tri {
    let Some(database) = &login.database else { return Tri::from(name == "replication") };
    match name {
        "all" => Tri::Yes,
        "replication" => Tri::No,
        "sameuser" => Tri::from(*database == login.user),
        "samerole" | "samegroup" => Tri::from(is_member(&login.user, database, world)),
        _ => text_matches(name, database, world),
    }
}

fn user_matches(name: &str, login: &Login, world: &World) -> Tri {
    match name.strip_prefix('+') {
        Some(role) => Tri::from(is_member(&login.user, role, world)),
        None if name == "all" => Tri::Yes,
        None => text_matches(name, &login.user, world),
    }
}

fn is_member(user: &str, role: &str, world: &World) -> bool {
    user == role || world.memberships.contains(&(user.to_owned(), role.to_owned()))
}

fn text_matches(name: &str, text: &str, world: &World) -> Tri {
    match name.strip_prefix('/').filter(|_| world.expressions) {
        Some(expression) => {
            let known = world.matches.get(&(expression.to_owned(), text.to_owned()));
            known.map_or(Tri::Unknown, |matches| Tri::from(*matches))
        }
        None => Tri::from(name == text),
    }
}

/// The rules of a server's files, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// In the order in which they are tried.
    pub(crate) rules: Vec<Rule>,
    /// The errors that would keep the server from loading them.
    pub(crate) errors: Vec<String>,
}

/// The rules that the server reads in its files now.
///
/// # Errors
/// The server cannot be asked, or the role may not: it needs `SELECT` on `pg_hba_file_rules` and `EXECUTE` on the function of
/// that name.
pub(crate) async fn hba_rules(session: &Session) -> Result<Rules, PgError> {
    const WHAT: &str = "tell its rules for logins";
    const SQL: &str = "\
SELECT 'line ' || r.line_number || ' of ' || coalesce(to_jsonb(r) ->> 'file_name', current_setting('hba_file', true), 'pg_hba.conf'),
   r.type, r.database, r.user_name, r.address, r.netmask, r.auth_method, r.error FROM pg_hba_file_rules r";
    let mut found = Rules::default();
    for row in session.rows(WHAT, SQL, &[]).await? {
        let place: String = session.get(WHAT, &row, 0)?;
        if let Some(error) = session.get::<Option<String>>(WHAT, &row, 7)? {
            found.errors.push(format!("{place}: {error}"));
            continue;
        }
        let kind: Option<String> = session.get(WHAT, &row, 1)?;
        let kind = kind.unwrap_or_default();
        let arrival = Arrival::parse(&kind).ok_or_else(|| PgError::Unreadable {
            server: session.label().into(),
            what: "the type of a rule for logins",
            saw: kind.clone(),
        })?;
        let (address, mask): (Option<String>, Option<String>) =
            (session.get(WHAT, &row, 4)?, session.get(WHAT, &row, 5)?);
        found.rules.push(Rule {
            place,
            arrival,
            databases: session.get::<Option<_>>(WHAT, &row, 2)?.unwrap_or_default(),
            users: session.get::<Option<_>>(WHAT, &row, 3)?.unwrap_or_default(),
            origin: origin(address.as_deref(), mask.as_deref()),
            method: session.get::<Option<_>>(WHAT, &row, 6)?.unwrap_or_default(),
        });
    }
    Ok(found)
}

fn origin(address: Option<&str>, mask: Option<&str>) -> Origin {
    match (address, mask.and_then(|mask| mask.parse().ok())) {
        (None | Some("all"), _) => Origin::All,
        (Some("samehost"), _) => Origin::SameHost,
        (Some("samenet"), _) => Origin::SameNet,
        (Some(text), Some(mask)) => {
            text.parse().map_or_else(|_| Origin::Name(text.into()), |net| Origin::Net(net, mask))
        }
        (Some(text), None) => Origin::Name(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `type databases users address mask method`, lists with commas, `-` for nothing.
    fn rules(text: &str) -> Vec<Rule> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let some = |text: &'static str| (text != "-").then_some(text);
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .enumerate()
            .map(|(index, line)| {
                let field: Vec<&'static str> = line.split_whitespace().collect();
                Rule {
                    place: format!("line {}", index + 1),
                    arrival: Arrival::parse(field[0]).unwrap(),
                    databases: list(field[1]),
                    users: list(field[2]),
                    origin: origin(some(field[3]), some(field[4])),
                    method: field[5].into(),
                }
            })
            .collect()
    }

    fn login(user: &str, database: &str, address: &str, encryption: Encryption) -> Login {
        let database = (database != "-").then(|| database.to_owned());
        Login { user: user.into(), database, address: address.parse().ok(), encryption }
    }

    fn world() -> World {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let at = |text: &str| [text.parse().unwrap()].into_iter().collect::<Addresses>();
        World {
            memberships: BTreeSet::from([pair("ann", "staff"), pair("ann", "shop")]),
            hosts: BTreeMap::from([("web1".into(), at("10.0.0.7")), ("gone".into(), Addresses::default())]),
            own: at("10.0.0.2"),
            expressions: true,
            matches: BTreeMap::from([(pair("^db\\d+$", "db1"), true), (pair("^db\\d+$", "shop"), false)]),
        }
    }

    fn asked(method: &str) -> Admission {
        Admission::Asked { method: method.into() }
    }

    fn away(by: Option<&str>) -> Admission {
        Admission::TurnedAway { by: by.map(Into::into) }
    }

    fn open(place: &str) -> Admission {
        Admission::Open { place: place.into() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        use Encryption::{Gss, Plain, Tls};
        let all = "host all all all - scram-sha-256";
        let net = "host all all 10.0.0.0 255.255.255.0 md5";
        let table = [
            (all, login("app", "shop", "10.0.0.7", Plain), asked("scram-sha-256")),
            (all, login("app", "shop", "-", Plain), away(None)),
            (all, login("repl", "-", "10.0.0.7", Plain), away(None)),
            ("host replication all all - trust", login("repl", "-", "10.0.0.7", Plain), asked("trust")),
            ("host replication all all - trust", login("app", "replication", "10.0.0.7", Plain), away(None)),
            ("local all all - - peer", login("app", "shop", "-", Plain), asked("peer")),
            ("local all all - - peer", login("app", "shop", "10.0.0.7", Plain), away(None)),
            (net, login("app", "shop", "10.0.0.255", Plain), asked("md5")),
            (net, login("app", "shop", "10.0.1.0", Plain), away(None)),
            (net, login("app", "shop", "::1", Plain), away(None)),
            ("host all all fd00:: ffff:: md5", login("app", "shop", "fd00:0:1::9", Plain), asked("md5")),
            ("host all all fd00:: ffff:: md5", login("app", "shop", "fd01::9", Plain), away(None)),
            ("hostssl all all all - cert", login("app", "shop", "10.0.0.7", Tls), asked("cert")),
            ("hostssl all all all - cert", login("app", "shop", "10.0.0.7", Plain), away(None)),
            ("hostnossl all all all - md5", login("app", "shop", "10.0.0.7", Tls), away(None)),
            ("hostnossl all all all - md5", login("app", "shop", "10.0.0.7", Gss), asked("md5")),
            ("hostgssenc all all all - gss", login("app", "shop", "10.0.0.7", Gss), asked("gss")),
            ("hostgssenc all all all - gss", login("app", "shop", "10.0.0.7", Tls), away(None)),
            ("hostnogssenc all all all - md5", login("app", "shop", "10.0.0.7", Tls), asked("md5")),
            ("host sameuser all all - md5", login("app", "app", "10.0.0.7", Plain), asked("md5")),
            ("host sameuser all all - md5", login("app", "shop", "10.0.0.7", Plain), away(None)),
            ("host samerole all all - md5", login("ann", "shop", "10.0.0.7", Plain), asked("md5")),
            ("host samegroup all all - md5", login("bob", "shop", "10.0.0.7", Plain), away(None)),
            ("host a,shop,b all all - md5", login("app", "shop", "10.0.0.7", Plain), asked("md5")),
            ("host all +staff all - md5", login("ann", "shop", "10.0.0.7", Plain), asked("md5")),
            ("host all +staff all - md5", login("app", "shop", "10.0.0.7", Plain), away(None)),
            ("host all +app all - md5", login("app", "shop", "10.0.0.7", Plain), asked("md5")),
            ("host all App all - md5", login("app", "shop", "10.0.0.7", Plain), away(None)),
            ("host /^db\\d+$ all all - md5", login("app", "db1", "10.0.0.7", Plain), asked("md5")),
            ("host /^db\\d+$ all all - md5", login("app", "shop", "10.0.0.7", Plain), away(None)),
            ("host /^x all all - md5", login("app", "shop", "10.0.0.7", Plain), open("line 1")),
            ("host all all web1 - md5", login("app", "shop", "10.0.0.7", Plain), asked("md5")),
            ("host all all web1 - md5", login("app", "shop", "10.0.0.8", Plain), away(None)),
            ("host all all gone - md5", login("app", "shop", "10.0.0.8", Plain), open("line 1")),
            ("host all all .example.com - md5", login("app", "shop", "10.0.0.8", Plain), open("line 1")),
            ("host all all samehost - md5", login("app", "shop", "10.0.0.2", Plain), asked("md5")),
            ("host all all samehost - md5", login("app", "shop", "127.0.0.1", Plain), asked("md5")),
            ("host all all samenet - md5", login("app", "shop", "10.0.0.9", Plain), open("line 1")),
        ];
        for (text, login, expected) in table {
            assert_eq!(admission(&rules(text), &login, &world()), expected, "{text}\n{login:?}");
        }
    }

    #[test]
    fn an_earlier_rule_hides_a_later_one() {
        let plain = login("app", "shop", "10.0.0.7", Encryption::Plain);
        let table = [
            ("host all app all - reject\nhost all all all - md5", away(Some("line 1"))),
            ("host all bob all - reject\nhost all all all - md5", asked("md5")),
            // Open rules leave the verdict open only where the ways end differently.
            ("host all all .a.com - scram-sha-256\nhost all all all - md5", asked("md5")),
            ("host all all .a.com - reject\nhost all all all - md5", open("line 1")),
            ("host all all .a.com - reject\nhost all all all - reject", away(Some("line 2"))),
            ("host all all .a.com - reject", away(None)),
        ];
        for (text, expected) in table {
            assert_eq!(admission(&rules(text), &plain, &world()), expected, "{text}");
        }
    }

    /// Before PostgreSQL 16 a name that begins with a slash is a name.
    #[test]
    fn expressions_are_those_of_newer_servers() {
        let old = World { expressions: false, ..world() };
        let plain = login("app", "db1", "10.0.0.7", Encryption::Plain);
        assert_eq!(admission(&rules("host /^db\\d+$ all all - md5"), &plain, &old), away(None));
    }
}
