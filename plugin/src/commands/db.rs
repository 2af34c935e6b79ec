mod sync_mode;
mod voters;

use ha_core::{
    agreement::{Phase, Term},
    switch::Refusal,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoPipelineData, LabeledError, PipelineData, Signature, Type, Value};

pub(super) use sync_mode::{MODES, SyncModeCommand, mode_named};
pub(super) use voters::Voters;

use crate::{HaPlugin, error::Failed, nu::args};

pub(super) struct Db;

/// The leader has to see it, change PostgreSQL and pass the barrier; each takes round trips only.
const IN_FORCE_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

impl PluginCommand for Db {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha db"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::String)
    }

    fn description(&self) -> &str {
        "What a commit waits for: mode and voters"
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha db voters",
            description: "Whose acknowledgement counts",
            result: None,
        }]
    }

    fn run(
        &self,
        _plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        Ok(Value::string(engine.get_help()?, call.head).into_pipeline_data())
    }
}

/// What a commit waits for is changed under a primary that stays: in the middle of a change of primary the swap would
/// undo it.
pub(super) fn steady(term: &Term) -> Result<(), Failed> {
    let (code, why) = match term.phase {
        Phase::Active => return Ok(()),
        Phase::Switching => (
            "ha::agreement::switching",
            format!("{} is about to hand over", term.leader),
        ),
        Phase::Sealing => (
            "ha::agreement::no_primary",
            format!("there is no primary: epoch {} is being decided", term.epoch),
        ),
    };
    let help = "wait until that is over: ha lease; then the same command again";
    Err(Failed::refused(Refusal::new(code, why, help)))
}
