use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    config::Config,
    desired,
    fixture::{applied, workspace},
    model::{Role, Workspace},
    report::NodeRole,
    resource::Kind,
};

fn resources(workspace: &Workspace) -> Vec<Resource> {
    desired::resources(workspace, &Config::default())
}

fn all_live(workspace: &Workspace) -> Vec<Live> {
    resources(workspace).iter().map(applied).collect()
}

fn step<'a>(steps: &'a [Step], name: &str) -> &'a Step {
    steps
        .iter()
        .find(|step| step.id.name == name)
        .expect("a step of that name")
}

fn acting(steps: &[Step]) -> Vec<(Action, &str)> {
    let acts = steps.iter().filter(|step| step.action != Action::None);
    acts.map(|step| (step.action, step.id.name.as_str())).collect()
}

fn place(steps: &[Step], name: &str) -> usize {
    steps
        .iter()
        .position(|step| step.id.name == name)
        .expect("a step of that name")
}

/// What the providers hold after every step was carried out.
fn apply(steps: &[Step], live: &[Live]) -> Vec<Live> {
    let mut out: HashMap<ResourceId, Live> = live.iter().map(|it| (it.id.clone(), it.clone())).collect();
    for step in steps {
        match (step.action, &step.desired) {
            (Action::Create | Action::Update | Action::Replace, Some(desired)) => {
                out.insert(step.id.clone(), applied(desired));
            }
            (Action::Delete, _) => {
                out.remove(&step.id);
            }
            _ => {}
        }
    }
    out.into_values().collect()
}

#[test]
fn nothing_live_creates_everything_dependencies_first() {
    let steps = plan(&resources(&workspace()), &[]);
    assert!(steps.iter().all(|step| step.action == Action::Create));
    let mut done = HashSet::new();
    for step in &steps {
        assert!(step.after.iter().all(|id| done.contains(id)), "{} is early", step.id);
        done.insert(&step.id);
    }
    assert_eq!(
        step(&steps, "eu-pg-1").after.len(),
        3,
        "its server, its store member and the founder"
    );
    assert!(place(&steps, "us-store") < place(&steps, "eu-store"));
}

#[test]
fn everything_live_needs_nothing() {
    let steps = plan(&resources(&workspace()), &all_live(&workspace()));
    assert!(!has_changes(&steps));
    assert!(
        steps
            .iter()
            .all(|step| step.action == Action::None && step.after.is_empty())
    );
}

#[test]
fn a_greater_count_adds_servers_before_the_balancer_uses_them() {
    let mut wanted = workspace();
    wanted.regions[0].servers[0].count = 5;
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    let expected = [
        (Action::Create, "us-app-4"),
        (Action::Create, "us-app-5"),
        (Action::Update, "us-lb"),
    ];
    assert_eq!(acting(&steps), expected);
    assert_eq!(step(&steps, "us-app-4").reason, "count of us-app 3 → 5");
    let balancer = step(&steps, "us-lb");
    assert_eq!(balancer.reason, "targets 3 → 5 (+us-app-4 +us-app-5)");
    assert_eq!(balancer.downtime, None);
    assert_eq!(balancer.after.len(), 2);
}

#[test]
fn a_smaller_count_takes_servers_out_of_the_balancer_before_they_go() {
    let mut live = workspace();
    live.regions[0].servers[0].count = 5;
    let mut wanted = workspace();
    wanted.regions[0].servers[0].count = 2;
    let steps = plan(&resources(&wanted), &all_live(&live));
    let names: Vec<&str> = acting(&steps).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["us-lb", "us-app-3", "us-app-4", "us-app-5"]);
    let gone = step(&steps, "us-app-3");
    assert_eq!(
        (gone.action, gone.reason.as_str()),
        (Action::Delete, "count of us-app 5 → 2")
    );
    assert_eq!(gone.after, [step(&steps, "us-lb").id.clone()]);
}

#[test]
fn a_new_size_goes_through_a_group_one_server_at_a_time() {
    let mut wanted = workspace();
    wanted.regions[0].servers[0].size = "large".into();
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    assert_eq!(step(&steps, "us-app-1").reason, "size small → large");
    assert_eq!(step(&steps, "us-app-1").downtime, None, "two others serve");
    assert_eq!(step(&steps, "us-app-2").after, [step(&steps, "us-app-1").id.clone()]);
    assert_eq!(step(&steps, "us-app-3").after, [step(&steps, "us-app-2").id.clone()]);
}

