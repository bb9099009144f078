//! Sequences of a new writer: raised beyond what its predecessor handed out, and never lowered.

use tokio_postgres::types::Type;

use crate::{act::literal, client::Session, error::PgError};

/// Each permanent sequence with its bounds, and the column that owns it.
const OWNED: &str = "\
SELECT n.nspname || '.' || c.relname, c.oid::int8, s.seqincrement, s.seqmin, s.seqmax, r.readable,
       has_sequence_privilege(c.oid, 'UPDATE'), quote_ident(tn.nspname) || '.' || quote_ident(t.relname), quote_ident(a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
     LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
                              AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
     LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
     LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid,
     LATERAL (SELECT has_schema_privilege(n.oid, 'USAGE')
              AND (has_sequence_privilege(c.oid, 'SELECT') OR has_sequence_privilege(c.oid, 'USAGE')) AS readable) r
WHERE c.relkind = 'S' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1";

/// Sets a sequence, unless it is there or further.
const RAISE: &str = "\
SELECT setval($1::int8::oid::regclass, $2)
WHERE coalesce(CASE WHEN $3 THEN pg_sequence_last_value($1::int8::oid) > $2 ELSE pg_sequence_last_value($1::int8::oid) < $2 END, true)";

const WHAT: &str = "raise its sequences";

/// A sequence, and who owns it.
struct Owned {
    name: String,
    oid: i64,
    increment: i64,
    bounds: (i64, i64),
    /// Whether the role may see how far it is, and set it.
    allowed: bool,
    /// Table and column, quoted.
    column: Option<(String, String)>,
}

impl Owned {
    fn counts_down(&self) -> bool {
        self.increment < 0
    }

    /// The further one of two values.
    fn further(&self, one: i64, other: i64) -> i64 {
        if self.counts_down() { one.min(other) } else { one.max(other) }
    }

    /// `steps` beyond a floor, and at most a hundredth of what is left: a small sequence is not used up by being careful.
    fn beyond(&self, floor: i64, steps: u32) -> i64 {
        let (least, most) = self.bounds;
        let end = if self.counts_down() { least } else { most };
        let left = (i128::from(end) - i128::from(floor)).abs() / i128::from(self.increment.unsigned_abs()).max(1);
        let steps = i128::from(steps).min(left / 100);
        let value = i128::from(floor) + steps * i128::from(self.increment);
        i64::try_from(value).unwrap_or(floor)
    }
}

impl Session {
    /// Lets sequences go on beyond their `floors` (name and last value of the predecessor's), `ahead` steps further as far as their bounds
    /// leave room, and those that a column owns beyond the greatest value there. None is lowered. Asking again changes nothing that matters.
    ///
    /// # Errors
    /// [`PgError::Refused`], and nothing is raised: a floor is for a sequence that this database does not have, or the role may not set a
    /// sequence that has to be raised, or may not read the column of one without a floor. Any other error leaves some raised.
    pub async fn raise_sequences(&self, floors: &[(String, i64)], ahead: u32) -> Result<(), PgError> {
        let sequences = self.owned().await?;
        let missing = floors.iter().find(|(name, _)| !sequences.iter().any(|sequence| sequence.name == *name));
        if let Some((name, _)) = missing {
            return Err(
                self.refuses(format!("there is no sequence {name}; create it, or let its schema be copied again"))
            );
        }
        let mut wanted = Vec::new();
        for sequence in &sequences {
            let floor = floors.iter().find(|(name, _)| *name == sequence.name).map(|(_, last)| *last);
            let Some(to) = self.wanted(sequence, floor, ahead).await? else { continue };
            if !sequence.allowed {
                let why = format!(
                    "the role may not set the sequence {0}; GRANT SELECT, UPDATE ON SEQUENCE {0}",
                    sequence.name
                );
                return Err(self.refuses(why));
            }
            wanted.push((sequence, to));
        }
        for (sequence, to) in wanted {
            let down = sequence.counts_down();
            self.rows(WHAT, RAISE, &[(&sequence.oid, Type::INT8), (&to, Type::INT8), (&down, Type::BOOL)]).await?;
        }
        Ok(())
    }

    fn refuses(&self, why: String) -> PgError {
        PgError::Refused { server: self.label().into(), why }
    }

    async fn owned(&self) -> Result<Vec<Owned>, PgError> {
        let rows = self.rows(WHAT, OWNED, &[]).await?;
        let read = |row| {
            let (readable, settable): (bool, bool) = (self.get(WHAT, row, 5)?, self.get(WHAT, row, 6)?);
            let (table, column): (Option<String>, Option<String>) = (self.get(WHAT, row, 7)?, self.get(WHAT, row, 8)?);
            Ok(Owned {
                name: self.get(WHAT, row, 0)?,
                oid: self.get(WHAT, row, 1)?,
                increment: self.get(WHAT, row, 2)?,
                bounds: (self.get(WHAT, row, 3)?, self.get(WHAT, row, 4)?),
                allowed: readable && settable,
                column: table.zip(column),
            })
        };
        rows.iter().map(read).collect()
    }

    /// The value that a sequence must have handed out at least; `None` where nothing is asked of it.
    async fn wanted(&self, sequence: &Owned, floor: Option<i64>, ahead: u32) -> Result<Option<i64>, PgError> {
        let floor = floor.map(|floor| sequence.beyond(floor, ahead));
        let Some((table, column)) = &sequence.column else { return Ok(floor) };
        let end = if sequence.counts_down() { "min" } else { "max" };
        let ask = format!("SELECT {end}({column})::text AS last FROM {table}");
        let rows = match (self.text_rows(WHAT, &ask).await, floor) {
            (Err(error), Some(floor)) if error.is_denied() => return Ok(Some(floor)),
            (rows, _) => rows?,
        };
        let Some(last) = rows.first().and_then(|row| row.get("last")) else { return Ok(floor) };
        let last = last.parse::<i64>().map_err(|_| PgError::Unreadable {
            server: self.label().into(),
            what: WHAT,
            saw: format!("{} in {table}.{column}", literal(last)),
        })?;
        let (least, most) = sequence.bounds;
        let last = last.clamp(least, most);
        Ok(Some(floor.map_or(last, |floor| sequence.further(floor, last))))
    }
}

#[cfg(test)]
mod tests {
    use super::Owned;

    fn sequence(increment: i64, bounds: (i64, i64)) -> Owned {
        Owned { name: "public.s".into(), oid: 1, increment, bounds, allowed: true, column: None }
    }

    #[test]
    fn steps_ahead_leave_room() {
        let large = sequence(1, (1, i64::MAX));
        assert_eq!(large.beyond(500, 10_000), 10_500);
        let small = sequence(1, (1, 32_767));
        assert_eq!(small.beyond(5_000, 10_000), 5_277, "a hundredth of what is left");
        assert_eq!(small.beyond(32_767, 10_000), 32_767);
        let down = sequence(-2, (i64::MIN, -1));
        assert_eq!(down.beyond(-500, 10_000), -20_500);
        assert_eq!(down.further(-20_500, -30_000), -30_000);
    }
}
