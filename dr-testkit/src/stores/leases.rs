//! What a lease store promises.

use dr_core::{
    Millis, RunId, Timestamp,
    base::{Epoch, ResourceAddress},
    run::{Lease, LeaseError, LeaseRequest, Store},
};
use futures_util::future::join_all;

use super::{Case, Stop, Trial, holds, next_run, run, trials};

pub(super) const TRIALS: &[Trial] = trials![
    one_shared_resource_refuses_the_whole_request,
    the_refusal_names_the_holder,
    of_requests_at_once_one_is_granted,
    what_was_given_back_is_free,
    an_epoch_is_larger_than_every_earlier_one,
    a_renewal_tells_how_long_it_lasts,
    the_same_run_is_refused_while_its_holder_lives,
    a_take_over_never_takes_from_another_run,
    a_take_over_waits_for_what_was_promised,
    a_holder_that_was_taken_over_learns_it,
    a_lost_lease_gives_nothing_back,
    a_holder_that_is_gone_is_replaced,
    a_run_is_driven_as_long_as_its_holder_lives,
];

fn ask(run: &RunId, keys: &[&str]) -> LeaseRequest {
    LeaseRequest {
        keys: keys.iter().map(|key| ResourceAddress::new(*key)).collect(),
        run: run.clone(),
        holder: "mira on host a".into(),
        above: Epoch::new(0),
        take_over: false,
        at: Timestamp::from_millis(1_000),
    }
}

/// The same run by another engine, by an operator's decision.
fn over(run: &RunId, keys: &[&str]) -> LeaseRequest {
    let at = Timestamp::from_millis(2_000);
    LeaseRequest { take_over: true, holder: "ana on host b".into(), at, ..ask(run, keys) }
}

fn busy<T>(said: &Result<T, LeaseError>, wanted: &str) -> bool {
    matches!(said, Err(LeaseError::Busy { key, .. }) if key.as_str() == wanted)
}

/// Keeps `lease` alive while `other` goes on.
async fn kept<T>(c: &Case, store: &Store, lease: &Lease, other: impl Future<Output = T> + Send) -> T {
    use futures_util::future::{Either, select};
    let every = Millis::of(c.term / 4);
    let keep = Box::pin(async {
        loop {
            // A store that fails here fails the trial elsewhere.
            let _kept = store.leases.renew(lease).await.is_ok();
            c.pause(every).await;
        }
    });
    match select(keep, Box::pin(other)).await {
        Either::Left((never, _)) => never,
        Either::Right((done, _)) => done,
    }
}

async fn one_shared_resource_refuses_the_whole_request(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    let trying = async {
        let said = c.b.leases.acquire(ask(&next_run(), &["aaa", "weu"])).await;
        holds!(busy(&said, "weu"), "two runs have one resource: {said:?}");
        c.b.leases.acquire(ask(&"shop-1".parse()?, &["aaa"])).await?;
        Ok(())
    };
    kept(c, &c.a, &lease, trying).await
}

async fn the_refusal_names_the_holder(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    let said = kept(c, &c.a, &lease, c.b.leases.acquire(ask(&next_run(), &["neu"]))).await;
    let Err(LeaseError::Busy { run: by, holder, since, .. }) = said else {
        return Err(Stop::Failed(format!("{said:?}")));
    };
    let named = (by, holder.as_str(), since.millis());
    holds!(named == (run(), "mira on host a", 1_000), "{named:?}");
    Ok(())
}

async fn of_requests_at_once_one_is_granted(c: &Case) -> Result<(), Stop> {
    let runs: Vec<RunId> = (1..=6).map(|number| RunId::new(dr_core::GroupName::new("shop"), number)).collect();
    let racing = runs.iter().zip([&c.a, &c.b].into_iter().cycle());
    let racing = racing.map(|(run, store)| store.leases.acquire(ask(run, &["neu", "weu"])));
    let said = join_all(racing).await;
    let granted = said.iter().filter(|one| one.is_ok()).count();
    let refused = said.iter().filter(|one| matches!(one, Err(LeaseError::Busy { .. }))).count();
    holds!((granted, refused) == (1, 5), "{said:?}");
    Ok(())
}

async fn what_was_given_back_is_free(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    c.a.leases.release(&lease).await?;
    c.b.leases.acquire(ask(&next_run(), &["weu"])).await?;
    Ok(())
}

async fn an_epoch_is_larger_than_every_earlier_one(c: &Case) -> Result<(), Stop> {
    let first = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    c.a.leases.release(&first).await?;
    let above = Epoch::new(first.epoch.number().saturating_add(1_000));
    let second = c.b.leases.acquire(LeaseRequest { above, ..ask(&next_run(), &["weu"]) }).await?;
    holds!(second.epoch > above, "{} is not above {above}", second.epoch);
    c.b.leases.release(&second).await?;
    let third = c.a.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    holds!(third.epoch > second.epoch, "{} after {}", third.epoch, second.epoch);
    c.a.leases.release(&third).await?;
    let fourth = c.b.leases.acquire(ask(&run(), &["neu"])).await?;
    holds!(fourth.epoch > third.epoch, "the same keys again: {} after {}", fourth.epoch, third.epoch);
    Ok(())
}