#[test]
fn a_setting_that_needs_a_restart_reaches_the_founder_last() {
    let mut wanted = workspace();
    for region in &mut wanted.regions {
        let settings = &mut region.databases[0].settings;
        settings.insert("max_connections".into(), "200".into());
    }
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    let founder = step(&steps, "us-pg-1");
    assert_eq!(founder.reason, "settings.max_connections 100 → 200");
    assert_eq!(founder.risk, Risk::Medium);
    assert!(founder.downtime.is_some());
    assert_eq!(founder.after.len(), 1);
    assert!(place(&steps, "us-pg-1") > place(&steps, "asia-pg-1"));

    wanted = workspace();
    wanted.regions[0].databases[0]
        .settings
        .insert("work_mem".into(), "8MB".into());
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    assert_eq!(step(&steps, "us-pg-1").reason, "settings.work_mem unset → 8MB");
    assert_eq!(step(&steps, "us-pg-1").downtime, None, "read again while running");
}

#[test]
fn after_a_failover_the_observed_primary_is_restarted_last() {
    let mut wanted = workspace();
    for region in &mut wanted.regions {
        let settings = &mut region.databases[0].settings;
        settings.insert("max_connections".into(), "200".into());
    }
    let mut live = all_live(&workspace());
    for it in live.iter_mut().filter(|it| it.id.kind == Kind::Database) {
        let leads = it.id.name == "eu-pg-1";
        it.role = Some(if leads { NodeRole::Primary } else { NodeRole::Replica });
    }
    let steps = plan(&resources(&wanted), &live);
    let last = place(&steps, "eu-pg-1");
    assert!(last > place(&steps, "us-pg-1") && last > place(&steps, "asia-pg-1"));
    assert!(
        !has_changes(&plan(&resources(&workspace()), &live)),
        "a role is no difference"
    );
}

#[test]
fn another_declared_primary_changes_no_database_that_exists() {
    let mut wanted = workspace();
    wanted.regions[0].role = Role::Secondary;
    wanted.regions[1].role = Role::Primary;
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    assert_eq!(acting(&steps), []);
}

#[test]
fn a_removed_region_goes_from_top_to_bottom() {
    let mut wanted = workspace();
    wanted.regions.truncate(2);
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    let order = ["asia-lb", "asia-pg-1", "asia-store", "asia-db-1", "asia-net"].map(|name| place(&steps, name));
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(step(&steps, "asia-app-1").reason, "no longer in the workspace");
    assert_eq!(
        step(&steps, "us-pg-1").reason,
        "peers 2 → 1 (-asia-southeast/asia-db-1), voters 3 → 2"
    );
}

#[test]
fn a_protected_thing_stays_and_keeps_what_it_stands_on() {
    let mut before = workspace();
    before.regions[2].databases[0].declared.protect = true;
    let mut wanted = before.clone();
    wanted.regions.truncate(2);
    let steps = plan(&resources(&wanted), &all_live(&before));
    for name in ["asia-pg-1", "asia-store", "asia-db-1", "asia-net"] {
        assert_eq!(step(&steps, name).action, Action::Conflict, "{name}");
    }
    let reason = &step(&steps, "asia-pg-1").reason;
    assert!(reason.contains("ha destroy shop --region asia-southeast"), "{reason}");
    assert_eq!(step(&steps, "asia-app-1").action, Action::Delete);
}

#[test]
fn a_network_is_not_replaced_under_what_lives_in_it() {
    let mut wanted = workspace();
    wanted.regions[0].networks[0].ip_range = "10.9.0.0/16".into();
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    let network = step(&steps, "us-net");
    assert_eq!(network.action, Action::Conflict);
    assert!(
        network.reason.starts_with("ip_range 10.0.0.0/16 → 10.9.0.0/16: "),
        "{}",
        network.reason
    );

    let alone: Vec<Live> = all_live(&workspace())
        .into_iter()
        .filter(|it| it.id.kind == Kind::Network)
        .collect();
    let steps = plan(&resources(&wanted), &alone);
    assert_eq!(step(&steps, "us-net").action, Action::Replace);
    assert_eq!(step(&steps, "us-app-1").after, [step(&steps, "us-net").id.clone()]);
}

