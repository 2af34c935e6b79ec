//! Who keeps the names in front of the regions.

use std::sync::{Arc, LazyLock};

use ha_cloud::{
    aws,
    dns::{
        Names, Route53,
        route53::{Options, Paces},
    },
};
use ha_core::{
    config::Target,
    dns,
    model::{Dns, Workspace},
    names::ProviderName,
    switch::Refusal,
};
use nu_plugin::EngineInterface;

use super::{Context, credentials::Credentials};
use crate::{HaPlugin, error::Failed};

/// Commands of one shell share what their account may ask; it rarely is another account.
static PACES: LazyLock<Arc<Paces>> = LazyLock::new(Arc::default);

impl Context {
    /// Route 53, and where in it the names are wanted. Asks nobody.
    ///
    /// # Errors
    ///
    /// On the local target, where nothing outside of this machine could use a name, and without declared names.
    pub(crate) fn dns(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        workspace: &Workspace,
    ) -> Result<(Route53, Names), Failed> {
        if self.config.target == Target::Local {
            return Err(Failed::refused(Refusal::new(
                "ha::dns::local",
                "on this machine the regions have addresses and no names",
                "see the addresses: ha inventory load_balancer; for names, set target = \"cloud\" in config.toml",
            )));
        }
        let declared = self.declared(workspace)?;
        let credentials = Credentials {
            engine,
            config: &self.config,
            folder: self.file.parent().unwrap_or(&self.file),
        };
        let name = ProviderName::Aws;
        let key = aws::Credentials {
            access_key_id: credentials.required(name, "access_key_id")?.expose().to_owned(),
            secret_access_key: credentials.required(name, "secret_access_key")?,
            session_token: credentials.optional(name, "session_token")?,
        };
        let options = Options {
            endpoint: self.config.providers.get(&name).and_then(|it| it.endpoint.clone()),
            ledger: plugin.ledgers.of(name),
            paces: Arc::clone(&PACES),
            ..Options::new(workspace.name.clone(), key)
        };
        let names = Names {
            zone: dns::zone(declared, &self.config),
            domain: dns::domain(declared, &self.config),
        };
        Ok((Route53::open(&options), names))
    }

    fn declared<'a>(&self, workspace: &'a Workspace) -> Result<&'a Dns, Failed> {
        workspace.dns.as_ref().ok_or_else(|| {
            Failed::refused(Refusal::new(
                "ha::dns::undeclared",
                format!("the workspace {} declares no names", workspace.name),
                "add to workspace.ncl: dns = aws.Route53 & { domain = \"api.example.com\", default_region = … }",
            ))
        })
    }
}
