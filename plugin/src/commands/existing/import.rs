use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use ha_core::{
    existing::Found,
    import::{self, Outcome, Told},
    names::{ProviderName, WorkspaceName},
    resource::Kind,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, Example, Flag, IntoPipelineData, IntoValue, LabeledError, PipelineData, Signature, Spanned,
    SyntaxShape, Type,
};

use crate::{
    HaPlugin,
    context::{Accounts, Silent},
    error::{Failed, WHAT_HAPPENED},
    nu::{At, Wanted, args, label},
};

pub(in crate::commands) struct Import;

const PROVIDERS: &[&str] = &["digitalocean", "hetzner", "aws"];
/// Of a provider that did not answer: what it holds is not in the text.
const UNKNOWN: &str = "unknown";

#[derive(IntoValue)]
struct Answer {
    /// Where the text was written to.
    file: Option<PathBuf>,
    resources: Vec<Row>,
    workspace: String,
}

#[derive(IntoValue)]
struct Row {
    region: Option<String>,
    kind: Option<String>,
    name: String,
    status: String,
    note: Option<String>,
    provider: String,
    location: Option<String>,
    id: Option<String>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for Import {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha import"
    }

    fn signature(&self) -> Signature {
        Signature::build(self.name())
            .category(args::category())
            .param(
                Flag::new("region")
                    .short('r')
                    .arg(SyntaxShape::List(Box::new(SyntaxShape::String)))
                    .desc("only these: locations as their providers call them, or names of regions in config.toml"),
            )
            .param(
                Flag::new("provider")
                    .short('p')
                    .arg(SyntaxShape::List(Box::new(SyntaxShape::String)))
                    .desc("only these; default: all that there are credentials for")
                    .completion(Completion::new_list(PROVIDERS)),
            )
            .param(
                Flag::new("name")
                    .arg(SyntaxShape::String)
                    .desc("of the workspace; default: that of the current folder"),
            )
            .param(
                Flag::new("save")
                    .short('s')
                    .arg(SyntaxShape::Filepath)
                    .desc("write the text to this file, which must not be there yet"),
            )
            .input_output_type(Type::Nothing, Type::record())
    }

    fn description(&self) -> &str {
        "Write a workspace.ncl that declares what exists at the providers, as it is"
    }

    fn extra_description(&self) -> &str {
        "Needs no workspace: credentials and endpoints come from config.toml in the current folder and from the variables of
the providers' own tools. The answer has the text in workspace, and a row in resources for each thing that exists:
written, partly (a note says what is not said), left_out (a comment in the text says why), or unknown for a provider that
did not answer.

Servers called us-app-1, us-app-2 … that are alike become one group; a region is called as config.toml calls it, else like
its location. Nothing is changed at any provider: ha adopt does that next, and then ha plan has nothing to do, or an
update for each thing that a workspace says otherwise (firewalls and balancers of people name servers one by one)."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["generate", "reverse", "existing", "terraform import", "brownfield"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha import --save workspace.ncl; ha check; ha adopt --dry-run",
                description: "From accounts that exist to a workspace",
                result: None,
            },
            Example {
                example: "ha import --provider [hetzner] | get resources | where status != written",
                description: "What of one account a workspace cannot say",
                result: None,
            },
            Example {
                example: "ha import --region [nyc3 nbg1] --name shop | get workspace",
                description: "The text for two places",
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
        let here = PathBuf::from(engine.get_current_dir()?);
        let regions: Vec<String> = call.get_flag("region")?.unwrap_or_default();
        let only: Option<Spanned<Vec<String>>> = call.get_flag("provider")?;
        let only = only.map(providers).transpose()?.unwrap_or_default();
        let save: Option<Spanned<String>> = call.get_flag("save")?;
        let named: Option<Spanned<String>> = call.get_flag("name")?;
        let name = match named {
            Some(named) if is_name(&named.item) => named.item,
            Some(named) => {
                let failed = Failed::BadArgument {
                    what: format!("\"{}\" as the name of a workspace", named.item),
                    why: "it has lower-case letters, digits and inner dashes, and at most 48 of them".to_owned(),
                    help: format!("--name {}", name_from(&named.item)),
                };
                return Err(label(failed, named.span));
            }
            None => name_from(&here.file_name().map(|it| it.to_string_lossy()).unwrap_or_default()),
        };
        let file = save.as_ref().map(|save| here.join(&save.item));
        let span = save.as_ref().map_or(head, |save| save.span);
        // Before anybody is asked: it would be in vain.
        if let Some(there) = file.as_ref().filter(|it| it.exists()) {
            return Err(exists(there)).at(span);
        }
        let ws = WorkspaceName::new(name);
        let accounts = Accounts::here(&here).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let answers = wanted.block_on(runtime, async {
            let clouds = accounts.open(plugin, engine, &ws, &only, &regions).await?;
            Ok(clouds.survey_each().await)
        });
        let mut found = Vec::new();
        let mut resources = Vec::new();
        for (provider, answer) in answers.at(head)? {
            match answer {
                Ok(of_it) => found.extend(of_it),
                Err(error) => resources.push(unknown(&Silent { provider, error })),
            }
        }
        if !regions.is_empty() {
            found = of_places(found, |it, location| {
                let region = accounts.region(it, location);
                regions
                    .iter()
                    .any(|named| named == location || region.as_ref().is_some_and(|it| it == named.as_str()))
            });
        }
        let imported = import::import(&ws, &found, |provider, location| accounts.region(provider, location));
        resources.extend(imported.told.iter().map(row));
        if let Some(file) = &file {
            write(file, &imported.text).at(span)?;
        }
        let answer = Answer {
            file,
            resources,
            workspace: imported.text,
        };
        Ok(answer.into_value(head).into_pipeline_data())
    }
}

