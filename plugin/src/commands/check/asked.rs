//! What the providers say: who is asking, what they may do, and what there is to be had.

use ha_cloud::{
    ProviderError, offers,
    rights::{self, Door, Held, Told, Use},
};
use ha_core::{
    config::{Config, Target},
    desired,
    finding::Finding,
    model::Workspace,
    names::{self, ProviderName},
    plan,
    resource::Resource,
};
use nu_plugin::EngineInterface;
use nu_protocol::{IntoValue, LabeledError, PipelineData, Span, Spanned, Value};

use crate::{
    HaPlugin,
    context::{Context, objections},
    error::{Failed, WHAT_HAPPENED},
    nu::{At, Wanted, table},
};

const OK: &str = "ok";
const MISSING: &str = "missing";
const UNKNOWN: &str = "unknown";

const RIGHT_MISSING: &str = "ha::credential::right_missing";
const RIGHT_UNKNOWN: &str = "ha::credential::right_unknown";

#[derive(IntoValue)]
struct Row {
    status: &'static str,
    provider: String,
    right: Option<String>,
    needed_for: String,
    location: Option<String>,
    error: Option<String>,
    help: Option<String>,
    who: Option<String>,
    code: Option<String>,
}

/// What is declared, as it is at the providers, also where it is rehearsed on this machine.
fn at_the_clouds(context: &Context, workspace: &Workspace) -> Vec<Resource> {
    let config = Config {
        target: Target::Cloud,
        ..context.config.clone()
    };
    desired::resources(workspace, &config)
}

pub(super) fn credentials(
    context: &Context,
    plugin: &HaPlugin,
    engine: &EngineInterface,
    head: Span,
) -> Result<PipelineData, LabeledError> {
    let workspace = context.workspace()?;
    let resources = at_the_clouds(context, workspace);
    let (clouds, _) = context.clouds(plugin, engine, workspace, &resources).at(head)?;
    let runtime = plugin.runtime().at(head)?;
    let wanted = Wanted::new(engine, runtime)?;
    let uses = |provider| Use::by(provider, workspace, &resources);
    let asked = wanted.block_on(runtime, async { Ok(clouds.rights_each(uses).await) });
    let mut rows = Vec::new();
    for (provider, report) in asked.at(head)? {
        rows.extend(report.doors.into_iter().map(|it| of_door(provider, it)));
        rows.extend(report.rights.into_iter().map(|it| of_right(provider, it)));
    }
    Ok(table::<Row>(rows, &["status", "provider", "right", "error"], head))
}

fn of_door(provider: ProviderName, door: Door) -> Row {
    let (status, who, error) = match door.who {
        Ok(who) => (OK, Some(who), None),
        // Let in by nobody; else nobody knows.
        Err(
            error @ (ProviderError::NotOpened { .. } | ProviderError::Denied { .. } | ProviderError::Refused { .. }),
        ) => (MISSING, None, Some(error)),
        Err(error) => (UNKNOWN, None, Some(error)),
    };
    Row {
        status,
        provider: provider.to_string(),
        right: None,
        needed_for: "everything".to_owned(),
        location: door.location,
        help: error
            .as_ref()
            .map(|it| it.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned())),
        code: error.as_ref().map(|it| it.code().to_owned()),
        error: error.map(|it| it.to_string()),
        who,
    }
}

fn of_right(provider: ProviderName, told: Told) -> Row {
    let Told { right, location, held } = told;
    let policy = format!("ha check --policy {provider}");
    let (status, error, help, code) = match held {
        Held::Yes => (OK, None, None, None),
        Held::No => {
            let error = format!("this credential may not {}", right.name);
            let help = match provider {
                ProviderName::Hetzner => "make another token with Read & Write (Hetzner Console: Security, API tokens)",
                ProviderName::Digitalocean => "add the scope to the token (control panel: API, Tokens)",
                _ => "add the action to the policy of the key's user or role",
            };
            let help = format!("{help}; all that is needed: {policy}");
            (MISSING, Some(error), Some(help), Some(RIGHT_MISSING.to_owned()))
        }
        Held::Unknown(why) => {
            let help = format!("compare it with {policy}");
            (UNKNOWN, Some(why), Some(help), Some(RIGHT_UNKNOWN.to_owned()))
        }
    };
    Row {
        status,
        provider: provider.to_string(),
        right: Some(right.name.to_owned()),
        needed_for: right.used_for.to_string(),
        location,
        error,
        help,
        who: None,
        code,
    }
}

/// Of everything that does not exist yet; without places.
pub(super) fn offers(
    context: &Context,
    plugin: &HaPlugin,
    engine: &EngineInterface,
    head: Span,
) -> Result<Vec<Finding>, LabeledError> {
    let workspace = context.workspace()?;
    let resources = at_the_clouds(context, workspace);
    let (clouds, _) = context.clouds(plugin, engine, workspace, &resources).at(head)?;
    let runtime = plugin.runtime().at(head)?;
    let wanted = Wanted::new(engine, runtime)?;
    let found = wanted.block_on(runtime, async {
        let (mut live, mut found) = (Vec::new(), Vec::new());
        let mut told = resources.clone();
        for (provider, answer) in clouds.observe_each().await {
            match answer {
                Ok(of_it) => live.extend(of_it),
                Err(error) => {
                    told.retain(|it| it.provider != provider);
                    found.push(offers::unknown(provider, &error));
                }
            }
        }
        let steps = plan::plan(&told, &live);
        found.extend(objections(&clouds, &plugin.ledgers, &steps).await);
        Ok(found)
    });
    found.at(head)
}

pub(super) fn policy(context: &Context, named: Spanned<String>, head: Span) -> Result<PipelineData, LabeledError> {
    let workspace = context.workspace()?;
    let resources = at_the_clouds(context, workspace);
    let provider = ProviderName::parse(&named.item);
    let policy = provider.and_then(|provider| {
        let own = workspace.regions.iter().filter(|it| it.provider == provider);
        let locations: Vec<String> = own.map(|it| it.location.clone()).collect();
        rights::policy(provider, &Use::by(provider, workspace, &resources), &locations)
    });
    match policy {
        Some(policy) => Ok(PipelineData::value(shown(policy, head), None)),
        None => Err(unknown_provider(&named.item)).at(named.span),
    }
}

fn unknown_provider(name: &str) -> Failed {
    let known = ["digitalocean", "hetzner", "aws"];
    let help = match names::nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("one of: {}", known.join(", ")),
    };
    Failed::BadArgument {
        what: format!("--policy {name}"),
        why: "there is no such provider with credentials".to_owned(),
        help,
    }
}

/// As the shell has it, so that it can be looked into; `to json` gives the text.
fn shown(json: serde_json::Value, span: Span) -> Value {
    match json {
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, shown(value, span)));
            Value::record(fields.collect(), span)
        }
        serde_json::Value::Array(items) => {
            let items = items.into_iter().map(|it| shown(it, span));
            Value::list(items.collect(), span)
        }
        serde_json::Value::String(text) => Value::string(text, span),
        serde_json::Value::Bool(truth) => Value::bool(truth, span),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::int(whole, span),
            None => Value::float(number.as_f64().unwrap_or_default(), span),
        },
        serde_json::Value::Null => Value::nothing(span),
    }
}
