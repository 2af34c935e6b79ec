//! Whether AWS has what is wanted, where it is wanted, and lets this account go there.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use aws_sdk_ec2::types as ec2;
use futures::{future::try_join_all, try_join};
use ha_core::{
    check::codes,
    finding::Finding,
    resource::{Kind, Resource},
};
use tokio::sync::OnceCell;

use super::{
    AwsProvider,
    call::Repeat::Freely,
    fault::{Class, Fault},
    options::Options,
    place::{self, Place},
    server::image::BY_PARAMETER,
};
use crate::{
    ProviderError,
    offers::{Group, Offers, groups, instead, location},
};

/// Every account may ask here, and is told of all regions.
/// Source: <https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html>.
const HOME: &str = "us-east-1";

/// The regions of AWS, asked for once.
pub(super) struct Regions {
    home: Option<Arc<Place>>,
    known: OnceCell<Known>,
}

/// Each region, and whether it is enabled for the account.
pub(super) struct Known(BTreeMap<String, bool>);

/// Why nothing can be made in a region.
pub(super) struct Why {
    pub(super) message: String,
    pub(super) help: String,
}

impl Regions {
    pub(super) fn new(options: &Options) -> Self {
        let options = Options {
            locations: vec![HOME.to_owned()],
            ..options.clone()
        };
        Self {
            home: place::open(&options).pop(),
            known: OnceCell::new(),
        }
    }

    pub(super) async fn all(&self) -> Result<&Known, Fault> {
        self.known
            .get_or_try_init(|| async {
                let Some(home) = &self.home else {
                    return Ok(Known(BTreeMap::new()));
                };
                let request = home.ec2.describe_regions().all_regions(true);
                let answer = home
                    .call("ec2:DescribeRegions", Freely, || request.clone().send())
                    .await?;
                let regions = answer.regions.unwrap_or_default().into_iter();
                let known = regions.filter_map(|it| {
                    let enabled = it.opt_in_status() != Some("not-opted-in");
                    Some((it.region_name?, enabled))
                });
                Ok(Known(known.collect()))
            })
            .await
    }
}

impl Known {
    /// None where something can be made there. AWS names every region there is; none at all is no answer.
    pub(super) fn objection(&self, name: &str) -> Option<Why> {
        match self.0.get(name) {
            Some(true) => None,
            Some(false) => Some(Why {
                message: format!("the region {name} is not enabled for this account"),
                help: format!(
                    "enable it: aws account enable-region --region-name {name} (it takes minutes), or choose another"
                ),
            }),
            None if self.0.is_empty() => None,
            None => Some(Why {
                message: format!("aws has no region {name}"),
                help: instead("region", name, self.enabled()),
            }),
        }
    }

    fn enabled(&self) -> impl Iterator<Item = &str> + Clone {
        self.0
            .iter()
            .filter(|(_, enabled)| **enabled)
            .map(|(name, _)| name.as_str())
    }
}

#[async_trait]
impl Offers for AwsProvider {
    async fn objections(&self, wanted: &[&Resource]) -> Result<Vec<Finding>, ProviderError> {
        let regions = Regions::new(&self.options);
        let known = regions.all().await?;
        let groups = groups(wanted);
        let mut out = Vec::new();
        for want in wanted.iter().filter(|it| it.id.kind != Kind::Server) {
            let why = location(want).and_then(|(name, _)| known.objection(name));
            out.extend(why.map(|why| closed(why, &want.path)));
        }
        let asked = groups.iter().map(|group| async move {
            if let Some(why) = known.objection(group.location) {
                return Ok(vec![closed(why, group.path)]);
            }
            let place = self.places.iter().find(|it| it.location == group.location);
            match place {
                Some(place) => of_group(place, group).await,
                None => Ok(Vec::new()),
            }
        });
        let found: Vec<Vec<Finding>> = try_join_all(asked).await?;
        out.extend(found.into_iter().flatten());
        if let Some(first) = groups.first() {
            let servers: u64 = groups.iter().map(|it| it.count).sum();
            let message =
                format!("whether {servers} more instances are within the account's quotas, EC2 does not tell");
            let finding = Finding::note(codes::OFFER_QUOTA, message).at(first.path);
            out.push(
                finding.help("see: aws service-quotas get-service-quota --service-code ec2 --quota-code L-1216C47A"),
            );
        }
        Ok(out)
    }
}

fn closed(why: Why, path: &str) -> Finding {
    let finding = Finding::error(codes::OFFER_LOCATION, why.message).at(format!("{path}.region"));
    finding.help(why.help)
}

async fn of_group(place: &Place, group: &Group<'_>) -> Result<Vec<Finding>, Fault> {
    let (size, image) = try_join!(of_type(place, group), of_image(place, group))?;
    Ok(size.into_iter().chain(image).collect())
}

async fn of_type(place: &Place, group: &Group<'_>) -> Result<Option<Finding>, Fault> {
    if !types(place, Some(group.size)).await?.is_empty() {
        return Ok(None);
    }
    // All of them only now: they are several hundred.
    let all = types(place, None).await?;
    let message = format!("aws does not offer {} in {}", group.size, place.location);
    let finding = Finding::error(codes::OFFER_SIZE, message).at(format!("{}.instance_type", group.path));
    Ok(Some(finding.help(instead(
        "instance_type",
        group.size,
        all.iter().map(String::as_str),
    ))))
}

async fn types(place: &Place, only: Option<&str>) -> Result<Vec<String>, Fault> {
    let action = "ec2:DescribeInstanceTypeOfferings";
    let filter = only.map(|it| ec2::Filter::builder().name("instance-type").values(it).build());
    let filters: Option<Vec<ec2::Filter>> = filter.map(|it| vec![it]);
    place
        .pages(action, |token| {
            let filters = filters.clone();
            async move {
                let request = place.ec2.describe_instance_type_offerings();
                let request = request.set_filters(filters).set_next_token(token);
                let page = place.call(action, Freely, || request.clone().send()).await?;
                let offered = page.instance_type_offerings.unwrap_or_default();
                let names = offered
                    .into_iter()
                    .filter_map(|it| Some(it.instance_type?.as_str().to_owned()));
                Ok((names.collect(), page.next_token))
            }
        })
        .await
}

/// Of an AMI whether it is there, of a parameter whether it is one.
async fn of_image(place: &Place, group: &Group<'_>) -> Result<Option<Finding>, Fault> {
    let answer = match group.image.strip_prefix(BY_PARAMETER) {
        Some(path) => {
            let request = place.ssm.get_parameter().name(path);
            let answer = place.call("ssm:GetParameter", Freely, || request.clone().send()).await;
            answer.map(|it| it.parameter.is_some())
        }
        None => {
            let request = place.ec2.describe_images().image_ids(group.image);
            let answer = place
                .call("ec2:DescribeImages", Freely, || request.clone().send())
                .await;
            answer.map(|it| it.images.is_some_and(|it| !it.is_empty()))
        }
    };
    match answer {
        Ok(true) => return Ok(None),
        Ok(false) => {}
        Err(fault) if fault.is(Class::NotFound) || fault.code.starts_with("InvalidAMIID") => {}
        Err(fault) => return Err(fault),
    }
    let message = format!("aws has no image {} in {}", group.image, place.location);
    let finding = Finding::error(codes::OFFER_IMAGE, message).at(format!("{}.image_id", group.path));
    Ok(Some(finding.help(
        "an AMI belongs to one region and one owner; leave image_id out for the Ubuntu that ha chooses, or see: aws ec2 \
         describe-images --owners self",
    )))
}
