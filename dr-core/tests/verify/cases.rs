//! One plan per rule (or more) that violates it and nothing else.

use dr_core::{
    Grade, Millis, NodeId, Plan, Purpose, Step, StepExt, Touch,
    base::{Finding, Json, Role},
    contract::{Consent, FenceReceipt, Loss, LossBound},
    plan::{Attempted, Call, OnFailure},
    seconds,
};
use serde_json::json;

use crate::{
    kit::{self, *},
    plans,
};

/// A plan with the faults of its making.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) faults: Vec<Finding>,
}

pub(crate) type Make = fn() -> Case;

fn of(mut plan: Plan, change: impl FnOnce(&mut Plan)) -> Case {
    change(&mut plan);
    Case { plan, faults: Vec::new() }
}

fn promotion(change: impl FnOnce(&mut Plan)) -> Case {
    of(plans::promotion(), change)
}

fn id(name: &str) -> NodeId {
    NodeId::new(name)
}

/// Leaves an edge out.
fn cut(plan: &mut Plan, node: &str, after: &str) {
    assert!(plan.nodes.get_mut(&id(node)).unwrap().after.remove(&id(after)), "{node} is not after {after}");
}

fn join(plan: &mut Plan, node: &str, after: &str) {
    plan.nodes.get_mut(&id(node)).unwrap().after.insert(id(after));
}

/// Leaves an input out.
fn drop_input(plan: &mut Plan, node: &str, input: &str) {
    say(plan, node, |says| assert!(says.takes.remove(input).is_some(), "{node} takes no {input}"));
}

/// Leaves a step out; whatever came after it comes after what it came after.
pub(crate) fn remove(plan: &mut Plan, node: &str) {
    let gone = plan.nodes.remove(&id(node)).unwrap();
    plan.order.retain(|known| *known != id(node));
    let before = gone.before_it();
    for other in plan.nodes.values_mut() {
        if other.after.remove(&id(node)) {
            other.after.extend(before.clone());
        }
    }
}

fn debt() -> OnFailure {
    OnFailure::Debt { text: "later".into(), owner: Role::new("dba") }
}

/// Puts a step of another kind into a plan.
fn add<S: Step>(plan: &mut Plan, node: &str, step: &S, after: &[&str]) {
    let mut builder = plans::builder(plan.purpose);
    let copy: S = serde_json::from_value(serde_json::to_value(step).unwrap()).unwrap();
    builder.add(node, copy.because("of a case"));
    let (other, faults) = builder.finish();
    assert!(faults.is_empty());
    let mut added = other.nodes.get(&id(node)).unwrap().clone();
    added.after = after.iter().map(|name| id(name)).collect();
    plan.nodes.insert(id(node), added);
    plan.order.push(id(node));
}

fn call<'a>(plan: &'a mut Plan, node: &str) -> &'a mut Call {
    &mut plan.nodes.get_mut(&id(node)).unwrap().call
}

