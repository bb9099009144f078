//! What belongs to the whole server: slots, prepared transactions, subscriptions, libraries, archiving.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::contract::Rehearsal;
use dr_sql::{Custom, PgError, Reader, Sender, Session};

use crate::{candidate::Pair, drops::list, member::slot_name};

/// A slot as its readers depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Depended {
    name: String,
    logical: bool,
    plugin: String,
    database: String,
    active: bool,
    temporary: bool,
    retained: i64,
}

/// The columns that came later are read through a document: PostgreSQL 17 keeps failover slots in step on standbys.
const SLOTS: &str = "\
SELECT s.slot_name::text, s.slot_type = 'logical', coalesce(s.plugin::text, ''), coalesce(s.database::text, ''), s.active, s.temporary,
       greatest(0, coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                 ELSE pg_current_wal_lsn() END, s.restart_lsn), 0))::int8
FROM pg_replication_slots s
WHERE NOT (pg_is_in_recovery() AND s.slot_type = 'logical' AND coalesce(to_jsonb(s) ->> 'invalidation_reason', '') <> '')
ORDER BY s.slot_name";

const SUBSCRIPTIONS: &str = "\
SELECT s.subname::text || '` of the database `' || d.datname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subenabled ORDER BY 1";

/// Origins of subscriptions are told with them.
const ORIGINS: &str = "SELECT roname FROM pg_replication_origin WHERE roname !~ '^pg_[0-9]+' ORDER BY 1";

const ARCHIVE: [&str; 3] = ["archive_mode", "archive_command", "archive_library"];
const PRELOAD: &str = "shared_preload_libraries";

/// Compares both servers as wholes; `extensions` are those of all databases.
pub(super) async fn compare(pair: &Pair<'_>, extensions: &BTreeMap<String, Vec<&str>>) -> Result<Rehearsal, PgError> {
    let mut found = Rehearsal::default();
    let Some(primary) = &pair.primary else {
        let (name, from) = (&pair.member.name, &pair.from);
        found.untried.push(format!("which slots of {from} are missing on {name}: {from} does not answer"));
        return Ok(found);
    };
    let (theirs, own) = (depended(primary).await?, depended(&pair.own).await?);
    let readers = primary.readers().await?;
    let standbys = members_slots(pair, &readers).await?;
    slots(pair, (&theirs, &own, &standbys), &mut found);
    for row in readers {
        if row.reader == Reader::Changes && row.slot.is_none() {
            let address = row.address.as_deref().unwrap_or("a local socket");
            found.drops(format!("the logical connection of `{}`", row.name), format!("from {address}, without a slot"));
        }
    }
    settings(pair, primary, extensions, &mut found).await?;
    for gid in primary.prepared_transactions().await? {
        let name = &pair.member.name;
        found.untried.push(format!(
            "the end of the prepared transaction `{gid}`: it survives with its locks, and whoever prepared it ends it on {name}"
        ));
    }
    subscriptions(pair, primary, &mut found).await
}

/// The slots of the candidate and of the other members, which a rejoin makes anew: by our name for them, or by who reads them.
async fn members_slots(pair: &Pair<'_>, readers: &[Sender]) -> Result<BTreeSet<String>, PgError> {
    let names: Vec<&str> =
        pair.member.peers.iter().map(|peer| peer.name.as_str()).chain([pair.member.name.as_str()]).collect();
    let read = readers.iter().filter(|row| names.contains(&row.name.as_str())).filter_map(|row| row.slot.clone());
    let own = pair.own.follows().await?.slot;
    Ok(names.iter().map(|name| slot_name(name)).chain(read).chain(own).collect())
}

