//! A whole planned switchover on the simulated cloud: planned, approved, driven, and held against the laws. Time is virtual, so what
//! is measured is the work of planning, driving and simulating, not the waits of a provider.
#![expect(clippy::print_stdout, reason = "a benchmark")]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dr_benches::{stage, switch_over};
use dr_core::base::text::human;
use dr_testkit::Stage;

fn proved(stage: &Stage) {
    let end = switch_over(black_box(stage));
    assert_eq!(end.class(), "success", "{}", end.words());
    assert_eq!(stage.cloud.violations(), []);
    stage.cloud.look(|truth| {
        assert_eq!(truth.lost_acknowledged(), []);
        assert_eq!((truth.promotions().count(), truth.primary()), (1, Some("weu".into())));
    });
}

fn switchover(c: &mut Criterion) {
    let once = stage();
    proved(&once);
    once.cloud.look(|truth| {
        let (writes, gap) = (truth.acknowledged(), human(truth.write_gap()));
        assert!(writes > 0, "nobody wrote");
        println!("one switchover: {writes} writes acknowledged, no write for {gap} of virtual time");
    });
    let mut group = c.benchmark_group("simulated switchover");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    group.bench_function("plan, approve, drive, check the laws", |b| {
        b.iter_batched(stage, |stage| proved(&stage), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, switchover);
criterion_main!(benches);
