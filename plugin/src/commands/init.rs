use std::{
    io::Write,
    path::{Path, PathBuf},
};

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};

use crate::{
    HaPlugin,
    error::Failed,
    nu::{At, args, table},
};

pub(super) struct Init;

#[derive(IntoValue)]
struct Row {
    file: PathBuf,
    what: &'static str,
}

impl PluginCommand for Init {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha init"
    }

    fn signature(&self) -> Signature {
        Signature::build(self.name())
            .category(args::category())
            .param(
                PositionalArg::new("folder", SyntaxShape::Directory)
                    .desc("made when it is not there; default: the current folder")
                    .optional(),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Write an example workspace into an empty folder"
    }

    fn extra_description(&self) -> &str {
        "Three regions at three providers, which come up on this machine: workspace.ncl, config.toml, and the contract
library in .ha/ for editors and for a bare: nickel export --import-path .ha workspace.ncl
Nothing that is there is overwritten."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["new", "create", "start", "scaffold"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha init shop",
                description: "A new workspace in the folder shop",
                result: None,
            },
            Example {
                example: "mkdir shop; cd shop; ha init; ha check; ha plan",
                description: "A first look",
                result: None,
            },
        ]
    }

    fn run(
        &self,
        _plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let named: Option<Spanned<String>> = call.opt(0)?;
        let span = named.as_ref().map_or(call.head, |named| named.span);
        let here = PathBuf::from(engine.get_current_dir()?);
        let folder = named.map_or(here.clone(), |named| here.join(named.item));
        let rows = write(&folder).at(span)?;
        Ok(table(rows, &["file"], call.head))
    }
}

fn write(folder: &Path) -> Result<Vec<Row>, Failed> {
    let cannot = |path: &Path| Failed::io(format!("cannot write {}", path.display()));
    std::fs::create_dir_all(folder).map_err(cannot(folder))?;
    // Hidden files (a fresh git checkout has some) are in nobody's way.
    for entry in std::fs::read_dir(folder).map_err(cannot(folder))? {
        let entry = entry.map_err(cannot(folder))?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with('.') || name == ".ha" {
            return Err(Failed::Exists(entry.path()));
        }
    }
    // The name of a workspace comes from the folder's.
    let folder = folder.canonicalize().map_err(cannot(folder))?;
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let library = folder.join(".ha");
    ha_nickel::write_library(&library).map_err(cannot(&library))?;
    let workspace = folder.join("workspace.ncl");
    create(&workspace, &ha_nickel::example(&name))?;
    let config = folder.join("config.toml");
    create(&config, ha_nickel::EXAMPLE_CONFIG)?;
    Ok(vec![
        Row {
            file: workspace,
            what: "what you want; yours to edit",
        },
        Row {
            file: config,
            what: "what differs per operator: target, credentials by reference",
        },
        Row {
            file: library,
            what: "the contract library, for editors",
        },
    ])
}

/// Never over a file that somebody made meanwhile.
fn create(path: &Path, text: &str) -> Result<(), Failed> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    match made.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failed::Exists(path.to_owned())),
        Err(error) => Err(Failed::io(format!("cannot write {}", path.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("notes.txt"), "mine").expect("a file");
        assert!(matches!(write(folder.path()), Err(Failed::Exists(path)) if path.ends_with("notes.txt")));
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
