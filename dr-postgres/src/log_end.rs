//! Where the log of a server that crashed really ends, read from the log itself.

use dr_sql::{Lsn, PgError};

use crate::{
    control_data::ControlData,
    server::{HostCommand, Server},
};

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// Where the last whole record begins.
    pub(crate) last: Lsn,
    /// Where nothing follows it; none where the beginning of another record follows.
    pub(crate) blank_from: Option<Lsn>,
}

/// How long reading the log since the last checkpoint may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// How much of a record that was never finished may have reached a standby.
const UNFINISHED: u64 = 1 << 20;
/// Page headers and padding between two records.
const PADDING: u64 = 64;

impl LogEnd {
    /// The furthest position that a standby of this server can have.
    pub(crate) fn furthest(&self) -> Lsn {
        let bytes = match self.blank_from {
            Some(blank) => blank.bytes().saturating_add(PADDING),
            None => self.last.bytes().saturating_add(UNFINISHED),
        };
        Lsn::new(bytes)
    }

    /// Reads what `pg_waldump` complains of at the end of a log; every log ends with a complaint.
    fn of_complaint(text: &str, segment_bytes: u64) -> Option<Self> {
        let rest = text.lines().rev().find_map(|line| line.split_once("error in WAL record at "))?.1;
        let (last, _) = rest.split_once(": ")?;
        Some(Self { last: last.parse().ok()?, blank_from: blank(text, segment_bytes) })
    }

    /// Reads the last record that `pg_waldump` lists.
    fn of_listing(text: &str) -> Option<Lsn> {
        let lsn = text.lines().rev().find_map(|line| line.split_once(" lsn: "))?.1;
        lsn.split(',').next()?.trim().parse().ok()
    }
}

/// Where nothing follows, if the complaint says so: no length, an empty page, or no further segment.
fn blank(text: &str, segment_bytes: u64) -> Option<Lsn> {
    let text = text.trim_end();
    if let Some((_, at)) = text.rsplit_once("invalid record length at ")
        && text.ends_with("got 0")
    {
        return at.split_once(':')?.0.parse().ok();
    }
    if let Some((_, place)) = text.rsplit_once("invalid magic number 0000 in ") {
        let name = place.split_once("segment ")?.1.split(',').next()?;
        let offset: u64 = place.rsplit_once("offset ")?.1.parse().ok()?;
        return Some(Lsn::new(segment_start(name, segment_bytes)?.saturating_add(offset)));
    }
    let missing = ["could not find file ", "could not open file "];
    let (_, missing) = missing.iter().find_map(|words| text.rsplit_once(words))?;
    let name = missing.split('"').nth(1)?.rsplit('/').next()?;
    segment_start(name, segment_bytes).map(Lsn::new)
}

/// Where a segment begins, by its name: timeline, upper half of the position, number within it.
fn segment_start(name: &str, segment_bytes: u64) -> Option<u64> {
    let number = |from, to| u64::from_str_radix(name.get(from..to)?, 16).ok();
    let (high, number) = (number(8, 16)?, number(16, 24)?);
    Some((high << 32).saturating_add(number.saturating_mul(segment_bytes)))
}

impl Server {
    /// Where the log ends that this stopped server's last checkpoint begins.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) async fn log_end(&self, data: &ControlData) -> Result<LogEnd, PgError> {
        const QUIET: &str = r#"LC_ALL=C "$1" -q -t "$2" -s "$3" -p "$4" 2>&1; exit 0"#;
        const LIST: &str = r#"LC_ALL=C "$1" -t "$2" -s "$3" -p "$4" 2>&1 | grep ' lsn: ' | tail -n 1; exit 0"#;
        let (program, log) = (self.program("pg_waldump"), self.data("pg_wal").to_string_lossy().into_owned());
        let (timeline, from) = (data.timeline.number().to_string(), data.checkpoint.to_string());
        let ask =
            |script: &str| HostCommand::new(["sh", "-c", script, "sh", &program, &timeline, &from, &log]).within(LIMIT);
        let complaint = self.control().run(&ask(QUIET)).await?;
        if let Some(end) = LogEnd::of_complaint(&complaint, data.segment_bytes) {
            return Ok(end);
        }
        let listing = self.control().run(&ask(LIST)).await?;
        let blank_from = blank(&complaint, data.segment_bytes);
        LogEnd::of_listing(&listing).map(|last| LogEnd { last, blank_from }).ok_or_else(|| PgError::Unreadable {
            server: self.site().name.clone(),
            what: "the end of its log",
            saw: complaint.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    /// The end is exact where nothing follows it, in each way in which a log can end, and roomy where a record was torn.
    #[test]
    fn the_end_of_a_log_is_read() {
        let error = "pg_waldump: error: error in WAL record at 0/3000148: ";
        let table = [
            ("invalid record length at 0/3000180: wanted 24, got 0", Some(0x300_0180)),
            ("invalid record length at 0/3000180: expected at least 24, got 0", Some(0x300_0180)),
            ("invalid magic number 0000 in log segment 000000010000000000000004, offset 0", Some(0x400_0000)),
            (
                "invalid magic number 0000 in WAL segment 000000010000000000000003, LSN 0/3002000, offset 8192",
                Some(0x300_2000),
            ),
            ("there is no contrecord flag at 0/3002000", None),
            ("invalid record length at 0/3000180: wanted 24, got 7", None),
        ];
        for (why, blank) in table {
            let end = LogEnd::of_complaint(&format!("{error}{why}\n"), SEGMENT).unwrap();
            assert_eq!((end.last, end.blank_from), (Lsn::new(0x300_0148), blank.map(Lsn::new)), "{why}");
            let room = if blank.is_some() { PADDING } else { UNFINISHED };
            assert_eq!(end.furthest().bytes(), blank.unwrap_or(0x300_0148) + room, "{why}");
        }
    }

    #[test]
    fn a_log_that_ends_with_its_segment_is_read() {
        let missing = "pg_waldump: error: could not open file \"/d/pg_wal/000000010000000200000004\": No such file or directory\n";
        assert_eq!(LogEnd::of_complaint(missing, SEGMENT), None);
        assert_eq!(blank(missing, SEGMENT), Some(Lsn::new((2 << 32) + (4 << 24))));
        let missing =
            "pg_waldump: error: could not find file \"000000010000000000000003\": No such file or directory\n";
        assert_eq!(blank(missing, SEGMENT), Some(Lsn::new(0x300_0000)));
        let line = "rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/03000110, prev 0/030000D8, desc: SWITCH\n";
        assert_eq!(LogEnd::of_listing(line), Some(Lsn::new(0x300_0110)));
        assert_eq!(LogEnd::of_listing(""), None);
    }
}
