use std::time::Duration;

use futures::future::join_all;
use ha_cloud::dns::{Asked, Dns as _};
use ha_core::dns::{self, Check, reference};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use crate::{
    HaPlugin,
    context::Context,
    error::{Failed, WHAT_HAPPENED},
    nu::{At, Count, Time, Wanted, args, table},
};

pub(in crate::commands) struct Checks;

#[derive(Default, IntoValue)]
struct Row {
    region: String,
    status: String,
    well: Option<Count>,
    checkers: Option<Count>,
    failure: Option<String>,
    checked_at: Option<Time>,
    endpoint: Option<String>,
    interval: Option<Duration>,
    failures: Option<Count>,
    id: Option<String>,
    error: Option<String>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for Checks {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha dns checks"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Show the health checks of the names, and what Route 53's checkers say: a row per region"
    }

    fn extra_description(&self) -> &str {
        "status: healthy when more than 18 percent of the checkers reach the endpoint, else unhealthy: the region is not
answered then, unless all are. unknown is a check that nobody has made yet, absent one that ha dns apply would make.
failures so many in a row change a checker's mind; failure is what one of them said."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["route 53", "health check", "probe", "healthy"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha dns checks | where status != healthy",
            description: "Regions that users are kept away from",
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
        let (dns, names) = context.dns(plugin, engine, workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let asked = wanted.block_on(runtime, async {
            let checks = dns.observe(Some(&names)).await?.checks;
            let states = join_all(checks.iter().map(|check| dns.ask(check))).await;
            Ok(checks.into_iter().zip(states).collect::<Vec<_>>())
        });
        let ws = workspace.name.as_str();
        let mut rows: Vec<Row> = asked
            .at(head)?
            .into_iter()
            .map(|(check, state)| row(ws, check, state.map_err(Failed::from)))
            .collect();
        for region in dns::checked(workspace) {
            if rows.iter().all(|it| it.region != region) {
                rows.push(Row {
                    region,
                    status: "absent".to_owned(),
                    help: Some("make it: ha dns apply".to_owned()),
                    ..Row::default()
                });
            }
        }
        rows.sort_by(|a, b| (&a.region, &a.id).cmp(&(&b.region, &b.id)));
        Ok(table::<Row>(rows, &["region", "status", "failure", "error"], head))
    }
}

fn row(ws: &str, check: Check, state: Result<Asked, Failed>) -> Row {
    let row = Row {
        region: reference::region(ws, &check.reference).unwrap_or_default(),
        endpoint: Some(check.spec.endpoint()),
        interval: Some(Duration::from_secs(check.spec.interval)),
        failures: Some(Count(check.spec.failures.into())),
        id: Some(check.id),
        ..Row::default()
    };
    match state {
        Ok(asked) => Row {
            status: asked.health.as_str().to_owned(),
            well: Some(Count::from(asked.well)),
            checkers: Some(Count::from(asked.checkers)),
            failure: asked.failure,
            checked_at: asked.checked_at.map(Time),
            ..row
        },
        Err(failed) => Row {
            status: "unknown".to_owned(),
            code: Some(failed.code().to_owned()),
            help: failed.help().or_else(|| Some(WHAT_HAPPENED.to_owned())),
            error: Some(failed.to_string()),
            ..row
        },
    }
}
