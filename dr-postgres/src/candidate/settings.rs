//! Settings that applications see: those of the primary against those of the candidate.
//!
//! This is no diff of everything. What is listed changes what a statement answers, how long it may take, or what survives a crash.
//! Settings of roles and databases are part of the log and equal on both sides.

use std::collections::BTreeMap;

use dr_core::contract::Rehearsal;
use dr_sql::{Custom, PgError, Setting};

use crate::candidate::Pair;

/// Settings under which an application gets other answers, other errors, or another promise.
const TOLD: &[(&str, &str)] = &[
    ("DateStyle", "dates are read and written in another order"),
    ("IntervalStyle", "intervals are written in another form"),
    ("TimeZone", "times are read and written in another zone"),
    ("array_nulls", "NULL in arrays is read differently"),
    ("backslash_quote", "quotes in strings are read differently"),
    ("bytea_output", "bytes are written in another form"),
    ("client_min_messages", "other notices reach the clients"),
    ("default_tablespace", "new tables lie elsewhere"),
    ("default_text_search_config", "texts are split into other words"),
    ("default_transaction_deferrable", "transactions begin differently"),
    ("default_transaction_isolation", "transactions see each other differently"),
    ("extra_float_digits", "numbers are written with other digits"),
    ("fsync", "a crash of the host may destroy the data"),
    ("full_page_writes", "a crash of the host may destroy pages"),
    ("idle_in_transaction_session_timeout", "sessions end at another time"),
    ("idle_session_timeout", "sessions end at another time"),
    ("lc_messages", "messages are in another language"),
    ("lc_monetary", "amounts are read and written differently"),
    ("lc_numeric", "numbers are read and written differently"),
    ("lc_time", "names of days and months differ"),
    ("local_preload_libraries", "sessions load other libraries"),
    ("lock_timeout", "statements that wait for a lock fail at another time"),
    ("password_encryption", "new passwords are kept in another form"),
    ("row_security", "rows are hidden differently"),
    ("search_path", "names without a schema mean other tables"),
    ("session_preload_libraries", "sessions load other libraries"),
    ("session_replication_role", "triggers and foreign keys fire differently"),
    ("standard_conforming_strings", "backslashes in strings are read differently"),
    ("statement_timeout", "statements are cut off at another time"),
    ("synchronous_commit", "a commit promises something else"),
    ("synchronous_standby_names", "a commit waits for other standbys, or for none"),
    ("temp_tablespaces", "temporary files lie elsewhere"),
    ("track_commit_timestamp", "times of commits are not kept"),
    ("transaction_timeout", "transactions are cut off at another time"),
    ("transform_null_equals", "comparisons with NULL answer differently"),
    ("wal_compression", "the log grows at another pace"),
];

/// Settings that are an obstacle in one direction.
const LISTENS: &str = "listen_addresses";
const LEVEL: &str = "wal_level";
const TLS: &str = "ssl";
const SENDERS: [&str; 2] = ["max_wal_senders", "max_replication_slots"];

/// Compares what both servers give to a new session.
pub(super) async fn compare(pair: &Pair<'_>) -> Result<Rehearsal, PgError> {
    let mut found = Rehearsal::default();
    let waiting = pair.own.waiting_for_restart().await?;
    if !waiting.is_empty() {
        let (name, settings) = (&pair.member.name, waiting.join(", "));
        found.untried.push(format!(
            "{name} with the values that wait for its restart ({settings}): it would be promoted without"
        ));
    }
    let names: Vec<&str> = TOLD.iter().map(|(name, _)| *name).chain([LISTENS, LEVEL, TLS]).chain(SENDERS).collect();
    let own = by_name(pair.own.server_settings(&names, Custom::With).await?);
    let Some(primary) = &pair.primary else { return Ok(found) };
    let theirs = by_name(primary.server_settings(&names, Custom::With).await?);
    let sides = Sides { own: (pair.member.name.as_str(), &own), theirs: (pair.from.as_str(), &theirs) };
    sides.differences(&mut found);
    sides.obstacles(&mut found, &pair.psql());
    let (mine, other) = (pair.own.identity().await?.version, primary.identity().await?.version);
    if mine != other {
        let (name, from) = (&pair.member.name, &pair.from);
        let text = |version: u32| format!("{}.{}", version / 10_000, version % 10_000);
        let what = format!(
            "what differs between {} on {from} and {} on {name}: read the release notes",
            text(other),
            text(mine)
        );
        found.untried.push(what);
    }
    Ok(found)
}

type Settings = BTreeMap<String, Setting>;

fn by_name(all: Vec<Setting>) -> Settings {
    all.into_iter().map(|setting| (setting.name.clone(), setting)).collect()
}

/// Both sides with their names.
struct Sides<'s> {
    own: (&'s str, &'s Settings),
    theirs: (&'s str, &'s Settings),
}

