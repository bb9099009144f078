use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use dr_core::{
    Timestamp,
    base::canonical,
    contract::EvidenceSink,
    run::{Registry as _, Store},
};

use super::*;

/// Lines after `head`, with `words` inside.
fn lines(mut head: Head, words: &[&str]) -> Vec<Line> {
    let mut all = Vec::new();
    for word in words {
        let seq = head.seq + 1;
        let text = format!(r#"{{"prev":"{}","seq":"{seq}","word":"{word}"}}"#, head.hash.hex());
        let hash = canonical::leaf_hash(text.as_bytes());
        head = Head { seq, hash };
        all.push(Line { seq, text, hash });
    }
    all
}

fn run() -> RunId {
    "orders-1".parse().unwrap()
}

fn row(id: &str, word: &str) -> InboxRow {
    InboxRow { id: id.into(), at: Timestamp::from_millis(5), request: Json(serde_json::json!({ "word": word })) }
}

async fn started(dir: &Path, words: &[&str]) -> (SqliteJournal, Head) {
    let journal = SqliteJournal::open(dir).unwrap();
    let head = journal.create(&run(), Epoch::new(1), lines(Head::EMPTY, words)).await.unwrap();
    (journal, head)
}

fn sql(dir: &Path, statement: &str) {
    Connection::open(dir.join("journal.db")).unwrap().execute_batch(statement).unwrap();
}

#[tokio::test]
async fn keeps_what_was_appended_for_every_later_opener() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, head) = started(dir.path(), &["a", "b"]).await;
    let head = journal.append(&run(), Epoch::new(1), 2, lines(head, &["c"])).await.unwrap();
    drop(journal);
    let again = SqliteJournal::open(dir.path()).unwrap();
    assert_eq!(again.head(&run()).await.unwrap(), head);
    assert_eq!(again.read(&run(), 0).await.unwrap(), lines(Head::EMPTY, &["a", "b", "c"]));
    assert_eq!(again.read(&run(), 2).await.unwrap(), lines(Head::EMPTY, &["a", "b", "c"])[2..]);
    assert_eq!(again.read(&run(), 3).await.unwrap(), []);
    assert_eq!(again.runs().await.unwrap(), [run()]);
    assert_eq!(again.epoch(&run()).await.unwrap(), Epoch::new(1));
}

#[tokio::test]
async fn a_run_is_created_once_and_an_unknown_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    let again = journal.create(&run(), Epoch::new(2), lines(Head::EMPTY, &["x"])).await.unwrap_err();
    assert!(matches!(again, JournalError::Conflict { expected: 0, found: 1, .. }), "{again}");
    let other: RunId = "orders-9".parse().unwrap();
    for error in [
        journal.read(&other, 0).await.unwrap_err(),
        journal.append(&other, Epoch::new(1), 0, Vec::new()).await.unwrap_err(),
        journal.take_over(&other, Epoch::new(9)).await.unwrap_err(),
        journal.post(&other, row("1", "x")).await.unwrap_err(),
    ] {
        assert!(matches!(&error, JournalError::Unknown(run) if *run == other), "{error}");
    }
    assert_eq!(journal.inbox(&other).await.unwrap(), []);
}

/// Covers G03: only where the run ends, and all lines or none.
#[tokio::test]
async fn appends_only_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, head) = started(dir.path(), &["a"]).await;
    let early = journal.append(&run(), Epoch::new(1), 0, lines(Head::EMPTY, &["z"])).await.unwrap_err();
    assert!(matches!(early, JournalError::Conflict { expected: 0, found: 1, .. }), "{early}");
    let mut broken = lines(head, &["b", "c"]);
    broken[1].text.push(' ');
    let refused = journal.append(&run(), Epoch::new(1), 1, broken).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt { seq: 3, .. }), "{refused}");
    assert_eq!(journal.head(&run()).await.unwrap(), head, "nothing of it is stored");
}

/// Covers G06: after a take-over the former holder appends nothing more, and an epoch never goes back.
#[tokio::test]
async fn a_newer_epoch_fences_the_older() {
    let dir = tempfile::tempdir().unwrap();
    let (one, head) = started(dir.path(), &["a"]).await;
    let two = SqliteJournal::open(dir.path()).unwrap();
    two.take_over(&run(), Epoch::new(7)).await.unwrap();
    let fenced = one.append(&run(), Epoch::new(1), 1, lines(head, &["b"])).await.unwrap_err();
    assert!(
        matches!(fenced, JournalError::Fenced { held, mine } if held == Epoch::new(7) && mine == Epoch::new(1)),
        "{fenced}"
    );
    for stale in [6, 7] {
        let refused = one.take_over(&run(), Epoch::new(stale)).await.unwrap_err();
        assert!(matches!(refused, JournalError::Fenced { .. }), "{refused}");
    }
    two.append(&run(), Epoch::new(7), 1, lines(head, &["b"])).await.unwrap();
}

