//! A server as AWS keeps it: an instance and its tags, in both directions.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{self as ec2, InstanceStateName as State};
use aws_smithy_types::DateTime;
use ha_core::{
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Labels, Live, Resource, ResourceId, Status, spec_hash},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws::{
    fields, spec,
    tags::{self, BETWEEN, Owned, Tags},
};

pub(in crate::aws) const GROUP: &str = "ha:group";
pub(in crate::aws) const INDEX: &str = "ha:index";
/// The image as it was declared: a path names another AMI every few weeks, and that is no drift.
pub(in crate::aws) const IMAGE: &str = "ha:image";
pub(in crate::aws) const ROLES: &str = "ha:roles";

/// What runs on a server is written on it: its name, the hash of its spec, and whether it is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aws) struct Slot {
    pub(in crate::aws) kind: Kind,
    pub(in crate::aws) name: &'static str,
    pub(in crate::aws) spec: &'static str,
    pub(in crate::aws) protect: &'static str,
}

pub(in crate::aws) const SLOTS: [Slot; 2] = [
    Slot {
        kind: Kind::Store,
        name: "ha:store",
        spec: "ha:store-spec",
        protect: "ha:store-protect",
    },
    Slot {
        kind: Kind::Database,
        name: "ha:database",
        spec: "ha:database-spec",
        protect: "ha:database-protect",
    },
];

