use std::time::Duration;

use ha_core::resource::{Kind, Status};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Thing},
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
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List what exists, as the providers say now; what is declared and not there is absent"
    }

    fn extra_description(&self) -> &str {
        "There is no state file: each call asks. owned is true for what carries this workspace's label."
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
        let kind = call.opt::<Spanned<String>>(0)?.map(kind).transpose()?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let world = context.world(plugin, engine)?;
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
                ..row(thing, workspace.name.as_str(), now)
            })
            .collect();
        Ok(table::<Row>(
            rows,
            &["region", "kind", "name", "status", "address"],
            call.head,
        ))
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
