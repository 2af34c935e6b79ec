use ha_cloud::ProviderError;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use crate::{
    HaPlugin,
    context::{Context, Realm},
    error::WHAT_HAPPENED,
    nu::{At, Count, Time, Wanted, args, table},
};

pub(super) struct Limits;

#[derive(IntoValue)]
struct Row {
    provider: String,
    allowed: Option<Count>,
    left: Option<Count>,
    resets: Option<Time>,
    used: Count,
    error: Option<String>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for Limits {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha limits"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Show how many requests each provider still allows: a row per provider of the workspace"
    }

    fn extra_description(&self) -> &str {
        "Each is asked once. allowed and left are of its own window, which ends at resets; null where a provider tells
nothing (AWS limits each kind of call by itself and tells no rest). used is what this shell has sent since its plugin
was started. On the local target there are no limits and no rows."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["rate limit", "quota", "429", "throttling"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha limits | where left < 100",
            description: "Who has little left",
            result: None,
        }]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.workspace()?;
        let rows = match context.realm(plugin, engine, workspace).at(head)? {
            Realm::Local(_) => Vec::new(),
            Realm::Clouds { clouds, .. } => {
                let runtime = plugin.runtime().at(head)?;
                let wanted = Wanted::new(engine, runtime)?;
                let asked = wanted.block_on(runtime, async { Ok(clouds.account_each().await) });
                let asked = asked.at(head)?.into_iter();
                asked
                    .map(|(provider, answer)| {
                        let limit = plugin.ledgers.of(provider).limit();
                        let error: Option<ProviderError> = answer.err();
                        Row {
                            provider: provider.to_string(),
                            allowed: limit.allowed.map(Count),
                            left: limit.left.map(Count),
                            resets: limit.resets.map(Time),
                            used: Count(limit.used),
                            code: error.as_ref().map(|it| it.code().to_owned()),
                            help: error
                                .as_ref()
                                .map(|it| it.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned())),
                            error: error.map(|it| it.to_string()),
                        }
                    })
                    .collect()
            }
        };
        Ok(table::<Row>(rows, &["provider", "left", "allowed", "error"], head))
    }
}
