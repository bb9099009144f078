//! The applications' sessions on the primary, tried against the rules of the candidate's own `pg_hba.conf`.
//!
//! No credentials are needed for this: who would be turned away by a rule is found without logging in. Whether a password is right is
//! not; roles and their secrets are part of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use dr_core::contract::Rehearsal;
use dr_sql::{PgError, Place, Session};
use futures_util::future::join_all;
use tokio_postgres::types::Type;

use crate::{
    candidate::Pair,
    hba_rules::{Admission, Encryption, Login, Origin, Rules, World, admission, hba_rules},
};

/// How many kinds of sessions are told one by one.
const SHOWN: usize = 20;

const SESSIONS: &str = "\
SELECT DISTINCT a.usename::text, a.datname::text, host(a.client_addr), coalesce(s.ssl, false), coalesce(g.encrypted, false)
FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s ON s.pid = a.pid LEFT JOIN pg_stat_gssapi g ON g.pid = a.pid
WHERE a.backend_type = 'client backend' AND a.usename IS NOT NULL AND a.datname IS NOT NULL
  AND NOT (a.usename = current_user AND starts_with(a.application_name, 'dr/'))";

const MEMBERSHIPS: &str = "\
WITH RECURSIVE up AS (SELECT member, roleid FROM pg_auth_members
                      UNION SELECT up.member, m.roleid FROM up JOIN pg_auth_members m ON m.member = up.roleid)
SELECT u.rolname::text, r.rolname::text FROM up JOIN pg_roles u ON u.oid = up.member JOIN pg_roles r ON r.oid = up.roleid
WHERE u.rolname = ANY ($1)";

/// Compares every kind of session that the primary has now with the rules on both sides.
pub(super) async fn compare(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let rules = match hba_rules(&pair.own).await {
        // What is missing for it is told with the other rights.
        Err(error) if error.is_denied() => return Ok(Rehearsal::default()),
        other => other?,
    };
    let mut found = Rehearsal::default();
    let name = pair.member.name.as_str();
    if !rules.errors.is_empty() {
        let errors = rules.errors.join("; ");
        let what = format!("pg_hba.conf of {name} is not understood: {errors}");
        let why = "the server keeps older rules that nobody can read, and would not start again";
        found.planned(what, why, format!("correct it, then: {} -c 'SELECT pg_reload_conf()'", pair.psql()));
        return Ok(found);
    }
    let Some(primary) = &pair.primary else { return Ok(found) };
    let sessions = application_logins(primary).await?;
    let world = world(pair, &rules, &sessions).await?;
    let theirs = hba_rules(primary).await.ok();
    let secrets = secrets_of(&pair.own, &sessions).await?;
    let tls = tls_of(&pair.own).await?;
    let together = share_a_machine(pair).await;
    let mut each = Rehearsal::default();
    for login in &sessions {
        if !together && login.address.is_none_or(|address| address.is_loopback()) {
            found
                .untried
                .push(format!("the login of {} on {name}: it comes from the primary's own machine", shown(login)));
            continue;
        }
        let before = theirs.as_ref().map(|theirs| admission(&theirs.rules, login, &world));
        let after = admission(&rules.rules, &offered(login, tls), &world);
        let secret = secrets.get(&login.user).copied();
        judge(&mut each, (login, after, before, secret), (name, &pair.psql()));
    }
    found.extend(short(each, name));
    Ok(found)
}

/// Compares the logins that poolers have made and can make again at any time: between two clients a pooler may hold no session at all.
pub(crate) async fn compare_pooled(pair: &Pair<'_>, logins: BTreeSet<Login>) -> Result<Rehearsal, PgError> {
    let Some(primary) = &pair.primary else { return Ok(Rehearsal::default()) };
    let present = application_logins(primary).await?;
    let is_present = |login: &Login| present.iter().any(|o| o.user == login.user && o.database == login.database);
    let roles = primary.names("tell who may log in", "SELECT rolname::text FROM pg_roles WHERE rolcanlogin").await?;
    let absent: BTreeSet<Login> =
        logins.into_iter().filter(|login| !is_present(login) && roles.contains(&login.user)).collect();
    let (own, theirs) = (hba_rules(&pair.own).await?, hba_rules(primary).await?);
    // Rules with errors are told with the sessions.
    if absent.is_empty() || !own.errors.is_empty() || !theirs.errors.is_empty() {
        return Ok(Rehearsal::default());
    }
    let (world, secrets) = (world(pair, &own, &absent).await?, secrets_of(&pair.own, &absent).await?);
    let (tls_here, tls_there) = (tls_of(&pair.own).await?, tls_of(primary).await?);
    let mut each = Rehearsal::default();
    for login in &absent {
        let before = admission(&theirs.rules, &offered(login, tls_there), &world);
        if !matches!(before, Admission::Asked { .. }) {
            continue;
        }
        let after = admission(&own.rules, &offered(login, tls_here), &world);
        let secret = secrets.get(&login.user).copied();
        judge(&mut each, (login, after, Some(before), secret), (pair.member.name.as_str(), &pair.psql()));
    }
    Ok(short(each, pair.member.name.as_str()))
}

