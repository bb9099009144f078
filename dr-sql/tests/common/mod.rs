//! A pair of real servers, and a role with the rights of an ordinary one on a managed service.

use std::time::Duration;

use dr_core::{DatabaseProbe, ProviderError, contract::PositionReading};
use dr_postgres::testing::{ClusterOptions, LocalCluster, Node};
use dr_sql::{Probe, Session, SslMode, Target};

/// All that the role of a managed service has. A superuser of a service may not look into the server's directories either.
pub(crate) const ORDINARY: &str = "\
CREATE ROLE svc LOGIN PASSWORD 'local-cluster';
GRANT pg_monitor TO svc;
REVOKE EXECUTE ON FUNCTION pg_ls_waldir() FROM pg_monitor;
CREATE SCHEMA svc AUTHORIZATION svc";

pub(crate) async fn start(settings: &[&str]) -> LocalCluster {
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    let options = ClusterOptions { pooler: false, settings, ..ClusterOptions::default() };
    let cluster = LocalCluster::start(options).await.unwrap();
    on(&cluster, ORDINARY).await;
    cluster
}

/// Runs statements on the primary as a superuser, and waits until the standby has them.
pub(crate) async fn on(cluster: &LocalCluster, sql: &str) {
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    admin.run("prepare the test", sql).await.unwrap();
    let end = admin.identity().await.unwrap().position;
    let standby = Session::open(&cluster.pg2().admin).await.unwrap();
    until("the standby", async || (standby.replayed().await.unwrap().unwrap() >= end).then_some(())).await;
}

/// As a backend of a managed service would reach this server.
pub(crate) fn managed(node: &Node) -> Target {
    let target = Target::managed(&node.name, "127.0.0.1", node.port, "svc", "svc").with_password("local-cluster");
    // These servers have no certificate.
    Target { ssl: SslMode::Disable, ..target }.with_application("dr/test/managed")
}

/// The two tiers on one server.
pub(crate) fn both(node: &Node) -> (Probe, Probe) {
    (Probe::new("app", node.admin.clone()), Probe::new("app", managed(node)))
}

pub(crate) async fn read(probe: &Probe) -> PositionReading {
    probe.position().await.unwrap()
}

/// The words of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, ProviderError>) -> String {
    match answer {
        Err(ProviderError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Stops the primary and promotes the standby.
pub(crate) async fn fail_over(cluster: &LocalCluster) {
    cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    promote(cluster).await;
}

pub(crate) async fn promote(cluster: &LocalCluster) {
    let standby = Session::open(&cluster.pg2().admin).await.unwrap();
    standby.request_promotion().await.unwrap();
    until("the promotion", async || (!standby.in_recovery().await.unwrap()).then_some(())).await;
}
