//! Managed databases: RDS instances and their read replicas.

pub(super) mod shape;

use aws_sdk_ec2::types as ec2;
use aws_sdk_rds::types::DbInstance;
use ha_core::resource::{Live, Resource, ResourceId, Status};
use serde_json::Value;

use super::{
    call::Repeat::{Freely, WhenRefused},
    fault::{Class, Fault},
    lists,
    network::{self, gone_already, id_of, parts::Parts},
    place::Place,
    spec,
    tags::{self, SPEC, Tags, UNFINISHED},
};
use crate::ProviderError;

/// The name of the administrator; AWS makes the password and keeps it in its Secrets Manager, so nobody here has it.
/// Source: <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html>.
const ADMINISTRATOR: &str = "ha";

/// The database of this identifier, ours or not; none when there is none.
async fn find(place: &Place, name: &str) -> Result<Option<DbInstance>, Fault> {
    let request = place.rds.describe_db_instances().db_instance_identifier(name);
    match place
        .call("rds:DescribeDBInstances", Freely, || request.clone().send())
        .await
    {
        Err(fault) if fault.is(Class::NotFound) => Ok(None),
        answer => Ok(answer?.db_instances.unwrap_or_default().into_iter().next()),
    }
}

fn is_ours(place: &Place, database: &DbInstance, id: &ResourceId) -> bool {
    tags::read(&place.workspace, &tags::from_rds(database.tag_list())).is_some_and(|it| it.id == *id)
}

/// Afterwards it is available with the wanted spec. Taking `replicate_from` away promotes a replica: it restarts, and
/// never follows again.
pub(super) async fn ensure(place: &Place, want: &Resource, others: &[&Place]) -> Result<Live, ProviderError> {
    let network = spec::network(want)?;
    let (found, ground) = tokio::join!(find(place, &want.id.name), network::ground(place, network));
    let ground = ground?.ok_or_else(|| ProviderError::Missing {
        id: want.id.clone(),
        needs: network.to_string(),
    })?;
    match found? {
        None => create(place, want, others, &ground).await?,
        Some(found) if !is_ours(place, &found, &want.id) => {
            return Err(ProviderError::Taken {
                what: format!("the database name {} in {}", want.id.name, place.location),
                by: "one without the tags of this resource".into(),
            });
        }
        Some(_) => {
            // Nothing can be changed while something is.
            let found = settled(place, want).await?;
            change(place, want, &found).await?;
        }
    }
    place
        .until(
            place.deadline,
            || async {
                let found = find(place, &want.id.name).await?;
                let live = found.and_then(|it| shape::live(&place.workspace, &it, &place.location, Some(network)));
                let Some(live) = live else {
                    return Ok(Err("AWS does not list it yet".to_owned()));
                };
                let done =
                    live.status == Status::Running && live.spec == want.spec && live.labels.spec == want.spec_hash();
                match live.status {
                    Status::Failed => Err(not_ready(want, live.detail.unwrap_or_default())),
                    _ if done => Ok(Ok(live)),
                    _ => Ok(Err(live
                        .detail
                        .unwrap_or_else(|| "AWS does not show the change yet".to_owned()))),
                }
            },
            |detail| not_ready(want, detail),
        )
        .await
}

fn not_ready(want: &Resource, detail: String) -> ProviderError {
    ProviderError::NotReady {
        id: want.id.clone(),
        detail,
    }
}

/// Waits until it is neither made nor changed.
async fn settled(place: &Place, want: &Resource) -> Result<DbInstance, ProviderError> {
    place
        .until(
            place.deadline,
            || async {
                let found = find(place, &want.id.name).await?;
                let Some(found) = found else {
                    return Ok(Err("AWS does not list it".to_owned()));
                };
                let state = found.db_instance_status().unwrap_or("unknown").to_owned();
                match state.as_str() {
                    "available" | "storage-optimization" => Ok(Ok(found)),
                    "stopped" => {
                        let request = place.rds.start_db_instance().db_instance_identifier(&want.id.name);
                        match place
                            .call("rds:StartDBInstance", Freely, || request.clone().send())
                            .await
                        {
                            Err(fault) if fault.is(Class::Busy) => {}
                            outcome => drop(outcome?),
                        }
                        Ok(Err("it is starting".to_owned()))
                    }
                    state if shape::is_broken(state) => Err(not_ready(want, format!("AWS says {state}"))),
                    state => Ok(Err(format!("it is {state}"))),
                }
            },
            |detail| not_ready(want, detail),
        )
        .await
}