#[test]
fn a_new_image_replaces_application_servers_and_never_a_database_under_its_users() {
    let mut wanted = workspace();
    for group in &mut wanted.regions[0].servers {
        group.image = "debian-13".into();
    }
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    assert_eq!(step(&steps, "us-app-1").action, Action::Replace);
    assert_eq!(step(&steps, "us-db-1").action, Action::Conflict);
}

#[test]
fn another_major_version_is_a_persons_decision() {
    let mut wanted = workspace();
    wanted.regions[0].databases[0].version = "16".into();
    let steps = plan(&resources(&wanted), &all_live(&workspace()));
    assert_eq!(step(&steps, "us-pg-1").action, Action::Conflict);
}

#[test]
fn what_was_changed_by_hand_is_put_back_and_never_overwritten_silently() {
    let mut live = all_live(&workspace());
    let at = live
        .iter()
        .position(|it| it.id.name == "us-app-1")
        .expect("it is there");
    live[at].spec["size"] = json!("huge");
    let steps = plan(&resources(&workspace()), &live);
    assert_eq!(
        step(&steps, "us-app-1").reason,
        "changed by hand, put back: size huge → small"
    );

    let mut wanted = workspace();
    wanted.regions[0].servers[0].size = "large".into();
    let steps = plan(&resources(&wanted), &live);
    assert_eq!(step(&steps, "us-app-1").action, Action::Conflict);
    assert!(step(&steps, "us-app-1").reason.starts_with("size huge → large"));
    assert_eq!(step(&steps, "us-app-2").action, Action::Update);

    live[at].spec["size"] = json!("large");
    assert_eq!(
        step(&plan(&resources(&wanted), &live), "us-app-1").reason,
        "is as wanted, its label is not"
    );
}

#[test]
fn what_died_is_repaired_and_what_is_off_is_left_off() {
    let mut live = all_live(&workspace());
    for it in &mut live {
        match it.id.name.as_str() {
            "us-pg-1" => (it.status, it.detail) = (Status::Failed, Some("exited with status 1".into())),
            "eu-pg-1" => it.status = Status::Pending,
            "us-app-1" => it.status = Status::Off,
            "us-app-2" => it.status = Status::Absent,
            _ => {}
        }
    }
    let steps = plan(&resources(&workspace()), &live);
    let expected = [
        (Action::Create, "us-app-2"),
        (Action::Update, "us-pg-1"),
        (Action::Update, "eu-pg-1"),
    ];
    assert_eq!(acting(&steps), expected);
    assert_eq!(step(&steps, "us-pg-1").reason, "not running: exited with status 1");
    assert_eq!(step(&steps, "eu-pg-1").after, [step(&steps, "us-pg-1").id.clone()]);
}

#[test]
fn a_selection_says_what_it_lacks() {
    let steps = plan(&resources(&workspace()), &[]);
    let eu = in_region(steps.clone(), "eu-central");
    let blocked = blocked_by(&eu, &[]);
    let names: Vec<&str> = blocked.iter().map(|it| it.step.name.as_str()).collect();
    assert_eq!(
        names,
        ["eu-store", "eu-pg-1"],
        "the founder and the first member are elsewhere"
    );
    assert_eq!(blocked_by(&in_region(steps, "us-east"), &[]), []);

    let mut wanted = workspace();
    wanted.regions[0].servers[0].count = 2;
    let live = all_live(&workspace());
    let steps = plan(&resources(&wanted), &live);
    let servers: Vec<Step> = steps.into_iter().filter(|step| step.id.kind == Kind::Server).collect();
    let blocked = blocked_by(&servers, &live);
    assert_eq!(blocked.len(), 1, "the balancer still sends it users");
    assert_eq!(blocked[0].needs[0].name, "us-lb");
}

#[test]
fn destroy_takes_everything_users_first() {
    let mut workspace = workspace();
    workspace.regions[0].databases[0].declared.protect = true;
    let live = all_live(&workspace);
    let steps = destroy(&live);
    assert!(apply(&steps, &live).is_empty());
    assert!(
        place(&steps, "eu-pg-1") < place(&steps, "us-pg-1"),
        "whoever follows goes first"
    );
    assert!(place(&steps, "asia-store") < place(&steps, "us-store"));
    assert!(place(&steps, "us-lb") < place(&steps, "us-app-1"));
    assert_eq!(steps.last().map(|step| step.id.kind), Some(Kind::Network));
}

