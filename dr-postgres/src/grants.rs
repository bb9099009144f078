//! The rights of the control role: what is missing is told at once, as the statements that give it.
//!
//! Grants are part of the log, so they are given on the primary and reach every standby.

use dr_core::contract::{Obstacle, Rehearsal, Weight};
use dr_sql::{PgError, Session, identifier};

/// What a switchover cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing can be promoted.
    Promotion,
    /// The change cannot be prepared or proved.
    Change,
    /// A part of the rehearsal stays untried.
    Rehearsal,
}

/// One right: who has it, what gives it and what it is for.
struct Right {
    need: Need,
    /// The oldest version that has it; older ones let only superusers.
    since: i32,
    /// Whether the role has it, as SQL.
    has: &'static str,
    /// The statement, with `ROLE` for the role.
    grant: &'static str,
    /// What it is for.
    purpose: &'static str,
}

const RIGHTS: &[Right] = &[
    Right {
        need: Need::Promotion,
        since: 0,
        has: "has_function_privilege('pg_promote(boolean, integer)', 'execute')",
        grant: "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO ROLE",
        purpose: "promote the candidate",
    },
    Right {
        need: Need::Change,
        since: 0,
        has: "pg_has_role('pg_monitor', 'usage')",
        grant: "GRANT pg_monitor TO ROLE",
        purpose: "read replication, sessions and settings",
    },
    Right {
        need: Need::Change,
        since: 15,
        has: "EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' AND pg_has_role(oid, 'usage'))",
        grant: "GRANT pg_checkpoint TO ROLE",
        purpose: "write a checkpoint before the stop, so that the stop is short",
    },
    Right {
        need: Need::Change,
        since: 0,
        has: "has_function_privilege('pg_reload_conf()', 'execute')",
        grant: "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO ROLE",
        purpose: "load a changed setting",
    },
    Right {
        need: Need::Change,
        since: 15,
        has: "has_parameter_privilege('wal_retrieve_retry_interval', 'alter system')",
        grant: "GRANT ALTER SYSTEM ON PARAMETER wal_retrieve_retry_interval TO ROLE",
        purpose: "have the candidate look for log, and for its promotion, every 100 ms",
    },
    Right {
        need: Need::Change,
        since: 0,
        has: "has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute') \
              OR (pg_has_role('pg_read_server_files', 'usage') AND has_database_privilege(current_database(), 'temp'))",
        grant: "GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO ROLE",
        purpose: "read where a history left its parent",
    },
    Right {
        need: Need::Rehearsal,
        since: 0,
        has: "has_table_privilege('pg_hba_file_rules', 'select') AND has_function_privilege('pg_hba_file_rules()', 'execute')",
        grant: "GRANT SELECT ON pg_hba_file_rules TO ROLE; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO ROLE",
        purpose: "compare the applications' sessions with the candidate's pg_hba.conf",
    },
];

/// What the control role of `session` lacks. `psql` is how a superuser gives it.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn missing(session: &Session, psql: &str) -> Result<Rehearsal, PgError> {
    const WHAT: &str = "tell what its role may do";
    const WHO: &str = "SELECT current_user::text, current_setting('server_version_num')::int / 10000";
    let row = session.row(WHAT, WHO, &[]).await?;
    let (role, major): (String, i32) = (session.get(WHAT, &row, 0)?, session.get(WHAT, &row, 1)?);
    let columns: Vec<String> = RIGHTS
        .iter()
        .enumerate()
        .map(|(index, right)| {
            // Before a right exists only superusers have what it gives.
            let superuser = "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
            format!("({}) AS r{index}", if right.since <= major { right.has } else { superuser })
        })
        .collect();
    let rows = session.text_rows(WHAT, &format!("SELECT {}", columns.join(", "))).await?;
    let lacks = |index: usize| rows.first().and_then(|row| row.get(&format!("r{index}"))) != Some("t");
    let lacking: Vec<&Right> = RIGHTS.iter().enumerate().filter(|(index, _)| lacks(*index)).map(|(_, r)| r).collect();
    Ok(told(&lacking, (&role, psql), major))
}

fn told(lacking: &[&Right], (role, psql): (&str, &str), major: i32) -> Rehearsal {
    let mut found = Rehearsal::default();
    let quoted = identifier(role);
    let statement = |right: &Right| match right.since <= major {
        true => right.grant.replace("ROLE", &quoted),
        false => format!("ALTER ROLE {quoted} SUPERUSER"),
    };
    let command = |rights: &[&Right]| {
        let mut statements: Vec<String> = rights.iter().map(|right| statement(right)).collect();
        statements.dedup();
        format!("{psql} -c {}", shell(&statements.join("; ")))
    };
    let purposes = |rights: &[&Right]| rights.iter().map(|right| right.purpose).collect::<Vec<_>>().join("; ");
    let (rehearsal, change): (Vec<&Right>, Vec<&Right>) =
        lacking.iter().partition(|right| right.need == Need::Rehearsal);
    if !change.is_empty() {
        let promotion = change.iter().any(|right| right.need == Need::Promotion);
        found.obstacles.push(Obstacle {
            weight: if promotion { Weight::Always } else { Weight::Planned },
            what: format!("the role `{role}` lacks rights, to: {}", purposes(&change)),
            why: "the change would stop with `permission denied` half-way".into(),
            helps: command(&change),
        });
    }
    if !rehearsal.is_empty() {
        let (purposes, command) = (purposes(&rehearsal), command(&rehearsal));
        found.untried.push(format!("the role `{role}` lacks rights, to: {purposes}; helps: {command}"));
    }
    found
}

/// Whether the role of this session may make and drop replication slots.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn may_make_slots(session: &Session) -> Result<bool, PgError> {
    const WHAT: &str = "tell what its role may do";
    const SQL: &str = "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user";
    session.get(WHAT, &session.row(WHAT, SQL, &[]).await?, 0)
}

/// One word of a shell command.
pub(crate) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_in_one_command() {
        let all: Vec<&Right> = RIGHTS.iter().collect();
        let found = told(&all, ("pro\"be", "psql -h db1"), 15);
        let [obstacle] = found.obstacles.as_slice() else { panic!("{found:?}") };
        assert_eq!(obstacle.weight, Weight::Always);
        assert!(
            obstacle.helps.starts_with(
                r#"psql -h db1 -c 'GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO "pro""be"; "#
            )
        );
        assert!(obstacle.helps.contains(r#"GRANT pg_monitor TO "pro""be""#), "{}", obstacle.helps);
        assert!(found.untried.iter().any(|text| text.contains("GRANT SELECT ON pg_hba_file_rules")));
        assert_eq!(told(&[], ("probe", "psql"), 15), Rehearsal::default());
    }

    /// Before PostgreSQL 15 there is no right to a checkpoint, nor to a single setting.
    #[test]
    fn older_servers_ask_for_a_superuser_once() {
        let all: Vec<&Right> = RIGHTS.iter().filter(|right| right.since == 15).collect();
        let found = told(&all, ("probe", "psql"), 14);
        assert_eq!(found.obstacles[0].helps, r#"psql -c 'ALTER ROLE "probe" SUPERUSER'"#);
        assert_eq!(found.obstacles[0].weight, Weight::Planned);
    }
}