async fn create(place: &Place, want: &Resource, others: &[&Place], ground: &Parts) -> Result<(), ProviderError> {
    let name = &want.id.name;
    let group = subnet_group(place, want, ground).await?;
    let members = ground
        .members()
        .and_then(ec2::SecurityGroup::group_id)
        .map(str::to_owned);
    let tags = tags::for_rds(&shape::tags_of(&place.workspace, want));
    let class = spec::text(want, "instance_class")?;
    let multi_az = spec::flag(&want.spec, "multi_az");
    let Some(source) = want.spec.get("replicate_from").and_then(Value::as_str) else {
        let request = place
            .rds
            .create_db_instance()
            .db_instance_identifier(name)
            .engine(spec::text(want, "engine")?)
            .engine_version(spec::text(want, "version")?)
            .db_instance_class(class)
            .allocated_storage(spec::whole(want, "allocated_storage_gb")?)
            .multi_az(multi_az)
            .master_username(ADMINISTRATOR)
            .manage_master_user_password(true)
            .db_subnet_group_name(group)
            .set_vpc_security_group_ids(members.map(|it| vec![it]))
            .publicly_accessible(false)
            .storage_type("gp3")
            // Without it there are no read replicas.
            .backup_retention_period(7)
            .copy_tags_to_snapshot(true)
            .set_tags(Some(tags));
        let outcome = place
            .call("rds:CreateDBInstance", WhenRefused, || request.clone().send())
            .await;
        return taken(place, want, outcome.map(drop));
    };
    let from = source_of(place, want, source, others).await?;
    let near = !from.starts_with("arn:");
    let request = place
        .rds
        .create_db_instance_read_replica()
        .db_instance_identifier(name)
        .source_db_instance_identifier(from)
        .db_instance_class(class)
        .multi_az(multi_az)
        .publicly_accessible(false)
        // Beside its source it lies in the same subnets; AWS refuses the parameter there.
        .set_db_subnet_group_name((!near).then_some(group))
        .set_vpc_security_group_ids(members.map(|it| vec![it]))
        .copy_tags_to_snapshot(true)
        .set_tags(Some(tags));
    let action = "rds:CreateDBInstanceReadReplica";
    let outcome = place.call(action, WhenRefused, || request.clone().send()).await;
    taken(place, want, outcome.map(drop))
}

/// An identifier is unique in account and location, so a second create is refused: it is ours or it is not, and the
/// next look tells.
fn taken(place: &Place, want: &Resource, outcome: Result<(), Fault>) -> Result<(), ProviderError> {
    match outcome {
        Err(fault) if fault.is(Class::Exists) => Err(ProviderError::Taken {
            what: format!("the database name {} in {}", want.id.name, place.location),
            by: fault.message,
        }),
        outcome => Ok(outcome?),
    }
}

/// What a replica is made from: an identifier beside it, an ARN from elsewhere.
async fn source_of(place: &Place, want: &Resource, name: &str, others: &[&Place]) -> Result<String, ProviderError> {
    let ours = |place: &Place, it: &DbInstance| {
        tags::read(&place.workspace, &tags::from_rds(it.tag_list())).is_some_and(|it| it.id.name == name)
    };
    if find(place, name).await?.is_some_and(|it| ours(place, &it)) {
        return Ok(name.to_owned());
    }
    for other in others {
        if let Some(found) = find(other, name).await?.filter(|it| ours(other, it)) {
            return id_of(found.db_instance_arn, "rds:DescribeDBInstances", other);
        }
    }
    Err(ProviderError::Missing {
        id: want.id.clone(),
        needs: format!("database {name}"),
    })
}

fn group_name(id: &ResourceId) -> String {
    format!("{}-subnets", id.name)
}

