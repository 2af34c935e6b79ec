use std::time::Duration;

use ha_core::{
    dns::{self, Goal, findings},
    finding::Finding,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use super::{look, work::value};
use crate::{
    HaPlugin,
    context::{Context, Silent},
    nu::{At, Wanted, args, table},
};

pub(in crate::commands) struct Plan;

#[derive(Default, IntoValue)]
struct Row {
    action: String,
    name: String,
    r#type: String,
    policy: Option<String>,
    set_id: Option<String>,
    value: Option<String>,
    ttl: Option<Duration>,
    health_check: Option<String>,
    reason: String,
}

impl PluginCommand for Plan {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha dns plan"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Compare what the names should say with what they say: a row per zone, health check and record"
    }

    fn extra_description(&self) -> &str {
        "action: none, create, update, replace, delete; conflict is left as it is until you chose, unknown waits for a provider
that did not answer, warning is no record but worth knowing. value: an address, or the balancer of an alias; of a zone its
name servers, which the domain above has to delegate to. health_check names the region that is asked. TXT
records that begin with _ha say whose the records beside them are; without theirs, records are somebody else's."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["route 53", "diff", "record", "zone", "geolocation"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha dns plan | where action != none",
                description: "What ha dns apply would do",
                result: None,
            },
            Example {
                example: "ha dns plan | where type == zone | get 0.value | split row ' '",
                description: "The name servers to delegate to",
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
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.sound()?;
        let (dns, names) = context.dns(plugin, engine, workspace).at(head)?;
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let view = wanted.block_on(runtime, look(&context, workspace, &realm, (&dns, &names)));
        let view = view.at(head)?;
        let silent = view.silent.iter().map(silent);
        let warnings = context.placed(findings::unheard(workspace)).into_iter().map(warning);
        let plan = view.plan(Goal::All(&view.wanted)).rows.into_iter().map(row);
        let rows = silent.chain(plan).chain(warnings).collect();
        Ok(table::<Row>(rows, &["action", "name", "set_id"], head))
    }
}

fn row(row: dns::Row) -> Row {
    Row {
        action: row.action.as_str().to_owned(),
        name: row.name,
        r#type: row.kind,
        policy: row.policy,
        set_id: row.set,
        value: value(&row.value),
        ttl: row.ttl.map(Duration::from_secs),
        health_check: row.check,
        reason: row.reason,
    }
}

fn warning(finding: Finding) -> Row {
    let help = finding.help.map_or(String::new(), |help| format!("; {help}"));
    Row {
        action: "warning".to_owned(),
        name: finding.path.unwrap_or_default(),
        r#type: "finding".to_owned(),
        reason: format!("{}{help}", finding.message),
        ..Row::default()
    }
}

/// Where its regions are is not known, so their names are left as they are.
fn silent(silent: &Silent) -> Row {
    let help = silent.error.help().map_or(String::new(), |help| format!("; {help}"));
    Row {
        action: "unknown".to_owned(),
        name: silent.provider.to_string(),
        r#type: "provider".to_owned(),
        reason: format!("did not answer: {}{help}", silent.error),
        ..Row::default()
    }
}
