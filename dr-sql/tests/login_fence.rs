//! The login fence of an ordinary role: it travels with the log, is lifted by what it marked, and names the right that it lacks.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::sync::Arc;

use common::{fail_over, managed, on, start, until};
use dr_core::{
    Actor, Fence, Grade, GroupName, NodeId, Outcome, RunId, Target,
    base::{Digest, IdempotencyKey, ResourceAddress},
    contract::{ClearFence, Effort, EngageFence, Lineage, ReleaseOrder},
};
use dr_postgres::testing::Node;
use dr_sql::{Lifted, Link, LoginFence, Session, lift_login_fences, marked_roles};

fn fence(node: &Node) -> LoginFence {
    LoginFence::new(Arc::new(Link::new(managed(node))), ResourceAddress::new("orders-neu"), vec!["app".into()])
}

fn key(node: &str) -> IdempotencyKey {
    RunId::new(GroupName::new("app"), 1).key(&Digest::zero(), &NodeId::new(node))
}

fn target(lineage: Lineage) -> Target {
    Target {
        member: "pg1".into(),
        address: ResourceAddress::new("orders-neu"),
        identity: None,
        lineage,
        receives: None,
    }
}

async fn lineage(node: &Node) -> Lineage {
    Session::open(&node.admin).await.unwrap().identity().await.unwrap().lineage()
}

async fn engage(fence: &LoginFence, node: &Node) -> Outcome<()> {
    let token = fence.prepare().await.unwrap();
    fence.engage(EngageFence { target: target(lineage(node).await), token, key: key("fence") }).await
}

const MAY_FENCE: &str = "ALTER ROLE svc CREATEROLE; GRANT pg_signal_backend TO svc; GRANT app TO svc WITH ADMIN OPTION";

#[tokio::test]
async fn an_ordinary_role_fences_and_gives_back() {
    let cluster = start(&[]).await;
    on(&cluster, MAY_FENCE).await;
    let (node, app) = (cluster.pg1(), cluster.app(cluster.pg1()));
    let open = Session::open(&app).await.unwrap();
    let fence = fence(node);
    assert_eq!(fence.rehearse(Effort::Try).await.unwrap(), dr_core::contract::Rehearsal::default());
    assert_eq!(fence.inspect().await.unwrap().grade(), Grade::Unconfirmable);
    assert_eq!(engage(&fence, node).await, Outcome::Done(()));
    assert!(Session::open(&app).await.is_err(), "its login is gone");
    assert!(open.run("write", "SELECT 1").await.is_err(), "its session is gone");
    until("the watch", async || {
        let planes = fence.inspect().await.unwrap().planes;
        ((planes.new_sessions, planes.open_sessions) == (Grade::Enforced, Grade::Confirmed)).then_some(())
    })
    .await;

    let token = fence.prepare().await.unwrap();
    let order = ReleaseOrder::by_operator(key("release"), target(lineage(node).await), token, Actor::local("ann"));
    assert_eq!(fence.release(order).await, Outcome::Done(()));
    Session::open(&app).await.unwrap();
    let session = Session::open(&managed(node)).await.unwrap();
    assert_eq!(marked_roles(&session).await.unwrap(), Vec::<String>::new());
}

/// Roles replicate, and so does the mark: whoever is promoted gives back what was marked, and nothing else.
#[tokio::test]
async fn the_mark_of_an_ordinary_role_travels_to_the_new_writer() {
    let cluster = start(&[]).await;
    on(&cluster, MAY_FENCE).await;
    on(&cluster, "CREATE ROLE report NOLOGIN").await;
    assert_eq!(engage(&fence(cluster.pg1()), cluster.pg1()).await, Outcome::Done(()));
    on(&cluster, "SELECT 1").await;
    let session = Session::open(&managed(cluster.pg2())).await.unwrap();
    let far = fence(cluster.pg2());
    assert!(far.travels());
    assert_eq!(far.carried().await.unwrap(), ["role `app` may not log in"], "a standby tells what came");
    assert_eq!(lift_login_fences(&session, None).await.unwrap(), Lifted::Replays);
    let was = lineage(cluster.pg1()).await;
    let request = ClearFence { target: target(was.clone()), was: was.clone(), token: None, key: key("clear") };
    assert!(matches!(far.clear(request.clone()).await, Outcome::NotDone(_)), "nor can it give anything back");
    let near = fence(cluster.pg1()).clear(request.clone()).await;
    assert!(matches!(near, Outcome::Conflict(_)), "the fence of the former primary stays: {near:?}");
    assert_eq!(session.may_login("app").await.unwrap(), Some(false));
    fail_over(&cluster).await;
    assert_eq!(marked_roles(&session).await.unwrap(), ["app"]);
    let stranger =
        ClearFence { target: Target { address: ResourceAddress::new("x"), ..target(was) }, ..request.clone() };
    assert!(matches!(far.clear(stranger).await, Outcome::Conflict(_)));
    assert_eq!(far.clear(request.clone()).await, Outcome::Done(()));
    assert_eq!(far.clear(request).await, Outcome::Done(()), "once more is no change");
    assert_eq!(far.carried().await.unwrap(), Vec::<String>::new());
    Session::open(&cluster.app(cluster.pg2())).await.unwrap();
    assert_eq!(session.may_login("report").await.unwrap(), Some(false), "it was never ours");
}

/// Nothing is changed, and the statement that helps is named, by the rehearsal as by the fence.
#[tokio::test]
async fn a_fence_names_the_right_that_it_lacks() {
    let cluster = start(&[]).await;
    let node = cluster.pg1();
    let table = [
        ("GRANT app TO svc", "CREATEROLE"),
        (
            "REVOKE app FROM svc; ALTER ROLE svc CREATEROLE; GRANT app TO dr WITH ADMIN OPTION",
            "GRANT pg_signal_backend",
        ),
    ];
    for (grants, helps) in table {
        on(&cluster, grants).await;
        let found = fence(node).rehearse(Effort::Look).await.unwrap();
        let told: Vec<&str> = found.obstacles.iter().map(|one| one.helps.as_str()).collect();
        assert!(told.len() == 1 && told[0].contains(helps), "{found:?}");
        let outcome = engage(&fence(node), node).await;
        let Outcome::NotDone(why) = &outcome else { panic!("{outcome:?}") };
        assert!(why.cause.as_str().contains(helps), "{outcome:?}");
        Session::open(&cluster.app(node)).await.unwrap();
    }
}

/// A setting that nobody has defined is a superuser's: a control role with `CREATEROLE` was refused while writes were held back.
#[tokio::test]
async fn bug_createrole_alone_could_not_mark_a_role() {
    let cluster = start(&[]).await;
    on(&cluster, MAY_FENCE).await;
    let node = cluster.pg1();
    let target = dr_sql::Target { rights: dr_sql::Rights::Server, ..managed(node) };
    let fence = LoginFence::new(Arc::new(Link::new(target)), ResourceAddress::new("orders-neu"), vec!["app".into()]);
    let found = fence.rehearse(Effort::Look).await.unwrap();
    let told: Vec<&str> = found.obstacles.iter().map(|one| one.helps.as_str()).collect();
    assert_eq!(told, [r#"GRANT SET ON PARAMETER dr.fenced TO "svc""#]);
    on(&cluster, told[0]).await;
    assert_eq!(fence.rehearse(Effort::Look).await.unwrap(), dr_core::contract::Rehearsal::default());
    assert_eq!(engage(&fence, node).await, Outcome::Done(()));
}
