//! A managed database as AWS keeps it, and as `workspace.ncl` writes it.

use std::collections::BTreeMap;

use aws_sdk_rds::types::DbInstance;
use ha_core::{
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status, spec_hash},
};
use serde_json::{Map, Value, json};

use crate::aws::{
    fields::{self, LABELS},
    server::shape::timestamp,
    tags::{self, Tags},
};

/// `16`, where AWS tells `16.4`: the minor version is its to choose.
const VERSION: &str = "ha:version";
/// What a replica was made from; AWS tells an identifier or an ARN of another region.
const SOURCE: &str = "ha:replicate-from";

pub(in crate::aws) fn tags_of(ws: &WorkspaceName, want: &Resource) -> Tags {
    let mut all = tags::of(ws, want);
    let field = |name: &str| want.spec.get(name).and_then(Value::as_str).map(str::to_owned);
    all.extend(field("version").map(|it| (VERSION.to_owned(), it)));
    all.extend(field("replicate_from").map(|it| (SOURCE.to_owned(), it)));
    all.extend(fields::label_tags(&want.spec));
    all
}

/// What AWS has, or will have after the change that it is carrying out.
pub(in crate::aws) fn class_of(database: &DbInstance) -> Option<&str> {
    let pending = database.pending_modified_values().and_then(|it| it.db_instance_class());
    pending.or(database.db_instance_class())
}

pub(in crate::aws) fn storage_of(database: &DbInstance) -> Option<i32> {
    let pending = database.pending_modified_values().and_then(|it| it.allocated_storage());
    pending.or(database.allocated_storage())
}

pub(in crate::aws) fn multi_az_of(database: &DbInstance) -> bool {
    let pending = database.pending_modified_values().and_then(|it| it.multi_az());
    pending.or(database.multi_az()).unwrap_or_default()
}

/// The version as it was declared, as long as the one that runs is of it: `16` is every `16.x`.
pub(in crate::aws) fn version_of<'a>(database: &'a DbInstance, declared: Option<&'a str>) -> Option<&'a str> {
    let runs = database.engine_version()?;
    match declared {
        Some(declared) if is_of(runs, declared) => Some(declared),
        _ => Some(runs),
    }
}

pub(in crate::aws) fn is_of(runs: &str, declared: &str) -> bool {
    let rest = runs.strip_prefix(declared);
    rest.is_some_and(|it| it.is_empty() || it.starts_with('.'))
}

/// The identifier of the database that this one copies; none when it is one of its own.
pub(in crate::aws) fn source_of(database: &DbInstance) -> Option<&str> {
    let source = database
        .read_replica_source_db_instance_identifier()
        .filter(|it| !it.is_empty())?;
    // From another region it is an ARN: arn:aws:rds:us-east-1:123456789012:db:name
    source.rsplit(':').next()
}

fn spec_of(database: &DbInstance, tags: &Tags, location: &str) -> Value {
    let mut spec = Map::from_iter([
        ("kind".to_owned(), json!("aws.RDS")),
        ("name".to_owned(), json!(tags.get(tags::NAME))),
        ("region".to_owned(), json!(location)),
        ("engine".to_owned(), json!(database.engine())),
        (
            "version".to_owned(),
            json!(version_of(database, tags.get(VERSION).map(String::as_str))),
        ),
        ("instance_class".to_owned(), json!(class_of(database))),
        ("allocated_storage_gb".to_owned(), json!(storage_of(database))),
        ("multi_az".to_owned(), json!(multi_az_of(database))),
        (
            "protect".to_owned(),
            json!(tags.get(tags::PROTECT).is_some_and(|it| it == "true")),
        ),
    ]);
    spec.insert(LABELS.to_owned(), fields::labels(tags));
    spec.extend(source_of(database).map(|it| ("replicate_from".to_owned(), json!(it))));
    Value::Object(spec)
}

