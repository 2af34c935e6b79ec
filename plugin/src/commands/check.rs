use ha_core::{
    check::codes,
    finding::{Finding, Label, Place, Severity},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type, Value};

use crate::{
    HaPlugin,
    context::Context,
    nu::{Count, args, table},
};

pub(super) struct Check;

/// Shaped for `error make`: `msg`, `code`, `help`, `labels` and `src` can be taken over as they are.
#[derive(IntoValue)]
struct Row {
    severity: &'static str,
    code: String,
    message: String,
    path: Option<String>,
    file: Option<String>,
    line: Option<Count>,
    column: Option<Count>,
    help: Option<String>,
    labels: Vec<LabelRow>,
    src: Option<Source>,
}

#[derive(IntoValue)]
struct LabelRow {
    text: String,
    span: SpanRow,
}

#[derive(IntoValue)]
struct SpanRow {
    start: Count,
    end: Count,
}

#[derive(IntoValue)]
struct Source {
    name: String,
    text: String,
}

impl PluginCommand for Check {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha check"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List everything that is wrong with workspace.ncl and config.toml, with its place"
    }

    fn extra_description(&self) -> &str {
        "An empty table means that nothing is wrong. Errors stop ha provision; warnings and notes do not.
Nothing outside the two files is asked: ha doctor looks at this machine."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["validate", "lint", "nickel", "errors"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha check",
                description: "Nothing is wrong with this workspace",
                result: Some(Value::test_list(Vec::new())),
            },
            Example {
                example: "ha check | where severity == error | length",
                description: "How many errors stand in the way of ha provision",
                result: None,
            },
            Example {
                example: "ha check | each {|it| try { error make {msg: $it.message help: $it.help labels: $it.labels src: $it.src} } catch {|err| $err.rendered } }",
                description: "Draw each finding under its line of workspace.ncl",
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
        let rows = context.findings().into_iter().map(|it| row(it, &context)).collect();
        Ok(table::<Row>(rows, &["severity", "message"], call.head))
    }
}

fn row(finding: Finding, context: &Context) -> Row {
    let place = finding.place.as_ref();
    let main = place.map(|place| (finding.path.clone().unwrap_or_else(|| "here".into()), place));
    let others = finding
        .labels
        .iter()
        .filter_map(|Label { text, place, .. }| Some((text.clone(), place.as_ref()?)));
    // One error draws one file; a label in another one would land on unrelated text.
    let labels = main
        .into_iter()
        .chain(others)
        .filter(|(_, it)| place.is_some_and(|place| it.file == place.file))
        .map(|(text, Place { start, end, .. })| LabelRow {
            text,
            span: SpanRow {
                start: (*start).into(),
                end: (*end).into(),
            },
        })
        .collect();
    // The line of a literal secret is not repeated: what is drawn ends up in terminals and logs.
    let drawn = place.filter(|_| finding.code != codes::CONFIG_LITERAL_SECRET);
    Row {
        severity: match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        code: finding.code,
        message: finding.message,
        file: place.map(|place| place.file.clone()),
        line: place.map(|place| place.line.into()),
        column: place.map(|place| place.column.into()),
        src: drawn.and_then(|place| {
            let name = place.file.clone();
            context.text(&name).map(|text| Source { name, text })
        }),
        path: finding.path,
        help: finding.help,
        labels,
    }
}
