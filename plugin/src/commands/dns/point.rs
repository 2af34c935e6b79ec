use std::{sync::Arc, time::Duration};

use ha_core::{
    dns::{self, NotThere},
    switch::Refusal,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    DynamicSuggestion, Example, Flag, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use super::{
    View,
    apply::wait,
    look,
    work::{PRIORITY, Wish, Work, planned},
};
use crate::{
    HaPlugin,
    commands::complete_regions,
    context::Context,
    error::{Failed, What},
    nu::{At, Wanted, args, channel, stream, table},
    steps,
};

pub(in crate::commands) struct Point;

impl PluginCommand for Point {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha dns point"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("region", SyntaxShape::String)
                    .desc("where all users are to go")
                    .optional(),
            )
            .param(Flag::new("declared").desc("back to what workspace.ncl declares"))
            .param(args::dry_run())
            .param(wait())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Point the domain at one region, whatever is declared: in one batch, and nothing else is touched"
    }

    fn extra_description(&self) -> &str {
        "It stays there: ha dns apply follows it, also when the region's address changes, until --declared gives it back.
The names of the regions themselves go on as they are. Users who asked before go where they went until their answer is too
old (ttl). It does not look at health checks: it is there for when they are wrong. The primary of the database is another
matter: ha switchover."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["route 53", "failover", "redirect", "evacuate", "apex"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha dns point eu-central --dry-run",
                description: "What would change if all users were sent to one region",
                result: None,
            },
            Example {
                example: "ha dns point --declared",
                description: "Back to what is declared",
                result: None,
            },
        ]
    }

    #[expect(deprecated, reason = "the shell's mark for an experimental API")]
    fn get_dynamic_completion(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        _call: nu_plugin::DynamicCompletionCall,
        arg_type: nu_protocol::engine::ArgType<'_>,
        _experimental: nu_protocol::engine::ExperimentalMarker,
    ) -> Option<Vec<DynamicSuggestion>> {
        match arg_type {
            nu_protocol::engine::ArgType::Positional(0) => Some(complete_regions(plugin, engine)),
            _ => None,
        }
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let region: Option<Spanned<String>> = call.opt(0)?;
        let declared = call.has_flag("declared")?;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        if region.is_some() == declared {
            let (what, why) = match declared {
                true => ("a region with --declared", "it can be either"),
                false => ("no region", "users have to go somewhere"),
            };
            return Err(Failed::BadArgument {
                what: what.to_owned(),
                why: why.to_owned(),
                help: "ha dns point <region>, or ha dns point --declared".to_owned(),
            })
            .at(region.map_or(head, |it| it.span));
        }
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.sound()?;
        let (dns, names) = context.dns(plugin, engine, workspace).at(head)?;
        let region = match region {
            Some(region) => {
                let span = region.span;
                Some((context.known_region(region)?, span))
            }
            None => None,
        };
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let asked = wanted.block_on(runtime, async {
            let lock = match dry_run {
                true => None,
                false => Some(steps::lock(realm.desk(), "ha dns point", wait).await?),
            };
            let view = look(&context, workspace, &realm, (&dns, &names)).await?;
            Ok((lock, view))
        });
        let (lock, view) = asked.at(head)?;
        if view.seen.zone(&names.zone).is_none() {
            return Err(Failed::refused(Refusal::new(
                "ha::dns::absent",
                format!("there is no zone {} yet, and nobody is answered", names.zone),
                "make it first: ha dns apply",
            )))
            .at(head);
        }
        let wish = match &region {
            None => Ok(view.declared.clone()),
            Some((region, _)) => pointed(&view, region),
        };
        let wish = Wish::Apex(wish.at(region.map_or(head, |(_, span)| span))?);
        let Some(lock) = lock else {
            return Ok(table(planned(view.plan(wish.goal())), PRIORITY, head));
        };
        let work = Work {
            acts: context.acts(workspace, realm.desk()),
            dns: Arc::new(dns),
            names,
            verb: "dns.point",
        };
        let (rows, finished) = channel();
        let cancel = wanted.token();
        runtime.spawn(async move {
            // Held until the last step has ended.
            let _lock = lock;
            work.run(&wish, view.seen, &rows, &cancel).await;
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}

/// The names with the domain at that region, or why it cannot be there.
fn pointed(view: &View, region: &str) -> Result<dns::Wanted, Failed> {
    view.declared
        .clone()
        .point_at(region)
        .map_err(|not_there| match not_there {
            NotThere::Unknown { known } => Failed::unknown(What::Region, region, "those with a balancer", known),
            NotThere::Nowhere(why) => Failed::refused(Refusal::new(
                "ha::dns::no_address",
                format!("{region} has no address to point at: {why}"),
                format!("bring it up: ha provision --region {region}"),
            )),
            NotThere::Silent => Failed::refused(Refusal::new(
                "ha::dns::silent",
                format!("where {region} is was not told: its provider did not answer"),
                "see why: ha inventory load_balancer; users elsewhere are answered as before",
            )),
        })
}
