//! What one database holds that a promotion drops or that needs something of the server.

use std::collections::BTreeMap;

use dr_sql::{PgError, Session, identifier};

use crate::drops::{NAMES, list};

/// Collations that order something, with the version of the library that orders.
pub(super) type Collations = BTreeMap<String, String>;

/// Which side the figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// The primary, which has the rows.
    Primary,
    /// The candidate's catalogue, which knows only the names.
    Candidate,
}

/// One unlogged table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unlogged {
    /// `schema.name`.
    name: String,
    /// Rows as last estimated; none if nobody counted.
    rows: Option<i64>,
    /// Bytes on the server that was asked; nothing on a standby.
    bytes: i64,
}

/// What one database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    /// Unlogged tables that hold rows, and unlogged sequences.
    pub(super) unlogged: Vec<Unlogged>,
    /// Extensions with their versions.
    pub(super) extensions: BTreeMap<String, String>,
    /// How many sequences there are.
    pub(super) sequences: i64,
}

/// On a standby the files of unlogged tables are empty, whatever the primary has in its own.
const UNLOGGED: &str = "\
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind = 'S', pg_relation_size(c.oid)::int8,
       greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::int8),
       c.relkind <> 'S' AND has_table_privilege(c.oid, 'select') AND NOT c.relrowsecurity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'm', 'S') AND (c.relkind = 'S' OR pg_is_in_recovery() OR pg_relation_size(c.oid) > 0)
ORDER BY 2, 3";

const SEQUENCES: &str = "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relpersistence = 'p'";

/// Named collations that columns use, and the default one of the database. Those that order by bytes have no version.
const COLLATIONS: &str = "\
SELECT DISTINCT c.collname::text, pg_collation_actual_version(c.oid)
FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
WHERE c.collprovider <> 'd' AND c.collname NOT IN ('C', 'POSIX') AND a.attnum > 0 AND NOT a.attisdropped";
const DEFAULT_COLLATION: &str =
    "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()";

impl Inside {
    /// The unlogged tables as something dropped: names in the first text, figures in the second.
    pub(super) fn unlogged_in_words(&self, database: &str, counted: Counted) -> Option<(String, String)> {
        if self.unlogged.is_empty() {
            return None;
        }
        let names: Vec<&str> = self.unlogged.iter().map(|table| table.name.as_str()).collect();
        let what = format!("the rows of unlogged tables in the database `{database}`: {}", list(&names));
        if counted == Counted::Candidate {
            return Some((what, "the primary does not answer, so nobody can say how many".into()));
        }
        let figures: Vec<String> = self
            .unlogged
            .iter()
            .take(NAMES)
            .map(|table| {
                let rows =
                    table.rows.map_or_else(|| "rows not counted".to_owned(), |rows| format!("about {rows} rows"));
                format!("{}: {rows}, {} kB", table.name, (table.bytes + 1023) / 1024)
            })
            .collect();
        Some((what, figures.join("; ")))
    }
}

/// Every database but the two templates, and whether it takes connections.
pub(super) async fn all_databases(session: &Session) -> Result<Vec<(String, bool)>, PgError> {
    const WHAT: &str = "list its databases";
    const SQL: &str = "\
SELECT datname::text, datallowconn FROM pg_database WHERE datname NOT IN ('template0', 'template1') ORDER BY datname";
    let rows = session.rows(WHAT, SQL, &[]).await?;
    rows.iter().map(|row| Ok((session.get(WHAT, row, 0)?, session.get(WHAT, row, 1)?))).collect()
}

/// What the connected database holds.
pub(super) async fn inside(session: &Session) -> Result<Inside, PgError> {
    const WHAT: &str = "tell its sequences";
    let sequences = session.get(WHAT, &session.row(WHAT, SEQUENCES, &[]).await?, 0)?;
    Ok(Inside { unlogged: unlogged(session).await?, extensions: session.extensions().await?, sequences })
}

async fn unlogged(session: &Session) -> Result<Vec<Unlogged>, PgError> {
    const WHAT: &str = "tell its unlogged tables";
    let mut found = Vec::new();
    for row in session.rows(WHAT, UNLOGGED, &[]).await? {
        let (schema, name): (String, String) = (session.get(WHAT, &row, 1)?, session.get(WHAT, &row, 2)?);
        let (is_sequence, may_read): (bool, bool) = (session.get(WHAT, &row, 3)?, session.get(WHAT, &row, 6)?);
        let bytes: i64 = session.get(WHAT, &row, 4)?;
        // Space that deleted rows left behind is no row. Beyond a page or so an estimate is enough.
        if may_read && bytes > 0 && is_empty(session, &schema, &name).await? {
            continue;
        }
        let estimate: Option<i64> = session.get(WHAT, &row, 5)?;
        found.push(Unlogged {
            name: if is_sequence { format!("{schema}.{name} (a sequence)") } else { format!("{schema}.{name}") },
            rows: estimate.filter(|rows| *rows > 0),
            bytes,
        });
    }
    Ok(found)
}

async fn is_empty(session: &Session, schema: &str, name: &str) -> Result<bool, PgError> {
    let sql = format!("SELECT FROM ONLY {}.{} LIMIT 1", identifier(schema), identifier(name));
    match session.text_rows("look for a row in an unlogged table", &sql).await {
        Ok(rows) => Ok(rows.is_empty()),
        // A table that somebody has locked, or dropped just now, is taken to hold rows: too much told harms nobody.
        Err(error) if error.sql_state().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// How this server orders the collations in use.
pub(super) async fn collations_of(session: &Session) -> Result<Collations, PgError> {
    const WHAT: &str = "tell its collations";
    let mut found = Collations::new();
    for row in session.rows(WHAT, COLLATIONS, &[]).await? {
        if let Some(version) = session.get::<Option<String>>(WHAT, &row, 1)? {
            found.insert(session.get(WHAT, &row, 0)?, version);
        }
    }
    if session.identity().await?.version >= 150_000 {
        let row = session.row(WHAT, DEFAULT_COLLATION, &[]).await?;
        if let Some(version) = session.get::<Option<String>>(WHAT, &row, 0)? {
            found.insert("default".into(), version);
        }
    }
    Ok(found)
}
