//! One durable event in the SQLite journal against the least that durability costs: the same bytes appended to a file and flushed
//! with `fdatasync`. Both on the same disk, in the same run, taking turns; the ratio of the medians is printed at the end.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use dr_benches::{median, next_line};
use dr_core::{
    RunId,
    base::Epoch,
    run::{Head, Journal as _},
};
use dr_engine::SqliteJournal;
use tokio::runtime::Runtime;

struct Journal {
    runtime: Runtime,
    journal: SqliteJournal,
    run: RunId,
    head: Head,
}

impl Journal {
    fn new(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let journal = SqliteJournal::open(dir).unwrap();
        let run: RunId = "orders-1".parse().unwrap();
        let head = runtime.block_on(journal.create(&run, Epoch::new(1), vec![next_line(Head::EMPTY)])).unwrap();
        Self { runtime, journal, run, head }
    }

    fn append(&mut self) -> Duration {
        let line = next_line(self.head);
        let began = Instant::now();
        let appended = self.journal.append(&self.run, Epoch::new(1), self.head.seq, vec![line]);
        self.head = self.runtime.block_on(appended).unwrap();
        began.elapsed()
    }
}

fn append_raw(file: &mut File, head: Head) -> Duration {
    let line = next_line(head);
    let began = Instant::now();
    file.write_all(line.text.as_bytes()).unwrap();
    rustix::fs::fdatasync(&*file).unwrap();
    began.elapsed()
}

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut journal = Journal::new(dir.path());
    let mut file = File::create(dir.path().join("raw")).unwrap();
    let mut group = c.benchmark_group("append one event");
    group.bench_function("sqlite journal", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| journal.append()).sum());
    });
    group.bench_function("raw append and fdatasync", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| append_raw(&mut file, journal.head)).sum());
    });
    group.finish();
    let rounds = if std::env::args().any(|arg| arg == "--test") { 5 } else { 300 };
    let pairs = (0..rounds).map(|_| (journal.append(), append_raw(&mut file, journal.head)));
    let (sqlite, raw): (Vec<_>, Vec<_>) = pairs.unzip();
    let (sqlite, raw) = (median(sqlite), median(raw));
    println!(
        "append one event, {rounds} pairs: journal {sqlite:.2?}, raw {raw:.2?}, ratio {:.2}",
        sqlite.as_secs_f64() / raw.as_secs_f64()
    );
}

criterion_group!(benches, append);
criterion_main!(benches);
