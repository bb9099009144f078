use dr_core::{
    RunId, Timestamp,
    base::{Epoch, ResourceAddress},
};

use super::*;

fn ask(run: &str, keys: &[&str]) -> LeaseRequest {
    LeaseRequest {
        keys: keys.iter().map(|key| ResourceAddress::new(*key)).collect(),
        run: run.parse::<RunId>().unwrap(),
        holder: "mira on host a".into(),
        above: Epoch::new(0),
        take_over: false,
        at: Timestamp::from_millis(1_000),
    }
}

fn over(run: &str, keys: &[&str]) -> LeaseRequest {
    LeaseRequest { take_over: true, ..ask(run, keys) }
}

/// Covers G06: one resource, one run, whatever the group is called; and all keys or none.
#[tokio::test]
async fn one_shared_resource_is_enough_to_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = FileLeases::open(dir.path()).unwrap().for_journal(Path::new("/a"));
    let two = FileLeases::open(dir.path()).unwrap().for_journal(Path::new("/b"));
    let lease = one.acquire(ask("orders-1", &["neu", "weu"])).await.unwrap();
    let refused = two.acquire(ask("shop-4", &["aaa", "weu"])).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "weu is held by orders-1 (mira on host a, since 1970-01-01T00:00:01.000Z); wait for it, or resume it"
    );
    two.acquire(ask("shop-5", &["aaa"])).await.expect("nothing of the refused request was taken");

    one.release(&lease).await.unwrap();
    assert!(two.acquire(ask("shop-4", &["neu", "weu"])).await.unwrap().epoch > lease.epoch);
}

/// Two journals may both have an `orders-1`: the name alone is not the run.
#[tokio::test]
async fn the_same_run_name_of_another_journal_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let one = FileLeases::open(dir.path()).unwrap().for_journal(Path::new("/a"));
    let two = FileLeases::open(dir.path()).unwrap().for_journal(Path::new("/b"));
    one.acquire(ask("orders-1", &["neu"])).await.unwrap();
    assert!(matches!(two.acquire(over("orders-1", &["neu"])).await, Err(LeaseError::Busy { .. })));
}

#[tokio::test]
async fn a_dead_holder_is_replaced_at_once_and_learns_it() {
    let dir = tempfile::tempdir().unwrap();
    let dead = FileLeases::open(dir.path()).unwrap();
    let old = dead.acquire(ask("orders-1", &["neu"])).await.unwrap();
    drop(dead);
    let two = FileLeases::open(dir.path()).unwrap();
    let new = two.acquire(ask("shop-1", &["neu"])).await.unwrap();
    assert!(new.epoch > old.epoch);
    assert!(matches!(two.renew(&old).await, Err(LeaseError::Lost { run }) if run == old.run));
    two.release(&old).await.unwrap();
    assert!(two.renew(&new).await.unwrap() > Duration::from_secs(1), "giving back a lost lease takes nothing away");
    assert_eq!(std::fs::read_dir(dir.path().join("holders")).unwrap().count(), 1, "the file of the dead is swept");
}

#[tokio::test]
async fn epochs_only_grow_and_stay_above_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let leases = FileLeases::open(dir.path()).unwrap();
    let first = leases.acquire(ask("orders-1", &["neu"])).await.unwrap();
    leases.release(&first).await.unwrap();
    let other = leases.acquire(LeaseRequest { above: Epoch::new(40), ..ask("shop-1", &["weu"]) }).await.unwrap();
    assert_eq!(other.epoch, Epoch::new(41));
    leases.release(&other).await.unwrap();
    let both = leases.acquire(ask("orders-2", &["neu", "weu"])).await.unwrap();
    assert_eq!(both.epoch, Epoch::new(42), "larger than every earlier one of any key");
}

#[tokio::test]
async fn a_live_holder_keeps_its_run_unless_an_operator_takes_it_over() {
    let dir = tempfile::tempdir().unwrap();
    let term = Duration::from_millis(30);
    let one = FileLeases::open(dir.path()).unwrap().lasting(term);
    let two = FileLeases::open(dir.path()).unwrap().lasting(term);
    let old = one.acquire(ask("orders-1", &["neu"])).await.unwrap();
    assert!(matches!(two.acquire(ask("orders-1", &["neu"])).await, Err(LeaseError::Busy { .. })));
    assert!(matches!(two.acquire(over("shop-1", &["neu"])).await, Err(LeaseError::Busy { .. })), "another run never");

    assert!(one.renew(&old).await.unwrap() <= term);
    let promised = uptime() + one.renew(&old).await.unwrap();
    let new = two.acquire(over("orders-1", &["neu"])).await.unwrap();
    assert!(uptime() >= promised, "the old holder's time was waited for");
    assert!(new.epoch > old.epoch);
    assert!(matches!(one.renew(&old).await, Err(LeaseError::Lost { .. })));
}

#[tokio::test]
async fn a_holder_without_a_file_is_dead_only_after_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let one = FileLeases::open(dir.path()).unwrap();
    one.acquire(ask("orders-1", &["neu"])).await.unwrap();
    for file in std::fs::read_dir(dir.path().join("holders")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let two = FileLeases::open(dir.path()).unwrap();
    assert!(matches!(two.acquire(ask("shop-1", &["neu"])).await, Err(LeaseError::Busy { .. })));
    assert_eq!(two.held().await.unwrap().len(), 1);
}

/// An account that may not write the host's directory got one of its own without a word, and two engines worked on one database.
#[tokio::test]
async fn bug_leases_that_cannot_be_used_were_replaced_by_private_ones() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no-directory");
    std::fs::write(&file, "").unwrap();
    let named = file.join("leases");
    let error = FileLeases::open_named(Some(named.clone().into())).unwrap_err();
    assert!(matches!(&error, crate::OpenError::Leases { path, .. } if *path == named), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("install -d -m 2770") && words.contains("DR_LEASES"), "{words}");
    assert!(
        FileLeases::open_named(Some("leases".into())).is_err(),
        "a relative path is another one in every directory"
    );
    assert!(FileLeases::open_named(Some(dir.path().join("leases").into())).is_ok());
}
