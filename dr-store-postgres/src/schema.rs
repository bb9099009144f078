//! The tables.

use dr_sql::{Session, identifier};

use crate::error::OpenError;

/// The version of the tables.
pub(crate) const VERSION: i64 = 1;

/// `runs.seq` and `runs.hash` are the end of each run, so that a run whose tail is gone is not read as a shorter one. A row of `leases` outlives
/// its lease: the epoch must not start again.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS store (one boolean PRIMARY KEY DEFAULT true CHECK (one), version bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS runs (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run    text   NOT NULL UNIQUE,
        epoch  bigint NOT NULL,
        seq    bigint NOT NULL,
        hash   text   NOT NULL
    );
    CREATE TABLE IF NOT EXISTS lines (
        run  text   NOT NULL,
        seq  bigint NOT NULL,
        text text   NOT NULL,
        hash text   NOT NULL,
        PRIMARY KEY (run, seq)
    );
    CREATE TABLE IF NOT EXISTS inbox (
        number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run     text   NOT NULL,
        id      text   NOT NULL,
        at      bigint NOT NULL,
        request text   NOT NULL,
        UNIQUE (run, id)
    );
    CREATE TABLE IF NOT EXISTS leases (
        key       text    PRIMARY KEY,
        epoch     bigint  NOT NULL DEFAULT 0,
        run       text,
        holder    text    NOT NULL DEFAULT '',
        since     bigint  NOT NULL DEFAULT 0,
        until     timestamptz,
        contested boolean NOT NULL DEFAULT false
    );
    CREATE INDEX IF NOT EXISTS leases_by_run ON leases (run);
    CREATE TABLE IF NOT EXISTS groups (
        digest text   PRIMARY KEY,
        name   text   NOT NULL,
        file   text   NOT NULL,
        spec   text   NOT NULL,
        at     bigint NOT NULL
    );
    CREATE TABLE IF NOT EXISTS writers (name text PRIMARY KEY, target text NOT NULL, at bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS samples (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name   text   NOT NULL,
        at     bigint NOT NULL,
        sample text   NOT NULL
    );
    CREATE INDEX IF NOT EXISTS samples_by_time ON samples (name, at);
    CREATE TABLE IF NOT EXISTS notices (key text PRIMARY KEY, run text NOT NULL, at bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS closed (debt text PRIMARY KEY, closed text NOT NULL);
    INSERT INTO store (version) VALUES (1) ON CONFLICT DO NOTHING;
";

/// Whether a schema may have this name: one that needs no quotes, and leaves room for what is made of it.
pub(crate) fn is_name(name: &str) -> bool {
    let mut signs = name.chars();
    let first = signs.next().is_some_and(|sign| sign.is_ascii_lowercase());
    first && name.len() <= 40 && signs.all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_')
}

/// Makes the tables unless they are there, and checks their version. Engines that open an empty database at once wait for each other.
pub(crate) async fn prepare(session: &Session, schema: &str) -> Result<(), OpenError> {
    let there = "SELECT pg_catalog.to_regclass('store') IS NOT NULL";
    let rows = session.rows("look for the store's tables", there, &[]).await?;
    let first = rows.first().map(|row| session.get("look for the store's tables", row, 0)).transpose()?;
    if first == Some(false) {
        let name = identifier(schema);
        // A role that may not make schemas uses one that was made for it.
        let make = format!(
            "SELECT pg_catalog.pg_advisory_xact_lock({LOCK}, pg_catalog.hashtext('{name}'));
             DO $$ BEGIN IF pg_catalog.to_regnamespace('{name}') IS NULL THEN CREATE SCHEMA {name}; END IF; END $$;
             {TABLES}"
        );
        session.run("make the store's tables", &make).await?;
    }
    let row = session.row("read the store's version", "SELECT version FROM store", &[]).await?;
    let found: i64 = session.get("read the store's version", &row, 0)?;
    if found == VERSION {
        return Ok(());
    }
    let (server, schema) = (session.label().to_owned(), schema.to_owned());
    Err(OpenError::Version { server, schema, found, known: VERSION })
}

/// "drst", so that nobody else waits for this lock.
const LOCK: i32 = 0x6472_7374;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_has_a_plain_name() {
        for good in ["dr_store", "a", "s1"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "Dr", "a b", "a\"b", "a'; DROP", "pg-1", &"a".repeat(41)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
