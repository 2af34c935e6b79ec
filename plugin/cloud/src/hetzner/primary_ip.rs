//! Primary IPs: public addresses that stay when their server is lost.
//!
//! Each server is given one for IPv4 anyway, which goes with it. Where the workspace wants it fixed, that one is marked as
//! ours and no longer goes by itself: so it becomes fixed without a moment of downtime. A server that is made anew after
//! it was lost takes the one that waits for it.

use std::collections::BTreeSet;

use ha_core::{
    desired::FIXED_ADDRESS,
    resource::{Kind, Live, ResourceId},
};
use http::Method;
use serde_json::{Value, json};

use super::{
    actions::Until,
    api::{LabelMap, PrimaryIp, Server},
    cloud::Cloud,
    errors, labels,
};
use crate::{ProviderError, rest::RestError};

impl Cloud {
    /// The address that a server of this name had before it was lost, for the one that is made in its place.
    pub(super) async fn waiting_address(
        &self,
        id: &ResourceId,
        location: &str,
        wanted: bool,
    ) -> Result<Option<u64>, ProviderError> {
        if !wanted {
            return Ok(None);
        }
        let found = self.addresses_of(id).await?;
        let fits = |it: &&PrimaryIp| it.kind == "ipv4" && it.assignee_id.is_none() && it.location.name == location;
        Ok(found.iter().find(fits).map(|it| it.id))
    }

    /// Afterwards the address of the server stays when the server is lost, or goes with it.
    pub(super) async fn fix_address(
        &self,
        now: &Server,
        id: &ResourceId,
        fixed: bool,
        until: Until,
    ) -> Result<(), ProviderError> {
        if fixed {
            let number = now.public_net.ipv4.as_ref().and_then(|it| it.id);
            let number = number.ok_or_else(|| ProviderError::Refused {
                what: format!("{id} has no public IPv4 address that could be kept"),
                help: "set primary_ip = false in workspace.ncl, or give the server an address again".into(),
            })?;
            let ip: PrimaryIp = self.one(number, id).await?;
            let mut wanted = ip.labels.clone();
            wanted.extend(self.labels_of_address(id));
            if ip.auto_delete || ip.labels != wanted {
                self.put_address(&ip, false, &wanted, id, until).await?;
            }
            return Ok(());
        }
        if !now.labels.contains_key(labels::FIXED_ADDRESS) {
            return Ok(());
        }
        for ip in self.addresses_of(id).await? {
            if ip.assignee_id == Some(now.id) {
                let mut left = ip.labels.clone();
                left.retain(|key, _| !self.labels_of_address(id).contains_key(key));
                self.put_address(&ip, true, &left, id, until).await?;
            } else {
                self.delete_address(&ip, id, until).await?;
            }
        }
        Ok(())
    }

    /// Afterwards there is no address of ours for this server.
    pub(super) async fn remove_addresses(&self, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        for ip in self.addresses_of(id).await? {
            self.delete_address(&ip, id, until).await?;
        }
        Ok(())
    }

    /// Addresses of this region that wait for servers which are not there: whoever removed those was cut short.
    pub(super) async fn sweep_addresses(&self, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        let selector = || labels::of_region(&self.options.workspace, &id.region);
        let both = futures::try_join!(
            self.selected::<PrimaryIp>(selector()),
            self.selected::<Server>(selector())
        );
        let (addresses, servers) = both.map_err(|error| errors::outcome(error, id))?;
        let names: BTreeSet<&String> = servers.iter().filter_map(|it| it.labels.get(labels::NAME)).collect();
        for ip in &addresses {
            if ip.labels.get(labels::NAME).is_none_or(|name| !names.contains(name)) {
                self.delete_address(ip, id, until).await?;
            }
        }
        Ok(())
    }

    /// Takes `fixed_address` out of the spec of each server whose address would go with it: somebody changed it.
    pub(super) async fn look_at_addresses(&self, servers: &[Server], all: &mut [Live]) -> Result<(), RestError> {
        if servers.iter().all(|it| !it.labels.contains_key(labels::FIXED_ADDRESS)) {
            return Ok(());
        }
        let found: Vec<PrimaryIp> = self.selected(labels::of_workspace(&self.options.workspace)).await?;
        let stays: BTreeSet<u64> = found.iter().filter(|it| !it.auto_delete).map(|it| it.id).collect();
        for server in servers {
            let number = server.public_net.ipv4.as_ref().and_then(|it| it.id);
            let label = |key: &str| server.labels.get(key).map(String::as_str);
            let is = |live: &&mut Live| {
                live.id.kind == Kind::Server
                    && Some(live.id.name.as_str()) == label(labels::NAME)
                    && Some(live.id.region.as_str()) == label(labels::REGION)
            };
            if let (Some(live), false) = (all.iter_mut().find(is), number.is_some_and(|it| stays.contains(&it)))
                && let Value::Object(spec) = &mut live.spec
            {
                spec.remove(FIXED_ADDRESS);
            }
        }
        Ok(())
    }

    async fn addresses_of(&self, id: &ResourceId) -> Result<Vec<PrimaryIp>, ProviderError> {
        let selector = labels::of_one(&self.options.workspace, &id.region, labels::NAME, &id.name);
        let found = self.selected(selector).await;
        found.map_err(|error| errors::outcome(error, id))
    }

    fn labels_of_address(&self, id: &ResourceId) -> LabelMap {
        LabelMap::from([
            (labels::WS.to_owned(), self.options.workspace.to_string()),
            (labels::REGION.to_owned(), id.region.to_string()),
            (labels::NAME.to_owned(), id.name.clone()),
        ])
    }

    async fn put_address(
        &self,
        ip: &PrimaryIp,
        auto_delete: bool,
        labels: &LabelMap,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let body = json!({ "auto_delete": auto_delete, "labels": labels });
        let path = format!("/primary_ips/{}", ip.id);
        self.act(Method::PUT, &path, Some(body), id, until).await.map(drop)
    }

    /// One that is assigned cannot be deleted. <https://docs.hetzner.cloud/#tag/primary-ips/delete_primary_ip>
    async fn delete_address(&self, ip: &PrimaryIp, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        if ip.assignee_id.is_some() {
            self.run::<PrimaryIp>(ip.id, "unassign", Value::Null, id, until).await?;
        }
        self.delete::<PrimaryIp>(ip.id, id, until).await
    }
}
