//! Leases in memory, shared by several "engines" of one host; a dead holder is replaced at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    RunId,
    base::{Epoch, ResourceAddress},
    run::{Lease, LeaseError, LeaseRequest, LeaseStore},
};

/// The lease store of one host, as one process sees it.
#[derive(Clone, Debug)]
pub struct MemoryLeases {
    host: Arc<Mutex<Host>>,
    process: u32,
}

#[derive(Debug)]
struct Host {
    held: BTreeMap<ResourceAddress, Held>,
    highest: Epoch,
    alive: BTreeSet<u32>,
    next_process: u32,
    lasts: Duration,
}

#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    process: u32,
}

impl Default for MemoryLeases {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLeases {
    /// A host with one process and no leases. A renewed lease lasts an hour.
    #[must_use]
    pub fn new() -> Self {
        let host = Host {
            held: BTreeMap::new(),
            highest: Epoch::default(),
            alive: BTreeSet::from([0]),
            next_process: 1,
            lasts: Duration::from_secs(3600),
        };
        Self { host: Arc::new(Mutex::new(host)), process: 0 }
    }

    /// Another process on the same host.
    #[must_use]
    pub fn process(&self) -> Self {
        let mut host = self.lock();
        let process = host.next_process;
        host.next_process = process.saturating_add(1);
        host.alive.insert(process);
        Self { host: Arc::clone(&self.host), process }
    }

    /// This process died: its file locks are gone.
    pub fn die(&self) {
        self.lock().alive.remove(&self.process);
    }

    /// How long a lease lasts after being renewed.
    pub fn lasts(&self, time: Duration) {
        self.lock().lasts = time;
    }

    /// The leases that are held.
    #[must_use]
    pub fn held(&self) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self.lock().held.values().map(|held| held.lease.clone()).collect();
        leases.dedup();
        leases
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        let mut host = self.lock();
        for key in &request.keys {
            let Some(held) = host.held.get(key) else { continue };
            let dead = !host.alive.contains(&held.process);
            let forced = held.lease.run == request.run && request.take_over;
            if !dead && !forced {
                let lease = held.lease.clone();
                return Err(LeaseError::Busy {
                    key: key.clone(),
                    run: lease.run,
                    holder: lease.holder,
                    since: lease.since,
                });
            }
        }
        let epoch = host.highest.max(request.above).next();
        host.highest = epoch;
        let lease =
            Lease { keys: request.keys.clone(), run: request.run, epoch, holder: request.holder, since: request.at };
        for key in request.keys {
            host.held.insert(key, Held { lease: lease.clone(), process: self.process });
        }
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        let host = self.lock();
        let mine = |key| host.held.get(key).is_some_and(|held| held.lease.epoch == lease.epoch);
        if lease.keys.iter().all(mine) { Ok(host.lasts) } else { Err(LeaseError::Lost { run: lease.run.clone() }) }
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.lock().held.retain(|_, held| held.lease.epoch != lease.epoch);
        Ok(())
    }

    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        let host = self.lock();
        let lives = |held: &Held| held.lease.run == *run && host.alive.contains(&held.process);
        Ok(host.held.values().any(lives))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VirtualRuntime;
    use dr_core::{GroupName, Timestamp};

    fn request(group: &str, keys: &[&str]) -> LeaseRequest {
        LeaseRequest {
            keys: keys.iter().copied().map(ResourceAddress::from).collect(),
            run: RunId::new(GroupName::new(group), 1),
            holder: "mira".into(),
            above: Epoch::new(4),
            take_over: false,
            at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn the_same_servers_under_two_group_names_are_leased_once() {
        VirtualRuntime::new()
            .run(async {
                let one = MemoryLeases::new();
                let two = one.process();
                let lease = one.acquire(request("orders", &["a", "b"])).await.unwrap();
                assert_eq!(lease.epoch, Epoch::new(5));
                let busy = two.acquire(request("sales", &["b", "c"])).await;
                assert!(matches!(&busy, Err(LeaseError::Busy { key, .. }) if key.as_str() == "b"), "{busy:?}");
                assert_eq!(one.held().len(), 1, "nothing was taken in part");
                one.release(&lease).await.unwrap();
                two.acquire(request("sales", &["b", "c"])).await.unwrap();
            })
            .unwrap();
    }

    #[test]
    fn a_dead_holder_is_replaced_at_once_and_a_live_one_only_on_demand() {
        VirtualRuntime::new()
            .run(async {
                let one = MemoryLeases::new();
                let two = one.process();
                let first = one.acquire(request("orders", &["a"])).await.unwrap();
                assert!(two.acquire(request("orders", &["a"])).await.is_err(), "the holder lives");
                one.die();
                let second = two.acquire(request("orders", &["a"])).await.unwrap();
                assert!(second.epoch > first.epoch);
                assert!(matches!(one.renew(&first).await, Err(LeaseError::Lost { .. })));
                let three = two.process();
                let forced = LeaseRequest { take_over: true, ..request("orders", &["a"]) };
                three.acquire(forced).await.unwrap();
                assert!(matches!(two.renew(&second).await, Err(LeaseError::Lost { .. })));
            })
            .unwrap();
    }
}