/// Whether a server offers TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    On,
    Off,
}

/// The login as the candidate can take it: a client that may do without TLS does so where there is none.
fn offered(login: &Login, tls: Tls) -> Login {
    let plain = login.encryption == Encryption::Tls && tls == Tls::Off;
    Login { encryption: if plain { Encryption::Plain } else { login.encryption }, ..login.clone() }
}

/// A fleet of clients has a thousand addresses: the first ones tell enough.
fn short(mut each: Rehearsal, name: &str) -> Rehearsal {
    let more = each.obstacles.len().saturating_sub(SHOWN);
    if more > 0 {
        // The graver ones stay.
        each.obstacles.sort_by_key(|obstacle| std::cmp::Reverse(obstacle.weight));
        each.obstacles.truncate(SHOWN);
        each.untried
            .insert(0, format!("{more} more kinds of sessions that {name} would turn away: correct the first ones"));
    }
    let unsaid = each.untried.len().saturating_sub(SHOWN);
    each.untried.truncate(SHOWN);
    if unsaid > 0 {
        each.untried.push(format!("the logins of {unsaid} more kinds of sessions on {name}"));
    }
    each
}

/// In which form a role's password is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    /// There is none.
    None,
    /// As an MD5 hash, which `scram-sha-256` cannot use.
    Md5,
    /// As a SCRAM secret, which every way by password can use.
    Scram,
}

/// The ways in which clients prove themselves by a password.
const PASSWORDS: [&str; 3] = ["md5", "password", "scram-sha-256"];

/// What one session's login would come to after the promotion, and came to on the primary.
type Comparison<'l> = (&'l Login, Admission, Option<Admission>, Option<Secret>);

fn judge(found: &mut Rehearsal, (login, after, before, secret): Comparison<'_>, (name, psql): (&str, &str)) {
    let session = shown(login);
    let method = match after {
        Admission::TurnedAway { by } => {
            turned_away(found, login, by, (name, psql));
            return;
        }
        Admission::Open { place } => {
            found.untried.push(format!("the login of {session} on {name}: {place} cannot be judged from here"));
            return;
        }
        Admission::Asked { method } => method,
    };
    let by_password = PASSWORDS.contains(&method.as_str());
    let unusable = match secret {
        Some(Secret::None) if by_password => Some("has no password"),
        Some(Secret::Md5) if method == "scram-sha-256" => Some("has its password as an MD5 hash"),
        Some(Secret::None | Secret::Md5 | Secret::Scram) | None => None,
    };
    let helps = format!("correct its pg_hba.conf as on the primary, then: {psql} -c 'SELECT pg_reload_conf()'");
    if let Some(why) = unusable {
        let what = format!("{name} asks {session} by `{method}`, and the role {why}");
        found.always(what, "such sessions could not log in after the promotion", helps);
    } else if let Some(Admission::Asked { method: other }) = before.filter(|_| !by_password && method != "trust")
        && other != method
    {
        let what = format!("{name} asks {session} by `{method}`, the primary by `{other}`");
        found.planned(what, "clients that prove themselves in one way may not be able to in another", helps);
    }
}

fn turned_away(found: &mut Rehearsal, login: &Login, by: Option<String>, (name, psql): (&str, &str)) {
    let line = missing_line(login);
    let (rule, place) = match by {
        Some(place) => (format!("{place} rejects it"), format!("put `{line}` before {place}")),
        None => ("no rule matches it".into(), format!("add `{line}` to its pg_hba.conf")),
    };
    found.always(
        format!("pg_hba.conf of {name} turns away {}: {rule}", shown(login)),
        "such sessions work on the primary now and could not log in after the promotion",
        format!("{place}, then: {psql} -c 'SELECT pg_reload_conf()'"),
    );
}

fn shown(login: &Login) -> String {
    let database = login.database.as_deref().unwrap_or("replication");
    let how = match (login.address, login.encryption) {
        (None, _) => "over a socket".to_owned(),
        (Some(address), Encryption::Plain) => format!("from {address} without TLS"),
        (Some(address), Encryption::Tls) => format!("from {address} with TLS"),
        (Some(address), Encryption::Gss) => format!("from {address} with GSSAPI encryption"),
    };
    format!("`{}` in the database `{database}` {how}", login.user)
}

