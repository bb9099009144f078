//! What a person would type to do the same without us.

use crate::member::Member;

/// The commands for a verb of the management plane.
pub(crate) fn database(member: &Member, verb: &str) -> Vec<String> {
    let psql = member.link.target().psql();
    let data = member.server.site().data.display().to_string();
    match verb {
        "promote" => vec![
            format!(
                "{psql} -c \"SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()\"   # must be past the old primary's checkpoint"
            ),
            format!("{psql} -c \"SELECT pg_promote(wait => true, wait_seconds => 60)\""),
            format!("{psql} -c \"SELECT pg_is_in_recovery()\"   # must answer f"),
        ],
        "rejoin" => vec![
            format!("touch {data}/standby.signal"),
            format!(
                "vi {data}/postgresql.auto.conf   # primary_conninfo = '... the new primary ...', primary_slot_name = '{}'",
                member.slot()
            ),
            start(member),
            format!("{psql} -c \"SELECT status, received_tli FROM pg_stat_wal_receiver\"   # must be streaming"),
        ],
        "follow" => vec![
            format!(
                "{psql} -c \"ALTER SYSTEM SET primary_slot_name = '{}'\"   # made on the new primary before",
                member.slot()
            ),
            format!(
                "{psql} -c \"ALTER SYSTEM SET primary_conninfo = '... the new primary ...'\" -c \"SELECT pg_reload_conf()\""
            ),
            format!("{psql} -c \"SELECT status, received_tli FROM pg_stat_wal_receiver\"   # must be streaming"),
        ],
        "settle" => vec![format!("{psql} -c CHECKPOINT")],
        _ => Vec::new(),
    }
}

/// The commands for the clean stop.
pub(crate) fn stop(member: &Member, verb: &str) -> Vec<String> {
    let site = member.server.site();
    let data = site.data.display();
    match verb {
        "engage" => {
            let mut lines: Vec<String> = site.unit.iter().map(|unit| format!("systemctl mask {}", unit.name)).collect();
            lines.push(format!("{} stop -D {data} -m fast", member.server.program("pg_ctl")));
            lines.push(format!("touch {data}/standby.signal"));
            lines.push(format!("LC_ALL=C {} {data}   # must say: shut down", member.server.program("pg_controldata")));
            lines
        }
        "release" => vec![format!("rm {data}/standby.signal"), start(member)],
        _ => Vec::new(),
    }
}

fn start(member: &Member) -> String {
    let site = member.server.site();
    match &site.unit {
        Some(unit) => format!("systemctl unmask {0} && systemctl start {0}", unit.name),
        None => {
            format!("{} start -D {} -l {}", member.server.program("pg_ctl"), site.data.display(), site.log.display())
        }
    }
}