/// Slots are no part of the log.
fn slots(
    pair: &Pair<'_>,
    (theirs, own, members): (&[Depended], &[Depended], &BTreeSet<String>),
    found: &mut Rehearsal,
) {
    let (name, from) = (&pair.member.name, &pair.from);
    let kept: BTreeSet<(&str, bool)> = own.iter().map(|slot| (slot.name.as_str(), slot.logical)).collect();
    for slot in theirs.iter().filter(|slot| !slot.temporary || slot.active) {
        let used = if slot.active { "in use" } else { "not in use" };
        let detail = format!("{used}, {} MB of log are kept for it", slot.retained >> 20);
        if kept.contains(&(slot.name.as_str(), slot.logical)) || (!slot.logical && members.contains(&slot.name)) {
            continue;
        }
        let what = if slot.logical {
            let (plugin, database) = (&slot.plugin, &slot.database);
            format!(
                "logical slot `{}` ({plugin}, database `{database}`): {name} has none, its consumer stops and misses changes",
                slot.name
            )
        } else {
            format!("physical slot `{}`: it stays behind on {from}, and {name} keeps no log for its reader", slot.name)
        };
        found.drops(what, detail);
    }
}

async fn settings(
    pair: &Pair<'_>,
    primary: &Session,
    extensions: &BTreeMap<String, Vec<&str>>,
    found: &mut Rehearsal,
) -> Result<(), PgError> {
    let names: Vec<&str> = ARCHIVE.into_iter().chain([PRELOAD]).collect();
    let read = |all: Vec<dr_sql::Setting>| -> BTreeMap<String, String> {
        all.into_iter().map(|setting| (setting.name, setting.value)).collect()
    };
    let theirs = read(primary.settings(&names, Custom::Without).await?);
    let own = read(pair.own.settings(&names, Custom::Without).await?);
    let sides = (pair.member.name.as_str(), pair.from.as_str(), pair.psql());
    archiving(&theirs, &own, (sides.0, sides.1), found);
    preloaded(&theirs, &own, (sides.0, sides.1, &sides.2), (extensions, found));
    Ok(())
}

fn archiving(
    theirs: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    (name, from): (&str, &str),
    found: &mut Rehearsal,
) {
    let value = |side: &BTreeMap<String, String>, name: &str| side.get(name).cloned().unwrap_or_default();
    let how = |side: &BTreeMap<String, String>| {
        let ways = ["archive_command", "archive_library"].map(|name| value(side, name));
        // The command is hidden or shown so while archiving is off.
        ways.into_iter().find(|way| !way.is_empty() && way != "(disabled)").unwrap_or_default()
    };
    let on = |side: &BTreeMap<String, String>| matches!(value(side, "archive_mode").as_str(), "on" | "always");
    if !on(theirs) {
        return;
    }
    if !on(own) {
        let detail = format!("archive_mode is off on {name} and on on {from}; a restart of {name} changes it");
        found.drops("archiving of the log: there is no recovery to a point in time after the promotion", detail);
    } else if how(own).is_empty() {
        let detail = format!("archive_command is empty on {name} and `{}` on {from}", how(theirs));
        found.drops(
            "archiving of the log: it would be kept for ever, and fill the disk, until there is a command",
            detail,
        );
    } else if how(own) != how(theirs) {
        found.untried.push(format!("archiving on {name} by `{}`; {from} archives by `{}`", how(own), how(theirs)));
    }
}

/// A library that an extension belongs to is an obstacle: its functions fail without it. Of another one only its own work is missed.
fn preloaded(
    theirs: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    (name, from, psql): (&str, &str, &str),
    (extensions, found): (&BTreeMap<String, Vec<&str>>, &mut Rehearsal),
) {
    let libraries = |side: &BTreeMap<String, String>| -> Vec<String> {
        let text = side.get(PRELOAD).cloned().unwrap_or_default();
        text.split(',').map(|one| plain(one).to_owned()).filter(|one| !one.is_empty()).collect()
    };
    let (here, there) = (libraries(own), libraries(theirs));
    for library in there.iter().filter(|library| !here.contains(library)) {
        let all = here.iter().chain([library]).cloned().collect::<Vec<_>>().join(", ");
        match extensions.get(library) {
            Some(databases) => found.planned(
                format!("{PRELOAD} of {name} lacks `{library}`, whose extension is used in {}", list(databases)),
                "functions of the extension fail, or its work is not done, until a restart",
                format!("{psql} -c \"ALTER SYSTEM SET {PRELOAD} = {all}\"; restart {name}"),
            ),
            None => {
                found.drops(
                    format!("what the preloaded library `{library}` does"),
                    format!("{from} loads it, {name} does not"),
                );
            }
        }
    }
}