fn providers(named: Spanned<Vec<String>>) -> Result<Vec<ProviderName>, LabeledError> {
    let known = |name: &String| ProviderName::parse(name).filter(|it| *it != ProviderName::Local);
    match named.item.iter().find(|name| known(name).is_none()) {
        None => Ok(named.item.iter().filter_map(known).collect()),
        Some(other) => {
            let near = ha_core::names::nearest(other, PROVIDERS.iter().copied());
            let failed = Failed::BadArgument {
                what: format!("the provider {other}"),
                why: "it is none that is known".to_owned(),
                help: match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("one of {}", PROVIDERS.join(", ")),
                },
            };
            Err(label(failed, named.span))
        }
    }
}

/// What is at these places, and what stands before it.
fn of_places(found: Vec<Found>, here: impl Fn(ProviderName, &str) -> bool) -> Vec<Found> {
    let is_here = |it: &Found| it.location.as_deref().map(|location| here(it.provider, location));
    let servers: Vec<(ProviderName, String)> = found
        .iter()
        .filter(|it| it.kind == ha_core::existing::FoundKind::Resource(Kind::Server) && is_here(it) == Some(true))
        .map(|it| (it.provider, it.name.clone()))
        .collect();
    let stands_here = |it: &Found| {
        let targets = it.spec.get("targets").and_then(|it| it.as_array());
        let mut names = targets.into_iter().flatten().filter_map(|it| it.as_str());
        names.any(|name| servers.contains(&(it.provider, name.to_owned())))
    };
    found
        .into_iter()
        .filter(|it| is_here(it).unwrap_or_else(|| stands_here(it)))
        .collect()
}

/// As a workspace may be called.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name == name_from(name)
}

/// The nearest to a word that is one; `workspace` where nothing of it is left.
fn name_from(word: &str) -> String {
    const LONGEST: usize = 48;
    let letters = word.to_lowercase();
    let letters = letters.chars().map(|it| {
        if it.is_ascii_lowercase() || it.is_ascii_digit() {
            it
        } else {
            '-'
        }
    });
    let name: String = letters.take(LONGEST).collect();
    match name.trim_matches('-') {
        "" => "workspace".to_owned(),
        name => name.to_owned(),
    }
}

fn row(told: &Told<'_>) -> Row {
    let found = told.found;
    Row {
        region: told.region.as_ref().map(ToString::to_string),
        kind: Some(found.kind.to_string()),
        name: found.name.clone(),
        status: told.outcome.as_str().to_owned(),
        note: told.note.clone(),
        provider: found.provider.to_string(),
        location: found.location.clone(),
        id: Some(found.number.clone()),
        code: None,
        help: match told.outcome {
            Outcome::Written => None,
            Outcome::Partly => Some("look at the difference in: ha plan".to_owned()),
            Outcome::LeftOut => Some("the text has a comment for it".to_owned()),
        },
    }
}

fn unknown(silent: &Silent) -> Row {
    Row {
        region: None,
        kind: None,
        name: silent.provider.to_string(),
        status: UNKNOWN.to_owned(),
        note: Some(silent.error.to_string()),
        provider: silent.provider.to_string(),
        location: None,
        id: None,
        code: Some(silent.error.code().to_owned()),
        help: Some(silent.error.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned())),
    }
}

/// Never over a file that somebody made.
fn write(path: &Path, text: &str) -> Result<(), Failed> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    match made.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(Failed::io(format!("cannot write {}", path.display()))(error)),
    }
}

fn exists(path: &Path) -> Failed {
    Failed::BadArgument {
        what: format!("writing {}", path.display()),
        why: "it is already there".to_owned(),
        help: "name another file: --save imported.ncl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_folder_becomes_one_of_a_workspace() {
        assert_eq!(name_from("My Shop (old)"), "my-shop--old");
        assert_eq!(name_from("..."), "workspace");
        assert!(is_name("shop-2") && !is_name("Shop") && !is_name("-shop") && !is_name(""));
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("workspace.ncl");
        write(&file, "mine").expect("written");
        assert!(matches!(write(&file, "other"), Err(Failed::BadArgument { .. })));
        assert_eq!(std::fs::read_to_string(&file).expect("readable"), "mine");
    }
}
