//! The real `nu` with the real plugin.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use super::process::Process;

/// What a pipeline raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub message: String,
    pub code: String,
    pub help: String,
    /// As drawn for a person.
    pub rendered: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

/// A shell that runs beside the test.
pub struct Shell {
    child: Child,
}

impl Shell {
    pub fn process(&self) -> Option<Process> {
        Process::of(i32::try_from(self.child.id()).expect("a number"))
    }

    /// Its plugin, once it was started.
    pub fn plugin(&self) -> Option<Process> {
        let children = self.process()?.children();
        children
            .into_iter()
            .find(|child| child.name().starts_with("nu_plugin_ha"))
    }

    pub fn finished(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// What it printed, when it has ended by itself.
    pub fn output(self) -> Output {
        self.child.wait_with_output().expect("a shell can be waited for")
    }
}

/// The shell and the plugin that are tested; both are made or found once in each test program.
pub(crate) struct Programs {
    nu: PathBuf,
    plugin: PathBuf,
}

impl Programs {
    fn get() -> &'static Self {
        static PROGRAMS: OnceLock<Programs> = OnceLock::new();
        PROGRAMS.get_or_init(|| Self {
            nu: find_nu(),
            plugin: std::env::var_os("HA_PLUGIN").map_or_else(build, PathBuf::from),
        })
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the checkout")
}

/// The native binary that the scripts use, too.
fn find_nu() -> PathBuf {
    let code = "root=$1; . \"$root/scripts/lib.sh\"; find_nu";
    let found = Command::new("sh")
        .args(["-euc", code, "sh"])
        .arg(root())
        .output()
        .expect("sh");
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(
        found.status.success() && !path.is_empty(),
        "no Nushell of the right version: run scripts/start.sh --install-only"
    );
    path.into()
}

/// Never an old binary: without a change this takes half a second.
fn build() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--message-format=short",
            "-p",
            "nu_plugin_ha",
            "-p",
            "ha-guard",
        ])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug/nu_plugin_ha")
}

/// A shell with the plugin, our scripts within reach of `use`, and nothing else of the user's.
pub(crate) fn command(code: &str) -> Command {
    shell(Command::new(&Programs::get().nu), code)
}

/// Far above what any pipeline takes: one that never ends fails its test instead of stopping all of them.
const ENDLESS: &str = "300";

/// A shell that is ended when it never would end by itself.
fn bounded(code: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", ENDLESS]).arg(&Programs::get().nu);
    shell(command, code)
}

fn shell(mut command: Command, code: &str) -> Command {
    let programs = Programs::get();
    command
        .args(["-n", "--error-style", "plain", "-I"])
        .arg(root().join("scripts"))
        .arg("--plugins")
        .arg(&programs.plugin)
        .args(["-c", code])
        .env("HA_NU", &programs.nu)
        .env("HA_PLUGIN", &programs.plugin)
        .stdin(Stdio::null());
    command
}

pub(crate) fn spawn(mut command: Command) -> Shell {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nu");
    Shell { child }
}

/// The value of a pipeline, or the error it raised. Anything else fails the test: a shell that dies is a bug.
pub(crate) fn evaluate(pipeline: &str, prepare: impl FnOnce(&mut Command)) -> Result<Value, Refused> {
    // An error inside a stream is raised where the stream is collected, so the collecting is inside of `try`.
    let code = format!(
        "try {{ {{value: (do {{ {pipeline} }} | collect)}} }} catch {{|err| {{refused: {{
            message: $err.msg code: ($err.details?.code? | default '') help: ($err.details?.help? | default '')
            rendered: ($err.rendered | ansi strip)
        }}}} }} | to json --raw"
    );
    let mut command = bounded(&code);
    prepare(&mut command);
    let output = command.output().expect("nu");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let answer: Value = serde_json::from_str(stdout.trim())
        .unwrap_or_else(|error| panic!("{pipeline}\n{error}: {stdout}\n{stderr}\n{}", output.status));
    if let Some(refused) = answer.get("refused") {
        let field = |name: &str| refused[name].as_str().unwrap_or_default().to_owned();
        return Err(Refused {
            message: field("message"),
            code: field("code"),
            help: field("help"),
            rendered: field("rendered"),
        });
    }
    Ok(answer["value"].clone())
}
