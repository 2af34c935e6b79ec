use std::path::{Path, PathBuf};

use ha_cloud::local::LocalProvider;
use ha_core::{
    agent::GuardConfig,
    resource::{Kind, Live},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, Example, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Thing},
    error::{Failed, What},
    nu::{At, args, table},
};

pub(super) struct Render;

const WHAT: &[&str] = &["haproxy", "postgres", "hba", "etcd", "guard"];

#[derive(IntoValue)]
struct Row {
    region: Option<String>,
    name: String,
    error: Option<String>,
    text: Option<String>,
    path: Option<PathBuf>,
}

/// A rendered file and where it is used.
struct Rendered {
    path: PathBuf,
    text: String,
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
                    .desc("haproxy, postgres, hba, etcd or guard")
                    .completion(Completion::new_list(WHAT))
                    .required(),
            )
            .param(
                PositionalArg::new("region", SyntaxShape::String)
                    .desc("only this region")
                    .optional(),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Show the configuration that a program runs with, for review"
    }

    fn extra_description(&self) -> &str {
        "haproxy: haproxy.cfg of each balancer. postgres and hba: postgresql.conf and pg_hba.conf of each database. etcd: of each
member of the store. guard: what each guard is told. Passwords are in files of their own and not shown.
Addresses are given out when things are made, so before the first ha provision there is nothing to show. A declared part
that is not there yet has a row with error."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["config", "haproxy.cfg", "postgresql.conf", "pg_hba.conf", "review"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha render haproxy us-east | get 0.text",
                description: "The balancer's configuration, as text",
                result: None,
            },
            Example {
                example: "ha render hba | select region name text",
                description: "Who may connect to each database",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions; 1 => complete_regions }

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
        let region = match call.opt::<Spanned<String>>(1)? {
            Some(region) => Some(context.known_region(region)?),
            None => None,
        };
        let workspace = context.workspace()?;
        let provider = context.provisioned(workspace).at(head)?;
        let world = context.known(workspace, &provider).at(head)?;
        let kind = match what.item.as_str() {
            "haproxy" => Kind::LoadBalancer,
            "etcd" => Kind::Store,
            _ => Kind::Database,
        };
        let things = world.things();
        let of_kind = things.iter().filter(|it| it.kind() == Some(kind));
        let of_region = of_kind.filter(|it| {
            region
                .as_deref()
                .is_none_or(|wanted| it.region().is_some_and(|it| *it == wanted))
        });
        let rows = of_region.map(|it| row(it, &what.item, &provider)).collect();
        Ok(table::<Row>(rows, &["text", "error"], head))
    }
}

fn row(thing: &Thing<'_>, what: &str, provider: &LocalProvider) -> Row {
    let rendered = match thing.live {
        Some(live) => render(what, provider, live).map_err(|failed| failed.to_string()),
        // Addresses are given out when things are made; a text with guessed ones would be read as the real one.
        None => Err("is not there yet, and has no address: ha provision".to_owned()),
    };
    let (rendered, error) = match rendered {
        Ok(rendered) => (Some(rendered), None),
        Err(error) => (None, Some(error)),
    };
    let (path, text) = rendered.map(|it| (it.path, it.text)).unzip();
    Row {
        region: thing.region().map(ToString::to_string),
        name: thing.name(),
        error,
        text,
        path,
    }
}

fn render(what: &str, provider: &LocalProvider, live: &Live) -> Result<Rendered, Failed> {
    let server = live
        .spec
        .get("server")
        .and_then(|it| it.as_str())
        .unwrap_or(&live.id.name);
    let host = provider
        .folder()
        .join("regions")
        .join(live.id.region.as_str())
        .join("hosts")
        .join(server);
    let guard = host.join("etc/guard.json");
    match what {
        "haproxy" => read(host.join("etc/haproxy.cfg")),
        "guard" => read(guard),
        "postgres" => {
            let config = parsed::<GuardConfig>(&guard)?;
            let text = ha_data::postgres::postgresql_conf(&config.postgres, &config.node);
            let path = config.postgres.data_dir.join("postgresql.conf");
            Ok(Rendered {
                path,
                text: text.map_err(bad(&guard))?,
            })
        }
        "hba" => {
            let config = parsed::<GuardConfig>(&guard)?;
            let text = ha_data::postgres::pg_hba_conf(&config.postgres);
            let path = config.postgres.data_dir.join("pg_hba.conf");
            Ok(Rendered {
                path,
                text: text.map_err(bad(&guard))?,
            })
        }
        _ => read(host.join("etc/etcd.json")),
    }
}

fn bad<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl FnOnce(E) -> Failed {
    let what = format!("cannot use {}", path.display());
    move |error| Failed::io(what)(std::io::Error::other(error))
}

fn read(path: PathBuf) -> Result<Rendered, Failed> {
    let text = std::fs::read_to_string(&path).map_err(bad(&path))?;
    Ok(Rendered { path, text })
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failed> {
    let text = std::fs::read_to_string(path).map_err(bad(path))?;
    serde_json::from_str(&text).map_err(bad(path))
}
