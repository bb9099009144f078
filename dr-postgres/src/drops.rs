//! What a promotion drops although nothing of the log is lost, and what of the data would not work on the candidate.
//!
//! ```text
//!   not in the log      unlogged rows, logical slots, slots of others, values that sequences had in hand
//!   needs the server    extensions, preloaded libraries, archiving, the collations of its C library
//! ```
//!
//! What is in a database is read in every database, a few at a time. One that cannot be entered is told as untried.

use std::{collections::BTreeMap, time::Duration};

use dr_core::contract::Rehearsal;
use dr_sql::{PgError, Session};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::{
    candidate::Pair,
    drops::inside::{all_databases, collations_of, inside},
};

mod inside;
mod server;

use inside::{Collations, Counted, Inside};

/// How many databases are read at a time.
const AT_ONCE: usize = 4;
/// How long one database may take.
const DATABASE_LIMIT: Duration = Duration::from_secs(10);
/// How many names one line holds.
const NAMES: usize = 20;

/// Counts what the promotion of the candidate drops. With a silent primary the candidate's copy is read, as far as it tells.
pub(crate) async fn count(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let mut found = Rehearsal::default();
    let source = pair.primary.as_ref().unwrap_or(&pair.own);
    let mut databases = Vec::new();
    for (name, connectable) in all_databases(source).await? {
        if connectable {
            databases.push(name);
        } else {
            found.untried.push(format!("what the promotion drops in the database `{name}`: it takes no connections"));
        }
    }
    let looked: Vec<(String, Result<Looked, String>)> = stream::iter(databases)
        .map(|name| async move {
            let looked = match timeout(DATABASE_LIMIT, look(pair, &name)).await {
                Ok(looked) => looked.map_err(|error| error.chain()),
                Err(_) => Err(format!("not told within {} s", DATABASE_LIMIT.as_secs())),
            };
            (name, looked)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut inside = BTreeMap::new();
    for (name, looked) in looked {
        match looked {
            Ok(looked) => {
                inside.insert(name, looked);
            }
            Err(why) => found.untried.push(format!("what the promotion drops in the database `{name}`: {why}")),
        }
    }
    tell(pair, &inside, &mut found).await?;
    found.extend(server::compare(pair, &extensions_of(&inside)).await?);
    Ok(found)
}

/// One database on both sides.
struct Looked {
    inside: Inside,
    /// The collations in use, as this server and the candidate sort them.
    collations: (Collations, Collations),
    /// What could not be compared, and why.
    unread: Option<String>,
}

async fn look(pair: &Pair<'_>, database: &str) -> Result<Looked, PgError> {
    let enter = |link: &dr_sql::Link| {
        let mut target = link.target().clone().with_database(database);
        target.application = format!("{}/drops", target.application);
        async move { Session::open(&target).await }
    };
    let own = enter(&pair.member.link).await;
    let peer = pair.member.peers.iter().zip(&pair.member.peer_links).find(|(peer, _)| peer.name == pair.from);
    let primary = match peer.filter(|_| pair.primary.is_some()) {
        Some((_, link)) => Some(enter(link).await?),
        None => None,
    };
    match (primary, own) {
        (Some(primary), Ok(own)) => {
            let collations = (collations_of(&primary).await?, collations_of(&own).await?);
            Ok(Looked { inside: inside(&primary).await?, collations, unread: None })
        }
        // What the primary holds is dropped whether or not the candidate can be looked into: it may be new, and not there yet.
        (Some(primary), Err(error)) => {
            let unread =
                format!("the collations of the database `{database}` on {}: {}", pair.member.name, error.chain());
            Ok(Looked {
                inside: inside(&primary).await?,
                collations: (Collations::default(), Collations::default()),
                unread: Some(unread),
            })
        }
        (None, own) => {
            let own = own?;
            let here = collations_of(&own).await?;
            Ok(Looked { inside: inside(&own).await?, collations: (here.clone(), here), unread: None })
        }
    }
}

fn extensions_of(inside: &BTreeMap<String, Looked>) -> BTreeMap<String, Vec<&str>> {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (database, looked) in inside {
        for name in looked.inside.extensions.keys() {
            all.entry(name.clone()).or_default().push(database);
        }
    }
    all
}

async fn tell(pair: &Pair<'_>, inside: &BTreeMap<String, Looked>, found: &mut Rehearsal) -> Result<(), PgError> {
    let available = pair.own.available_extensions().await?;
    let (name, from) = (pair.member.name.as_str(), pair.from.as_str());
    let counted = if pair.primary.is_some() { Counted::Primary } else { Counted::Candidate };
    let mut sequences = Vec::new();
    for (database, looked) in inside {
        found.untried.extend(looked.unread.clone());
        if let Some((what, detail)) = looked.inside.unlogged_in_words(database, counted) {
            found.drops(what, detail);
        }
        if looked.inside.sequences > 0 {
            sequences.push(format!("{} in `{database}`", looked.inside.sequences));
        }
        for (extension, version) in &looked.inside.extensions {
            let there = available.get(extension);
            if there.is_some_and(|versions| versions.contains(version)) {
                continue;
            }
            let has = there.map_or_else(|| "is not installed".into(), |all| format!("is there as {}", all.join(", ")));
            found.planned(
                format!("extension `{extension}` {version} of the database `{database}` {has} on {name}"),
                "its functions, types and indexes would fail there after the promotion",
                format!("install the package of `{extension}` {version} on the host of {name}, as on {from}"),
            );
        }
        collations(found, (database, &looked.collations), (name, from));
    }
    if !sequences.is_empty() {
        let detail = format!("sequences: {}", list(&sequences));
        found.drops("up to 32 values of every sequence, and what sessions had cached of it: numbers are skipped, none is used twice", detail);
    }
    Ok(())
}

/// Two C libraries that sort differently make one index wrong on one of the servers.
fn collations(
    found: &mut Rehearsal,
    (database, (there, here)): (&str, &(Collations, Collations)),
    (name, from): (&str, &str),
) {
    let differing: Vec<String> = there
        .iter()
        .filter_map(|(collation, version)| {
            let own = here.get(collation)?;
            (own != version).then(|| format!("`{collation}` {version} on {from}, {own} on {name}"))
        })
        .collect();
    if differing.is_empty() {
        return;
    }
    found.planned(
        format!("the database `{database}` is sorted differently: {}", list(&differing)),
        "indexes on text were built in the primary's order: in the candidate's, rows are not found and unique keys are given twice",
        format!("install the same C library and ICU on the host of {name}; or promote in a quiet hour and REINDEX what sorts text"),
    );
}

/// Names in one line; a long list is cut.
fn list<S: AsRef<str>>(all: &[S]) -> String {
    let shown: Vec<&str> = all.iter().take(NAMES).map(AsRef::as_ref).collect();
    let more = all.len().saturating_sub(NAMES);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        let all: Vec<String> = (0..25).map(|n| format!("t{n}")).collect();
        assert!(list(&all).ends_with("t19 and 5 more"));
        assert_eq!(list(&all[..2]), "t0, t1");
    }

    #[test]
    fn another_order_is_an_obstacle_and_an_unknown_one_is_not() {
        let sorted = |all: &[(&str, &str)]| -> Collations {
            all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
        };
        let mut found = Rehearsal::default();
        let both = (sorted(&[("de_DE", "2.36"), ("C", "1")]), sorted(&[("de_DE", "2.28")]));
        collations(&mut found, ("shop", &both), ("pg2", "pg1"));
        assert!(found.obstacles[0].what.contains("`de_DE` 2.36 on pg1, 2.28 on pg2"), "{found:?}");
        assert!(!found.obstacles[0].what.contains("`C`"));
    }
}
