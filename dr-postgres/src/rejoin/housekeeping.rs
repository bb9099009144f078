//! Whether a stretch of log holds anything that a client did, from what `pg_waldump` prints of it.

use std::collections::BTreeMap;

use dr_sql::Lsn;

/// What is known of a transaction's records so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Records {
    /// Messages of our own probe, which leave no row.
    Probe,
    /// Anything else.
    Rows,
}

/// Whether `records` are read whole, up to the shutdown checkpoint at `end`, and hold no commit of a client and nothing that counts
/// without one. Records of transactions that were never committed are no writes: nobody was told that they were.
pub(super) fn only_housekeeping(records: &str, end: Lsn) -> bool {
    let mut transactions: BTreeMap<&str, Records> = BTreeMap::new();
    let mut last = None;
    for line in records.lines() {
        let Some(record) = Record::read(line) else { return false };
        last = Some(record);
        let own = match record.manager {
            "XLOG" | "Standby" => continue,
            "Transaction" if record.what.starts_with("COMMIT ") => {
                transactions.get(record.transaction) == Some(&Records::Probe)
            }
            "Transaction" => record.what.starts_with("ABORT ") || record.what.starts_with("INVALIDATION"),
            "LogicalMessage" if record.what.starts_with("transactional, prefix \"dr\"") => {
                transactions.entry(record.transaction).or_insert(Records::Probe);
                true
            }
            // What cleaning up moves about; it changes no row.
            "Heap2" if ["PRUNE", "VACUUM", "VISIBLE", "FREEZE"].iter().any(|what| record.what.starts_with(what)) => {
                true
            }
            "Heap" | "Heap2" | "Btree" | "Hash" | "Gin" | "Gist" | "SPGist" | "BRIN" if record.transaction != "0" => {
                transactions.insert(record.transaction, Records::Rows);
                true
            }
            _ => false,
        };
        if !own {
            return false;
        }
    }
    last.is_some_and(|last| last.lsn == end && last.what.starts_with("CHECKPOINT_SHUTDOWN"))
}

/// One line of `pg_waldump`.
#[derive(Clone, Copy, Debug)]
struct Record<'t> {
    manager: &'t str,
    transaction: &'t str,
    lsn: Lsn,
    what: &'t str,
}

impl<'t> Record<'t> {
    fn read(line: &'t str) -> Option<Self> {
        let (head, what) = line.split_once(", desc: ")?;
        let field = |label: &str| {
            let (_, rest) = head.split_once(label)?;
            Some(rest.trim_start().split([' ', ',']).next().unwrap_or_default())
        };
        let lsn = field(" lsn:")?.parse().ok()?;
        // A message is told by its record's name, `MESSAGE`, in some versions.
        let what = what.strip_prefix("MESSAGE ").unwrap_or(what);
        Some(Self { manager: field("rmgr:")?, transaction: field(" tx:")?, lsn, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/03000110, prev 0/030000D8, desc: \
                           RUNNING_XACTS nextXid 740 latestCompletedXid 739 oldestRunningXid 740";
    const PROBE: &str = "rmgr: LogicalMessage len (rec/tot):     59/    59, tx:        740, lsn: 0/03000148, prev 0/03000110, desc: \
                         MESSAGE transactional, prefix \"dr\"; payload (5 bytes): 70 72 6F 62 65";
    const ROW: &str = "rmgr: Heap        len (rec/tot):     63/    63, tx:        740, lsn: 0/03000188, prev 0/03000148, desc: \
                       INSERT off 1 flags 0x00, blkref #0: rel 1663/16384/16390 blk 0";
    const COMMIT: &str = "rmgr: Transaction len (rec/tot):     46/    46, tx:        740, lsn: 0/030001C8, prev 0/03000188, desc: \
                          COMMIT 2026-01-02 03:04:05.000000 UTC";
    const END: &str = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000200, prev 0/030001C8, desc: \
                       CHECKPOINT_SHUTDOWN redo 0/3000200; tli 1; prev tli 1; fpw true; shutdown";

    fn clean(lines: &[&str]) -> bool {
        only_housekeeping(&lines.join("\n"), Lsn::new(0x0300_0200))
    }

    #[test]
    fn a_commit_of_a_client_is_no_housekeeping() {
        assert!(clean(&[END]));
        assert!(clean(&[RUNNING, PROBE, COMMIT, END]));
        assert!(clean(&[RUNNING, ROW, END]), "it was never committed");
        assert!(!clean(&[ROW, COMMIT, END]));
        assert!(!clean(&[COMMIT, END]), "its rows lie before");
        assert!(!clean(&[PROBE, ROW, COMMIT, END]));
        assert!(!clean(&[ROW, PROBE, COMMIT, END]));
    }

    #[test]
    fn what_is_not_read_whole_proves_nothing() {
        assert!(!clean(&[]) && !clean(&[RUNNING]) && !clean(&["what is this", END]));
        assert!(!only_housekeeping(END, Lsn::new(0x0300_0278)));
        let unknown = RUNNING.replace("Standby", "Sequence");
        assert!(!clean(&[&unknown, END]), "it counts without a commit");
    }
}
