//! From a workspace to the resources that realise it.

use crate::{config::Config, model::Workspace, resource::Resource};

/// Every resource of the workspace; what is depended on comes first.
pub fn resources(workspace: &Workspace, config: &Config) -> Vec<Resource> {
    let _ = (workspace, config);
    Vec::new()
}
