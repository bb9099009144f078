//! From a situation to a plan that may be shown: built by the runbook, held against all rules, hashed over its canonical text.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dr_benches::situation;
use dr_core::{Catalog, Plan, PlanBuilder, PlannedSwitchover, Purpose, Runbook as _, Situation, base::Finding};
use dr_testkit::policy;

fn build(now: &Situation) -> (Plan, Vec<Finding>) {
    let runbook = PlannedSwitchover::to("weu");
    let header = now.header(runbook.id(), Purpose::Switchover, policy(&now.group, Purpose::Switchover)).unwrap();
    let mut plan = PlanBuilder::new(header);
    runbook.plan(now, &mut plan).unwrap();
    plan.finish()
}

fn plan(c: &mut Criterion) {
    let now = situation();
    let catalog = Catalog::built_in();
    let (built, faults) = build(&now);
    assert_eq!(faults, []);
    let verified = built.clone().verify(Vec::new(), &catalog).unwrap();
    assert_eq!(verified.hash(), build(&now).0.hash().unwrap(), "the same situation, the same plan");
    assert!(built.order.len() > 20, "{} steps", built.order.len());
    let mut group = c.benchmark_group("plan of a switchover");
    group.bench_function("build", |b| b.iter(|| build(black_box(&now))));
    group.bench_function("verify and hash", |b| {
        b.iter_batched(
            || built.clone(),
            |plan| plan.verify(Vec::new(), &catalog).unwrap().hash(),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("hash", |b| b.iter(|| black_box(&built).hash().unwrap()));
    group.bench_function("build, verify and hash", |b| {
        b.iter(|| {
            let (plan, faults) = build(black_box(&now));
            plan.verify(faults, &catalog).unwrap().hash()
        });
    });
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