/// The name of a library without its quotes, path and ending.
fn plain(text: &str) -> &str {
    let text = text.trim().trim_matches('"');
    let file = text.rsplit('/').next().unwrap_or(text);
    file.strip_suffix(".so").unwrap_or(file)
}

async fn subscriptions(pair: &Pair<'_>, primary: &Session, found: &mut Rehearsal) -> Result<Rehearsal, PgError> {
    let name = &pair.member.name;
    match primary.names("tell its subscriptions", SUBSCRIPTIONS).await {
        Ok(all) => found.untried.extend(all.into_iter().map(|subscription| {
            format!("subscription `{subscription}`: after the promotion {name} fetches from its publisher, which has to let it in")
        })),
        Err(error) => found.untried.push(format!("the subscriptions of {}: {}", pair.from, error.chain())),
    }
    for origin in primary.names("tell its origins of replication", ORIGINS).await? {
        found.untried.push(format!(
            "replication origin `{origin}`: {name} knows its progress as far as the log told it; compare it before its consumer goes on"
        ));
    }
    Ok(std::mem::take(found))
}

async fn depended(session: &Session) -> Result<Vec<Depended>, PgError> {
    const WHAT: &str = "tell its slots";
    let rows = session.rows(WHAT, SLOTS, &[]).await?;
    let read = |row| {
        Ok(Depended {
            name: session.get(WHAT, row, 0)?,
            logical: session.get(WHAT, row, 1)?,
            plugin: session.get(WHAT, row, 2)?,
            database: session.get(WHAT, row, 3)?,
            active: session.get(WHAT, row, 4)?,
            temporary: session.get(WHAT, row, 5)?,
            retained: session.get(WHAT, row, 6)?,
        })
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn archiving_that_ends_is_told() {
        let on = side(&[("archive_mode", "on"), ("archive_command", "cp %p /a/%f")]);
        let told = |own: &BTreeMap<String, String>| {
            let mut found = Rehearsal::default();
            archiving(&on, own, ("pg2", "pg1"), &mut found);
            (found.drops.len(), found.untried.len())
        };
        assert_eq!(told(&side(&[("archive_mode", "off"), ("archive_command", "(disabled)")])), (1, 0));
        assert_eq!(told(&side(&[("archive_mode", "on"), ("archive_command", "")])), (1, 0));
        assert_eq!(told(&side(&[("archive_mode", "always"), ("archive_library", "basic_archive")])), (0, 1));
        assert_eq!(told(&on.clone()), (0, 0));
        let mut found = Rehearsal::default();
        archiving(&side(&[("archive_mode", "off")]), &side(&[("archive_mode", "off")]), ("pg2", "pg1"), &mut found);
        assert_eq!(found, Rehearsal::default());
    }

    #[test]
    fn a_missing_library_is_an_obstacle_when_an_extension_needs_it() {
        let mut found = Rehearsal::default();
        let theirs = side(&[(PRELOAD, "pg_stat_statements, \"$libdir/auto_explain\", timescaledb.so")]);
        let own = side(&[(PRELOAD, "timescaledb")]);
        let extensions = BTreeMap::from([("pg_stat_statements".to_owned(), vec!["shop"])]);
        preloaded(&theirs, &own, ("pg2", "pg1", "psql"), (&extensions, &mut found));
        assert_eq!(found.obstacles.len(), 1);
        assert!(found.obstacles[0].what.contains("`pg_stat_statements`"), "{found:?}");
        assert!(found.obstacles[0].helps.contains("= timescaledb, pg_stat_statements"), "{found:?}");
        assert_eq!(found.drops[0].what, "what the preloaded library `auto_explain` does");
    }
}
