use std::{sync::Arc, time::Duration};

use ha_core::dns::Goal;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::{
    look,
    work::{PRIORITY, Row, Wish, Work, planned},
};
use crate::{
    HaPlugin,
    context::Context,
    nu::{At, Wanted, args, channel, stream, table},
    steps,
};

pub(in crate::commands) struct Apply;

/// For another shell that changes the same workspace.
pub(super) fn wait() -> Flag {
    Flag::new("wait")
        .arg(SyntaxShape::Duration)
        .desc("for another shell that is changing the same workspace; default: 5sec")
}

impl PluginCommand for Apply {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha dns apply"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::dry_run())
            .param(wait())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Make the names say what they should: a row per zone, health check and record as it is done"
    }

    fn extra_description(&self) -> &str {
        "In a safe order: the zone, health checks, all records in one batch that is done whole or not at all, and checks that
nothing names any more once every server of Route 53 knows. Records that somebody else made or changed are left and shown
as conflict. A domain that ha dns point sent to one region stays there. Interrupted or failed, the same command again
does the rest."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["route 53", "record", "zone", "health check"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha dns apply --dry-run",
                description: "What it would do",
                result: None,
            },
            Example {
                example: "ha dns apply | where error != null",
                description: "Do it, and show only what was not done",
                result: None,
            },
        ]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.sound()?;
        let (dns, names) = context.dns(plugin, engine, workspace).at(head)?;
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let asked = wanted.block_on(runtime, async {
            let lock = match dry_run {
                true => None,
                false => Some(steps::lock(realm.desk(), "ha dns apply", wait).await?),
            };
            let view = look(&context, workspace, &realm, (&dns, &names)).await?;
            Ok((lock, view))
        });
        let (lock, view) = asked.at(head)?;
        let mut silent: Vec<Row> = view.silent.iter().map(Row::silent).collect();
        let Some(lock) = lock else {
            silent.extend(planned(view.plan(Goal::All(&view.wanted))));
            return Ok(table(silent, PRIORITY, head));
        };
        let work = Work {
            acts: context.acts(workspace, realm.desk()),
            dns: Arc::new(dns),
            names,
            verb: "dns",
        };
        let (rows, finished) = channel();
        let cancel = wanted.token();
        runtime.spawn(async move {
            // Held until the last step has ended.
            let _lock = lock;
            for row in silent {
                // The reader may be gone; what is to be done is done all the same.
                let _ = rows.send(row).await;
            }
            work.run(&Wish::All(view.wanted), view.seen, &rows, &cancel).await;
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}
