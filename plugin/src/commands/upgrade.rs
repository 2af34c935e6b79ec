use std::time::Duration;

use ha_core::{
    plan::{self, Action, Step},
    resource::{Kind, ResourceId},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    DynamicSuggestion, Example, Flag, LabeledError, PipelineData, PositionalArg, Signature, Span, Spanned, SyntaxShape,
    Type,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Silent},
    error::{Failed, What},
    nu::{At, Wanted, args, channel, stream, table},
    steps::{self, PRIORITY, Row, Work},
};

pub(super) struct Upgrade;

impl PluginCommand for Upgrade {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha upgrade"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("group", SyntaxShape::String)
                    .desc("only the servers of this group")
                    .optional(),
            )
            .param(args::region())
            .param(args::dry_run())
            .param(
                Flag::new("wait")
                    .arg(SyntaxShape::Duration)
                    .desc("for another shell that is changing the same workspace; default: 5sec"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Bring servers to the size that the workspace wants, one at a time: a row per server"
    }

    fn extra_description(&self) -> &str {
        "Each is taken out of its balancer, stopped, changed, started and waited for before the next is touched. It ends at
the first that does not come back; the others are skipped rows and run as they were. The same command again goes on
where it ended. Of a database's servers the replicas come first and the primary last: switch over before, and users
notice nothing. ha provision does the same, and everything else that the plan has, side by side."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["resize", "scale up", "size", "type", "rolling"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha upgrade us-app --dry-run",
                description: "Which servers of a group have another size than the workspace wants",
                result: None,
            },
            Example {
                example: "ha upgrade us-app | where error != null",
                description: "Do it, and show only what failed",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions; 0 => complete_groups }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let group: Option<Spanned<String>> = call.opt(0)?;
        let group = group.map(|group| known_group(&context, group)).transpose()?;
        let region = context.region(call)?;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        let workspace = context.sound()?;
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        if !realm.provisioned() {
            return Err(Failed::NotProvisioned(workspace.name.to_string())).at(head);
        }
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let plan = wanted.block_on(runtime, async {
            let lock = match dry_run {
                true => None,
                false => Some(steps::lock(realm.desk(), "ha upgrade", wait).await?),
            };
            let world = context.look(workspace, &realm).await?;
            let mut steps = plan::plan(&world.desired, &world.live);
            steps.retain(|step| {
                is_resize(step)
                    && region.as_ref().is_none_or(|region| step.id.region == region.as_str())
                    && group.as_ref().is_none_or(|group| of_group(step, group))
            });
            one_at_a_time(&mut steps);
            Ok((lock, steps, world.silent))
        });
        let (lock, steps, silent) = plan.at(head)?;
        let of_region = |it: &&Silent| region.as_ref().is_none_or(|region| it.is_of(workspace, region));
        let silent = silent.iter().filter(of_region);
        let mut silent: Vec<Row> = silent.map(|it| Row::silent(it, workspace)).collect();
        let Some(lock) = lock else {
            silent.extend(steps::planned(&steps));
            return Ok(table(silent, PRIORITY, head));
        };
        let (rows, finished) = channel();
        let cancel = wanted.token();
        let work = Work {
            acts: context.acts(workspace, realm.desk()),
            settings: context.settings.clone(),
            provider: realm.provider(),
            lock,
            verb: "upgrade",
        };
        runtime.spawn(async move {
            if steps.is_empty() {
                silent.push(Row::nothing_to_do());
            }
            for row in silent {
                // The reader may be gone; what is to be done is done all the same.
                let _ = rows.send(row).await;
            }
            work.run(steps, &rows, cancel).await;
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}

/// A server that is there, and has another size than it should.
fn is_resize(step: &Step) -> bool {
    let size = |spec: &serde_json::Value| spec.get("size").cloned();
    let (Some(desired), Some(live)) = (&step.desired, &step.live) else {
        return false;
    };
    step.id.kind == Kind::Server && step.action == Action::Update && size(&desired.spec) != size(&live.spec)
}

fn of_group(step: &Step, group: &str) -> bool {
    let of = step.desired.as_ref().and_then(|it| it.spec.get("group")?.as_str());
    of == Some(group)
}

/// Each waits for the one before it, whatever group and region that is of.
fn one_at_a_time(steps: &mut [Step]) {
    let mut before: Option<ResourceId> = None;
    for step in steps {
        step.after = before.replace(step.id.clone()).into_iter().collect();
    }
}

fn known_group(context: &Context, group: Spanned<String>) -> Result<String, LabeledError> {
    let workspace = context.workspace()?;
    let groups = workspace.regions.iter().flat_map(|region| &region.servers);
    let known: Vec<String> = groups.map(|it| it.declared.name.clone()).collect();
    if known.contains(&group.item) {
        return Ok(group.item);
    }
    let among = format!("workspace {}", workspace.name);
    Err(Failed::unknown(What::Group, &group.item, among, known)).at(group.span)
}

fn complete_groups(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let Ok(context) = Context::open_named(plugin, engine, None, Span::unknown()) else {
        return Vec::new();
    };
    let Ok(workspace) = context.workspace() else {
        return Vec::new();
    };
    let groups = workspace.regions.iter().flat_map(|region| {
        region.servers.iter().map(|group| DynamicSuggestion {
            value: group.declared.name.clone(),
            description: Some(format!("{} of {} in {}", group.count, group.size, region.name)),
            ..DynamicSuggestion::default()
        })
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use ha_core::{names::RegionName, plan::Risk};

    use super::*;

    fn step(name: &str) -> Step {
        Step {
            action: Action::Update,
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Server, name),
            reason: "size small → large".into(),
            risk: Risk::Medium,
            downtime: None,
            after: vec![ResourceId::new(&RegionName::new("us-east"), Kind::Network, "us-net")],
            desired: None,
            live: None,
        }
    }

    #[test]
    fn each_waits_for_the_one_before_it_and_for_nothing_that_is_not_done() {
        let mut steps = vec![step("us-app-1"), step("us-app-2"), step("us-app-3")];
        one_at_a_time(&mut steps);
        let after: Vec<Vec<&str>> = steps
            .iter()
            .map(|step| step.after.iter().map(|id| id.name.as_str()).collect())
            .collect();
        assert_eq!(after, [vec![], vec!["us-app-1"], vec!["us-app-2"]]);
    }
}
