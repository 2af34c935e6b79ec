use ha_core::{
    check::codes,
    finding::{self, Finding, Label, Place, Severity},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type, Value};

use crate::{
    HaPlugin,
    context::Context,
    error::Failed,
    nu::{At, Count, args, table},
};

mod asked;

pub(super) struct Check;

const CREDENTIALS: &str = "credentials";
const OFFERS: &str = "offers";
const POLICY: &str = "policy";

fn one_question() -> Failed {
    Failed::BadArgument {
        what: "--credentials, --offers and --policy together".to_owned(),
        why: "each has rows of its own".to_owned(),
        help: "ask one of them at a time".to_owned(),
    }
}

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
        args::signature(self.name())
            .param(Flag::new(CREDENTIALS).desc("ask each provider who is asking, and which rights are missing"))
            .param(Flag::new(OFFERS).desc("ask each provider whether it has what is declared, too"))
            .param(
                Flag::new(POLICY)
                    .arg(SyntaxShape::String)
                    .desc("the least that a credential of this provider needs: digitalocean, hetzner or aws"),
            )
            .input_output_types(vec![(Type::Nothing, Type::table()), (Type::Nothing, Type::record())])
    }

    fn description(&self) -> &str {
        "List everything that is wrong with workspace.ncl and config.toml, with its place"
    }

    fn extra_description(&self) -> &str {
        "An empty table means that nothing is wrong. Errors stop ha provision; warnings and notes do not.
Nothing outside the two files is asked: ha doctor looks at this machine.

--credentials has rows of its own: one for each provider (and each of its places, where they differ) with who is asking,
and one for each right that this workspace needs, with status ok, missing or unknown. Asking changes nothing: lists are
read, and what changes something is asked for in a way that must be refused (a thing that does not exist, a new one
without a name, at EC2 a dry run). AWS has no such way for balancers, databases and names: unknown.

--offers adds what the providers say of everything that is still to be made: sizes, images, locations, room, limits and
the requests that are left. ha provision asks the same before it makes anything.

--policy prints the rights of --credentials as they are given: an IAM policy, the scopes of a token, a permission."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec![
            "validate",
            "lint",
            "nickel",
            "errors",
            "whoami",
            "rights",
            "permissions",
            "scopes",
            "iam",
            "quota",
            "capacity",
        ]
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
                example: "ha check --credentials | where status == missing",
                description: "Rights that this workspace needs and its credentials do not have",
                result: None,
            },
            Example {
                example: "ha check --policy aws | to json",
                description: "The smallest policy for IAM",
                result: None,
            },
            Example {
                example: "ha check --offers | where code =~ offers",
                description: "What is declared and cannot be had",
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
        let (credentials, offers) = (call.has_flag(CREDENTIALS)?, call.has_flag(OFFERS)?);
        let policy: Option<Spanned<String>> = call.get_flag(POLICY)?;
        if usize::from(credentials) + usize::from(offers) + usize::from(policy.is_some()) > 1 {
            return Err(one_question()).at(call.head);
        }
        let context = Context::open(plugin, engine, call)?;
        if let Some(provider) = policy {
            return asked::policy(&context, provider, call.head);
        }
        if credentials {
            return asked::credentials(&context, plugin, engine, call.head);
        }
        let mut findings = context.findings();
        if offers {
            findings.extend(context.placed(asked::offers(&context, plugin, engine, call.head)?));
            finding::sort(&mut findings);
        }
        let rows = findings.into_iter().map(|it| row(it, &context)).collect();
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