pub(crate) const CASES: &[(u16, &str, Make)] = &[
    (101, "two steps of one name", || {
        let mut plan = plans::builder(Purpose::Drill);
        plan.add("look", Sides::default());
        plan.add("look", Lock::default());
        let (plan, faults) = plan.finish();
        Case { plan, faults }
    }),
    (102, "a number that is not the same everywhere", || {
        let mut plan = plans::builder(Purpose::Drill);
        plan.add("look", Sides(Says::default().with("share", json!(0.1))));
        let (plan, faults) = plan.finish();
        Case { plan, faults }
    }),
    (102, "such a number in a loaded plan", || {
        of(plans::custom(Purpose::Drill), |plan| {
            call(plan, "look").params.0.as_object_mut().unwrap().insert("share".into(), json!(0.1));
        })
    }),
    (103, "a kind that nobody registered", || {
        promotion(|plan| call(plan, "lag").kind = "dr.check-lag@2".parse().unwrap())
    }),
    (103, "an undo of an unknown kind", || {
        promotion(|plan| plan.holds.get_mut(&id("drain")).unwrap().undo.kind = "dr.gone@1".parse().unwrap())
    }),
    (104, "another class", || promotion(|plan| call(plan, "rejoin").class = dr_core::contract::Class::Other)),
    (104, "another effect", || promotion(|plan| call(plan, "promote").effect = dr_core::plan::Effect::Idempotent)),
    (104, "nicer words", || promotion(|plan| call(plan, "promote").sentence = "look at weu".into())),
    (104, "a touch left out", || promotion(|plan| call(plan, "promote").touches.clear())),
    (104, "another output", || promotion(|plan| call(plan, "lag").output = "dr.consent".into())),
    (104, "another stage", || promotion(|plan| call(plan, "rejoin").marks.stages.clear())),
    (104, "another duty", || promotion(|plan| call(plan, "warm-up").marks.duty = Some(dr_core::plan::Duty::Lag))),
    (104, "a lower grade than the parameters say", || {
        promotion(|plan| call(plan, "fence").marks.asks_for = Some(Grade::Unconfirmable))
    }),
    (104, "a risk that the parameters do not take", || {
        promotion(|plan| call(plan, "promote").marks.risk = Some("none".into()))
    }),
    (105, "an input from nowhere", || {
        promotion(|plan| {
            say(plan, "measure-loss", |says| {
                says.takes.insert("bound".into(), kit::reference::<LossBound>("bound-loss"));
            })
        })
    }),
    (106, "a catch-up for a fence", || {
        promotion(|plan| {
            say(plan, "promote", |says| {
                says.takes.insert("fence".into(), kit::reference::<FenceReceipt>("catch-up"));
            })
        })
    }),
    (106, "an attempt for a result", || {
        promotion(|plan| {
            say(plan, "retire-fence", |says| {
                says.takes.insert("rejoined".into(), kit::reference::<()>("rejoin"));
            })
        })
    }),
    (107, "two steps that wait for each other", || {
        promotion(|plan| {
            join(plan, "lag", "parity");
            join(plan, "parity", "lag");
        })
    }),
    (108, "an edge to nowhere", || promotion(|plan| join(plan, "fence", "coffee"))),
    (109, "a receipt written by hand, as a run would resolve it", || {
        promotion(|plan| {
            say(plan, "promote", |says| {
                says.takes.insert("fence".into(), json!({ "$is": { "run": "orders-1" } }));
            })
        })
    }),
    (109, "parameters of another kind", || {
        promotion(|plan| call(plan, "lag").params = Json(json!({ "touch": "nothing" })))
    }),
    (110, "an unknown format", || promotion(|plan| plan.format = 1)),
    (110, "other rules", || promotion(|plan| plan.rules = 9)),
    (111, "a step that the preview hides", || promotion(|plan| plan.order.retain(|node| *node != id("fence")))),
    (111, "a step listed twice", || promotion(|plan| plan.order.push(id("fence")))),
    (112, "a promotion of one's own", || {
        of(plans::custom(Purpose::Drill), |plan| add(plan, "promote", &Imposter::default(), &["consent"]))
    }),
    (112, "a check of one's own that passes for ours", || {
        of(plans::custom(Purpose::Drill), |plan| add(plan, "lag", &OwnLag::default(), &["consent"]))
    }),
    (113, "a step named like an undo", || promotion(|plan| add(plan, "lag.undo", &Lag::default(), &["sides"]))),
    (114, "a hold that nothing takes", || {
        promotion(|plan| {
            let hold = plan.holds.get(&id("drain")).unwrap().clone();
            plan.holds.insert(id("pause"), hold);
        })
    }),
    (114, "a hold given back by nothing", || {
        promotion(|plan| plan.holds.get_mut(&id("drain")).unwrap().released_by = Some(id("reopen")))
    }),
    (120, "two promotions", || {
        promotion(|plan| {
            let again = plan.nodes.get(&id("promote")).unwrap().clone();
            plan.nodes.insert(id("promote-again"), again);
            plan.order.push(id("promote-again"));
            join(plan, "promote-again", "promote");
            join(plan, "confirm-writer", "promote-again");
        })
    }),
    (121, "a promotion without a fence", || {
        promotion(|plan| {
            drop_input(plan, "promote", "fence");
            drop_input(plan, "confirm-writer", "fence");
        })
    }),
    (121, "a fence on the candidate", || {
        promotion(|plan| {
            say(plan, "fence", |says| {
                says.touch = vec![Touch::new("weu", "fence")];
                says.more.insert("target".into(), Json(json!(plans::target("weu"))));
            })
        })
    }),
    (122, "a promotion without a catch-up", || {
        promotion(|plan| {
            drop_input(plan, "promote", "caught-up");
            join(plan, "promote", "catch-up");
        })
    }),
    (122, "a catch-up that does not know the fence", || {
        promotion(|plan| {
            drop_input(plan, "catch-up", "fence");
            join(plan, "catch-up", "fence");
        })
    }),
    (123, "a swap while somebody writes", || {
        of(plans::swap(), |plan| {
            drop_input(plan, "swap-roles", "quiesced");
            join(plan, "swap-roles", "quiesced");
        })
    }),
    (124, "a failover without a bound", || {
        of(plans::forced(), |plan| {
            drop_input(plan, "promote", "bound");
            join(plan, "promote", "bound-loss-fenced");
        })
    }),
    (124, "a bound from before the fence", || {
        of(plans::forced(), |plan| {
            say(plan, "promote", |says| {
                says.takes.insert("bound".into(), kit::reference::<LossBound>("bound-loss"));
            });
            join(plan, "promote", "bound-loss-fenced");
        })
    }),
    (124, "a question that hides the loss", || {
        of(plans::forced(), |plan| {
            drop_input(plan, "consent", "loss");
            join(plan, "consent", "bound-loss");
        })
    }),
    (125, "a promotion that nobody agreed to", || promotion(|plan| drop_input(plan, "promote", "consent"))),
    (126, "a secret before the writer", || {
        promotion(|plan| {
            drop_input(plan, "point-secret", "writer");
            join(plan, "point-secret", "confirm-writer");
        })
    }),
    (126, "traffic before the writer", || {
        promotion(|plan| {
            drop_input(plan, "shift-traffic", "writer");
            join(plan, "shift-traffic", "confirm-writer");
        })
    }),
    (127, "a writer from before the promotion", || {
        promotion(|plan| {
            drop_input(plan, "confirm-writer", "promotion");
            join(plan, "confirm-writer", "promote");
        })
    }),
    (127, "a fence that is not looked at again", || promotion(|plan| drop_input(plan, "confirm-writer", "fence"))),
    (127, "a redirect to another member than the expected writer", || {
        of(plans::redirect(), |plan| {
            say(plan, "confirm-writer", |says| {
                says.more.insert("route".into(), Json(json!("weu")));
            })
        })
    }),
    (127, "a restore whose writer was only looked at", || {
        of(plans::redirect(), |plan| plan.purpose = Purpose::Restore)
    }),
    (137, "a redirect that is content with a weak fence", || {
        of(plans::redirect(), |plan| {
            say(plan, "confirm-writer", |says| {
                says.more.insert("minimum".into(), Json(json!("partial")));
            })
        })
    }),
    (128, "consumers that run before the writer is known", || {
        promotion(|plan| {
            let held = plans::custom(Purpose::Switchover);
            for node in ["consumers", "release-consumers"] {
                plan.nodes.insert(id(node), held.nodes.get(&id(node)).unwrap().clone());
                plan.order.push(id(node));
            }
            plan.holds.extend(held.holds);
            join(plan, "promote", "consumers");
            plan.nodes.get_mut(&id("release-consumers")).unwrap().after = [id("promote")].into();
        })
    }),
    (129, "a change before the ask", || of(plans::custom(Purpose::Drill), |plan| cut(plan, "consumers", "consent"))),
    (130, "a step without a deadline", || {
        promotion(|plan| plan.nodes.get_mut(&id("catch-up")).unwrap().within = Millis::ZERO)
    }),
    (130, "a wait that looks once", || {
        promotion(|plan| plan.nodes.get_mut(&id("catch-up")).unwrap().every = Millis::minutes(10))
    }),
    (130, "a wait that never rests", || {
        promotion(|plan| plan.nodes.get_mut(&id("catch-up")).unwrap().every = Millis::ZERO)
    }),
    (130, "a step without an attempt", || promotion(|plan| plan.nodes.get_mut(&id("rejoin")).unwrap().attempts = 0)),
    (131, "a second question while drained", || {
        of(plans::custom(Purpose::Drill), |plan| {
            let mut held = plans::builder(Purpose::Drill);
            let ask = held.add("ask-first", Ask(Says::default()));
            let drained = held.hold("drain", plans::drain().after(&ask).within(seconds(30)), plans::resume());
            let asked = held.add("ask-again", Ask(Says::default()).after(&drained));
            held.release(drained, &asked);
            let (held, _) = held.finish();
            *plan = held;
        })
    }),
    (132, "a drain longer than its budget", || promotion(|plan| plan.policy.gap_budget = seconds(20))),
    (132, "no budget", || promotion(|plan| plan.policy.gap_budget = Millis::ZERO)),
    (133, "a change beside the promotion", || {
        promotion(|plan| add(plan, "set", &Other(touching(&[("kafka:billing", "set-running")])), &["consent"]))
    }),
    (134, "an ask that asks nobody", || {
        promotion(|plan| {
            say(plan, "consent", |says| {
                says.more.insert("people".into(), Json(json!(0)));
            })
        })
    }),
    (135, "proofs that never expire", || promotion(|plan| plan.policy.proof_age = Millis::ZERO)),
    (135, "facts of any age", || promotion(|plan| plan.policy.fact_age = Millis::ZERO)),
    (135, "silence for a fence", || promotion(|plan| plan.policy.fence = Grade::Partial)),
    (136, "one person for two writers", || {
        of(plans::dangerous(), |plan| {
            say(plan, "consent", |says| {
                says.more.insert("people".into(), Json(json!(1)));
            })
        })
    }),
    (136, "no reason for two writers", || {
        of(plans::dangerous(), |plan| {
            say(plan, "consent", |says| {
                says.more.remove("risk");
            })
        })
    }),
    (136, "nobody owes the fence", || of(plans::dangerous(), |plan| remove(plan, "fence-later"))),
    (137, "a fence below the policy", || {
        promotion(|plan| {
            say(plan, "fence", |says| {
                says.more.insert("minimum".into(), Json(json!("enforced")));
            })
        })
    }),
    (137, "a writer beside a weaker fence", || {
        promotion(|plan| {
            say(plan, "confirm-writer", |says| {
                says.more.insert("minimum".into(), Json(json!("enforced")));
            })
        })
    }),
    (140, "a change without a way back", || {
        promotion(|plan| {
            add(plan, "set", &Other(touching(&[("kafka:billing", "set-running")])), &["consent"]);
            join(plan, "fence", "set");
        })
    }),
    (141, "consumers that stay paused", || {
        of(plans::custom(Purpose::Drill), |plan| {
            plan.holds.get_mut(&id("consumers")).unwrap().released_by = None;
        })
    }),
    (142, "a release that starts something else", || {
        of(plans::custom(Purpose::Drill), |plan| {
            say(plan, "release-consumers", |says| {
                says.more.insert("running".into(), Json(json!(false)));
            })
        })
    }),
    (142, "a release that does not wait", || {
        of(plans::custom(Purpose::Drill), |plan| {
            cut(plan, "release-consumers", "consumers");
            plan.nodes.get_mut(&id("release-consumers")).unwrap().after = [id("consent")].into();
        })
    }),
    (143, "an undo that needs what is not there", || {
        of(plans::custom(Purpose::Drill), |plan| {
            let undo = &mut plan.holds.get_mut(&id("consumers")).unwrap().undo;
            let mut says: Says = serde_json::from_value(undo.params.0.clone()).unwrap();
            says = says.taking::<Consent>("consent", "consent");
            undo.params.0 = serde_json::to_value(&says).unwrap();
            call(plan, "release-consumers").params.0 = serde_json::to_value(&says).unwrap();
        })
    }),
    (144, "a drain that is no hold", || {
        of(plans::custom(Purpose::Drill), |plan| {
            let mut other = plans::builder(Purpose::Drill);
            let ask = other.add("ask", Ask(Says::default()));
            other.add("drain", plans::drain().after(&ask).within(seconds(30)));
            *plan = other.finish().0;
        })
    }),
    (144, "a planned fence that is no hold", || {
        promotion(|plan| {
            plan.holds.remove(&id("fence"));
        })
    }),
    (145, "a fence that ends by a rejoin", || {
        promotion(|plan| plan.holds.get_mut(&id("fence")).unwrap().released_by = Some(id("rejoin")))
    }),
    (146, "a failover that would un-fence", || {
        of(plans::forced(), |plan| {
            let hold = plans::promotion().holds.remove(&id("fence")).unwrap();
            plan.holds.insert(id("fence"), hold);
        })
    }),
    (147, "a travelling fence that nobody clears", || of(plans::promotion(), |plan| plan.fence_travels = true)),
    (147, "a writer confirmed without a look at what it carries", || {
        of(plans::travelling(), |plan| {
            say(plan, "confirm-writer", |says| drop(says.takes.remove("cleared")));
            join(plan, "confirm-writer", "clear-fence");
        })
    }),
    (147, "the former primary cleared", || {
        of(plans::travelling(), |plan| {
            say(plan, "clear-fence", |says| says.touch = vec![Touch::new("neu", "clear-fence")])
        })
    }),
    (147, "a writer cleared that nobody promoted", || {
        of(plans::travelling(), |plan| {
            say(plan, "clear-fence", |says| drop(says.takes.remove("promotion")));
            join(plan, "clear-fence", "promote");
        })
    }),
    (163, "a writer confirmed beside the clearing", || {
        of(plans::travelling(), |plan| {
            plan.fence_travels = false;
            say(plan, "confirm-writer", |says| drop(says.takes.remove("cleared")));
        })
    }),
    (150, "a standby plan that shifts traffic", || {
        of(plans::custom(Purpose::Standby), |plan| {
            plan.allow.insert(Touch::new("traffic:public", "drill"));
            add(plan, "set", &Other(touching(&[("traffic:public", "drill")])), &["consent"]);
        })
    }),
    (151, "a drill in production", || of(plans::custom(Purpose::Drill), |plan| plan.environment = "prod-eu".into())),
    (152, "a switchover that destroys", || {
        promotion(|plan| {
            let wipe = Wipe(touching(&[("kafka:billing", "set-running")]).taking::<Consent>("consent", "consent"));
            add(plan, "wipe", &wipe, &["notify-end"]);
        })
    }),
    (152, "a destroy plan that changes something else", || {
        of(plans::destroy(), |plan| {
            add(plan, "set", &Other(touching(&[("kafka:billing", "set-running")])), &["consent"]);
        })
    }),
    (152, "a destruction without a consent of its own", || {
        of(plans::destroy(), |plan| {
            drop_input(plan, "wipe", "consent");
            join(plan, "wipe", "consent");
        })
    }),
    (153, "a failover that adds a replica", || {
        of(plans::forced(), |plan| {
            add(plan, "grow", &Grow(touching(&[("kafka:billing", "set-running")])), &["notify-end"]);
        })
    }),
    (154, "a switchover that may lose something", || {
        promotion(|plan| plan.loss = Loss::Unknown { because: "nobody looked".into() })
    }),
    (160, "no look at the lag", || promotion(|plan| remove(plan, "lag"))),
    (160, "a target and no promotion", || {
        of(plans::custom(dr_core::Purpose::Switchover), |plan| plan.to = Some("weu".into()))
    }),
    (160, "no rehearsal", || promotion(|plan| remove(plan, "rehearse"))),
    (160, "no rehearsal after the answer", || promotion(|plan| remove(plan, "rehearse-again"))),
    (160, "one application tier of two is not drained", || {
        promotion(|plan| {
            let second = plan.bindings.get(&"app:api".into()).unwrap().clone();
            plan.bindings.insert("app:jobs".into(), second);
        })
    }),
    (155, "a redirect that holds writes back", || {
        of(plans::redirect(), |plan| {
            let held = plans::promotion();
            plan.nodes.insert(id("drain"), held.nodes.get(&id("drain")).unwrap().clone());
            plan.nodes.get_mut(&id("drain")).unwrap().after = [id("notify-start")].into();
            plan.order.push(id("drain"));
            plan.holds.insert(id("drain"), held.holds.get(&id("drain")).unwrap().clone());
            plan.nodes.insert(id("release-drain"), held.nodes.get(&id("release-drain")).unwrap().clone());
            plan.nodes.get_mut(&id("release-drain")).unwrap().after = [id("drain"), id("writer-ready")].into();
            plan.order.push(id("release-drain"));
            join(plan, "confirm-writer", "drain");
            join(plan, "verify-traffic", "release-drain");
        })
    }),
    (162, "one secret of two is not pointed at the writer", || {
        promotion(|plan| {
            let second = plan.bindings.get(&"secret:orders".into()).unwrap().clone();
            plan.bindings.insert("secret:reports".into(), second);
        })
    }),
    (160, "no drain of the applications", || {
        promotion(|plan| {
            plan.holds.remove(&id("drain"));
            remove(plan, "drain");
            remove(plan, "release-drain");
        })
    }),
    (161, "an ask that does not wait for a check", || {
        promotion(|plan| {
            cut(plan, "consent", "lag");
            join(plan, "lag", "consent");
            join(plan, "still-well", "lag");
        })
    }),
    (161, "a failover that does not look again", || of(plans::forced(), |plan| remove(plan, "still-down"))),
    (162, "a route that a redirect forgets", || of(plans::redirect(), |plan| remove(plan, "shift-traffic"))),
    (162, "a redirect without a last look at the writer", || {
        of(plans::redirect(), |plan| remove(plan, "writer-ready"))
    }),
    (162, "a secret that is left out without a reason", || {
        promotion(|plan| {
            remove(plan, "point-secret");
            plan.leaves_out.insert("secret:orders".into(), " ".into());
        })
    }),
    (162, "a secret that is left out and pointed all the same", || {
        promotion(|plan| {
            plan.leaves_out.insert("secret:orders".into(), "the team moves it".into());
        })
    }),
    (162, "a tier that is left out", || {
        promotion(|plan| {
            plan.leaves_out.insert("app:api".into(), "the team drains it".into());
        })
    }),
    (163, "a redirect whose routes move before the notice", || {
        of(plans::redirect(), |plan| {
            cut(plan, "writer-ready", "point-secret");
        })
    }),
    (162, "a secret that stays", || promotion(|plan| remove(plan, "point-secret"))),
    (162, "a route that stays", || promotion(|plan| remove(plan, "shift-traffic"))),
    (162, "no look at the writer before it is opened", || promotion(|plan| remove(plan, "writer-ready"))),
    (162, "a loss that nobody measures", || promotion(|plan| remove(plan, "measure-loss"))),
    (163, "a drain beside the last look at both sides", || {
        promotion(|plan| {
            cut(plan, "drain", "still-well");
            for before in ["notify-start", "settle-neu", "settle-weu", "rehearse-again"] {
                join(plan, "drain", before);
            }
            join(plan, "fence", "still-well");
        })
    }),
    (163, "a settling before the ask", || {
        promotion(|plan| {
            cut(plan, "settle-neu", "consent");
            add(plan, "consent-0", &Ask(Says::default().with("people", json!(1))), &["group-lock", "sides"]);
            plan.nodes
                .get_mut(&id("consent-0"))
                .unwrap()
                .after
                .extend(["begin-snapshot", "lag", "parity", "rehearse", "replication", "transactions"].map(id));
            join(plan, "settle-neu", "consent-0");
        })
    }),
    (163, "a look at the writer beside the secret", || {
        promotion(|plan| {
            cut(plan, "writer-ready", "point-secret");
            join(plan, "release-drain", "point-secret");
        })
    }),
    (163, "a rejoin beside a late fence", || of(plans::dangerous(), |plan| cut(plan, "rejoin", "fence-later"))),
    (164, "nobody knows that it begins", || promotion(|plan| remove(plan, "notify-start"))),
    (164, "nobody knows that it is over", || promotion(|plan| remove(plan, "notify-end"))),
    (165, "a check that nothing waits for", || {
        promotion(|plan| {
            add(plan, "own-check", &OwnCheck::default(), &["consent"]);
        })
    }),
    (166, "no look at both sides after the answer", || promotion(|plan| remove(plan, "still-well"))),
    (166, "a checkpoint that the last look does not wait for", || {
        promotion(|plan| {
            cut(plan, "still-well", "settle-neu");
            join(plan, "drain", "settle-neu");
        })
    }),
    (167, "a logical copy whose sequences nobody raises", || {
        promotion(|plan| {
            plan.receives.insert(dr_core::MemberId::new("weu"), plan.expects.lineage.clone());
        })
    }),
    (171, "a queue that the group does not allow", || of(plans::custom(Purpose::Drill), |plan| plan.allow.clear())),
    (171, "a verb that no database has", || {
        of(plans::custom(Purpose::Drill), |plan| {
            say(plan, "consumers", |says| says.touch.push(Touch::new("neu", "reboot")));
        })
    }),
    (172, "a writer of another resource", || {
        of(plans::custom(Purpose::Drill), |plan| {
            plan.bindings.get_mut(&"neu".into()).unwrap().address = dr_core::base::ResourceAddress::new("id-other");
        })
    }),
    (172, "a writer that is bound to nothing", || {
        of(plans::custom(Purpose::Drill), |plan| {
            plan.bindings.remove(&"neu".into());
        })
    }),
    (173, "a promotion of another member", || {
        promotion(|plan| {
            let third = plan.bindings.get(&"weu".into()).unwrap().clone();
            plan.bindings.insert("seu".into(), third);
            plan.to = Some(dr_core::MemberId::new("seu"));
        })
    }),
    (173, "a swap that hides whom it demotes", || {
        of(plans::swap(), |plan| say(plan, "swap-roles", |says| says.touch.truncate(1)))
    }),
    (173, "a promotion without a target", || promotion(|plan| plan.to = None)),
    (174, "a fence on another lineage", || {
        promotion(|plan| {
            say(plan, "fence", |says| {
                let mut target = plans::target("neu");
                target.lineage.generation = 3;
                says.more.insert("target".into(), Json(json!(target)));
            })
        })
    }),
    (174, "a fence on another resource", || {
        promotion(|plan| {
            say(plan, "fence", |says| {
                let mut target = plans::target("neu");
                target.address = dr_core::base::ResourceAddress::new("id-other");
                says.more.insert("target".into(), Json(json!(target)));
            })
        })
    }),
    (174, "a fence on a member that was made anew", || {
        promotion(|plan| {
            say(plan, "fence", |says| {
                let mut target = plans::target("neu");
                target.identity = Some(dr_core::base::ResourceIdentity::new("uid-other"));
                says.more.insert("target".into(), Json(json!(target)));
            })
        })
    }),
    (174, "a candidate on another lineage than the writer", || {
        promotion(|plan| {
            plan.lineages.get_mut(&dr_core::MemberId::new("weu")).unwrap().generation = 3;
        })
    }),
    (174, "a fence on a member whose lineage nobody knows", || {
        promotion(|plan| {
            plan.lineages.remove(&dr_core::MemberId::new("neu"));
        })
    }),
    (175, "a step of one's own that promotes", || {
        of(plans::custom(Purpose::Drill), |plan| {
            say(plan, "consumers", |says| says.touch.push(Touch::new("weu", "promote")));
        })
    }),
    (180, "a catch-up that may fail", || {
        of(plans::swap(), |plan| {
            plan.nodes.get_mut(&id("writer-ready")).unwrap().on_failure = debt();
        })
    }),
    (180, "a secret that takes an attempt", || {
        promotion(|plan| {
            say(plan, "point-secret", |says| {
                says.takes.insert("warm".into(), kit::reference::<Attempted<()>>("warm-up"));
            })
        })
    }),
];