async fn a_renewal_tells_how_long_it_lasts(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    for _ in 0..3 {
        let left = c.a.leases.renew(&lease).await?;
        holds!(!left.is_zero() && left <= c.term, "{left:?} of {:?}", c.term);
    }
    Ok(())
}

async fn the_same_run_is_refused_while_its_holder_lives(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    let said = kept(c, &c.a, &lease, c.b.leases.acquire(ask(&run(), &["neu"]))).await;
    holds!(busy(&said, "neu"), "two engines drive one run: {said:?}");
    Ok(())
}

async fn a_take_over_never_takes_from_another_run(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    let said = kept(c, &c.a, &lease, c.b.leases.acquire(over(&next_run(), &["neu"]))).await;
    holds!(busy(&said, "neu"), "it was taken: {said:?}");
    Ok(())
}

async fn a_take_over_waits_for_what_was_promised(c: &Case) -> Result<(), Stop> {
    let lease = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    let began = c.runtime.now_mono();
    let left = Millis::of(c.a.leases.renew(&lease).await?);
    c.b.leases.acquire(over(&run(), &["neu"])).await?;
    let waited = Millis::of(c.runtime.now_mono().since(began));
    // Durations are cut to milliseconds on both sides.
    holds!(waited.saturating_add(Millis::new(1)) >= left, "the former holder was promised {left:?} and got {waited:?}");
    Ok(())
}

async fn a_holder_that_was_taken_over_learns_it(c: &Case) -> Result<(), Stop> {
    let old = c.a.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    let new = c.b.leases.acquire(over(&run(), &["neu", "weu"])).await?;
    holds!(new.epoch > old.epoch, "{} after {}", new.epoch, old.epoch);
    let said = c.a.leases.renew(&old).await;
    holds!(matches!(&said, Err(LeaseError::Lost { run: lost }) if *lost == run()), "{said:?}");
    c.b.leases.renew(&new).await?;
    Ok(())
}

async fn a_lost_lease_gives_nothing_back(c: &Case) -> Result<(), Stop> {
    let old = c.a.leases.acquire(ask(&run(), &["neu"])).await?;
    let new = c.b.leases.acquire(over(&run(), &["neu"])).await?;
    let said = c.a.leases.release(&old).await;
    holds!(said.is_ok(), "{said:?}");
    c.b.leases.renew(&new).await?;
    let said = kept(c, &c.b, &new, c.a.leases.acquire(ask(&next_run(), &["neu"]))).await;
    holds!(busy(&said, "neu"), "the lease of the new holder was given back: {said:?}");
    Ok(())
}

async fn a_holder_that_is_gone_is_replaced(c: &Case) -> Result<(), Stop> {
    let gone = c.place.open().await?;
    let old = gone.leases.acquire(ask(&run(), &["neu", "weu"])).await?;
    gone.leases.renew(&old).await?;
    drop(gone);
    let began = c.runtime.now_mono();
    let new = loop {
        match c.b.leases.acquire(ask(&next_run(), &["weu", "zzz"])).await {
            Ok(lease) => break lease,
            Err(LeaseError::Busy { .. }) => c.pause(Millis::of(c.term / 8)).await,
            Err(error) => return Err(error.into()),
        }
        let waited = c.runtime.now_mono().since(began);
        holds!(waited < c.term * 4 + super::SOON.duration(), "nobody replaced it in {waited:?}");
    };
    holds!(new.epoch > old.epoch, "{} after {}", new.epoch, old.epoch);
    Ok(())
}

async fn a_run_is_driven_as_long_as_its_holder_lives(c: &Case) -> Result<(), Stop> {
    holds!(!c.b.leases.is_driven(&run()).await?, "nobody had it yet");
    let held = c.place.open().await?;
    let lease = held.leases.acquire(ask(&run(), &["neu"])).await?;
    let driven = kept(c, &held, &lease, async { c.b.leases.is_driven(&run()).await }).await?;
    holds!(driven, "its holder lives");
    holds!(!c.b.leases.is_driven(&next_run()).await?, "another run");
    held.leases.release(&lease).await?;
    holds!(!c.b.leases.is_driven(&run()).await?, "it was given back");

    held.leases.acquire(ask(&run(), &["neu"])).await?;
    drop(held);
    let began = c.runtime.now_mono();
    while c.b.leases.is_driven(&run()).await? {
        let waited = c.runtime.now_mono().since(began);
        holds!(waited < c.term * 4 + super::SOON.duration(), "its holder is gone for {waited:?}");
        c.pause(Millis::of(c.term / 8)).await;
    }
    Ok(())
}
