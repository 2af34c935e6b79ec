use std::path::{Path, PathBuf};

use ha_cloud::{
    ProviderError,
    local::{Render as Source, Rendered},
    user_data::UserData,
};
use ha_core::{
    agent::GuardConfig,
    config::Target,
    model::Workspace,
    resource::{Kind, Resource, ResourceId},
    systemd::{self, Install},
};
use ha_data::DataError;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, DynamicSuggestion, Example, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Span,
    Spanned, SyntaxShape, Type,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::Context,
    error::{Failed, What},
    nu::{At, args, table},
};

pub(super) struct Render;

const USER_DATA: &str = "user-data";
const WHAT: &[&str] = &["haproxy", "postgres", "hba", "etcd", "guard", "unit", USER_DATA];

#[derive(IntoValue)]
struct Row {
    region: String,
    name: String,
    error: Option<String>,
    text: Option<String>,
    path: Option<PathBuf>,
}

impl PluginCommand for Render {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha render"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("what", SyntaxShape::String)
                    .desc("haproxy, postgres, hba, etcd, guard, unit or user-data")
                    .completion(Completion::new_list(WHAT))
                    .required(),
            )
            .param(
                PositionalArg::new("place", SyntaxShape::String)
                    .desc("only this region; of user-data a server as well")
                    .optional(),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Show the configuration that a program runs with, or will, for review"
    }

    fn extra_description(&self) -> &str {
        "haproxy: haproxy.cfg of each balancer. postgres and hba: postgresql.conf and pg_hba.conf of each database. etcd: of each
member of the store. guard: what each guard is told. Passwords are in files of their own and not shown.
It is what ha provision writes from the workspace as it is now; before the first one, with the addresses that would be
given out at this moment. path is where it is, or will be: a difference to the file there is a change to come.
unit: the systemd units of guard and deadman, for a database server of its own; nothing on this machine uses them. They
start /usr/local/bin/ha-guard with /etc/ha/guard.json as user postgres, and let it write to /var/lib/ha, /var/log/ha and
/run/ha only. There is none for PostgreSQL: only the guard starts it.
user-data: what cloud-init is told when a server is made at its provider, on either target. No secret and no address is in
it: its head lists what comes to the server afterwards, over SSH. A text too long for the provider is an error in its row."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec![
            "config",
            "haproxy.cfg",
            "postgresql.conf",
            "pg_hba.conf",
            "systemd",
            "service",
            "cloud-init",
            "cloud-config",
            "review",
        ]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha render haproxy us-east | get 0.text",
                description: "The balancer's configuration, as text",
                result: None,
            },
            Example {
                example: "ha render haproxy us-east | where {|it| $it.text != (open --raw $it.path) }",
                description: "Whether the next ha provision changes it",
                result: None,
            },
            Example {
                example: "ha render hba | select region name text",
                description: "Who may connect to each database",
                result: None,
            },
            Example {
                example: "ha render unit us-east | where path =~ deadman | get 0.text",
                description: "The unit of the deadman, as text",
                result: None,
            },
            Example {
                example: "ha render user-data us-app-1 | get 0.text",
                description: "What a server of the clouds is told when it is made",
                result: None,
            },
            Example {
                example: "ha render user-data | insert size {|it| $it.text | str length } | select name size",
                description: "How long that is for each server: AWS takes 16384 bytes, Hetzner 32768, DigitalOcean 65536",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions; 1 => complete_place }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let what: Spanned<String> = call.req(0)?;
        if !WHAT.contains(&what.item.as_str()) {
            let known = WHAT.iter().map(|it| (*it).to_owned()).collect();
            return Err(Failed::unknown(What::Render, &what.item, "what can be rendered", known)).at(what.span);
        }
        let context = Context::open(plugin, engine, call)?;
        if what.item == USER_DATA {
            let rows = of_clouds(&context, context.workspace()?, call.opt(1)?, head)?;
            return Ok(table::<Row>(rows, &["text", "error"], head));
        }
        let region = match call.opt::<Spanned<String>>(1)? {
            Some(region) => Some(context.known_region(region)?),
            None => None,
        };
        let workspace = context.workspace()?;
        let provider = context.provider(workspace).at(head)?;
        let wanted = ha_core::desired::resources(workspace, &context.config);
        let source = match what.item.as_str() {
            "haproxy" => Source::Haproxy,
            "etcd" => Source::Etcd,
            _ => Source::Guard,
        };
        let rendered = provider.render(source, &wanted).at(head)?.into_iter();
        let rows = rendered
            .filter(|it| region.as_deref().is_none_or(|region| it.id.region == region))
            .flat_map(|it| rows(&what.item, it))
            .collect();
        Ok(table::<Row>(rows, &["text", "error"], head))
    }
}

