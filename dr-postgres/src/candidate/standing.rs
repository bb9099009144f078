//! Settings and states of a candidate alone that would make its promotion an outage.

use dr_core::contract::{Rehearsal, Weight};
use dr_sql::{Custom, PgError, Session, Setting};

use crate::grants::shell;

/// What the candidate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    settings: Vec<Setting>,
    paused: bool,
}

const NAMES: &[&str] = &[
    "synchronous_standby_names",
    "synchronous_commit",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "default_transaction_read_only",
];

/// Under it a transaction that says nothing of itself writes nothing.
const READ_ONLY: &str = "default_transaction_read_only";

/// Looks at the candidate behind `session`, which a person reaches with `psql`. A primary that is read-only by default too loses nothing
/// by a candidate that is.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn look(session: &Session, psql: &str, primary: Option<&Setting>) -> Result<Rehearsal, PgError> {
    let settings = session.server_settings(NAMES, Custom::Without).await?;
    let paused = session.receiver().await?.paused;
    let mut found = judge(&Standing { settings, paused }, psql, primary);
    let ours = session.settings(&[READ_ONLY], Custom::Without).await?;
    let told = found.obstacles.iter().any(|obstacle| obstacle.what.starts_with(READ_ONLY));
    if let Some(ours) = ours.first().filter(|ours| ours.value == "on" && !told) {
        let role = session.names("tell its role", "SELECT current_user::text").await?.join("");
        let role = dr_sql::identifier(&role);
        found.always(
            format!("{READ_ONLY} is on for the control role {role} ({})", ours.source),
            "the write that proves the new writer would be refused, and the change would stop half-way",
            format!("on the primary: BEGIN READ WRITE; ALTER ROLE {role} SET {READ_ONLY} = off; COMMIT"),
        );
    }
    Ok(found)
}

/// How a server's transactions begin when nobody says otherwise.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn read_only_default(session: &Session) -> Result<Setting, PgError> {
    let found = session.server_settings(&["default_transaction_read_only"], Custom::Without).await?;
    found.into_iter().next().ok_or_else(|| PgError::Unreadable {
        server: session.label().into(),
        what: "default_transaction_read_only",
        saw: "nothing".into(),
    })
}

fn judge(standing: &Standing, psql: &str, primary: Option<&Setting>) -> Rehearsal {
    let mut found = Rehearsal::default();
    for hidden in standing.settings.iter().filter(|setting| setting.is_personal()) {
        let Setting { name, source, .. } = hidden;
        found.untried.push(format!(
            "what the candidate's files say of {name}: a setting of the control role hides it ({source})"
        ));
    }
    for setting in standing.settings.iter().filter(|setting| !setting.value.trim().is_empty()) {
        let value = &setting.value;
        match setting.name.as_str() {
            "synchronous_standby_names" => {
                let commit = standing.settings.iter().find(|other| other.name == "synchronous_commit");
                synchronous(&mut found, setting, commit, psql);
            }
            "recovery_min_apply_delay" if value != "0" => found.planned(
                format!("recovery_min_apply_delay is {}", setting.shown()),
                "the promotion waits until the last write is as old as that, and the applications with it",
                change(setting, psql, "0"),
            ),
            "default_transaction_read_only" if value == "on" && primary.is_none_or(|other| other.value != "on") => {
                found.always(
                    format!("default_transaction_read_only is on ({})", setting.source),
                    "once promoted, every transaction that does not say otherwise fails: nothing could be written",
                    change(setting, psql, "off"),
                )
            }
            target if target.starts_with("recovery_target") => found.planned(
                format!("{target} is `{value}`: replay ends there"),
                "the candidate never gets what is written after it, and catching up never ends",
                format!("{psql} -c {}; restart it", shell(&format!("ALTER SYSTEM RESET {target}"))),
            ),
            _ => {}
        }
    }
    if standing.paused {
        found.planned(
            "replay is paused",
            "the candidate would never have the last write",
            format!("{psql} -c 'SELECT pg_wal_replay_resume()'"),
        );
    }
    found
}

/// The names may be those of a pair in which each waits for the other: right while both are there, and no commit comes back between the
/// promotion and the rejoin.
fn synchronous(found: &mut Rehearsal, setting: &Setting, commit: Option<&Setting>, psql: &str) {
    let waits = commit.is_none_or(|commit| !matches!(commit.value.as_str(), "off" | "local"));
    found.obstacles.push(dr_core::contract::Obstacle {
        weight: if waits { Weight::Always } else { Weight::Planned },
        what: format!("synchronous_standby_names is `{}`", setting.value),
        why: "once promoted, every commit would wait for a standby that follows only after the rejoin".into(),
        helps: format!("{}; set it again when the former primary follows", change(setting, psql, "")),
    });
}

/// The command that gives a setting another value. What the command line says outweighs every file.
pub(super) fn change(setting: &Setting, psql: &str, value: &str) -> String {
    let name = &setting.name;
    if setting.source == "command line" {
        return format!("start the server without `-c {name}=...`");
    }
    if setting.is_personal() {
        return format!(
            "reset {name} of the control role or its database (ALTER ROLE ... RESET {name}) on the primary"
        );
    }
    let sql = format!("ALTER SYSTEM SET {name} = '{value}'");
    format!("{psql} -c {} -c 'SELECT pg_reload_conf()'", shell(&sql))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting {
            name: name.into(),
            value: value.into(),
            source: "configuration file".into(),
            unit: String::new(),
            needs_restart: false,
        }
    }

    fn judged(settings: &[Setting], primary: Option<&Setting>) -> Rehearsal {
        judge(&Standing { settings: settings.to_vec(), paused: false }, "psql", primary)
    }

    #[test]
    fn what_would_hang_or_refuse_every_write_is_an_obstacle() {
        let always = [("synchronous_standby_names", "ANY 1 (n1, n2)"), ("default_transaction_read_only", "on")];
        for (name, value) in always {
            let found = judged(&[setting(name, value)], None);
            assert_eq!(found.obstacles.len(), 1, "{name}");
            assert_eq!(found.obstacles[0].weight, Weight::Always);
            assert!(found.obstacles[0].helps.contains(&format!("ALTER SYSTEM SET {name} = ")), "{found:?}");
        }
        for (name, value) in [("recovery_min_apply_delay", "4000"), ("recovery_target_time", "2026-01-01")] {
            assert_eq!(judged(&[setting(name, value)], None).obstacles[0].weight, Weight::Planned, "{name}");
        }
        let fine = [("synchronous_standby_names", ""), ("recovery_min_apply_delay", "0"), ("recovery_target", "")];
        let fine: Vec<Setting> = fine.iter().map(|(name, value)| setting(name, value)).collect();
        assert_eq!(judged(&fine, None), Rehearsal::default());
    }

    #[test]
    fn a_pair_that_is_read_only_by_default_stays_what_it_is() {
        let on = setting("default_transaction_read_only", "on");
        assert_eq!(judged(std::slice::from_ref(&on), Some(&on)), Rehearsal::default());
    }

    #[test]
    fn commits_that_wait_for_nobody_leave_the_names_to_a_planned_change() {
        let names = [setting("synchronous_standby_names", "n1"), setting("synchronous_commit", "local")];
        assert_eq!(judged(&names, None).obstacles[0].weight, Weight::Planned);
    }

    /// A value from the command line is not changed by a file.
    #[test]
    fn the_help_depends_on_where_the_value_comes_from() {
        let on = Setting { source: "command line".into(), ..setting("default_transaction_read_only", "on") };
        assert!(judged(&[on], None).obstacles[0].helps.contains("without `-c"), "no ALTER SYSTEM");
    }
}
