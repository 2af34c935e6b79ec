//! Rows of `ha regions`: the workspace as declared.

use crate::{
    model::{Role, Workspace},
    names::{ProviderName, RegionName},
};

/// One declared region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionRow {
    pub region: RegionName,
    pub provider: ProviderName,
    /// The provider's slug.
    pub location: String,
    pub role: Role,
    /// How many are declared.
    pub servers: u32,
    /// `10.0.0.0/16`
    pub network: Option<String>,
    /// The database's name.
    pub database: Option<String>,
    /// The balancer's name.
    pub load_balancer: Option<String>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

/// One row per region, in the workspace's order; a region with several of a kind shows the first.
pub fn table(workspace: &Workspace) -> Vec<RegionRow> {
    workspace
        .regions
        .iter()
        .map(|region| RegionRow {
            region: region.name.clone(),
            provider: region.provider,
            location: region.location.clone(),
            role: region.role,
            servers: region.servers.iter().map(|group| group.count).sum(),
            network: region.networks.first().map(|network| network.ip_range.clone()),
            database: region.databases.first().map(|database| database.declared.name.clone()),
            load_balancer: region.load_balancers.first().map(|it| it.declared.name.clone()),
            latitude: region.coordinates.map(|at| at.latitude),
            longitude: region.coordinates.map(|at| at.longitude),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::workspace;

    #[test]
    fn a_row_says_what_was_declared() {
        let rows = table(&workspace());
        let names: Vec<&str> = rows.iter().map(|row| row.region.as_str()).collect();
        assert_eq!(names, ["us-east", "eu-central", "asia-southeast"]);
        let row = &rows[0];
        assert_eq!((row.servers, row.network.as_deref()), (4, Some("10.0.0.0/16")));
        assert_eq!(
            (row.database.as_deref(), row.load_balancer.as_deref()),
            (Some("us-pg"), Some("us-lb"))
        );
        assert_eq!(row.latitude.map(f64::trunc), Some(40.0));
    }
}
