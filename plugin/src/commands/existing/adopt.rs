use std::time::{Duration, Instant};

use ha_cloud::Clouds;
use ha_core::{
    existing::{Adoption, Found, Verdict, adoptions},
    names,
    resource::Resource,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    DynamicSuggestion, Example, Flag, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Span, Spanned,
    SyntaxShape, Type,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{super::complete_regions, only_at_the_clouds};
use crate::{
    HaPlugin,
    acts::{Act, Acts},
    context::{Context, Realm, Silent},
    error::{Failed, WHAT_HAPPENED},
    nu::{At, MILLISECOND, Wanted, args, channel, label, stream, table, to_the},
    steps,
};

/// `ha adopt`. That of the agreement (`ha quorum adopt`) is about a store that was restored.
pub(in crate::commands) struct AdoptExisting;

const PRIORITY: &[&str] = &["region", "name", "status", "error"];

#[derive(Clone, Debug, Default, IntoValue)]
struct Row {
    region: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    action: String,
    status: String,
    error: Option<String>,
    /// The provider's own, for `--id`.
    id: Option<String>,
    provider: Option<String>,
    took: Option<Duration>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for AdoptExisting {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha adopt"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("names", SyntaxShape::String)
                    .desc("resources or groups of servers; default: everything that is declared and has no labels")
                    .rest(),
            )
            .param(args::region())
            .param(args::dry_run())
            .param(
                Flag::new("id")
                    .arg(SyntaxShape::String)
                    .desc("the provider's own id of the one that is meant, for one name; it may be called otherwise"),
            )
            .param(
                Flag::new("wait")
                    .arg(SyntaxShape::Duration)
                    .desc("for another shell that is changing the same workspace; default: 5sec"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Give resources that exist without labels the labels of what workspace.ncl declares: a row per resource"
    }

    fn extra_description(&self) -> &str {
        "Nothing of a resource changes but its labels (at DigitalOcean the tag of a load balancer is its label, and replaces
the list of its Droplets). They say what it is now: where workspace.ncl declares something else, the next ha plan shows
an update, and ha provision carries it out.

A name is enough when one resource is called so. Of several, --id says which; what carries the label of another
workspace is never taken. Databases and stores that run on servers are nothing a provider knows: adopt their servers,
and ha provision writes the rest. Nothing to adopt is one row: action none, status unchanged."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["import", "take over", "label", "tag", "existing", "own"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha adopt --dry-run",
                description: "What would be given labels",
                result: None,
            },
            Example {
                example: "ha adopt us-app us-lb",
                description: "A group of servers and its balancer",
                result: None,
            },
            Example {
                example: "ha adopt us-app-1 --id 3164444",
                description: "Of two that are called so, this one",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions; 0 => complete_resources }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let names: Vec<Spanned<String>> = call.rest(0)?;
        let region = context.region(call)?;
        let id: Option<Spanned<String>> = call.get_flag("id")?;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        let workspace = context.sound()?;
        let Realm::Clouds { clouds, desk } = context.realm(plugin, engine, workspace).at(head)? else {
            return Err(only_at_the_clouds()).at(head);
        };
        let desired = ha_core::desired::resources(workspace, &context.config);
        let selected = select(desired, &names, region.as_deref())?;
        if let Some(id) = &id
            && selected.len() != 1
        {
            let failed = Failed::BadArgument {
                what: "--id".to_owned(),
                why: format!("it is of one resource, and {} are named", selected.len()),
                help: "name the one it is: ha adopt us-app-1 --id 3164444".to_owned(),
            };
            return Err(label(failed, id.span));
        }
        let numbers: Vec<String> = id.into_iter().map(|id| id.item).collect();
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let seen = wanted.block_on(runtime, async {
            let lock = match dry_run {
                true => None,
                false => Some(steps::lock(&desk, "ha adopt", wait).await?),
            };
            Ok((lock, clouds.survey_each().await))
        });
        let (lock, answers) = seen.at(head)?;
        let mut found = Vec::new();
        let mut rows = Vec::new();
        let mut silent = Vec::new();
        for (provider, answer) in answers {
            match answer {
                Ok(of_it) => found.extend(of_it),
                Err(error) => {
                    let it = Silent { provider, error };
                    // What it holds is neither known nor touched.
                    if region.as_ref().is_none_or(|region| it.is_of(workspace, region)) {
                        rows.push(unknown(&it, it.regions(workspace)));
                    }
                    silent.push(provider);
                }
            }
        }
        let mut work: Vec<(Resource, Found)> = Vec::new();
        let said = !names.is_empty();
        for adoption in adoptions(&selected, &found, &workspace.name, &numbers) {
            if silent.contains(&adoption.want.provider) {
                continue;
            }
            if let Verdict::Adopt(it) = adoption.verdict {
                work.push((adoption.want.clone(), it.clone()));
            } else if let Some(row) = standing(&adoption, said) {
                rows.push(row);
            }
        }
        let Some(lock) = lock else {
            rows.extend(work.iter().map(|(want, found)| Row {
                status: "planned".to_owned(),
                ..of(want, Some(found))
            }));
            if rows.is_empty() {
                rows.push(nothing_to_do());
            }
            return Ok(table(rows, PRIORITY, head));
        };
        if rows.is_empty() && work.is_empty() {
            rows.push(nothing_to_do());
        }
        let acts = context.acts(workspace, &desk);
        let (sender, finished) = channel();
        let cancel = wanted.token();
        runtime.spawn(async move {
            // Held until the last of them has its labels.
            let _lock = lock;
            for row in rows {
                // The reader may be gone; what is to be done is done all the same.
                let _ = sender.send(row).await;
            }
            carry_out(work, &clouds, &acts, &sender, &cancel).await;
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}

/// Kind after kind, since a balancer is described by the servers that are ours by then; those of one kind side by side.
async fn carry_out(
    work: Vec<(Resource, Found)>,
    clouds: &Clouds,
    acts: &Acts,
    rows: &mpsc::Sender<Row>,
    cancel: &CancellationToken,
) {
    for together in work.chunk_by(|(one, _), (other, _)| one.id.kind == other.id.kind) {
        if cancel.is_cancelled() {
            eprintln!("ha adopt: stopped; the same command does the rest");
            return;
        }
        let mut under_way = JoinSet::new();
        for (want, found) in together {
            let (want, found, clouds) = (want.clone(), found.clone(), clouds.clone());
            under_way.spawn(async move {
                let started = Instant::now();
                let done = clouds.adopt(&found, &want).await;
                let mut row = Row {
                    status: "done".to_owned(),
                    took: Some(to_the(MILLISECOND, started.elapsed())),
                    ..of(&want, Some(&found))
                };
                if let Err(error) = done {
                    row.status = "failed".to_owned();
                    row.code = Some(error.code().to_owned());
                    row.help = Some(error.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned()));
                    row.error = Some(error.to_string());
                }
                row
            });
        }
        while let Some(done) = under_way.join_next().await {
            let Ok(row) = done else { continue };
            acts.record(Act {
                region: row.region.clone(),
                event: "adopt".to_owned(),
                subject: format!(
                    "{} {}",
                    row.kind.as_deref().unwrap_or_default(),
                    row.name.as_deref().unwrap_or_default()
                ),
                status: row.status.clone(),
                error: row.error.clone(),
                ..Act::default()
            });
            // The reader may be gone.
            let _ = rows.send(row).await;
        }
    }
}

fn of(want: &Resource, found: Option<&Found>) -> Row {
    Row {
        region: Some(want.id.region.to_string()),
        kind: Some(want.id.kind.to_string()),
        name: Some(want.id.name.clone()),
        action: "adopt".to_owned(),
        id: found.map(|it| it.number.clone()),
        provider: Some(want.provider.to_string()),
        ..Row::default()
    }
}

/// What is not adopted, and why; none where there is nothing to say about what nobody named.
fn standing(adoption: &Adoption<'_>, named: bool) -> Option<Row> {
    let want = adoption.want;
    let unchanged = |found: Option<&Found>, status: &str, help: Option<&str>| Row {
        action: "none".to_owned(),
        status: status.to_owned(),
        help: help.map(str::to_owned),
        ..of(want, found)
    };
    let refused = |found: Option<&Found>, code: &str, error: String, help: String| Row {
        status: "failed".to_owned(),
        error: Some(error),
        code: Some(code.to_owned()),
        help: Some(help),
        ..of(want, found)
    };
    match &adoption.verdict {
        // Done elsewhere.
        Verdict::Adopt(_) => None,
        Verdict::Ours(found) => named.then(|| unchanged(Some(found), "unchanged", None)),
        Verdict::Absent => {
            named.then(|| unchanged(None, "absent", Some("nothing is called so: ha provision makes it")))
        }
        Verdict::Several(found) => {
            let ids: Vec<&str> = found.iter().map(|it| it.number.as_str()).collect();
            Some(refused(
                None,
                "ha::adopt::ambiguous",
                format!(
                    "{} at {} are called {}: {}",
                    found.len(),
                    want.provider,
                    want.id.name,
                    ids.join(", ")
                ),
                format!(
                    "say which: ha adopt {} --id {}",
                    want.id.name,
                    ids.first().unwrap_or(&"")
                ),
            ))
        }
        Verdict::Taken(found) => {
            let owner = found
                .owner
                .as_ref()
                .map_or_else(String::new, |owner| owner.ws.to_string());
            Some(refused(
                Some(found),
                "ha::adopt::taken",
                format!(
                    "{} at {} carries labels of the workspace {owner}",
                    found.name, want.provider
                ),
                "give what is declared here another name, or take those labels away at the provider".to_owned(),
            ))
        }
    }
}

fn unknown(silent: &Silent, regions: Option<String>) -> Row {
    Row {
        region: regions,
        name: Some(silent.provider.to_string()),
        action: "ask".to_owned(),
        status: "failed".to_owned(),
        error: Some(silent.error.to_string()),
        provider: Some(silent.provider.to_string()),
        code: Some(silent.error.code().to_owned()),
        help: Some(silent.error.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned())),
        ..Row::default()
    }
}

fn nothing_to_do() -> Row {
    Row {
        action: "none".to_owned(),
        status: "unchanged".to_owned(),
        ..Row::default()
    }
}

/// What is named, by its own name or by that of its group, in the region that is meant.
fn select(
    desired: Vec<Resource>,
    names: &[Spanned<String>],
    region: Option<&str>,
) -> Result<Vec<Resource>, LabeledError> {
    let is = |want: &Resource, name: &str| {
        let group = want.spec.get("group").and_then(|it| it.as_str());
        want.id.name == name || group == Some(name)
    };
    let here: Vec<Resource> = desired
        .into_iter()
        .filter(|want| region.is_none_or(|region| want.id.region == region))
        .collect();
    for name in names {
        if !here.iter().any(|want| is(want, &name.item)) {
            let near = names::nearest(&name.item, here.iter().map(|want| want.id.name.as_str()));
            let failed = Failed::BadArgument {
                what: format!("adopting {}", name.item),
                why: "the workspace declares nothing of that name".to_owned(),
                help: match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "see what is declared: ha plan".to_owned(),
                },
            };
            return Err(label(failed, name.span));
        }
    }
    let named = |want: &Resource| names.is_empty() || names.iter().any(|name| is(want, &name.item));
    Ok(here.into_iter().filter(named).collect())
}