#[tokio::test]
async fn of_two_connections_that_append_at_once_one_wins_each_place() {
    let dir = tempfile::tempdir().unwrap();
    let (one, _) = started(dir.path(), &["a"]).await;
    let two = SqliteJournal::open(dir.path()).unwrap();
    let push = |journal: SqliteJournal| async move {
        let mut won = 0;
        for _ in 0..20 {
            let head = journal.head(&run()).await.unwrap();
            match journal.append(&run(), Epoch::new(1), head.seq, lines(head, &["x"])).await {
                Ok(_) => won += 1,
                Err(JournalError::Conflict { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        won
    };
    let (left, right) = tokio::join!(push(one.clone()), push(two));
    assert!(left + right >= 20, "every round has a winner");
    assert_eq!(one.read(&run(), 0).await.unwrap().len(), 1 + left + right);
}

#[tokio::test]
async fn a_request_is_stored_once_and_kept_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    for (id, word) in [("2", "b"), ("1", "a"), ("2", "changed")] {
        journal.post(&run(), row(id, word)).await.unwrap();
    }
    assert_eq!(journal.inbox(&run()).await.unwrap(), [row("2", "b"), row("1", "a")]);
}

/// A post between the look into the inbox and the wait is not missed; one of another process is seen soon.
#[tokio::test]
async fn the_holder_is_woken_by_posts_of_this_and_of_other_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    let mark = journal.mark(&run());
    journal.inbox(&run()).await.unwrap();
    journal.post(&run(), row("1", "between")).await.unwrap();
    let start = Instant::now();
    journal.changed(&run(), mark).await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());

    let mark = journal.mark(&run());
    journal.inbox(&run()).await.unwrap();
    let other = SqliteJournal::open(dir.path()).unwrap();
    other.post(&run(), row("2", "other")).await.unwrap();
    journal.changed(&run(), mark).await;
    assert_eq!(journal.inbox(&run()).await.unwrap().len(), 2);
}

/// Covers G02: what was changed behind the journal's back is found at the first bad line.
#[tokio::test]
async fn a_stored_line_that_was_changed_lost_or_cut_off_is_found() {
    for (harm, seq, words) in [
        ("UPDATE lines SET text = replace(text, 'b', 'x') WHERE seq = 2", 2, "its text was changed"),
        ("DELETE FROM lines WHERE seq = 2", 2, "it is missing"),
        ("DELETE FROM lines WHERE seq = 3", 3, "it is missing"),
        ("UPDATE lines SET hash = 'no hash' WHERE seq = 1", 1, "its text was changed"),
        ("UPDATE runs SET hash = (SELECT hash FROM lines WHERE seq = 1)", 3, "not the line that the run ended with"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = started(dir.path(), &["a", "b", "c"]).await;
        sql(dir.path(), harm);
        let error = journal.read(&run(), 0).await.unwrap_err();
        assert!(matches!(&error, JournalError::Corrupt { seq: found, .. } if *found == seq), "{harm}: {error}");
        assert!(error.to_string().contains(words), "{harm}: {error}");
    }
}

/// One damaged run leaves the others readable (models: a record that does not parse breaks one run, not the list).
#[tokio::test]
async fn a_damaged_run_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    let other: RunId = "orders-2".parse().unwrap();
    journal.create(&other, Epoch::new(2), lines(Head::EMPTY, &["ok"])).await.unwrap();
    sql(dir.path(), "UPDATE lines SET text = '{' WHERE run = 'orders-1'");
    assert!(journal.read(&run(), 0).await.is_err());
    assert_eq!(journal.runs().await.unwrap(), [run(), other.clone()]);
    assert_eq!(journal.read(&other, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn torn_foreign_and_newer_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    drop(journal);
    sql(dir.path(), "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 3");
    let newer = SqliteJournal::open(dir.path()).unwrap_err().to_string();
    assert!(newer.contains("version 3") && newer.contains("journal.db"), "{newer}");
    sql(dir.path(), "PRAGMA application_id = 1");
    let foreign = SqliteJournal::open(dir.path()).unwrap_err().to_string();
    assert!(foreign.contains("the file of another program"), "{foreign}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.db"), "no database, and long enough to be read as one".repeat(30)).unwrap();
    let torn = SqliteJournal::open(dir.path()).unwrap_err();
    assert!(matches!(&torn, OpenError::Damaged { .. }) && torn.to_string().contains("journal.db"), "{torn:?}");
}

#[tokio::test]
async fn a_file_cut_short_is_damaged_and_never_a_shorter_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, head) = started(dir.path(), &["a"]).await;
    let long = "x".repeat(3_000);
    let words: Vec<&str> = (0..40).map(|_| long.as_str()).collect();
    journal.append(&run(), Epoch::new(1), 1, lines(head, &words)).await.unwrap();
    drop(journal);
    sql(dir.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let file = std::fs::File::options().write(true).open(dir.path().join("journal.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096).unwrap();
    let _ = std::fs::remove_file(dir.path().join("journal.db-wal"));
    let error = match SqliteJournal::open(dir.path()) {
        Ok(journal) => crate::chain_of(&journal.read(&run(), 0).await.unwrap_err()),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("journal.db is damaged"), "{error}");
}

/// Covers "before the intent nothing is sent": a full file refuses the append and keeps what it had.
#[tokio::test]
async fn a_full_file_refuses_with_its_reason_and_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, head) = started(dir.path(), &["a"]).await;
    journal
        .store
        .call(|connection| {
            let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
        })
        .await
        .unwrap();
    let big = "x".repeat(50_000);
    let full = journal.append(&run(), Epoch::new(1), 1, lines(head, &[&big])).await.unwrap_err();
    assert!(matches!(&full, JournalError::Store { full: true, .. }), "{full:?}");
    assert!(crate::chain_of(&full).contains("no room"), "{full:?}");
    assert_eq!(journal.read(&run(), 0).await.unwrap().len(), 1);
}

/// Root ignores permissions, so the connection itself is made read-only.
#[tokio::test]
async fn a_journal_that_became_read_only_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, head) = started(dir.path(), &["a"]).await;
    journal.store.call(|connection| connection.pragma_update(None, "query_only", true)).await.unwrap();
    let refused = journal.append(&run(), Epoch::new(1), 1, lines(head, &["b"])).await.unwrap_err();
    assert!(matches!(&refused, JournalError::Store { full: false, .. }), "{refused:?}");
    assert!(crate::chain_of(&refused).contains("read-only"), "{refused:?}");
}

