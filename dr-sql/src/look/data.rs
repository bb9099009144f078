//! Looks at the data: whether others wrote after a position, how far sequences are, and what tables add up to.

use tokio_postgres::error::SqlState;

use crate::{
    act::{identifier, literal},
    client::{Session, TextRow},
    error::PgError,
    lsn::Lsn,
    target::{Rights, Target},
};

/// Whether others wrote after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenSince {
    /// The log is where it was, or holds nothing but our own probe writes and what the server does by itself.
    Nothing(String),
    /// Somebody wrote.
    Something(String),
    /// The log has moved, and the role is not told by what.
    Untold(String),
}

/// How far a sequence is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `schema.name`.
    pub name: String,
    /// Whether the role may read it.
    pub readable: bool,
    /// The last value; `None` if it was never used, or may not be read.
    pub last: Option<i64>,
    /// Whether it counts down.
    pub down: bool,
}

/// What a table adds up to, as the server counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many rows there are.
    pub rows: String,
    /// The sums over the two halves of each row's hash.
    pub halves: [String; 2],
}

const SEQUENCES: &str = "\
SELECT n.nspname || '.' || c.relname, r.readable, CASE WHEN r.readable THEN pg_sequence_last_value(c.oid) END, s.seqincrement < 0
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid,
     LATERAL (SELECT has_schema_privilege(n.oid, 'USAGE')
              AND (has_sequence_privilege(c.oid, 'SELECT') OR has_sequence_privilege(c.oid, 'USAGE')) AS readable) r
WHERE c.relkind = 'S' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1";

/// The schema in which a function that reads log records can be called, if there is one.
const INSPECTS: &str = "\
SELECT n.nspname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = 'pg_get_wal_records_info' AND has_function_privilege(p.oid, 'EXECUTE') LIMIT 1";

/// Texts of rows are the same whatever the defaults of the role and the database are.
const PLAIN: &str = "\
SET LOCAL search_path = pg_catalog; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; ";

impl Session {
    /// Whether others wrote after `since`, of a server that is at `end` now. A log that has not moved is a proof for everybody. Where it
    /// has moved, its records tell, if `pg_walinspect` is installed and this is no ordinary role: a record of a transaction that is none
    /// of our messages. A transaction that did not commit counts, and so does an automatic ANALYZE.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn written_since(&self, since: Lsn, end: Lsn) -> Result<WrittenSince, PgError> {
        const WHAT: &str = "tell what was written";
        if since == end {
            return Ok(WrittenSince::Nothing(format!("the log still ends at {end}")));
        }
        let moved = format!("the log has gone on from {since} to {end}");
        if since > end {
            return Ok(WrittenSince::Untold(format!("the server is at {end}, and not at {since} yet")));
        }
        if matches!(self.rights(), Rights::Managed { .. }) {
            return Ok(WrittenSince::Untold(format!("{moved}, and an ordinary role is not told by what")));
        }
        let schema = self.names(WHAT, INSPECTS).await?.into_iter().next();
        let Some(schema) = schema else {
            return Ok(WrittenSince::Untold(format!(
                "{moved}; what it holds is told by pg_walinspect, which is not installed"
            )));
        };
        let sql = format!(
            "SELECT r.start_lsn::text AS at, r.resource_manager AS by FROM {}.pg_get_wal_records_info({}, {}) r \
             WHERE r.xid::text <> '0' AND r.resource_manager NOT IN ('Transaction', 'Standby', 'XLOG') \
             AND NOT (r.resource_manager = 'LogicalMessage' AND r.description LIKE '%prefix \"dr\"%') ORDER BY r.start_lsn LIMIT 1",
            identifier(&schema),
            literal(&since.to_string()),
            literal(&end.to_string()),
        );
        Ok(match self.text_rows(WHAT, &sql).await {
            Ok(rows) => match rows.first() {
                Some(row) => {
                    let (at, by) = (row.get("at").unwrap_or("?"), row.get("by").unwrap_or("?"));
                    WrittenSince::Something(format!("{moved}, with a {by} record of a transaction at {at}"))
                }
                None => {
                    WrittenSince::Nothing(format!("{moved}, by nothing but the server itself and our probe writes"))
                }
            },
            // Segments that are gone, or a position on another timeline: an answer, and no proof.
            Err(error @ PgError::Query { .. }) => WrittenSince::Untold(format!("{moved}: {}", error.chain())),
            Err(error) => return Err(error),
        })
    }

    /// The permanent sequences of this database, without the server's own.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn sequences(&self) -> Result<Vec<Sequence>, PgError> {
        const WHAT: &str = "list its sequences";
        let rows = self.rows(WHAT, SEQUENCES, &[]).await?;
        let read = |row| {
            Ok(Sequence {
                name: self.get(WHAT, row, 0)?,
                readable: self.get(WHAT, row, 1)?,
                last: self.get(WHAT, row, 2)?,
                down: self.get(WHAT, row, 3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What tables add up to, all of one moment, in a session of its own: each row's text is hashed, and the hashes are added, so that
    /// the order of rows does not matter. It reads the tables whole.
    ///
    /// # Errors
    /// A table is missing or may not be read ([`PgError::Refused`]), or the server does not answer in time.
    pub async fn sums(target: &Target, tables: &[(&str, &str)]) -> Result<Vec<Sum>, PgError> {
        const WHAT: &str = "add up tables";
        let session = Self::open(target).await?;
        let mut sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {PLAIN}");
        for (schema, name) in tables {
            sql.push_str(&format!(
                "SELECT count(*) AS rows, coalesce(sum(('x' || substr(h, 1, 15))::bit(60)::bigint::numeric), 0) AS high, \
                 coalesce(sum(('x' || substr(h, 16, 15))::bit(60)::bigint::numeric), 0) AS low \
                 FROM (SELECT encode(sha256(convert_to(t::text, 'UTF8')), 'hex') AS h FROM {}.{} t) s; ",
                identifier(schema),
                identifier(name)
            ));
        }
        sql.push_str("COMMIT");
        let rows = session.text_rows(WHAT, &sql).await.map_err(|error| no_such_table(error, session.label()))?;
        let sums: Option<Vec<Sum>> = rows.iter().map(sum).collect();
        sums.filter(|sums| sums.len() == tables.len()).ok_or_else(|| PgError::Unreadable {
            server: session.label().into(),
            what: WHAT,
            saw: format!("{} rows for {} tables", rows.len(), tables.len()),
        })
    }
}

fn sum(row: &TextRow) -> Option<Sum> {
    let text = |column| row.get(column).map(str::to_owned);
    Some(Sum { rows: text("rows")?, halves: [text("high")?, text("low")?] })
}

/// What a person can change is refused; everything else stays what it is.
fn no_such_table(error: PgError, server: &str) -> PgError {
    let refused = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::INSUFFICIENT_PRIVILEGE];
    match error.sql_state().is_some_and(|state| refused.contains(state)) {
        true => PgError::Refused { server: server.into(), why: error.chain() },
        false => error,
    }
}