/// The two subnets of the network as RDS wants them named.
async fn subnet_group(place: &Place, want: &Resource, ground: &Parts) -> Result<String, ProviderError> {
    let name = group_name(&want.id);
    let subnets: Vec<String> = [0, 1]
        .iter()
        .filter_map(|at| ground.subnet(*at)?.subnet_id().map(str::to_owned))
        .collect();
    let request = place
        .rds
        .create_db_subnet_group()
        .db_subnet_group_name(&name)
        .db_subnet_group_description(format!("subnets of {}", want.id.name))
        .set_subnet_ids(Some(subnets))
        .set_tags(Some(tags::for_rds(&tags::identity(&place.workspace, &want.id))));
    match place
        .settled("rds:CreateDBSubnetGroup", WhenRefused, || request.clone().send())
        .await
    {
        // Left by a run that ended between the two requests.
        Err(fault) if fault.is(Class::Exists) => {
            let arn = group_arn(place, &name).await?;
            let ours = match &arn {
                Some(arn) => {
                    tags::read(&place.workspace, &tags_on(place, arn).await?).is_some_and(|it| it.id == want.id)
                }
                None => false,
            };
            if !ours {
                return Err(ProviderError::Taken {
                    what: format!("the subnet group name {name} in {}", place.location),
                    by: "one without the tags of this resource".into(),
                });
            }
        }
        outcome => drop(outcome?),
    }
    Ok(name)
}

async fn group_arn(place: &Place, name: &str) -> Result<Option<String>, Fault> {
    let request = place.rds.describe_db_subnet_groups().db_subnet_group_name(name);
    match place
        .call("rds:DescribeDBSubnetGroups", Freely, || request.clone().send())
        .await
    {
        Err(fault) if fault.is(Class::NotFound) => Ok(None),
        answer => {
            let groups = answer?.db_subnet_groups.unwrap_or_default();
            Ok(groups.into_iter().next().and_then(|it| it.db_subnet_group_arn))
        }
    }
}

async fn tags_on(place: &Place, arn: &str) -> Result<Tags, Fault> {
    let request = place.rds.list_tags_for_resource().resource_name(arn);
    let answer = place
        .call("rds:ListTagsForResource", Freely, || request.clone().send())
        .await?;
    Ok(tags::from_rds(answer.tag_list()))
}

async fn change(place: &Place, want: &Resource, found: &DbInstance) -> Result<(), ProviderError> {
    let arn = found.db_instance_arn().unwrap_or_default();
    let has = tags::from_rds(found.tag_list());
    let wanted = shape::tags_of(&place.workspace, want);
    let source = want.spec.get("replicate_from").and_then(Value::as_str);
    let now = shape::source_of(found);
    if source.is_some() && source != now {
        return Err(spec::cannot_change(
            want,
            "replicate_from",
            now.unwrap_or("none"),
            source.unwrap_or("none"),
        ));
    }
    let engine = spec::text(want, "engine")?;
    if found.engine() != Some(engine) {
        return Err(spec::cannot_change(
            want,
            "engine",
            found.engine().unwrap_or("none"),
            engine,
        ));
    }
    let storage = spec::whole(want, "allocated_storage_gb")?;
    let stored = shape::storage_of(found).unwrap_or_default();
    if stored > storage {
        return Err(spec::cannot_change(
            want,
            "allocated_storage_gb",
            &stored.to_string(),
            &storage.to_string(),
        ));
    }
    let class = spec::text(want, "instance_class")?;
    let version = spec::text(want, "version")?;
    let multi_az = spec::flag(&want.spec, "multi_az");
    let promote = source.is_none() && now.is_some();
    let other_class = shape::class_of(found) != Some(class);
    let other_version = !found.engine_version().is_some_and(|it| shape::is_of(it, version));
    let other_zones = shape::multi_az_of(found) != multi_az;
    let modify = other_class || other_version || other_zones || stored < storage;
    if promote || modify {
        let marked = Tags::from([(SPEC.to_owned(), UNFINISHED.to_owned())]);
        add_tags(place, arn, &marked).await?;
    }
    if promote {
        let request = place.rds.promote_read_replica().db_instance_identifier(&want.id.name);
        place
            .call("rds:PromoteReadReplica", Freely, || request.clone().send())
            .await?;
        place
            .until(
                place.deadline,
                || async {
                    let found = find(place, &want.id.name).await?;
                    let follows = found.as_ref().is_none_or(|it| shape::source_of(it).is_some());
                    Ok(if follows {
                        Err("it still follows its source".to_owned())
                    } else {
                        Ok(())
                    })
                },
                |detail| not_ready(want, detail),
            )
            .await?;
        settled(place, want).await?;
    }
    if modify {
        let request = place
            .rds
            .modify_db_instance()
            .db_instance_identifier(&want.id.name)
            .set_db_instance_class(other_class.then(|| class.to_owned()))
            .set_engine_version(other_version.then(|| version.to_owned()))
            .set_multi_az(other_zones.then_some(multi_az))
            .set_allocated_storage((stored < storage).then_some(storage))
            // Else it would wait for the maintenance window.
            .apply_immediately(true);
        place
            .call("rds:ModifyDBInstance", Freely, || request.clone().send())
            .await?;
        settled(place, want).await?;
    }
    let mut late = tags::missing(&has, &wanted);
    late.insert(SPEC.to_owned(), want.spec_hash());
    if promote || modify || has.get(SPEC) != late.get(SPEC) || late.len() > 1 {
        add_tags(place, arn, &late).await?;
    }
    Ok(())
}