fn complete_resources(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let Ok(context) = Context::open_named(plugin, engine, None, Span::unknown()) else {
        return Vec::new();
    };
    let Ok(workspace) = context.workspace() else {
        return Vec::new();
    };
    let desired = ha_core::desired::resources(workspace, &context.config);
    let objects = desired
        .into_iter()
        .filter(|it| !ha_core::existing::runs_on_a_server(it));
    objects
        .map(|it| DynamicSuggestion {
            value: it.id.name.clone(),
            description: Some(format!("{} in {}", it.id.kind, it.id.region)),
            ..DynamicSuggestion::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ha_core::{
        names::{ProviderName, RegionName},
        resource::{Kind, ResourceId},
    };
    use serde_json::json;

    use super::*;

    fn desired() -> Vec<Resource> {
        let resource = |region: &str, name: &str| Resource {
            id: ResourceId::new(&RegionName::new(region), Kind::Server, name),
            provider: ProviderName::Hetzner,
            spec: json!({ "group": name.rsplit_once('-').map(|it| it.0) }),
            depends_on: Vec::new(),
            protect: false,
            path: String::new(),
        };
        vec![
            resource("us-east", "us-app-1"),
            resource("us-east", "us-app-2"),
            resource("eu-central", "eu-app-1"),
        ]
    }

    fn selected(names: &[&str], region: Option<&str>) -> Result<Vec<String>, LabeledError> {
        let named = |item: &&str| Spanned {
            item: (*item).to_owned(),
            span: Span::test_data(),
        };
        let names: Vec<Spanned<String>> = names.iter().map(named).collect();
        Ok(select(desired(), &names, region)?
            .into_iter()
            .map(|it| it.id.name)
            .collect())
    }

    #[test]
    fn a_name_is_of_a_resource_or_of_a_group() {
        assert_eq!(selected(&[], None).map(|it| it.len()), Ok(3));
        assert_eq!(
            selected(&["us-app"], None),
            Ok(vec!["us-app-1".into(), "us-app-2".into()])
        );
        assert_eq!(
            selected(&["us-app-2", "eu-app-1"], None),
            Ok(vec!["us-app-2".into(), "eu-app-1".into()])
        );
        assert_eq!(selected(&[], Some("eu-central")), Ok(vec!["eu-app-1".into()]));
        let error = selected(&["us-ap-1"], None).expect_err("nothing is called so");
        assert_eq!(error.help.as_deref(), Some("did you mean \"us-app-1\"?"));
        assert!(selected(&["us-app-1"], Some("eu-central")).is_err());
    }
}
