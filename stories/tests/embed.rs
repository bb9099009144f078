//! Story 1 on the simulated cloud: a service that plans, starts, watches and answers.

use std::{path::Path, sync::Arc};

use dr_core::{APPROVE, Actor, show::Standing};
use dr_engine::{Engine, Error, TokioRuntime};
use dr_stories::embed;
use dr_testkit::{Setup, SimCloud};

const GROUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/groups/orders.toml");

fn person(name: &str, role: &str) -> Actor {
    Actor::local(name).with_role(role).authenticated("https://login.example.com", name)
}

async fn stage(dir: &Path) -> (SimCloud, Engine) {
    let runtime = Arc::new(TokioRuntime::current().unwrap());
    let cloud = SimCloud::new(Setup::pair("orders", "neu", "weu").fast(), runtime);
    let engine = embed::open(dir, cloud.backend()).await.unwrap();
    (cloud, engine)
}

/// What one engine began, another one on the same store finds.
#[tokio::test(flavor = "multi_thread")]
async fn two_services_share_a_store() {
    let runtime = Arc::new(TokioRuntime::current().unwrap());
    let cloud = SimCloud::new(Setup::pair("orders", "neu", "weu").fast(), runtime);
    let store = dr_engine::VolatileStore::new();
    let one = embed::open_over(store.clone(), cloud.backend()).await.unwrap();
    let two = embed::open_over(store, cloud.backend()).await.unwrap();
    let id = embed::begin(&one, Path::new(GROUP), person("mira", "platform"), "CHG-4711").await.unwrap();
    assert_eq!(two.runs().await.unwrap().into_iter().map(|run| run.run).collect::<Vec<_>>(), [id.clone()]);
    assert_eq!(two.resume().await.unwrap().elsewhere, [id], "its engine lives");
}

fn is_send<T: Send>(of: T) -> T {
    of
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_switches_over() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, dr) = stage(dir.path()).await;
    let id = is_send(embed::begin(&dr, Path::new(GROUP), person("mira", "platform"), "CHG-4711")).await.unwrap();
    assert_eq!(id.to_string(), "orders-1");

    // The group is taken: a second run is refused, and says by whom.
    let second = embed::begin(&dr, Path::new(GROUP), person("zoe", "platform"), "CHG-4712").await.unwrap_err();
    assert!(matches!(&second, Error::Busy { run, .. } if *run == id), "{second}");

    // The UI's task outlives the handler that made it, and hands the question on.
    let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let (ui, of) = (dr.clone(), id.clone());
    let watching = tokio::spawn(async move {
        let mut ui_of = |view: &dr_engine::View| {
            if let (Standing::Asking, Some(digest)) = (&view.state, view.ask_digest) {
                let _gone = asks.send(digest);
            }
        };
        embed::follow(&ui, &of, &mut ui_of).await
    });
    let seen = asked.recv().await.unwrap();
    let requester = embed::answer(&dr, &id, person("mira", "dba"), seen, APPROVE).await.unwrap_err();
    assert!(requester.to_string().contains("DR305"), "{requester}");
    embed::answer(&dr, &id, person("ana", "dba"), seen, APPROVE).await.unwrap();
    embed::answer(&dr, &id, person("ben", "service-owner"), seen, APPROVE).await.unwrap();

    let report = watching.await.unwrap().unwrap();
    assert!(report.outcome.as_ref().is_some_and(dr_core::run::RunOutcome::success), "{report}");
    cloud.look(|truth| {
        assert_eq!(truth.lost_acknowledged(), []);
        assert_eq!(truth.promotions().count(), 1);
        assert_eq!(truth.primary().unwrap(), "weu".into());
        assert_eq!(truth.violations(), []);
    });
}