pub(super) async fn add_tags(place: &Place, arn: &str, tags: &Tags) -> Result<(), Fault> {
    let request = place
        .rds
        .add_tags_to_resource()
        .resource_name(arn)
        .set_tags(Some(tags::for_rds(tags)));
    place
        .call("rds:AddTagsToResource", Freely, || request.clone().send())
        .await
        .map(drop)
}

/// Afterwards nothing of it is left but its final snapshot, named after it and its generation. A replica has none: its
/// data is at its source.
pub(super) async fn remove(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let found = find(place, &id.name).await?.filter(|it| is_ours(place, it, id));
    if let Some(found) = found {
        if found.deletion_protection() == Some(true) {
            return Err(ProviderError::Protected { id: id.clone() });
        }
        // A broken one cannot be copied any more, and would refuse to go.
        let state = found.db_instance_status().unwrap_or_default();
        let snapshot = shape::source_of(&found).is_none() && !shape::is_broken(state);
        let request = place
            .rds
            .delete_db_instance()
            .db_instance_identifier(&id.name)
            .skip_final_snapshot(!snapshot)
            .set_final_db_snapshot_identifier(snapshot.then(|| final_snapshot(id, &found)))
            .delete_automated_backups(true);
        if state != "deleting" {
            match place
                .call("rds:DeleteDBInstance", Freely, || request.clone().send())
                .await
            {
                // Its deletion began with an answer that was lost.
                Err(fault) if fault.is(Class::Busy) => {}
                outcome => gone_already(outcome)?,
            }
        }
        place
            .until(
                place.deadline,
                || async {
                    let left = find(place, &id.name).await?;
                    let state = left
                        .as_ref()
                        .map(|it| it.db_instance_status().unwrap_or("unknown").to_owned());
                    Ok(state.map_or(Ok(()), |it| Err(format!("it is {it}"))))
                },
                |detail| ProviderError::NotReady { id: id.clone(), detail },
            )
            .await?;
    }
    remove_group(place, id).await
}

async fn remove_group(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let name = group_name(id);
    let Some(arn) = group_arn(place, &name).await? else {
        return Ok(());
    };
    if tags::read(&place.workspace, &tags_on(place, &arn).await?).is_none_or(|it| it.id != *id) {
        return Ok(());
    }
    let request = place.rds.delete_db_subnet_group().db_subnet_group_name(&name);
    gone_already(place.freed("rds:DeleteDBSubnetGroup", || request.clone().send()).await)?;
    Ok(())
}

/// The same for every attempt, and another for a database made anew under the name.
fn final_snapshot(id: &ResourceId, found: &DbInstance) -> String {
    let generation = found
        .dbi_resource_id()
        .unwrap_or("db-0")
        .trim_start_matches("db-")
        .to_ascii_lowercase();
    format!("{}-final-{generation}", id.name)
}

/// Everything of ours in this place; `networks` are ours by the ids of their VPCs.
pub(super) async fn observe(place: &Place) -> Result<Vec<DbInstance>, Fault> {
    lists::databases(place).await
}
