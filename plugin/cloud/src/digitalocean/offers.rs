//! Whether DigitalOcean has what is wanted, where it is wanted, and lets this account have it.

use async_trait::async_trait;
use futures::try_join;
use ha_core::{
    check::codes,
    finding::Finding,
    resource::{Kind, Resource},
};
use serde::Deserialize;

use super::{
    DigitalOceanProvider,
    api::{Droplet, Thing},
    catalogue::Catalogue,
    errors,
};
use crate::{
    ProviderError,
    offers::{Group, Offers, groups, instead, location},
};

#[derive(Clone, Debug, Deserialize)]
struct Image {
    id: u64,
    /// Snapshots have none, and are named by their number.
    slug: Option<String>,
    /// Where a Droplet can be made from it.
    regions: Vec<String>,
}

impl Thing for Image {
    const LIST: &'static str = "images";
    const ONE: &'static str = "image";
}

/// Everything that is asked before something is made.
struct Shelf {
    catalogue: Catalogue,
    images: Vec<Image>,
}

#[async_trait]
impl Offers for DigitalOceanProvider {
    async fn objections(&self, wanted: &[&Resource]) -> Result<Vec<Finding>, ProviderError> {
        let (catalogue, images) =
            try_join!(self.cloud.catalogue(), self.cloud.list::<Image>(&[])).map_err(errors::denied)?;
        let shelf = Shelf { catalogue, images };
        let groups = groups(wanted);
        let mut out: Vec<Finding> = groups.iter().flat_map(|it| shelf.of_group(it)).collect();
        for want in wanted.iter().filter(|it| it.id.kind != Kind::Server) {
            if let Some((name, _)) = location(want) {
                out.extend(shelf.of_location(name, &format!("{}.region", want.path)));
            }
        }
        if let Some(first) = groups.first() {
            out.extend(self.limit(first, groups.iter().map(|it| it.count).sum()).await?);
        }
        Ok(out)
    }
}

impl DigitalOceanProvider {
    /// Whether so many Droplets more are within the account's limit.
    async fn limit(&self, first: &Group<'_>, more: u64) -> Result<Option<Finding>, ProviderError> {
        let Some(limit) = self.owner().await?.droplet_limit else {
            let message =
                format!("whether {more} more Droplets are within the account's limit, this token may not know");
            let finding = Finding::note(codes::OFFER_QUOTA, message).at(first.path);
            return Ok(Some(
                finding.help("give it the scope droplet:read: ha check --credentials"),
            ));
        };
        let all = self.cloud.list::<Droplet>(&[]).await.map_err(errors::denied)?;
        let have = u64::try_from(all.len()).unwrap_or(u64::MAX);
        if have.saturating_add(more) <= limit {
            return Ok(None);
        }
        let message = format!("the account may have {limit} Droplets, has {have}, and the plan makes {more} more");
        let finding = Finding::error(codes::OFFER_QUOTA, message).at(format!("{}.count", first.path));
        Ok(Some(finding.help(
            "ask DigitalOcean for a higher limit (control panel: Settings, Team, Droplet limit), or remove what is not \
             needed: ha inventory server",
        )))
    }
}

impl Shelf {
    fn of_location(&self, name: &str, path: &str) -> Option<Finding> {
        let open = self.catalogue.locations.iter().filter(|it| it.available);
        let open = open.map(|it| it.name.as_str());
        match self.catalogue.locations.iter().find(|it| it.name == name) {
            Some(place) if place.available => None,
            Some(_) => {
                let message = format!("nothing can be made in {name} now");
                let finding = Finding::error(codes::OFFER_CAPACITY, message).at(path);
                Some(finding.help(instead("region", "", open)))
            }
            None => {
                let message = format!("digitalocean has no region {name}");
                let finding = Finding::error(codes::OFFER_LOCATION, message).at(path);
                Some(finding.help(instead("region", name, open)))
            }
        }
    }

    fn of_group(&self, group: &Group<'_>) -> Vec<Finding> {
        let location = self.of_location(group.location, &format!("{}.region", group.path));
        let nowhere = location.is_some();
        let mut out: Vec<Finding> = location.into_iter().collect();
        out.extend(self.of_size(group, nowhere));
        out.extend(self.of_image(group, nowhere));
        out
    }

    fn of_size(&self, group: &Group<'_>, nowhere: bool) -> Option<Finding> {
        let sizes = self.catalogue.sizes.iter().filter(|it| it.available);
        let here = sizes.filter(|it| nowhere || it.locations.iter().any(|it| it == group.location));
        let here = here.map(|it| it.name.as_str());
        let at = |code, message: String| Finding::error(code, message).at(format!("{}.size", group.path));
        let Some(size) = self.catalogue.size(group.size) else {
            let finding = at(codes::OFFER_SIZE, format!("digitalocean has no size {}", group.size));
            return Some(finding.help(instead("size", group.size, here)));
        };
        if nowhere {
            return None;
        }
        if !size.available {
            let finding = at(
                codes::OFFER_CAPACITY,
                format!("no {} can be made anywhere now", size.name),
            );
            return Some(finding.help(instead("size", "", here)));
        }
        if size.locations.iter().any(|it| it == group.location) {
            return None;
        }
        // The same list says what is not sold there, and what is sold out there.
        let message = format!("no {} can be made in {} now", size.name, group.location);
        let others = size.locations.join(", ");
        let help = instead("size", "", here);
        Some(at(codes::OFFER_CAPACITY, message).help(format!("it can be in {others}; there, {help}")))
    }

    fn of_image(&self, group: &Group<'_>, nowhere: bool) -> Option<Finding> {
        let named = |it: &&Image| it.slug.as_deref() == Some(group.image) || it.id.to_string() == group.image;
        let at = |message: String| Finding::error(codes::OFFER_IMAGE, message).at(format!("{}.image", group.path));
        let here = |it: &&Image| nowhere || it.regions.iter().any(|it| it == group.location);
        let slugs = self.images.iter().filter(here).filter_map(|it| it.slug.as_deref());
        let Some(image) = self.images.iter().find(named) else {
            let finding = at(format!("digitalocean has no image {}", group.image));
            return Some(finding.help(instead("image", group.image, slugs)));
        };
        if here(&image) {
            return None;
        }
        let message = format!("the image {} is not in {}", group.image, group.location);
        Some(at(message).help(instead("image", "", slugs)))
    }
}