/// None when it is not ours.
pub(in crate::aws) fn live(
    ws: &WorkspaceName,
    database: &DbInstance,
    location: &str,
    network: Option<&ResourceId>,
) -> Option<Live> {
    let tags = tags::from_rds(database.tag_list());
    let owned = tags::read(ws, &tags).filter(|it| it.id.kind == Kind::Database)?;
    let spec = spec_of(database, &tags, location);
    let mut labels = owned.labels;
    if owned.unfinished {
        labels.spec = spec_hash(&spec);
    }
    let state = database.db_instance_status().unwrap_or("unknown");
    let (status, detail) = match state {
        _ if owned.unfinished => (
            Status::Pending,
            Some(format!("a change of it was not finished, it is {state}")),
        ),
        "available" | "storage-optimization" | "backing-up" => (Status::Running, None),
        "stopped" | "stopping" => (Status::Off, None),
        state if is_broken(state) => (Status::Failed, Some(format!("AWS says {state}"))),
        state => (Status::Pending, Some(format!("it is {state}"))),
    };
    let endpoint = database.endpoint();
    Some(Live {
        id: owned.id,
        provider: ProviderName::Aws,
        labels,
        spec,
        status,
        detail,
        // In the network only: nobody outside reaches it.
        address: None,
        private_address: endpoint.and_then(|it| it.address()).map(str::to_owned),
        size: class_of(database).map(str::to_owned),
        created_at: database.instance_create_time().and_then(timestamp),
        depends_on: network.cloned().into_iter().collect(),
        protect: owned.protect,
        role: None,
        endpoints: endpoint
            .and_then(|it| Some(("database".to_owned(), format!("{}:{}", it.address()?, it.port()?))))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

/// States that a database does not come out of by itself.
/// Source: <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html>.
pub(in crate::aws) fn is_broken(state: &str) -> bool {
    matches!(
        state,
        "failed"
            | "inaccessible-encryption-credentials"
            | "incompatible-network"
            | "incompatible-option-group"
            | "incompatible-parameters"
            | "incompatible-restore"
            | "insufficient-capacity"
            | "restore-error"
            | "storage-full"
    )
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
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Database, "use-orders"),
            provider: ProviderName::Aws,
            spec,
            depends_on: Vec::new(),
            protect: true,
            path: "region_us_east.orders".into(),
        }
    }

    #[test]
    fn a_minor_version_is_of_its_major_one_and_of_no_other() {
        assert!(is_of("16.4", "16") && is_of("16.4", "16.4") && is_of("16", "16"));
        assert!(!is_of("16.4", "1") && !is_of("16.4", "16.3") && !is_of("15.8", "16"));
    }

    proptest! {
        #[test]
        fn a_spec_comes_back_as_it_went(
            engine in "postgres|mysql",
            version in "1[3-7]",
            minor in 0u8..20,
            class in "db\\.(t3|m5)\\.(small|large)",
            storage in 20i32..65536,
            multi_az: bool,
            source in proptest::option::of("[a-z][a-z0-9]{0,20}"),
            far: bool,
            labels in proptest::collection::btree_map("[a-z]{1,10}", "[a-z]{0,10}", 0..4),
            protect: bool,
        ) {
            let mut spec = json!({
                "kind": "aws.RDS", "name": "use-orders", "region": "us-east-1", "engine": engine, "version": version,
                "instance_class": class, "allocated_storage_gb": storage, "multi_az": multi_az, "labels": labels,
                "protect": protect,
            });
            if let Some(source) = &source {
                spec["replicate_from"] = json!(source);
            }
            let mut want = want(spec);
            want.protect = protect;
            let told = source.map(|it| if far { format!("arn:aws:rds:eu-west-1:123456789012:db:{it}") } else { it });
            let answer = DbInstance::builder()
                .engine(&engine)
                .engine_version(format!("{version}.{minor}"))
                .db_instance_class(&class)
                .allocated_storage(storage)
                .multi_az(multi_az)
                .set_read_replica_source_db_instance_identifier(told)
                .db_instance_status("available")
                .set_tag_list(Some(tags::for_rds(&tags_of(&ws(), &want))))
                .build();
            let live = live(&ws(), &answer, "us-east-1", None).ok_or(TestCaseError::fail("it is ours"))?;
            prop_assert_eq!(&live.spec, &want.spec);
            prop_assert_eq!(spec_hash(&live.spec), live.labels.spec);
        }
    }
}