/// Names, kinds and dependencies at will: dependencies go to earlier ones, as [`desired::resources`] promises.
fn arbitrary(most: usize) -> impl Strategy<Value = Vec<Resource>> {
    let one = (
        0..Kind::ALL.len(),
        0..3usize,
        0..8usize,
        0..4u8,
        proptest::collection::vec(0..most, 0..4),
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..most).prop_map(|seeds| {
        let mut out: Vec<Resource> = Vec::new();
        for (kind, region, name, size, depends_on, protect) in seeds {
            let region = crate::names::RegionName::new(["us", "eu", "asia"][region]);
            let id = ResourceId::new(&region, Kind::ALL[kind], format!("r-{name}"));
            if out.iter().any(|it| it.id == id) {
                continue;
            }
            let depends_on = depends_on
                .iter()
                .filter_map(|at| out.get(*at))
                .map(|it| it.id.clone())
                .collect();
            out.push(Resource {
                id,
                provider: crate::names::ProviderName::Local,
                spec: json!({ "size": format!("s{size}"), "group": "r", "image": format!("i{}", size % 2) }),
                depends_on,
                protect: protect && size == 0,
                path: String::new(),
            });
        }
        out
    })
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(wanted in arbitrary(30), before in arbitrary(30), broken in 0..5u8) {
        let mut live: Vec<Live> = before.iter().map(applied).collect();
        for (at, it) in live.iter_mut().enumerate() {
            match (at as u8 + broken) % 7 {
                0 => it.status = Status::Failed,
                1 => it.spec["size"] = json!("by hand"),
                2 => it.status = Status::Off,
                _ => {}
            }
        }
        let steps = plan(&wanted, &live);
        let again = plan(&wanted, &apply(&steps, &live));
        for step in &again {
            prop_assert!(!step.action.acts() , "{} {:?} {}", step.id, step.action, step.reason);
        }
        prop_assert_eq!(plan(&wanted, &live), steps, "the same rows in the same order");
    }

    #[test]
    fn a_step_waits_only_for_steps_before_it(wanted in arbitrary(40), before in arbitrary(40)) {
        let live: Vec<Live> = before.iter().map(applied).collect();
        for steps in [plan(&wanted, &live), destroy(&live)] {
            let mut done = HashSet::new();
            for step in &steps {
                for id in &step.after {
                    prop_assert!(done.contains(id), "{} waits for {}, which comes later", step.id, id);
                }
                prop_assert!(done.insert(step.id.clone()), "{} twice", step.id);
            }
        }
    }

    #[test]
    fn nothing_is_removed_while_something_that_stays_uses_it(wanted in arbitrary(40), before in arbitrary(40)) {
        let live: Vec<Live> = before.iter().map(applied).collect();
        let steps = plan(&wanted, &live);
        let at: HashMap<&ResourceId, (usize, Action)> =
            steps.iter().enumerate().map(|(at, step)| (&step.id, (at, step.action))).collect();
        for it in &live {
            let (user, action) = at[&it.id];
            for (below, gone) in it.depends_on.iter().filter_map(|id| at.get(id)) {
                if *gone == Action::Delete {
                    prop_assert!(action != Action::Conflict);
                    prop_assert!(action == Action::None || user < *below, "{} outlives what it uses", it.id);
                }
            }
        }
        prop_assert!(steps.iter().filter(|it| it.action == Action::Delete).all(|it| !it.live.as_ref().expect("is live").protect));
    }

    #[test]
    fn destroy_leaves_nothing(before in arbitrary(40)) {
        let live: Vec<Live> = before.iter().map(applied).collect();
        prop_assert!(apply(&destroy(&live), &live).is_empty());
    }
}

#[test]
fn where_no_field_is_told_the_hash_decides() {
    let mut workspace = workspace();
    let mut live = all_live(&workspace);
    for it in &mut live {
        if matches!(it.id.kind, Kind::Database | Kind::Store) {
            it.spec = serde_json::Value::Null;
        }
    }
    assert_eq!(acting(&plan(&resources(&workspace), &live)), []);
    let settings = &mut workspace.regions[0].databases[0].settings;
    settings.insert("work_mem".to_owned(), "8MB".to_owned());
    let steps = plan(&resources(&workspace), &live);
    assert_eq!(acting(&steps), [(Action::Update, "us-pg-1")]);
    assert_eq!(
        step(&steps, "us-pg-1").reason,
        "what is wanted has changed; its server does not tell in what"
    );
}