fn missing_line(login: &Login) -> String {
    let word = |text: &str| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let keyword = matches!(text, "all" | "sameuser" | "samerole" | "samegroup" | "replication");
        if plain && !keyword { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let (database, user) = (login.database.as_deref().map_or_else(|| "replication".into(), word), word(&login.user));
    match login.address {
        None => format!("local {database} {user} scram-sha-256"),
        Some(address @ IpAddr::V4(_)) => format!("host {database} {user} {address}/32 scram-sha-256"),
        Some(address @ IpAddr::V6(_)) => format!("host {database} {user} {address}/128 scram-sha-256"),
    }
}

async fn share_a_machine(pair: &Pair<'_>) -> bool {
    let resolver = &pair.member.resolver;
    let target = pair.member.link.target();
    let own = resolver.addresses(&Place::new(target.host.clone(), target.port)).await;
    match pair.member.peers.iter().find(|peer| peer.name == pair.from) {
        Some(peer) => resolver.addresses(&Place::new(peer.target.host.clone(), peer.target.port)).await.meet(&own),
        None => false,
    }
}

/// Everything that the rules refer to.
async fn world(pair: &Pair<'_>, rules: &Rules, sessions: &BTreeSet<Login>) -> Result<World, PgError> {
    let resolver = &pair.member.resolver;
    let target = pair.member.link.target();
    let hosts: BTreeSet<&String> = rules
        .rules
        .iter()
        .filter_map(|rule| if let Origin::Name(name) = &rule.origin { Some(name) } else { None })
        .filter(|name| !name.starts_with('.'))
        .collect();
    let resolved = join_all(
        hosts
            .iter()
            .map(|host| async move { ((*host).clone(), resolver.addresses(&Place::new((*host).clone(), 0)).await) }),
    );
    let expressions = pair.own.identity().await?.version >= 160_000;
    Ok(World {
        memberships: memberships(&pair.own, sessions).await?,
        hosts: resolved.await.into_iter().collect(),
        own: resolver.addresses(&Place::new(target.host.clone(), target.port)).await,
        expressions,
        matches: if expressions { matches(&pair.own, rules, sessions).await? } else { BTreeMap::new() },
    })
}

async fn tls_of(session: &Session) -> Result<Tls, PgError> {
    Ok(if session.setting("ssl").await?.as_deref() == Some("on") { Tls::On } else { Tls::Off })
}

/// Every kind of login that the server's present client sessions have made, ours left out.
async fn application_logins(session: &Session) -> Result<BTreeSet<Login>, PgError> {
    const WHAT: &str = "tell its sessions";
    let rows = session.rows(WHAT, SESSIONS, &[]).await?;
    let read = |row| {
        let address: Option<String> = session.get(WHAT, row, 2)?;
        let (tls, gss): (bool, bool) = (session.get(WHAT, row, 3)?, session.get(WHAT, row, 4)?);
        Ok(Login {
            user: session.get(WHAT, row, 0)?,
            database: session.get(WHAT, row, 1)?,
            address: address.and_then(|address| address.parse().ok()),
            encryption: match (tls, gss) {
                (true, _) => Encryption::Tls,
                (false, true) => Encryption::Gss,
                (false, false) => Encryption::Plain,
            },
        })
    };
    rows.iter().map(read).collect()
}

/// The form of each role's password, where the control role may see it.
async fn secrets_of(session: &Session, sessions: &BTreeSet<Login>) -> Result<BTreeMap<String, Secret>, PgError> {
    const WHAT: &str = "tell the form of passwords";
    const SQL: &str = "\
SELECT rolname::text, CASE WHEN rolpassword IS NULL THEN 'none' WHEN rolpassword LIKE 'md5%' THEN 'md5' ELSE 'scram' END
FROM pg_authid WHERE rolname = ANY ($1)";
    let users: Vec<&str> = sessions.iter().map(|login| login.user.as_str()).collect();
    let rows = match session.rows(WHAT, SQL, &[(&users, Type::NAME_ARRAY)]).await {
        Err(error) if error.is_denied() => return Ok(BTreeMap::new()),
        other => other?,
    };
    let read = |row| {
        let form = match session.get(WHAT, row, 1)? {
            "none" => Secret::None,
            "md5" => Secret::Md5,
            _ => Secret::Scram,
        };
        Ok((session.get(WHAT, row, 0)?, form))
    };
    rows.iter().map(read).collect()
}

async fn memberships(session: &Session, sessions: &BTreeSet<Login>) -> Result<BTreeSet<(String, String)>, PgError> {
    const WHAT: &str = "tell the members of its roles";
    let users: Vec<&str> = sessions.iter().map(|login| login.user.as_str()).collect();
    let rows = session.rows(WHAT, MEMBERSHIPS, &[(&users, Type::NAME_ARRAY)]).await?;
    rows.iter().map(|row| Ok((session.get(WHAT, row, 0)?, session.get(WHAT, row, 1)?))).collect()
}

/// The server's own word on the regular expressions in its rules: no other program reads them in quite the same way.
async fn matches(
    session: &Session,
    rules: &Rules,
    sessions: &BTreeSet<Login>,
) -> Result<BTreeMap<(String, String), bool>, PgError> {
    const WHAT: &str = "compare names with its rules";
    let names = rules.rules.iter().flat_map(|rule| rule.databases.iter().chain(&rule.users));
    let expressions: BTreeSet<&str> = names.filter_map(|name| name.strip_prefix('/')).collect();
    let texts = sessions.iter().flat_map(|login| login.database.iter().chain([&login.user]));
    let texts: BTreeSet<&String> = texts.collect();
    let mut found = BTreeMap::new();
    for expression in expressions {
        for text in &texts {
            // An expression that the server does not understand matches nothing, and its rule was told as an error.
            let asked = session.row(WHAT, "SELECT $1 ~ $2", &[(text, Type::TEXT), (&expression, Type::TEXT)]).await?;
            found.insert((expression.to_owned(), (*text).clone()), session.get(WHAT, &asked, 0)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use dr_core::contract::Weight;

    use super::*;

    fn login(address: Option<&str>) -> Login {
        let address = address.map(|text| text.parse().unwrap());
        Login { user: "app".into(), database: Some("shop".into()), address, encryption: Encryption::Plain }
    }

    fn judged(after: Admission, before: Option<Admission>, secret: Option<Secret>) -> Rehearsal {
        let mut found = Rehearsal::default();
        judge(&mut found, (&login(Some("10.0.0.7")), after, before, secret), ("pg2", "psql"));
        found
    }

    fn asked(method: &str) -> Admission {
        Admission::Asked { method: method.into() }
    }

    #[test]
    fn whoever_would_be_turned_away_is_named_with_the_missing_line() {
        let found = judged(Admission::TurnedAway { by: None }, None, None);
        let [obstacle] = found.obstacles.as_slice() else { panic!("{found:?}") };
        assert_eq!(obstacle.weight, Weight::Always);
        assert!(obstacle.what.contains("`app` in the database `shop` from 10.0.0.7"), "{}", obstacle.what);
        assert!(obstacle.helps.contains("host shop app 10.0.0.7/32 scram-sha-256"), "{}", obstacle.helps);
        let found = judged(Admission::TurnedAway { by: Some("line 3 of pg_hba.conf".into()) }, None, None);
        assert!(found.obstacles[0].helps.contains("before line 3 of pg_hba.conf"));
    }

    #[test]
    fn a_method_that_the_clients_cannot_meet_is_an_obstacle() {
        let table = [
            ("md5", "md5", None, None),
            ("scram-sha-256", "md5", Some(Secret::Scram), None),
            ("scram-sha-256", "md5", Some(Secret::Md5), Some(Weight::Always)),
            ("md5", "md5", Some(Secret::Md5), None),
            ("scram-sha-256", "trust", Some(Secret::None), Some(Weight::Always)),
            ("trust", "md5", Some(Secret::None), None),
            ("cert", "scram-sha-256", Some(Secret::Scram), Some(Weight::Planned)),
            ("cert", "cert", Some(Secret::None), None),
        ];
        for (after, before, secret, expected) in table {
            let found = judged(asked(after), Some(asked(before)), secret);
            let weight = found.obstacles.first().map(|obstacle| obstacle.weight);
            assert_eq!(weight, expected, "{before} -> {after}, {secret:?}");
        }
    }

    #[test]
    fn a_thousand_addresses_are_told_by_the_first_ones() {
        let mut each = Rehearsal::default();
        (0..30).for_each(|n| each.planned(format!("{n}"), "", ""));
        each.always("grave", "", "");
        let told = short(each, "pg2");
        assert_eq!((told.obstacles.len(), told.obstacles[0].what.as_str()), (SHOWN, "grave"));
        assert!(told.untried[0].starts_with("11 more"), "{:?}", told.untried);
    }

    #[test]
    fn without_tls_clients_come_in_the_clear() {
        let tls = Login { encryption: Encryption::Tls, ..login(Some("10.0.0.7")) };
        assert_eq!(offered(&tls, Tls::Off).encryption, Encryption::Plain);
        assert_eq!(offered(&tls, Tls::On), tls);
    }

    #[test]
    fn names_that_are_keywords_are_quoted_in_the_missing_line() {
        let odd = Login { user: "all".into(), database: Some("my shop".into()), ..login(None) };
        assert_eq!(missing_line(&odd), r#"local "my shop" "all" scram-sha-256"#);
        assert_eq!(missing_line(&login(Some("::1"))), "host shop app ::1/128 scram-sha-256");
    }
}
