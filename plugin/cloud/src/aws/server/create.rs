//! The one request that makes a server, with its tags, its token and its user data in it.

use std::time::Duration;

use aws_sdk_ec2::{
    operation::run_instances::builders::RunInstancesFluentBuilder,
    types::{
        self as ec2, HttpTokensState, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
        ResourceType,
    },
};
use ha_core::resource::Resource;
use serde_json::Value;

use super::{Shared, Site, image::no_image, shape, token};
use crate::{
    ProviderError,
    aws::{
        call::Repeat::WhenRefused,
        fault::{Class, Fault},
        firewall, lists,
        options::Options,
        place::Place,
        spec, tags,
    },
};

/// Before base64. Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html>.
const LONGEST_USER_DATA: usize = 16 * 1024;

/// More servers of one name than can have died within the day that a token is remembered.
const GENERATIONS: u32 = 50;

/// How long a create that AWS remembers and does not list is looked for.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// Afterwards an instance of this identity exists; its id. `seen` are those that AWS lists, the dead ones included.
pub(super) async fn create(
    place: &Place,
    want: &Resource,
    options: &Options,
    shared: &Shared,
    site: &Site,
    seen: &[ec2::Instance],
) -> Result<String, ProviderError> {
    let request = request(place, want, options, shared).await?;
    let members = site.ground.members().and_then(ec2::SecurityGroup::group_id);
    let members = members.ok_or_else(|| half_made(want))?;
    let mut groups = vec![members.to_owned()];
    groups.extend(firewall::of_group(&site.firewalls, spec::text(want, "group")?));
    let subnets = subnets(want, site)?;
    let tokens = seen.iter().filter_map(ec2::Instance::client_token);
    let first = token::next_generation(&place.workspace, &want.id, tokens);
    for generation in first..first + GENERATIONS {
        match generation_of(place, want, &request, &groups, &subnets, generation).await? {
            Made::Alive(id) => return Ok(id),
            // The token made one that is dead by now.
            Made::Dead => {}
        }
    }
    Err(ProviderError::NotReady {
        id: want.id.clone(),
        detail: format!("AWS answers {GENERATIONS} client tokens with instances that have ended; wait a day"),
    })
}

enum Made {
    Alive(String),
    Dead,
}

