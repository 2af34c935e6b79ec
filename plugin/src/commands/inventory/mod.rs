mod ansible;

use std::time::Duration;

use ha_core::{
    cost::{self, Prices},
    model::Workspace,
    resource::{Kind, Status},
};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, Flag, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Silent, Thing},
    error::{Failed, What},
    nu::{At, Map, SECOND, args, table, to_the},
};

pub(super) struct Inventory;

#[derive(IntoValue)]
struct Row {
    region: Option<String>,
    kind: Option<String>,
    name: String,
    status: String,
    address: Option<String>,
    error: Option<String>,
    age: Option<Duration>,
    r#type: Option<String>,
    provider: Option<String>,
    location: Option<String>,
    private_address: Option<String>,
    monthly_cost: Option<f64>,
    labels: Option<Map>,
    owned: bool,
}

impl PluginCommand for Inventory {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha inventory"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("kind", SyntaxShape::String)
                    .desc("only this kind")
                    .completion(args::kinds())
                    .optional(),
            )
            .param(args::region())
            .param(Flag::new("ansible").desc("a record, which to json makes a dynamic inventory of Ansible"))
            .input_output_types(vec![(Type::Nothing, Type::table()), (Type::Nothing, Type::record())])
    }

    fn description(&self) -> &str {
        "List what exists, as the providers say now; what is declared and not there is absent"
    }

    fn extra_description(&self) -> &str {
        "There is no state file: each call asks, all providers side by side. One that does not answer is a row with status
unknown. owned is true for what carries this workspace's label. monthly_cost is in dollars, and zero for what is part of a
server; on this machine it is what the provider would ask. ha cost says by which prices.

--ansible groups the servers that can be reached by region, provider, server group and use: app_servers, db_servers with
the primary first, store_servers. Dashes become underscores, as Ansible wants it. A provider that does not answer is an
error then. scripts/ansible-inventory.nu is the file to give to ansible -i. On the local target every address is this
machine: look, and let no play run."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["list", "servers", "addresses", "resources", "what exists"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha inventory server | where status != running",
                description: "Servers that do not run",
                result: None,
            },
            Example {
                example: "ha inventory | group-by region kind --to-table",
                description: "What there is, by region and kind",
                result: None,
            },
            Example {
                example: "ha inventory database --region us-east | get 0.address",
                description: "Where the database of one region is",
                result: None,
            },
            Example {
                example: "(ha inventory --ansible).db_servers.hosts",
                description: "Database servers, the primary first, as Ansible sees them",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let wanted = call.opt::<Spanned<String>>(0)?;
        let for_ansible = call.has_flag("ansible")?;
        if let Some(wanted) = wanted.as_ref().filter(|_| for_ansible) {
            return Err(Failed::BadArgument {
                what: "a kind".to_owned(),
                why: "Ansible manages servers".to_owned(),
                help: "leave it out: ha inventory --ansible".to_owned(),
            })
            .at(wanted.span);
        }
        let kind = wanted.map(kind).transpose()?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let mut world = context.world(plugin, engine)?;
        if for_ansible {
            let concerned = |it: &Silent| region.as_ref().is_none_or(|region| it.is_of(workspace, region));
            if let Some(silent) = world.silent.iter().position(concerned) {
                return Err(Failed::from(world.silent.swap_remove(silent).error)).at(context.span());
            }
            let hosts = ansible::hosts(&world.things(), &world.desired, region.as_deref());
            let inventory = ansible::inventory(workspace, context.config.target, &hosts);
            return Ok(PipelineData::value(inventory.into_value(call.head), None));
        }
        let prices = context.prices(plugin, engine, workspace)?.all;
        let now = Timestamp::now();
        let rows = world
            .things()
            .iter()
            .filter(|thing| kind.is_none_or(|kind| thing.kind() == Some(kind)))
            .filter(|thing| {
                region
                    .as_deref()
                    .is_none_or(|name| thing.region().is_some_and(|it| *it == name))
            })
            .map(|thing| Row {
                // A resource has a place; its region may have one too.
                location: thing.field("location").or_else(|| {
                    let region = workspace.region(thing.region()?.as_str())?;
                    Some(region.location.clone())
                }),
                monthly_cost: monthly_cost(thing, workspace, &prices),
                ..row(thing, workspace.name.as_str(), now)
            })
            .collect::<Vec<_>>();
        let silent = world.silent.iter().filter(|_| kind.is_none());
        let silent = silent.filter(|it| region.as_ref().is_none_or(|region| it.is_of(workspace, region)));
        let rows = silent.map(|it| unknown(it, workspace)).chain(rows).collect();
        Ok(table::<Row>(
            rows,
            &["region", "kind", "name", "status", "address"],
            call.head,
        ))
    }
}

/// What is there by what it is now, the rest by what it is to be.
fn monthly_cost(thing: &Thing<'_>, workspace: &Workspace, prices: &Prices) -> Option<f64> {
    match (thing.live, thing.desired) {
        (Some(live), _) => cost::of_live(workspace, live, prices),
        (None, Some(desired)) => cost::of_resource(workspace, desired, prices),
        (None, None) => None,
    }
}

/// A provider that did not answer: what it holds is not known, and nothing of it is called absent.
fn unknown(silent: &Silent, workspace: &Workspace) -> Row {
    let help = silent.error.help().map_or(String::new(), |help| format!("; {help}"));
    Row {
        region: silent.regions(workspace),
        kind: None,
        name: silent.provider.to_string(),
        status: "unknown".to_owned(),
        address: None,
        error: Some(format!("{}{help}", silent.error)),
        age: None,
        r#type: None,
        provider: Some(silent.provider.to_string()),
        location: None,
        private_address: None,
        monthly_cost: None,
        labels: None,
        owned: false,
    }
}

fn kind(name: Spanned<String>) -> Result<Kind, LabeledError> {
    Kind::parse(&name.item)
        .ok_or_else(|| {
            let known = args::KINDS.iter().map(|it| (*it).to_owned()).collect();
            Failed::unknown(What::Kind, &name.item, "this version", known)
        })
        .at(name.span)
}

fn row(thing: &Thing<'_>, workspace: &str, now: Timestamp) -> Row {
    let live = thing.live;
    let labels = live.map(|it| {
        let labels = &it.labels;
        let pairs = [
            ("ws", labels.ws.to_string()),
            ("region", labels.region.to_string()),
            ("name", labels.name.clone()),
            ("spec", labels.spec.clone()),
        ];
        Map(pairs.into_iter().map(|(key, text)| (key.to_owned(), text)).collect())
    });
    Row {
        kind: thing.kind().map(|it| it.to_string()),
        region: thing.region().map(ToString::to_string),
        provider: thing.provider().map(|it| it.to_string()),
        name: thing.name(),
        location: None,
        r#type: live
            .and_then(|it| it.size.clone())
            .or_else(|| thing.field("size"))
            .or_else(|| thing.field("engine")),
        status: thing.status().as_str().to_owned(),
        address: live.and_then(|it| it.address.clone()),
        private_address: live.and_then(|it| it.private_address.clone()),
        // A clock that was set back makes nothing younger than new.
        age: live
            .and_then(|it| it.created_at)
            .map(|at| to_the(SECOND, Duration::try_from(now.duration_since(at)).unwrap_or_default())),
        monthly_cost: None,
        labels,
        owned: live.is_some_and(|it| it.labels.ws == workspace),
        // That it was switched off is a status, and nothing that went wrong.
        error: live
            .filter(|it| it.status != Status::Off)
            .and_then(|it| it.detail.clone()),
    }
}