/// All tags of a server that is as wanted.
pub(in crate::aws) fn tags_of(ws: &WorkspaceName, want: &Resource) -> Tags {
    let mut all = tags::of(ws, want);
    let field = |name: &str| {
        want.spec
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    all.insert(GROUP.to_owned(), field("group"));
    all.insert(IMAGE.to_owned(), field("image"));
    all.insert(ROLES.to_owned(), spec::texts(&want.spec, "roles").join(BETWEEN));
    all.extend(fields::label_tags(&want.spec));
    if let Some(index) = want.spec.get("index").and_then(Value::as_u64) {
        all.insert(INDEX.to_owned(), index.to_string());
    }
    all
}

/// The spec as it is now.
pub(in crate::aws) fn spec_of(instance: &ec2::Instance, location: &str) -> Value {
    let tags = tags::from_ec2(instance.tags());
    let roles: Vec<&str> = tags
        .get(ROLES)
        .map(|it| it.split(BETWEEN).filter(|role| !role.is_empty()).collect())
        .unwrap_or_default();
    // A path is what was declared as long as nobody changed the tag; an id can be seen on the instance itself.
    let image = match tags.get(IMAGE) {
        Some(declared) if !declared.starts_with("ami-") => Some(declared.as_str()),
        _ => instance.image_id(),
    };
    let mut spec = json!({
        "group": tags.get(GROUP),
        "index": tags.get(INDEX).and_then(|it| it.parse::<u64>().ok()),
        "image": image,
        "size": instance.instance_type().map(ec2::InstanceType::as_str),
        "location": location,
        "roles": roles,
        "command": null,
    });
    fields::tell(&mut spec, &tags);
    spec
}

pub(in crate::aws) fn state(instance: &ec2::Instance) -> Option<&State> {
    instance.state().and_then(ec2::InstanceState::name)
}

/// The server, and what runs on it, as rows of the inventory; `network` is where it lies, if that is ours.
pub(in crate::aws) fn lives(
    ws: &WorkspaceName,
    instance: &ec2::Instance,
    location: &str,
    network: Option<&ResourceId>,
) -> Vec<Live> {
    let tags = tags::from_ec2(instance.tags());
    let Some(owned) = tags::read(ws, &tags).filter(|it| it.id.kind == Kind::Server) else {
        return Vec::new();
    };
    let (status, detail) = status(instance, &owned);
    let mut server = Live {
        spec: spec_of(instance, location),
        labels: owned.labels,
        status,
        detail,
        address: instance.public_ip_address().map(str::to_owned),
        private_address: instance.private_ip_address().map(str::to_owned),
        size: instance.instance_type().map(|it| it.as_str().to_owned()),
        created_at: created_at(instance),
        depends_on: network.cloned().into_iter().collect(),
        protect: owned.protect,
        provider: ProviderName::Aws,
        role: None,
        endpoints: BTreeMap::new(),
        id: owned.id,
    };
    if owned.unfinished {
        // Nobody has changed it by hand: it is between two specs.
        server.labels.spec = spec_hash(&server.spec);
    }
    let mut all: Vec<Live> = SLOTS
        .iter()
        .filter_map(|slot| running_on(&server, *slot, &tags))
        .collect();
    all.push(server);
    all
}

/// What the tags of one slot say, as a resource of its own.
fn running_on(server: &Live, slot: Slot, tags: &Tags) -> Option<Live> {
    let name = tags.get(slot.name)?;
    Some(Live {
        id: ResourceId::new(&server.id.region, slot.kind, name.clone()),
        labels: Labels {
            name: name.clone(),
            spec: tags.get(slot.spec).cloned().unwrap_or_default(),
            ..server.labels.clone()
        },
        // Not told by AWS: the hash alone says whether it is as wanted.
        spec: Value::Null,
        depends_on: vec![server.id.clone()],
        protect: tags.get(slot.protect).is_some_and(|it| it == "true"),
        size: None,
        ..server.clone()
    })
}

/// The tags of a slot for what is wanted there.
pub(in crate::aws) fn slot_tags(slot: Slot, want: &Resource) -> Tags {
    Tags::from([
        (slot.name.to_owned(), want.id.name.clone()),
        (slot.spec.to_owned(), want.spec_hash()),
        (slot.protect.to_owned(), want.protect.to_string()),
    ])
}

fn status(instance: &ec2::Instance, owned: &Owned) -> (Status, Option<String>) {
    let reason = || {
        instance
            .state_reason()
            .and_then(ec2::StateReason::message)
            .map(str::to_owned)
    };
    match state(instance) {
        _ if owned.unfinished => (Status::Pending, Some("a change of it was not finished".to_owned())),
        Some(State::Running) => (Status::Running, None),
        Some(State::Stopped | State::Stopping) => {
            // AWS stops what it cannot keep running, and says so in a code of its own.
            let code = instance
                .state_reason()
                .and_then(ec2::StateReason::code)
                .unwrap_or_default();
            if code.starts_with("Server.") {
                (Status::Failed, reason())
            } else {
                (Status::Off, None)
            }
        }
        _ => (Status::Pending, None),
    }
}

/// When its root volume was attached: the launch time begins again with each start.
fn created_at(instance: &ec2::Instance) -> Option<Timestamp> {
    let root = instance.root_device_name();
    let mut disks = instance.block_device_mappings().iter();
    let attached = disks
        .find(|it| it.device_name() == root)
        .and_then(|it| it.ebs())
        .and_then(ec2::EbsInstanceBlockDevice::attach_time);
    attached.or(instance.launch_time()).and_then(timestamp)
}

pub(in crate::aws) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use ha_core::names::RegionName;
    use proptest::prelude::*;

    use super::*;

    fn ws() -> WorkspaceName {
        WorkspaceName::new("shop")
    }

    fn want(spec: Value) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("asia-southeast"), Kind::Server, "asia-app-1"),
            provider: ProviderName::Aws,
            spec,
            depends_on: Vec::new(),
            protect: false,
            path: "region_asia_southeast.app_servers".into(),
        }
    }

    /// What AWS answers after an instance was made from this spec and these tags.
    fn answer(want: &Resource, tags: &Tags, ami: &str) -> ec2::Instance {
        ec2::Instance::builder()
            .instance_id("i-0123456789abcdef0")
            .image_id(ami)
            .instance_type(ec2::InstanceType::from(want.spec["size"].as_str().unwrap_or_default()))
            .state(ec2::InstanceState::builder().name(State::Running).build())
            .set_tags(Some(tags::for_ec2(tags)))
            .build()
    }

    fn one(instance: &ec2::Instance) -> Live {
        lives(&ws(), instance, "ap-southeast-1", None)
            .pop()
            .expect("it is ours")
    }

    fn example(image: &str) -> Resource {
        want(json!({
            "group": "asia-app", "index": 1, "image": image, "size": "t3.medium",
            "location": "ap-southeast-1", "roles": ["app"], "command": null,
        }))
    }

    #[test]
    fn another_ami_behind_the_same_path_is_no_drift_and_another_ami_by_id_is() {
        let path = example("resolve:ssm:/aws/service/canonical/ubuntu/server/24.04");
        let live = one(&answer(&path, &tags_of(&ws(), &path), "ami-0aaaaaaaaaaaaaaaa"));
        assert_eq!(spec_hash(&live.spec), live.labels.spec);
        let id = example("ami-0aaaaaaaaaaaaaaaa");
        let live = one(&answer(&id, &tags_of(&ws(), &id), "ami-0bbbbbbbbbbbbbbbb"));
        assert_ne!(spec_hash(&live.spec), live.labels.spec);
    }

    #[test]
    fn a_size_changed_by_hand_is_seen() {
        let want = example("ami-0aaaaaaaaaaaaaaaa");
        let mut by_hand = want.clone();
        by_hand.spec["size"] = json!("t3.large");
        let live = one(&answer(&by_hand, &tags_of(&ws(), &want), "ami-0aaaaaaaaaaaaaaaa"));
        assert_eq!(live.spec["size"], "t3.large");
        assert_ne!(spec_hash(&live.spec), live.labels.spec);
    }

    #[test]
    fn what_runs_on_a_server_is_listed_beside_it() {
        let server = example("ami-0aaaaaaaaaaaaaaaa");
        let database = Resource {
            id: ResourceId::new(&RegionName::new("asia-southeast"), Kind::Database, "asia-pg-1"),
            protect: true,
            ..want(json!({ "server": "asia-app-1" }))
        };
        let mut tags = tags_of(&ws(), &server);
        tags.extend(slot_tags(SLOTS[1], &database));
        let all = lives(
            &ws(),
            &answer(&server, &tags, "ami-0aaaaaaaaaaaaaaaa"),
            "ap-southeast-1",
            None,
        );
        assert_eq!(all.len(), 2);
        let live = all.iter().find(|it| it.id == database.id).expect("it is listed");
        assert_eq!((&live.spec, live.protect), (&Value::Null, true));
        assert_eq!(live.labels.spec, database.spec_hash());
        assert_eq!(live.depends_on, [server.id]);
    }

    #[test]
    fn between_two_sizes_it_is_pending_and_not_drifted() {
        let want = example("ami-0aaaaaaaaaaaaaaaa");
        let mut tags = tags_of(&ws(), &want);
        tags.insert(tags::SPEC.to_owned(), tags::UNFINISHED.to_owned());
        let live = one(&answer(&want, &tags, "ami-0aaaaaaaaaaaaaaaa"));
        assert_eq!(live.status, Status::Pending);
        assert_eq!(spec_hash(&live.spec), live.labels.spec);
    }

    proptest! {
        #[test]
        fn a_spec_comes_back_as_it_went(
            group in "[a-z0-9][a-z0-9-]{0,40}",
            index in 1u64..100,
            ami in "ami-[0-9a-f]{17}",
            path in proptest::option::of("resolve:ssm:/[a-z0-9/._-]{1,80}"),
            size in "[a-z][0-9][a-z]?\\.(small|medium|large|2xlarge)",
            roles in proptest::sample::subsequence(vec!["app", "database", "store"], 0..=3),
            protect: bool,
        ) {
            let mut want = want(json!({
                "group": group, "index": index, "image": path.as_ref().unwrap_or(&ami), "size": size,
                "location": "ap-southeast-1", "roles": roles, "command": null,
            }));
            want.protect = protect;
            let live = one(&answer(&want, &tags_of(&ws(), &want), &ami));
            prop_assert_eq!(&live.spec, &want.spec);
            prop_assert_eq!(spec_hash(&live.spec), live.labels.spec);
            prop_assert_eq!(live.protect, protect);
        }

        #[test]
        fn tags_of_any_server_keep_to_what_every_service_takes(name in "[a-z0-9][a-z0-9-]{0,46}", roles in proptest::sample::subsequence(vec!["app", "database", "store"], 0..=3)) {
            let mut want = example("resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id");
            want.id.name = name;
            want.spec["roles"] = json!(roles);
            for (key, value) in tags_of(&ws(), &want) {
                let fits = |text: &str| text.chars().all(|it| it.is_ascii_alphanumeric() || " _.:/=+-@".contains(it));
                prop_assert!(fits(&key) && fits(&value) && key.len() <= 128 && value.len() <= 256, "{key}={value}");
            }
        }
    }
}
