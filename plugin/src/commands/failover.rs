use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type};

use super::{complete_places, moving};
use crate::{
    HaPlugin,
    agreement::{Session, Terms},
    nu::args,
};

pub(super) struct Failover;

impl PluginCommand for Failover {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha failover"
    }

    fn signature(&self) -> Signature {
        moving::signature(self.name())
            .param(moving::to("the server, or the region, that is to be primary in the end"))
            .param(Flag::new("accept-loss").desc(
                "go on with fewer voters than a quorum: acknowledged writes may be lost, and the old primary must be fenced",
            ))
            .param(
                Flag::new("fenced")
                    .arg(SyntaxShape::String)
                    .desc("how you know that the old primary writes no more; kept in the history"),
            )
            .param(
                Flag::new("witness")
                    .arg(SyntaxShape::String)
                    .desc("where no guard answers: how you know that the old primary writes no more; then it is done over SQL"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Make another primary now: the present one is gone"
    }

    fn extra_description(&self) -> &str {
        "Guards do this by themselves when enough of them say that the primary is down; this command is for when they may not
(failover.automatic = false, the cooldown, the daily limit) or for whoever knows better. Enough voters promise to acknowledge
nothing more for the old primary, and the one with most of the log becomes primary, so that nothing acknowledged is lost in
strict mode. That choice is not a matter of wishes: with --to somebody else, the furthest comes first and then hands over.
While the primary is there it is refused (ha switchover loses nothing). Without a quorum it is refused, with what would be
lost; --accept-loss goes on if the old primary is fenced: its server is off, its guard says that nothing runs, or you say how
you know. Ctrl-C stops watching; the guards go on, and the same command joins them.

Where no guard answers, nobody sees to it that the old primary stays away, so it is refused until you have fenced it (ha power
off, or its database stopped and no process of it left) and say how you know: --witness. Then this command seals every database
that answers, chooses, promotes and publishes by the guards' own rules over SQL, and tells the balancers, which ask nobody
until guards are back. It is refused while the old primary answers, while a replica hears of it, while anybody else writes to
the store, and without the store. Guards that come back find an epoch like any other. Stopped half way, the same command goes
on, and so do guards."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["promote", "emergency", "disaster", "takeover", "primary down"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha failover --explain",
                description: "Who could take over, how far each is, and why",
                result: None,
            },
            Example {
                example: "ha failover --dry-run",
                description: "What stands in the way, and what would happen",
                result: None,
            },
            Example {
                example: "ha failover --accept-loss --fenced \"power is off, seen in the rack\"",
                description: "Only one copy is left, and the old primary certainly writes no more",
                result: None,
            },
            Example {
                example: "ha failover --to eu-central --witness \"us-db-1 is off, seen in the rack\"",
                description: "No guard answers: do over SQL what they would",
                result: None,
            },
        ]
    }

    args::complete! { "to" => complete_places }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let to: Option<Spanned<String>> = call.get_flag("to")?;
        let fenced: Option<Spanned<String>> = call.get_flag("fenced")?;
        let accept_loss = call.has_flag("accept-loss")?;
        if let Some(fenced) = &fenced
            && (!accept_loss || fenced.item.trim().is_empty())
        {
            let failed = crate::error::Failed::BadArgument {
                what: "--fenced".into(),
                why: if accept_loss {
                    "it says nothing".into()
                } else {
                    "it matters only where less than a quorum is left".into()
                },
                help: "ha failover --accept-loss --fenced \"power is off, seen in the rack\"".into(),
            };
            return Err(crate::nu::label(failed, fenced.span));
        }
        let witness: Option<Spanned<String>> = call.get_flag("witness")?;
        if let Some(witness) = witness.as_ref().filter(|it| it.item.trim().is_empty()) {
            let failed = crate::error::Failed::BadArgument {
                what: "--witness".into(),
                why: "it says nothing".into(),
                help: "ha failover --witness \"us-db-1 is off, seen in the rack\"".into(),
            };
            return Err(crate::nu::label(failed, witness.span));
        }
        let span = to.as_ref().map_or(call.head, |it| it.span);
        let terms = Terms {
            to: to.map(|it| it.item),
            accept_loss,
            fenced: fenced.map(|it| it.item),
            witness: witness.map(|it| it.item),
        };
        let session = Session::open(plugin, engine, call)?;
        moving::failover(session, call, terms, span)
    }
}
