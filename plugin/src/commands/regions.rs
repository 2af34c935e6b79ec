use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type, Value};

use crate::{
    HaPlugin,
    context::Context,
    nu::{args, table},
};

pub(super) struct Regions;

#[derive(IntoValue)]
struct Row {
    region: String,
    provider: String,
    location: String,
    role: String,
    servers: u32,
    network: Option<String>,
    database: Option<String>,
    load_balancer: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl PluginCommand for Regions {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha regions"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List the declared regions, the primary first"
    }

    fn extra_description(&self) -> &str {
        "As written in workspace.ncl; nothing is asked of a provider. ha status says how they are."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["location", "provider", "primary", "secondary"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "(ha regions).region",
                description: "Their names, in the order in which things are done",
                result: Some(Value::test_list(
                    ["us-east", "eu-central", "asia-southeast"]
                        .map(Value::test_string)
                        .into(),
                )),
            },
            Example {
                example: "ha regions | group-by provider --to-table",
                description: "What runs at each provider",
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
        let context = Context::open(plugin, engine, call)?;
        let rows = ha_core::regions::table(context.workspace()?)
            .into_iter()
            .map(|it| Row {
                region: it.region.to_string(),
                provider: it.provider.to_string(),
                location: it.location,
                role: it.role.as_str().to_owned(),
                servers: it.servers,
                network: it.network,
                database: it.database,
                load_balancer: it.load_balancer,
                latitude: it.latitude,
                longitude: it.longitude,
            })
            .collect();
        Ok(table::<Row>(rows, &["region"], call.head))
    }
}
