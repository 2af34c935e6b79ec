//! What things cost: as the operator wrote, as the providers say, as the dated file has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ha_core::{
    config::Target,
    cost::{self, Told},
    model::Workspace,
    names::ProviderName,
};
use jiff::{Timestamp, tz::TimeZone};
use nu_plugin::EngineInterface;
use nu_protocol::LabeledError;

use super::Context;
use crate::{
    HaPlugin,
    nu::{At as _, Wanted},
};

/// So long a list is taken for what the provider asks now. They change a few times a year.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// What providers told, by who told it and where; losing it costs a few requests.
#[derive(Default)]
pub(crate) struct PriceLists(Mutex<BTreeMap<Place, List>>);

/// A provider, and its endpoint where that is another than its own.
type Place = (ProviderName, Option<String>);

struct List {
    asked: Instant,
    told: Arc<[Told]>,
}

/// Every price that counts for one call, and why one of the providers was not heard.
pub(crate) struct Prices {
    pub(crate) all: cost::Prices,
    /// The file's prices count for these.
    pub(crate) unheard: BTreeMap<ProviderName, String>,
}

impl PriceLists {
    fn get(&self, place: &Place) -> Option<Arc<[Told]>> {
        // Whole entries only: a panic while it was held leaves nothing half-written.
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.get(place).filter(|it| it.asked.elapsed() < FRESH)?;
        Some(Arc::clone(&list.told))
    }

    fn put(&self, place: Place, told: &Arc<[Told]>) {
        let list = List {
            asked: Instant::now(),
            told: Arc::clone(told),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place, list);
    }
}

/// What each provider told, or why it did not.
type Lists = BTreeMap<ProviderName, Result<Arc<[Told]>, String>>;

impl Context {
    /// All prices that count. On this machine nobody is asked; at the clouds every provider that tells its prices is, side
    /// by side. One that is not heard changes nothing but where its prices come from.
    ///
    /// # Errors
    /// Only when the call itself was ended.
    pub(crate) fn prices(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        workspace: &Workspace,
    ) -> Result<Prices, LabeledError> {
        let (mut told, mut unheard) = (Vec::new(), BTreeMap::new());
        if self.config.target == Target::Cloud {
            for (provider, answer) in self.told(plugin, engine, workspace)? {
                match answer {
                    Ok(list) => told.extend(list.iter().cloned()),
                    Err(why) => drop(unheard.insert(provider, why)),
                }
            }
        }
        Ok(Prices {
            all: cost::Prices::new(&self.config, told),
            unheard,
        })
    }

    /// What each provider of the workspace told, or why it did not.
    fn told(&self, plugin: &HaPlugin, engine: &EngineInterface, workspace: &Workspace) -> Result<Lists, LabeledError> {
        let resources = ha_core::desired::resources(workspace, &self.config);
        let names: BTreeSet<ProviderName> = resources.iter().map(|it| it.provider).collect();
        let place = |name: ProviderName| -> Place {
            let settings = self.config.providers.get(&name);
            (name, settings.and_then(|it| it.endpoint.clone()))
        };
        let lists = &plugin.price_lists;
        let known = names.iter().filter_map(|name| Some((*name, lists.get(&place(*name))?)));
        let known: BTreeMap<_, _> = known.map(|(name, list)| (name, Ok(list))).collect();
        if known.len() == names.len() {
            return Ok(known);
        }
        let clouds = match self.clouds(plugin, engine, workspace, &resources) {
            Ok((clouds, _)) => clouds,
            Err(why) => return Ok(names.into_iter().map(|name| (name, Err(why.to_string()))).collect()),
        };
        let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
        let runtime = plugin.runtime().at(self.span())?;
        let wanted = Wanted::new(engine, runtime)?;
        let answers = wanted.block_on(runtime, async { Ok(clouds.price_each(today).await) });
        let mut answers: BTreeMap<_, _> = answers.at(self.span())?.into_iter().collect();
        let mut all = BTreeMap::new();
        for name in names {
            // Whoever has no list tells an empty one.
            let told = answers.remove(&name).unwrap_or_else(|| Ok(Vec::new()));
            let list = told.map(Arc::<[Told]>::from).map_err(|error| error.to_string());
            if let Ok(list) = &list {
                lists.put(place(name), list);
            }
            all.insert(name, list);
        }
        Ok(all)
    }
}
