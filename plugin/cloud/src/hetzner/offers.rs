//! Whether Hetzner has what is wanted, where it is wanted.

use async_trait::async_trait;
use futures::try_join;
use ha_core::{
    check::codes,
    finding::Finding,
    resource::{Kind, Resource},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    HetznerProvider,
    catalogue::{LoadBalancerType, Location, ServerType},
    observe::denied,
};
use crate::{
    ProviderError,
    offers::{Group, Offers, groups, instead, location},
};

/// Systems that a server can start from, snapshots among them.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Image {
    id: u64,
    /// Snapshots have none, and are named by their number.
    name: Option<String>,
    architecture: String,
    status: String,
}

/// Everything that is asked before something is made.
struct Shelf<'a> {
    locations: &'a [Location],
    server_types: Vec<ServerType>,
    balancer_types: Vec<LoadBalancerType>,
    images: Vec<Image>,
}

#[async_trait]
impl Offers for HetznerProvider {
    async fn objections(&self, wanted: &[&Resource]) -> Result<Vec<Finding>, ProviderError> {
        let (locations, server_types, balancer_types, images) = try_join!(
            self.cloud.locations(),
            self.cloud.list("server_types", None),
            self.cloud.list("load_balancer_types", None),
            self.cloud.list("images", None),
        )
        .map_err(denied)?;
        let shelf = Shelf {
            locations,
            server_types,
            balancer_types,
            images,
        };
        let groups = groups(wanted);
        let mut out: Vec<Finding> = groups.iter().flat_map(|it| shelf.of_group(it)).collect();
        for want in wanted.iter().filter(|it| it.id.kind != Kind::Server) {
            if let Some((name, field)) = location(want) {
                out.extend(shelf.of_location(name, &format!("{}.{field}", want.path)));
            }
            if want.id.kind == Kind::LoadBalancer {
                let written = (self.cloud.options.written)(want);
                let kind = written.get("type").and_then(Value::as_str);
                out.extend(kind.and_then(|kind| shelf.of_balancer(want, kind)));
            }
        }
        if let Some(first) = groups.first() {
            out.push(untold(first, groups.iter().map(|it| it.count).sum()));
        }
        Ok(out)
    }
}

/// The limits of a project are in no part of the API.
/// Source: <https://docs.hetzner.com/cloud/general/faq/> (limits are shown in the console).
fn untold(group: &Group<'_>, servers: u64) -> Finding {
    let message = format!("whether {servers} more servers are within the limits of the project, hetzner does not tell");
    let finding = Finding::note(codes::OFFER_QUOTA, message).at(group.path);
    finding.help("see the limits in Hetzner Console (the project, Limits), and ask for more there")
}

impl Shelf<'_> {
    fn of_location(&self, name: &str, path: &str) -> Option<Finding> {
        if self.locations.iter().any(|it| it.name == name) {
            return None;
        }
        let finding = Finding::error(codes::OFFER_LOCATION, format!("hetzner has no location {name}")).at(path);
        Some(finding.help(instead(
            "location",
            name,
            self.locations.iter().map(|it| it.name.as_str()),
        )))
    }

    fn of_group(&self, group: &Group<'_>) -> Vec<Finding> {
        let location = self.of_location(group.location, &format!("{}.location", group.path));
        let nowhere = location.is_some();
        let mut out: Vec<Finding> = location.into_iter().collect();
        let found = self.server_types.iter().find(|it| it.name == group.size);
        match found {
            None => out.push(self.no_type(group, format!("hetzner has no server type {}", group.size))),
            Some(_) if nowhere => {}
            Some(size) => match size.available_in(group.location) {
                Some(true) => {}
                Some(false) => out.push(self.no_room(group, size)),
                None => {
                    let message = format!("hetzner does not sell {} in {}", group.size, group.location);
                    out.push(self.no_type(group, message));
                }
            },
        }
        out.extend(self.of_image(group, found));
        out
    }

    /// Types that can be had now, where the group is wanted or, for want of it, anywhere.
    fn on_sale(&self, place: &str) -> impl Iterator<Item = &str> + Clone {
        let known = self.locations.iter().any(|it| it.name == place);
        let place = place.to_owned();
        let types = self.server_types.iter();
        types
            .filter(move |it| !known || it.available_in(&place) == Some(true))
            .map(|it| it.name.as_str())
    }

    fn no_type(&self, group: &Group<'_>, message: String) -> Finding {
        let finding = Finding::error(codes::OFFER_SIZE, message).at(format!("{}.server_type", group.path));
        finding.help(instead("server_type", group.size, self.on_sale(group.location)))
    }

    fn no_room(&self, group: &Group<'_>, size: &ServerType) -> Finding {
        let message = format!("no {} can be had in {} now", group.size, group.location);
        let finding = Finding::error(codes::OFFER_CAPACITY, message).at(format!("{}.server_type", group.path));
        let elsewhere = size.locations.iter().filter(|it| it.available);
        let elsewhere: Vec<&str> = elsewhere.map(|it| it.name.as_str()).collect();
        let here: Vec<&str> = self.on_sale(group.location).take(5).collect();
        let list = |words: Vec<&str>| match words.is_empty() {
            true => "none".to_owned(),
            false => words.join(", "),
        };
        finding.help(format!(
            "try later, or choose: there is {} now, and {} in {}",
            list(here),
            group.size,
            list(elsewhere)
        ))
    }

    fn of_image(&self, group: &Group<'_>, size: Option<&ServerType>) -> Option<Finding> {
        let named = |it: &&Image| it.name.as_deref() == Some(group.image) || it.id.to_string() == group.image;
        let mut found = self
            .images
            .iter()
            .filter(|it| it.status == "available")
            .filter(named)
            .peekable();
        let at = |message: String| Finding::error(codes::OFFER_IMAGE, message).at(format!("{}.image", group.path));
        if found.peek().is_none() {
            let known = self.images.iter().filter_map(|it| it.name.as_deref());
            let finding = at(format!("hetzner has no image {}", group.image));
            return Some(finding.help(instead("image", group.image, known)));
        }
        let size = size?;
        if found.any(|it| it.architecture == size.architecture) {
            return None;
        }
        let message = format!(
            "there is no {} for {}, which is {}",
            group.image, size.name, size.architecture
        );
        let fitting = self.images.iter().filter(|it| it.architecture == size.architecture);
        let fitting = fitting.filter_map(|it| it.name.as_deref());
        Some(at(message).help(instead("image", group.image, fitting)))
    }

    fn of_balancer(&self, want: &Resource, kind: &str) -> Option<Finding> {
        if self.balancer_types.iter().any(|it| it.name == kind) {
            return None;
        }
        let message = format!("hetzner has no load balancer type {kind}");
        let finding = Finding::error(codes::OFFER_SIZE, message).at(format!("{}.type", want.path));
        Some(finding.help(instead(
            "type",
            kind,
            self.balancer_types.iter().map(|it| it.name.as_str()),
        )))
    }
}
