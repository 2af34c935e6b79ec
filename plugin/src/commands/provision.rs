use std::{collections::BTreeSet, time::Duration};

use ha_core::{
    plan::{self, Action},
    resource::{Kind, ResourceId},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Realm, Silent},
    error::Failed,
    nu::{At, Wanted, args, channel, label, stream, table},
    steps::{self, PRIORITY, Row, Work},
};

pub(super) struct Provision;

impl PluginCommand for Provision {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha provision"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(args::dry_run())
            .param(
                Flag::new("wait")
                    .arg(SyntaxShape::Duration)
                    .desc("for another shell that is changing the same workspace; default: 5sec"),
            )
            .input_output_types(vec![(Type::Nothing, Type::table()), (Type::table(), Type::table())])
    }

    fn description(&self) -> &str {
        "Make what is there what is wanted: a row per step, as each finishes"
    }

    fn extra_description(&self) -> &str {
        "Rows of ha plan piped in select what is done; nothing piped in means everything. The plan is made again first,
so that an old selection never does an old thing. Steps that do not need each other go side by side.

Stop it anywhere and run it again: it finishes what is there. Ctrl-C lets the steps under way end and starts no
other. A failed step is a row with error, code and help; what needs it is skipped and the rest goes on.
What is to be made at a provider has to be there to be had: a size, an image, a location, a limit that stands in the
way is told at its line before anything is made (ha check --offers shows all of it).
With nothing to do there is one row: action none, status unchanged."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["apply", "deploy", "create", "up", "converge"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha provision",
                description: "Everything",
                result: None,
            },
            Example {
                example: "ha provision --dry-run --region us-east",
                description: "What would be done to one region",
                result: None,
            },
            Example {
                example: "ha plan | where kind == load_balancer | ha provision",
                description: "A part of the plan",
                result: None,
            },
            Example {
                example: "ha provision | where error != null",
                description: "Only what failed",
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
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        let selection = selection(input, head)?;
        let workspace = context.sound()?;
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        if !dry_run && matches!(realm, Realm::Local(_)) {
            context.places.guard().at(head)?;
        }
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;

        let plan = wanted.block_on(runtime, async {
            let lock = match dry_run {
                true => None,
                false => Some(steps::lock(realm.desk(), "ha provision", wait).await?),
            };
            // Under the lock: what was planned is what is still there.
            let world = context.look(workspace, &realm).await?;
            if lock.is_some() {
                // In the workspace's order, whatever is made first: addresses are the same wherever it is made.
                realm.reserve(&world.desired)?;
            }
            let steps = steps::select(plan::plan(&world.desired, &world.live), &world.live, |id| {
                region.as_ref().is_none_or(|region| id.region == region.as_str())
                    && selection.as_ref().is_none_or(|selection| selection.contains(id))
            })?;
            // Before anything is made: half a region is worse than none.
            context.unobjected(realm.objections(&plugin.ledgers, &steps).await)?;
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
            verb: "provision",
        };
        runtime.spawn(async move {
            for row in silent {
                // The reader may be gone, as below.
                let _ = rows.send(row).await;
            }
            if plan::has_changes(&steps) || steps.iter().any(|step| step.action == Action::Conflict) {
                work.run(steps, &rows, cancel).await;
            } else {
                // The reader may be gone; there is nothing left to tell it.
                let _ = rows.send(Row::nothing_to_do()).await;
            }
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}

/// The resources that the piped rows name; none when nothing was piped in.
fn selection(input: PipelineData, head: Span) -> Result<Option<BTreeSet<ResourceId>>, LabeledError> {
    let span = input.span().unwrap_or(head);
    if matches!(input, PipelineData::Empty) {
        return Ok(None);
    }
    let rows = match input.into_value(span)? {
        Value::Nothing { .. } => return Ok(None),
        Value::List { vals, .. } => vals.into_owned(),
        row @ Value::Record { .. } => vec![row],
        other => {
            let why = format!("it is {}", other.get_type());
            return Err(label(Failed::NotAPlan(why), other.span()));
        }
    };
    // A provider that did not answer is a row of a plan, too, and names nothing that could be done.
    let named = rows.into_iter().filter(|row| !is_unknown(row));
    named.map(identity).collect::<Result<_, _>>().map(Some)
}

fn is_unknown(row: &Value) -> bool {
    matches!(row.get_data_by_key("action"), Some(Value::String { val, .. }) if val == super::plan::UNKNOWN)
}

fn identity(row: Value) -> Result<ResourceId, LabeledError> {
    let span = row.span();
    let text = |column: &str| match row.get_data_by_key(column) {
        Some(Value::String { val, .. }) => Ok(val),
        Some(other) => Err(label(
            Failed::NotAPlan(format!("column {column} is {}", other.get_type())),
            span,
        )),
        None => Err(label(Failed::NotAPlan(format!("a row has no column {column}")), span)),
    };
    let kind = text("kind")?;
    let Some(kind) = Kind::parse(&kind) else {
        return Err(label(Failed::NotAPlan(format!("\"{kind}\" is not a kind")), span));
    };
    Ok(ResourceId {
        region: ha_core::names::RegionName::new(text("region")?),
        kind,
        name: text("name")?,
    })
}

#[cfg(test)]
mod tests {
    use nu_protocol::{IntoPipelineData, record};

    use super::*;

    #[test]
    fn rows_of_a_plan_select_and_anything_else_is_refused() {
        let head = Span::test_data();
        assert_eq!(selection(PipelineData::empty(), head).expect("nothing"), None);
        let row = Value::test_record(record! {
            "region" => Value::test_string("us-east"),
            "kind" => Value::test_string("server"),
            "name" => Value::test_string("us-app-1"),
        });
        let some = selection(Value::test_list(vec![row]).into_pipeline_data(), head).expect("a selection");
        assert_eq!(some.map(|it| it.len()), Some(1));
        // An empty plan selects nothing, which is not everything.
        let none = selection(Value::test_list(Vec::new()).into_pipeline_data(), head).expect("a selection");
        assert_eq!(none, Some(BTreeSet::new()));
        let row = Value::test_record(record! { "name" => Value::test_string("x") });
        let error = selection(Value::test_list(vec![row]).into_pipeline_data(), head).expect_err("must be refused");
        assert_eq!(error.code.as_deref(), Some("ha::provision::not_a_plan"));
    }
}