/// Tries the subnets in turn, so that one zone without capacity is not the end.
async fn generation_of(
    place: &Place,
    want: &Resource,
    request: &RunInstancesFluentBuilder,
    groups: &[String],
    subnets: &[(usize, String)],
    generation: u32,
) -> Result<Made, ProviderError> {
    let mut full = None;
    for (at, subnet) in subnets {
        let token = token::token(&place.workspace, &want.id, generation, *at);
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(subnet)
            .set_groups(Some(groups.to_vec()))
            .associate_public_ip_address(true)
            .delete_on_termination(true)
            .build();
        let request = request.clone().network_interfaces(interface).client_token(&token);
        match place
            .settled_create(want, "ec2:RunInstances", || request.clone().send())
            .await
        {
            Ok(answer) => {
                let made = answer.instances().first();
                return Ok(match made.and_then(|it| it.instance_id()) {
                    Some(id) if made.is_some_and(lists::is_there) => Made::Alive(id.to_owned()),
                    _ => Made::Dead,
                });
            }
            Err(fault) if fault.is(Class::NoCapacity) => full = Some(fault),
            Err(fault) if fault.is(Class::TokenReused) => return remembered(place, &token).await,
            Err(fault) if fault.code.starts_with("InvalidAMIID") => {
                let image = want.spec.get("image").and_then(Value::as_str).unwrap_or("none");
                return Err(no_image(want, image, place));
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(full.map_or_else(|| half_made(want), ProviderError::from))
}

/// The token was used for a request with other parameters, so something was made: an instance that is not listed yet,
/// or one that is dead.
async fn remembered(place: &Place, token: &str) -> Result<Made, ProviderError> {
    let filter = [tags::filter("client-token", token)];
    let found = place.until(
        SEEN_WITHIN.min(place.deadline),
        || async {
            let found = lists::reservations(place, &filter)
                .await
                .map_err(|fault| Some(fault.into()))?;
            let mut each = found.iter().flat_map(ec2::Reservation::instances);
            Ok(match each.next() {
                Some(it) if lists::is_there(it) => Ok(Made::Alive(it.instance_id().unwrap_or_default().to_owned())),
                Some(_) => Ok(Made::Dead),
                None => Err(String::new()),
            })
        },
        |_| None,
    );
    match found.await {
        Ok(made) => Ok(made),
        Err(Some(error)) => Err(error),
        // Whoever is not listed after this time has been gone for more than an hour.
        Err(None) => Ok(Made::Dead),
    }
}

/// All that does not depend on where it starts.
async fn request(
    place: &Place,
    want: &Resource,
    options: &Options,
    shared: &Shared,
) -> Result<RunInstancesFluentBuilder, ProviderError> {
    let size = spec::text(want, "size")?;
    let ami = shared.images.resolve(place, want, spec::text(want, "image")?).await?;
    if let Some(key) = &options.ssh_key {
        shared.keys.ensure(place, want, key).await?;
    }
    let text = (options.user_data)(want)?;
    if text.len() > LONGEST_USER_DATA {
        return Err(ProviderError::Refused {
            what: format!(
                "{}: its user data has {} bytes, AWS takes {LONGEST_USER_DATA}",
                want.id,
                text.len()
            ),
            help: "shorten it; ha render user-data shows it".into(),
        });
    }
    let tags = shape::tags_of(&place.workspace, want);
    // Its disk costs money of its own: it says whose it is as well.
    let disk = tags::identity(&place.workspace, &want.id);
    Ok(place
        .ec2
        .run_instances()
        .image_id(ami)
        .instance_type(ec2::InstanceType::from(size))
        .min_count(1)
        .max_count(1)
        .set_key_name(options.ssh_key.as_ref().map(|key| key.name.clone()))
        .set_user_data((!text.is_empty()).then(|| aws_smithy_types::base64::encode(text)))
        // Without version 1 of the metadata service, which hands credentials to whatever can make the server fetch a URL.
        .metadata_options(
            InstanceMetadataOptionsRequest::builder()
                .http_tokens(HttpTokensState::Required)
                .build(),
        )
        .tag_specifications(tags::at_birth(ResourceType::Instance, &tags))
        .tag_specifications(tags::at_birth(ResourceType::Volume, &disk)))
}

/// Where it may start, the better place first: members of a group alternate between the zones. A volume that waits for
/// it lies in one zone and leaves no choice.
fn subnets(want: &Resource, site: &Site) -> Result<Vec<(usize, String)>, ProviderError> {
    let index = want.spec.get("index").and_then(Value::as_u64).unwrap_or(1);
    let first = usize::from(index.is_multiple_of(2));
    let zones: Vec<&str> = site.volumes.iter().filter_map(ec2::Volume::availability_zone).collect();
    let mut found: Vec<(usize, String)> = Vec::new();
    for at in [first, 1 - first] {
        let Some(subnet) = site.ground.subnet(at) else { continue };
        let zone = subnet.availability_zone();
        if zones.iter().all(|it| Some(*it) == zone) {
            found.extend(subnet.subnet_id().map(|id| (at, id.to_owned())));
        }
    }
    match (found.is_empty(), zones.is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Err(half_made(want)),
        (true, false) => Err(ProviderError::Refused {
            what: format!(
                "{}: its volumes lie in {}, which no subnet of its network does",
                want.id,
                zones.join(" and ")
            ),
            help: "a volume cannot change its zone: make it anew from a snapshot".into(),
        }),
    }
}

/// The network was not finished.
fn half_made(want: &Resource) -> ProviderError {
    let network = want
        .depends_on
        .first()
        .map_or_else(|| "its network".to_owned(), ToString::to_string);
    ProviderError::Missing {
        id: want.id.clone(),
        needs: format!("{network} with all its parts"),
    }
}

impl Place {
    /// A create about things made a moment ago. That the image or the key is not there is an answer, not a delay.
    async fn settled_create<T, E, F>(
        &self,
        want: &Resource,
        action: &'static str,
        send: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, aws_sdk_ec2::error::SdkError<E>>>,
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.until(
            SEEN_WITHIN.min(self.deadline),
            || async {
                match self.call(action, WhenRefused, &send).await {
                    Err(fault) if fault.is(Class::NotFound) && !fault.code.starts_with("InvalidAMIID") => {
                        tracing::debug!(id = %want.id, code = fault.code, "not known everywhere yet");
                        Ok(Err(fault.to_string()))
                    }
                    outcome => outcome.map(Ok),
                }
            },
            |message| Fault {
                action,
                location: self.location.clone(),
                class: Class::Refused,
                code: String::new(),
                message,
                took: SEEN_WITHIN,
            },
        )
        .await
    }
}