impl Sides<'_> {
    /// The values of a setting, the candidate's first; none where they are the same.
    fn differing(&self, name: &str) -> Option<(Option<&Setting>, Option<&Setting>)> {
        let (own, theirs) = (self.own.1.get(name), self.theirs.1.get(name));
        let value = |setting: Option<&Setting>| setting.map(|setting| setting.value.clone());
        (value(own) != value(theirs)).then_some((own, theirs))
    }

    fn differences(&self, found: &mut Rehearsal) {
        let shown = |setting: Option<&Setting>| setting.map_or_else(|| "not set".to_owned(), Setting::shown);
        let tell = |found: &mut Rehearsal, name: &str, effect: &str| {
            if let Some((own, theirs)) = self.differing(name) {
                let what =
                    format!("`{name}` is {} on {}, {} on {}", shown(theirs), self.theirs.0, shown(own), self.own.0);
                found.drops(what, effect);
            }
        };
        for (name, effect) in TOLD {
            tell(found, name, effect);
        }
        let custom: std::collections::BTreeSet<&String> =
            self.own.1.keys().chain(self.theirs.1.keys()).filter(|name| name.contains('.')).collect();
        for name in custom {
            tell(found, name, "an extension or an application reads it");
        }
    }

    fn obstacles(&self, found: &mut Rehearsal, psql: &str) {
        let value = |setting: Option<&Setting>| setting.map(|setting| setting.value.clone()).unwrap_or_default();
        let (name, from) = (self.own.0, self.theirs.0);
        let set = |setting: &str, value: &str| {
            format!("{psql} -c \"ALTER SYSTEM SET {setting} = '{value}'\"; restart {name}")
        };
        if let Some((own, theirs)) = self.differing(LEVEL) {
            let (own, theirs) = (value(own), value(theirs));
            if rank(&own) < rank(&theirs) {
                let what = format!("wal_level is {own} on {name}, {theirs} on {from}");
                found.planned(
                    what,
                    "its log would carry less: logical consumers or standbys stop",
                    set(LEVEL, &theirs),
                );
            }
        }
        if let Some((own, theirs)) = self.differing(LISTENS) {
            let (own, theirs) = (value(own), value(theirs));
            if is_local(&own) && !is_local(&theirs) {
                let what = format!("listen_addresses is `{own}` on {name}, `{theirs}` on {from}");
                found.planned(what, "applications on other machines cannot reach it", set(LISTENS, &theirs));
            }
        }
        if let Some((own, theirs)) = self.differing(TLS)
            && value(own) == "off"
            && value(theirs) == "on"
        {
            let what = format!("ssl is off on {name}, on on {from}");
            let helps = format!(
                "{psql} -c 'ALTER SYSTEM SET ssl = on' -c 'SELECT pg_reload_conf()'; it needs server.crt and server.key"
            );
            found.planned(what, "applications that insist on TLS cannot connect", helps);
        }
        for setting in SENDERS {
            if self.own.1.get(setting).is_some_and(|own| own.value == "0") {
                let what = format!("{setting} is 0 on {name}");
                found.planned(what, "once promoted, no standby can follow it through a slot", set(setting, "10"));
            }
        }
    }
}

fn rank(level: &str) -> u8 {
    match level {
        "minimal" => 0,
        "logical" => 2,
        _ => 1,
    }
}

/// Whether only the server's own machine reaches these addresses.
fn is_local(addresses: &str) -> bool {
    addresses.split(',').map(str::trim).all(|one| matches!(one, "" | "localhost" | "127.0.0.1" | "::1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values.
    type Given<'g> = &'g [(&'g str, &'g str)];

    fn settings(all: Given<'_>) -> Settings {
        by_name(
            all.iter()
                .map(|(name, value)| Setting {
                    name: (*name).into(),
                    value: (*value).into(),
                    source: "configuration file".into(),
                    unit: String::new(),
                    needs_restart: false,
                })
                .collect(),
        )
    }

    fn compared(own: Given<'_>, theirs: Given<'_>) -> Rehearsal {
        let (own, theirs) = (settings(own), settings(theirs));
        let sides = Sides { own: ("pg2", &own), theirs: ("pg1", &theirs) };
        let mut found = Rehearsal::default();
        sides.differences(&mut found);
        sides.obstacles(&mut found, "psql");
        found
    }

    #[test]
    fn differences_that_applications_see_are_told() {
        let found = compared(
            &[("TimeZone", "Europe/Berlin"), ("wal_level", "replica")],
            &[("TimeZone", "UTC"), ("wal_level", "replica")],
        );
        assert_eq!(found.drops[0].what, "`TimeZone` is `UTC` on pg1, `Europe/Berlin` on pg2");
        assert_eq!((found.drops.len(), found.obstacles.len()), (1, 0));
        let found = compared(&[("synchronous_standby_names", "")], &[("synchronous_standby_names", "pg2")]);
        assert!(found.drops[0].detail.contains("waits"), "{found:?}");
        let found = compared(&[], &[("app.tenant", "7")]);
        assert_eq!(found.drops[0].what, "`app.tenant` is `7` on pg1, not set on pg2");
        assert_eq!(compared(&[("lock_timeout", "0")], &[("lock_timeout", "0")]), Rehearsal::default());
    }

    #[test]
    fn a_candidate_that_offers_less_is_an_obstacle() {
        let table: [(Given<'_>, Given<'_>, usize); 7] = [
            (&[("wal_level", "replica")], &[("wal_level", "logical")], 1),
            (&[("wal_level", "logical")], &[("wal_level", "replica")], 0),
            (&[("listen_addresses", "localhost")], &[("listen_addresses", "*")], 1),
            (&[("listen_addresses", "*")], &[("listen_addresses", "127.0.0.1")], 0),
            (&[("ssl", "off")], &[("ssl", "on")], 1),
            (&[("ssl", "on")], &[("ssl", "off")], 0),
            (&[("max_wal_senders", "0")], &[("max_wal_senders", "0")], 1),
        ];
        for (own, theirs, obstacles) in table {
            assert_eq!(compared(own, theirs).obstacles.len(), obstacles, "{own:?} {theirs:?}");
        }
    }
}