#[tokio::test]
async fn the_reserve_is_given_up_once_and_kept_again_for_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    assert!(journal.use_reserve(&run()).await);
    assert!(!journal.use_reserve(&run()).await);
    journal.create(&"orders-2".parse().unwrap(), Epoch::new(2), lines(Head::EMPTY, &["a"])).await.unwrap();
    assert!(journal.use_reserve(&run()).await);
}

#[tokio::test]
async fn a_notice_is_new_once_across_engines() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a"]).await;
    let at = Timestamp::from_millis(9);
    assert!(!journal.was_told("orders-1/parked/7").await.unwrap());
    journal.told("orders-1/parked/7", &run(), at).await.unwrap();
    journal.told("orders-1/parked/7", &run(), at).await.unwrap();
    let again = SqliteJournal::open(dir.path()).unwrap();
    assert!(again.was_told("orders-1/parked/7").await.unwrap());
    assert!(!again.was_told("orders-1/parked/8").await.unwrap());
}

/// A sink that fails, and remembers what it was asked.
#[derive(Debug, Default)]
struct Sink(Mutex<Vec<(u64, dr_core::base::Digest)>>, bool);

#[async_trait]
impl EvidenceSink for Sink {
    async fn seal(&self, _: &RunId, seq: u64, head: dr_core::base::Digest) -> Result<(), dr_core::ProviderError> {
        self.0.lock().unwrap().push((seq, head));
        if self.1 { Err(dr_core::ProviderError::unreachable("seal", "the sink is away")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_seal_names_the_line_and_a_sink_that_fails_fails_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = started(dir.path(), &["a", "b", "c"]).await;
    let sink = Arc::new(Sink::default());
    let leases = Arc::new(crate::FileLeases::open(dir.path().join("leases")).unwrap());
    let store = Store { registry: Arc::new(journal.clone()), journal: Arc::new(journal), leases };
    let sealed = store.clone().sealed_by(Arc::<Sink>::clone(&sink)).journal;
    sealed.seal(&run(), 2).await.unwrap();
    assert_eq!(*sink.0.lock().unwrap(), [(2, lines(Head::EMPTY, &["a", "b"])[1].hash)]);
    assert!(matches!(sealed.seal(&run(), 9).await, Err(JournalError::Corrupt { seq: 9, .. })));
    let failing = store.sealed_by(Arc::new(Sink(Mutex::default(), true))).journal;
    assert!(matches!(failing.seal(&run(), 3).await, Err(JournalError::Store { full: false, .. })));
}