/// One, but two units for each guard.
fn rows(what: &str, rendered: Rendered) -> Vec<Row> {
    let Rendered { id, path, text } = rendered;
    let shown = match what {
        "postgres" => of_postgres(text, "postgresql.conf", |config| {
            ha_data::postgres::postgresql_conf(&config.postgres, &config.node)
        }),
        "hba" => of_postgres(text, "pg_hba.conf", |config| {
            ha_data::postgres::pg_hba_conf(&config.postgres)
        }),
        "unit" => of_systemd(text),
        _ => text.map(|text| vec![(path, text)]).map_err(|error| error.to_string()),
    };
    let row = |shown: Option<(PathBuf, String)>, error| {
        let (path, text) = shown.unzip();
        Row {
            region: id.region.to_string(),
            name: id.name.clone(),
            error,
            text,
            path,
        }
    };
    match shown {
        Ok(shown) => shown.into_iter().map(|it| row(Some(it), None)).collect(),
        Err(error) => vec![row(None, Some(error))],
    }
}

/// What each server would be told at its provider, whichever the target is now.
fn of_clouds(
    context: &Context,
    workspace: &Workspace,
    place: Option<Spanned<String>>,
    head: Span,
) -> Result<Vec<Row>, LabeledError> {
    let mut config = context.config.clone();
    config.target = Target::Cloud;
    let wanted = ha_core::desired::resources(workspace, &config);
    let servers = || wanted.iter().filter(|it| it.id.kind == Kind::Server);
    let is_meant = |id: &ResourceId| {
        place
            .as_ref()
            .is_none_or(|it| id.region == *it.item || id.name == it.item)
    };
    if let Some(place) = place.as_ref().filter(|_| !servers().any(|it| is_meant(&it.id))) {
        let known = servers().map(|it| it.id.name.clone()).collect();
        let among = format!("workspace {}", workspace.name);
        return Err(Failed::unknown(What::Server, &place.item, among, known)).at(place.span);
    }
    let data = UserData::new(&workspace.name, &wanted, config.cloud.guard.clone()).map_err(|error| {
        let text = LabeledError::new(error.to_string()).with_code(error.code());
        text.with_label("from this workspace", head).with_help(error.help())
    })?;
    let row = |server: &Resource| {
        let (text, error) = match data.render(server) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(format!("{error}; {}", error.help()))),
        };
        Row {
            region: server.id.region.to_string(),
            name: server.id.name.clone(),
            error,
            text,
            path: None,
        }
    };
    Ok(servers().filter(|it| is_meant(&it.id)).map(row).collect())
}

/// Regions, then the servers in them.
fn complete_place(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let mut places = complete_regions(plugin, engine);
    let context = Context::open_named(plugin, engine, None, Span::unknown());
    let Some(workspace) = context.as_ref().ok().and_then(|it| it.workspace().ok()) else {
        return places;
    };
    for region in &workspace.regions {
        let names = region.servers.iter().flat_map(|group| group.server_names());
        places.extend(names.map(|value| DynamicSuggestion {
            value,
            description: Some(region.name.to_string()),
            ..DynamicSuggestion::default()
        }));
    }
    places
}

/// The guard writes PostgreSQL's own files, from what it is told.
fn of_postgres(
    guard: Result<String, ProviderError>,
    file: &str,
    render: impl Fn(&GuardConfig) -> Result<String, DataError>,
) -> Result<Vec<(PathBuf, String)>, String> {
    let config = told(guard)?;
    let text = render(&config).map_err(|error| error.to_string())?;
    Ok(vec![(config.postgres.data_dir.join(file), text)])
}

/// What keeps the guard running where nobody provisions, and where its files are then.
fn of_systemd(guard: Result<String, ProviderError>) -> Result<Vec<(PathBuf, String)>, String> {
    let config = systemd::on_server(&told(guard)?);
    let units = systemd::units(&config, &Install::default()).into_iter();
    let folder = Path::new(systemd::FOLDER);
    Ok(units.map(|it| (folder.join(it.name), it.text)).collect())
}

fn told(guard: Result<String, ProviderError>) -> Result<GuardConfig, String> {
    let guard = guard.map_err(|error| error.to_string())?;
    serde_json::from_str(&guard).map_err(|error| format!("what the guard is told cannot be read: {error}"))
}
