//! The run machine alone: the journal of a whole switchover is applied record by record, and after each one it is decided what is
//! to be done. No disk, no provider, no clock.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dr_benches::recorded;
use dr_core::{
    RunId,
    run::{Line, Record, RunOutcome, RunState, decide},
};

fn records(lines: &[Line]) -> Vec<Record> {
    lines.iter().map(|line| Record::parse(line).unwrap()).collect()
}

/// The end of the run, and how many commands were decided on the way.
fn live(run: &RunId, records: &[Record]) -> (RunState, usize) {
    let (first, rest) = records.split_first().unwrap();
    let mut state = RunState::begin(run.clone(), first).unwrap();
    let mut commands = decide(&state).len();
    for record in rest {
        state.apply(record).unwrap();
        commands += decide(&state).len();
    }
    (state, commands)
}

fn machine(c: &mut Criterion) {
    let (run, lines) = recorded();
    let records = records(&lines);
    let (end, commands) = live(&run, &records);
    assert_eq!(end.outcome, Some(RunOutcome::Succeeded));
    assert!(commands >= records.len(), "{commands} commands from {} records", records.len());
    let count = u64::try_from(records.len()).unwrap();
    let mut group = c.benchmark_group("run machine");
    group.throughput(Throughput::Elements(count));
    group.bench_function("apply and decide, each record of a switchover", |b| {
        b.iter(|| live(black_box(&run), black_box(&records)));
    });
    group.bench_function("resume: parse the journal of a switchover and replay it", |b| {
        b.iter(|| dr_core::run::replay(black_box(&run), black_box(&lines)).unwrap());
    });
    group.finish();
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 200 };
    let began = Instant::now();
    for _ in 0..rounds {
        assert_eq!(live(&run, &records).1, commands, "the same journal, the same decisions");
    }
    println!(
        "apply and decide: {:.2?} a record, of {count} records",
        began.elapsed() / rounds / u32::try_from(count).unwrap()
    );
}

criterion_group!(benches, machine);
criterion_main!(benches);
