mod machine;
mod programs;

use std::path::PathBuf;

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type, Value};

use crate::{
    HaPlugin,
    context::{Context, Places},
    error::Failed,
    nu::{At, Bytes, Wanted, args, table},
};

/// The shell that this plugin was built for; patch versions of it fit, too.
const NU: &str = "0.115.1";

pub(super) struct Doctor;

#[derive(IntoValue)]
struct Row {
    subject: String,
    /// `ok`, `missing`, `wrong`
    status: &'static str,
    help: Option<String>,
    version: Option<String>,
    /// Space that is left on its disk.
    free: Option<Bytes>,
    path: Option<PathBuf>,
    needed_for: &'static str,
}

impl PluginCommand for Doctor {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha doctor"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Look at this machine: programs, versions, folders, and what to install"
    }

    fn extra_description(&self) -> &str {
        "status is ok, missing or wrong; help says what to do about it. The folders are those of the local target, with the
space that is left there. Nothing is changed, and ha status looks at what runs."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["install", "requirements", "versions", "environment"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha doctor | where status != ok",
            description: "What is missing, and how to get it",
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
        let places = Places::ask(engine)?;
        let runtime = plugin.runtime().at(call.head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let shell = engine.get_env_var("NU_VERSION")?;
        let programs = wanted
            .block_on(runtime, async { Ok::<_, Failed>(programs::rows(&places).await) })
            .at(call.head)?;
        let mut rows = vec![nushell(shell), this_plugin()];
        rows.extend(programs);
        rows.extend(machine::rows(&places));
        rows.extend(workspace(plugin, engine, call));
        Ok(table(rows, &["subject", "status", "help"], call.head))
    }
}

impl Row {
    fn new(subject: impl Into<String>, needed_for: &'static str) -> Self {
        Self {
            subject: subject.into(),
            status: "ok",
            help: None,
            version: None,
            free: None,
            path: None,
            needed_for,
        }
    }

    fn missing(self, help: String) -> Self {
        let help = Some(help);
        Self {
            status: "missing",
            help,
            ..self
        }
    }

    fn wrong(self, help: String) -> Self {
        let help = Some(help);
        Self {
            status: "wrong",
            help,
            ..self
        }
    }
}

/// The shell that asks.
fn nushell(version: Option<Value>) -> Row {
    let version = version.and_then(|it| it.into_string().ok());
    let fits = version.as_deref().is_some_and(|it| minor(it) == minor(NU));
    let row = Row {
        version,
        // Its plugins are its children.
        path: std::fs::read_link(format!("/proc/{}/exe", std::os::unix::process::parent_id())).ok(),
        ..Row::new("nu", "everything")
    };
    if fits {
        row
    } else {
        row.wrong(format!(
            "install Nushell {NU}, or a plugin built for the one you have: ./scripts/start.sh"
        ))
    }
}

fn this_plugin() -> Row {
    Row {
        version: Some(env!("CARGO_PKG_VERSION").into()),
        path: std::env::current_exe().ok(),
        ..Row::new("nu_plugin_ha", "everything")
    }
}

/// `0.115` of `0.115.1`: another one speaks another protocol.
fn minor(version: &str) -> &str {
    version
        .match_indices('.')
        .nth(1)
        .map_or(version, |(end, _)| &version[..end])
}

/// The workspace around, when there is one: whether it can be read, and where it runs.
fn workspace(plugin: &HaPlugin, engine: &EngineInterface, call: &EvaluatedCall) -> Vec<Row> {
    let row = Row::new("workspace", "everything of it");
    let said = |error: LabeledError| match error.help {
        Some(help) => format!("{}; {help}", error.msg),
        None => error.msg,
    };
    let context = match Context::open(plugin, engine, call) {
        Ok(context) => context,
        Err(error) => return vec![row.missing(said(error))],
    };
    let row = Row {
        path: Some(context.file.clone()),
        ..row
    };
    let known = context.workspace().and_then(|workspace| {
        let provider = context.provider(workspace).at(call.head)?;
        let known = context.known(workspace, &provider).at(call.head)?;
        Ok((provider.folder().to_owned(), known.live))
    });
    match known {
        Err(error) => vec![row.wrong(said(error))],
        Ok((folder, live)) => {
            let addresses = live.into_iter().find_map(|it| it.private_address);
            vec![row, machine::addresses(addresses, folder)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_version_fits_and_another_minor_does_not() {
        assert_eq!(minor("0.115.0"), minor(NU));
        assert_ne!(minor("0.114.2"), minor(NU));
    }
}
