//! Room on the candidate for what the primary has now: connections, limits of roles and databases, disk.

use std::collections::BTreeMap;

use dr_core::contract::Rehearsal;
use dr_sql::{PgError, Session};

use crate::{candidate::Pair, server::HostCommand};

/// How many connections a server gives to ordinary roles, how many are taken, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Room {
    /// Without those kept back for superusers.
    offered: i64,
    /// Client sessions. Those of ours count on the candidate only: the primary's do not come over.
    taken: i64,
    /// Sessions of each role and database that has a limit, with the limit.
    limited: BTreeMap<String, (i64, i64)>,
}

/// Our own sessions take room on the candidate too; those that only look into databases are gone in a moment.
const ROOM: &str = "\
SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
       - coalesce(current_setting('reserved_connections', true), '0')::int8,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND CASE WHEN pg_is_in_recovery()
          THEN application_name NOT LIKE 'dr/%/drops' ELSE NOT (usename = current_user AND starts_with(application_name, 'dr/')) END)";

const LIMITED: &str = "\
SELECT 'role `' || r.rolname || '`', r.rolconnlimit::int8,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend')
FROM pg_roles r WHERE r.rolconnlimit >= 0 AND NOT r.rolsuper
UNION ALL
SELECT 'database `' || d.datname || '`', d.datconnlimit::int8,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
FROM pg_database d WHERE d.datconnlimit >= 0";

/// How many segments of log have to fit beside what is there.
const SEGMENTS: u64 = 4;

/// Measures the room on the candidate against the primary's present use.
pub(super) async fn measure(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let own = room_of(&pair.own).await?;
    let theirs = match &pair.primary {
        Some(primary) => room_of(primary).await?,
        None => Room::default(),
    };
    let mut found = judge(&own, &theirs, (pair.member.name.as_str(), pair.from.as_str()));
    found.extend(disk(pair).await);
    Ok(found)
}

fn judge(own: &Room, theirs: &Room, (name, from): (&str, &str)) -> Rehearsal {
    let mut found = Rehearsal::default();
    let free = own.offered - own.taken;
    let helps = format!(
        "end sessions on {name} (SELECT pid, usename, application_name FROM pg_stat_activity), or raise max_connections there"
    );
    let (offered, taken, needed) = (own.offered, own.taken, theirs.taken);
    if free <= 0 {
        let what = format!("{name} has no free connection: {taken} of {offered} are taken");
        found.always(what, "once promoted, no application could log in", helps);
    } else if free < needed {
        let what = format!(
            "{name} has {free} free connections ({taken} of {offered} are taken), {from} serves {needed} sessions"
        );
        found.planned(what, "some applications could not come back", helps);
    }
    for (who, (limit, there)) in &theirs.limited {
        let here = own.limited.get(who).map_or(0, |(_, here)| *here);
        if *there > 0 && here + there > *limit {
            let what =
                format!("the {who} is limited to {limit} connections and has {there} on {from} and {here} on {name}");
            let helps = format!("end sessions of the {who} on {name}, or raise its CONNECTION LIMIT");
            let why = "some applications could not come back";
            if here >= *limit { found.always(what, why, helps) } else { found.planned(what, why, helps) }
        }
    }
    found
}

/// Free disk where the candidate writes its log. A primary that cannot write its log stops.
async fn disk(pair: &Pair<'_>) -> Rehearsal {
    let server = &pair.member.server;
    let wal = server.data("pg_wal");
    let command = HostCommand::new(["df".to_owned(), "-Pk".into(), "--".into(), wal.to_string_lossy().into_owned()]);
    let told = match server.control().run(&command.within(std::time::Duration::from_secs(10))).await {
        Ok(told) => told,
        Err(error) => return Rehearsal::untried(format!("the free disk of {}: {}", pair.member.name, error.chain())),
    };
    let Some(free) = available(&told) else {
        return Rehearsal::untried(format!("the free disk of {}: `df` says {told:?}", pair.member.name));
    };
    let segment = match segment_bytes(&pair.own).await {
        Ok(segment) => segment,
        Err(error) => return Rehearsal::untried(format!("the free disk of {}: {}", pair.member.name, error.chain())),
    };
    let mut found = Rehearsal::default();
    if free < SEGMENTS * segment {
        let what = format!("{} has {} MB free for its log in {}", pair.member.name, free >> 20, wal.display());
        found.always(what, "a primary that cannot write its log stops", "make room on that disk");
    }
    found
}

/// The free bytes in the second line of `df -Pk`.
fn available(told: &str) -> Option<u64> {
    let kilobytes: u64 = told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes * 1024)
}

async fn room_of(session: &Session) -> Result<Room, PgError> {
    const WHAT: &str = "tell its connections";
    let row = session.row(WHAT, ROOM, &[]).await?;
    let mut room = Room { offered: session.get(WHAT, &row, 0)?, taken: session.get(WHAT, &row, 1)?, ..Room::default() };
    for row in session.rows(WHAT, LIMITED, &[]).await? {
        let who: String = session.get(WHAT, &row, 0)?;
        room.limited.insert(who, (session.get(WHAT, &row, 1)?, session.get(WHAT, &row, 2)?));
    }
    Ok(room)
}

async fn segment_bytes(session: &Session) -> Result<u64, PgError> {
    const WHAT: &str = "tell the size of its segments";
    let row = session.row(WHAT, "SELECT pg_size_bytes(current_setting('wal_segment_size'))", &[]).await?;
    Ok(u64::try_from(session.get::<i64>(WHAT, &row, 0)?).unwrap_or(1 << 24))
}

#[cfg(test)]
mod tests {
    use dr_core::contract::Weight;

    use super::*;

    fn room(offered: i64, taken: i64, limited: &[(&str, i64, i64)]) -> Room {
        let limited = limited.iter().map(|(who, limit, there)| ((*who).to_owned(), (*limit, *there))).collect();
        Room { offered, taken, limited }
    }

    #[test]
    fn sessions_of_the_primary_have_to_fit() {
        let weight = |own: &Room, theirs: &Room| {
            judge(own, theirs, ("pg2", "pg1")).obstacles.first().map(|obstacle| obstacle.weight)
        };
        let table = [
            (room(97, 0, &[]), room(97, 20, &[]), None),
            (room(97, 90, &[]), room(97, 20, &[]), Some(Weight::Planned)),
            (room(97, 97, &[]), room(97, 0, &[]), Some(Weight::Always)),
            (room(97, 5, &[("role `app`", 10, 5)]), room(97, 8, &[("role `app`", 10, 8)]), Some(Weight::Planned)),
            (room(97, 5, &[("role `app`", 10, 10)]), room(97, 8, &[("role `app`", 10, 8)]), Some(Weight::Always)),
            (room(97, 5, &[("role `app`", 10, 2)]), room(97, 8, &[("role `app`", 10, 8)]), None),
            (room(97, 9, &[("role `old`", 0, 0)]), room(97, 8, &[("role `old`", 0, 0)]), None),
        ];
        for (own, theirs, expected) in table {
            assert_eq!(weight(&own, &theirs), expected, "{own:?} {theirs:?}");
        }
    }

    #[test]
    fn free_disk_is_read_from_the_portable_form() {
        let told = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /\n";
        assert_eq!(available(told), Some(40 * 1024));
        assert_eq!(available("df: no such file"), None);
    }
}
