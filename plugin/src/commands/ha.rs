use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoPipelineData, LabeledError, PipelineData, Signature, Type, Value};

use crate::{HaPlugin, nu::args};

pub(super) struct Ha;

impl PluginCommand for Ha {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::String)
    }

    fn description(&self) -> &str {
        "One service in three regions on three providers, as tables"
    }

    fn extra_description(&self) -> &str {
        "What is wanted is written in workspace.ncl; what is there is asked of the providers each time.

A first run, on this machine: ha init, ha check, ha plan, ha provision, ha status.
To remove all of it again: ha destroy <name of the workspace>."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["high availability", "failover", "replication", "multi-region", "dr"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha",
            description: "List the commands",
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
