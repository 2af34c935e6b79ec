//! What can go wrong between a command and the world, as outcomes a caller can act on.

use std::path::PathBuf;

use ha_cloud::ProviderError;
use ha_core::{names::ProviderName, switch::Refusal};
use ha_nickel::EvaluateError;
use ha_oracle::OracleError;
use ha_store::StoreError;

/// No command reports a failure of its own in any other type.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("no workspace.ncl in {} or above", .0.display())]
    NoWorkspace(PathBuf),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// What is wrong first, and how much more there is; `ha check` shows all of it.
    #[error("{message}")]
    Invalid { message: String, errors: usize },
    /// What the providers do not have, the first of it with its place; nothing was changed.
    #[error("{message}")]
    NotOffered {
        /// `ha::offers::size`
        code: &'static str,
        message: String,
        help: String,
        errors: usize,
    },
    #[error("\"{key}\" is not a setting of this plugin")]
    UnknownSetting { key: String, near: Option<String> },
    #[error("the setting {key} is {got}, expected {expected}")]
    WrongSetting {
        /// Below `$env.config.plugins`: `ha.timeout`.
        key: String,
        got: String,
        expected: &'static str,
    },
    #[error("no {what} \"{name}\" in {among}")]
    Unknown {
        what: What,
        name: String,
        among: String,
        near: Option<String>,
        known: Vec<String>,
    },
    #[error("this asks the guards, and to those on cloud servers this version has no way")]
    CloudTarget,
    /// Neither `config.toml` nor the environment has one.
    #[error("no {word} for {provider}")]
    NoCredential {
        provider: ProviderName,
        /// As in `config.toml`: `token`.
        word: String,
        /// The variable that the provider's own tools read.
        variable: String,
    },
    /// There is a reference, and nothing behind it. The credential itself is in no message.
    #[error("the {of} could not be read: {why}")]
    Credential { of: String, why: String, help: String },
    /// Somebody else holds the writer's lock.
    #[error("another shell is changing this workspace: {0}")]
    Busy(String),
    #[error("{0} is not provisioned")]
    NotProvisioned(String),
    #[error("\"{typed}\" is not the name of this workspace")]
    WrongName { typed: String, workspace: String },
    #[error("{} is already there", .0.display())]
    Exists(PathBuf),
    #[error("the input is not a plan: {0}")]
    NotAPlan(String),
    #[error("{step} needs {}, which neither exists nor is selected", .needs.join(" and "))]
    Blocked { step: String, needs: Vec<String> },
    /// As above, where something is to go.
    #[error("{step} is still used by {}, whose change is not selected", .by.join(" and "))]
    StillUsed { step: String, by: Vec<String> },
    #[error("{what} is not possible here: {why}")]
    BadArgument { what: String, why: String, help: String },
    #[error("ha-guard is not at {}", .0.display())]
    NoGuard(PathBuf),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Oracle(#[from] OracleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Everything that stands in the way; never empty. Nothing was changed.
    #[error("{}", .0.first().map_or("it cannot be done now", |it| it.why.as_str()))]
    Refused(Vec<Refusal>),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("interrupted")]
    Interrupted,
}

/// What a name was expected to be; part of the error's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Region,
    Server,
    Group,
    Kind,
    Render,
}

/// Where nothing better is known.
pub(crate) const WHAT_HAPPENED: &str = "see what happened: ha events --last 20, and what this machine lacks: ha doctor";

/// The operating system names the cause; what to do about it is the same everywhere.
fn of_io(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::PermissionDenied => {
            "run it as the user who provisioned, or set HA_STATE_HOME to a folder of yours; ha doctor shows the folders"
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            "free some space (ha doctor shows how much there is), then run the same command again"
        }
        Kind::ReadOnlyFilesystem => "set HA_STATE_HOME to a folder that can be written; ha doctor shows the folders",
        _ => WHAT_HAPPENED,
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Region => "region",
            Self::Server => "server",
            Self::Group => "group",
            Self::Kind => "kind",
            Self::Render => "configuration",
        })
    }
}

impl Failed {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }

    /// A name that is none of `known`.
    pub(crate) fn unknown(what: What, name: &str, among: impl Into<String>, known: Vec<String>) -> Self {
        let near = ha_core::names::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Self::Unknown {
            what,
            name: name.to_owned(),
            among: among.into(),
            near,
            known,
        }
    }

    /// Stable; scripts match on it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotOffered { code, .. } => code,
            Self::NoWorkspace(_) => "ha::workspace::missing",
            Self::Evaluate(error) => error.code(),
            Self::Invalid { .. } => "ha::workspace::invalid",
            Self::UnknownSetting { .. } => "ha::setting::unknown",
            Self::WrongSetting { .. } => "ha::setting::wrong_type",
            Self::Unknown { what: What::Region, .. } => "ha::region::unknown",
            Self::Unknown { what: What::Server, .. } => "ha::server::unknown",
            Self::Unknown { what: What::Group, .. } => "ha::group::unknown",
            Self::Unknown { what: What::Kind, .. } => "ha::kind::unknown",
            Self::Unknown { what: What::Render, .. } => "ha::render::unknown",
            Self::CloudTarget => "ha::target::cloud",
            Self::NoCredential { .. } => "ha::credential::missing",
            Self::Credential { .. } => "ha::credential::unreadable",
            Self::Busy(_) => "ha::workspace::busy",
            Self::NotProvisioned(_) => "ha::workspace::not_provisioned",
            Self::WrongName { .. } => "ha::destroy::wrong_name",
            Self::Exists(_) => "ha::init::exists",
            Self::NotAPlan(_) => "ha::provision::not_a_plan",
            Self::Blocked { .. } | Self::StillUsed { .. } => "ha::provision::blocked",
            Self::BadArgument { .. } => "ha::argument::invalid",
            Self::NoGuard(_) => "ha::guard::missing",
            Self::Provider(error) => error.code(),
            Self::Oracle(error) => error.code(),
            Self::Store(error) => match error {
                StoreError::Unreachable { .. } | StoreError::Options(_) => "ha::store::unreachable",
                StoreError::NoAnswer { .. } | StoreError::WatchEnded { .. } => "ha::store::no_answer",
                StoreError::OutcomeUnknown { .. } => "ha::store::unknown",
                StoreError::Refused { .. } => "ha::store::refused",
                StoreError::Malformed { .. } => "ha::store::malformed",
            },
            Self::Refused(refusals) => refusals.first().map_or("ha::agreement::refused", |it| it.code),
            Self::Io { .. } => "ha::io",
            Self::Interrupted => "ha::interrupted",
        }
    }

    /// What to type or change next.
    pub(crate) fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoWorkspace(_) => "run: ha init, or name one: --workspace path/to/workspace.ncl".into(),
            Self::Evaluate(error) => return error.help().or_else(|| Some("run: ha check".into())),
            Self::NotOffered { help, errors: 0 | 1, .. } => help.clone(),
            Self::NotOffered { help, errors, .. } => {
                format!("{help}; and {} more: ha check --offers", errors - 1)
            }
            Self::Invalid { errors: 0 | 1, .. } => "run: ha check".into(),
            Self::Invalid { errors, .. } => format!("run: ha check, which shows all {errors} errors with their places"),
            Self::UnknownSetting { near: Some(near), .. } => {
                format!("did you mean \"{near}\"? The settings are workspace, timeout and concurrency")
            }
            Self::UnknownSetting { near: None, .. } => {
                "the settings are workspace, timeout and concurrency; everything else belongs in config.toml".into()
            }
            Self::WrongSetting { key, expected, .. } => format!("give it {expected}: $env.config.plugins.{key} = …"),
            Self::Unknown { near: Some(near), .. } => format!("did you mean \"{near}\"?"),
            Self::Unknown { known, what, .. } if known.is_empty() => format!("there is no {what} at all"),
            Self::Unknown { known, .. } => format!("one of: {}", known.join(", ")),
            Self::CloudTarget => {
                "set target = \"local\" in config.toml to run the same workspace on this machine; ha inventory and ha plan \
                 ask the providers"
                    .into()
            }
            Self::NoCredential {
                provider,
                word,
                variable,
            } => format!(
                "set {variable} in this shell, or write in config.toml below [providers.{provider}]: {word} = {{ env = \
                 \"{variable}\" }}"
            ),
            Self::Credential { help, .. } => help.clone(),
            Self::Busy(_) => "try again when it is done; ha provision and ha destroy wait with --wait 5min".into(),
            Self::NotProvisioned(_) => "run: ha provision".into(),
            Self::WrongName { workspace, .. } => {
                format!("type its name in full to remove all of it: ha destroy {workspace}")
            }
            Self::Exists(_) => "choose an empty folder: mkdir shop; cd shop; ha init".into(),
            Self::NotAPlan(_) => "pipe rows of ha plan: ha plan | where region == us-east | ha provision".into(),
            Self::Blocked { .. } | Self::StillUsed { .. } => {
                "select those too, or run: ha provision, which does everything in order".into()
            }
            Self::BadArgument { help, .. } => help.clone(),
            Self::NoGuard(_) => "build it: cargo build -p ha-guard, or set HA_GUARD to its path".into(),
            Self::Provider(ProviderError::Io { source, .. }) => of_io(source).into(),
            Self::Provider(error) => error.help().unwrap_or_else(|| WHAT_HAPPENED.into()),
            Self::Oracle(error) => error.help().into(),
            Self::Store(StoreError::OutcomeUnknown { .. }) => {
                "see what holds now: ha lease; the same command again finishes it, and does nothing twice".into()
            }
            Self::Store(StoreError::Malformed { .. }) => {
                "another version wrote it, or somebody by hand: the guards act on nothing they cannot read".into()
            }
            Self::Store(_) => "nothing was changed; see which of its members answer: ha quorum".into(),
            Self::Refused(refusals) => return refusals.first().map(|it| it.help.clone()),
            Self::Io { source, .. } => of_io(source).into(),
            Self::Interrupted => "run the same command again: it finishes what is there".into(),
        })
    }

    /// A word or two for under the argument.
    pub(crate) fn mark(&self) -> &'static str {
        match self {
            Self::NoWorkspace(_) | Self::Evaluate(_) | Self::Invalid { .. } => "needs a workspace",
            Self::NotOffered { .. } => "needs what there is",
            Self::UnknownSetting { .. } => "unknown setting",
            Self::WrongSetting { .. } => "wrong type",
            Self::Unknown { .. } => "not known here",
            Self::CloudTarget => "needs the local target",
            Self::NoCredential { .. } | Self::Credential { .. } => "needs a credential",
            Self::NotProvisioned(_) => "needs something that runs",
            Self::WrongName { .. } => "another name",
            Self::NotAPlan(_) => "from here",
            Self::BadArgument { .. } => "this one",
            Self::Exists(_) => "needs an empty folder",
            Self::Blocked { .. } | Self::StillUsed { .. } => "selects too little",
            Self::Busy(_) => "has to wait",
            Self::Oracle(OracleError::NotPassed(_)) => "this is demanded",
            Self::Oracle(_) => "needs writes that flow",
            Self::Store(_) => "needs the agreement store",
            Self::Refused(_) => "refused, and nothing was changed",
            Self::Interrupted => "stopped here",
            Self::NoGuard(_) | Self::Provider(_) | Self::Io { .. } => "while running this",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn each() -> Vec<Failed> {
        let io = |kind| Failed::io("cannot read a file")(io::Error::from(kind));
        let unknown = |what, known: &[&str]| {
            Failed::unknown(
                what,
                "us-esat",
                "workspace shop",
                known.iter().map(|it| (*it).into()).collect(),
            )
        };
        vec![
            Failed::NoWorkspace("/shop".into()),
            Failed::Invalid {
                message: "no primary".into(),
                errors: 3,
            },
            Failed::UnknownSetting {
                key: "x".into(),
                near: None,
            },
            Failed::WrongSetting {
                key: "ha.timeout".into(),
                got: "int".into(),
                expected: "a duration",
            },
            unknown(What::Region, &["us-east"]),
            unknown(What::Server, &[]),
            unknown(What::Group, &["us-app"]),
            unknown(What::Kind, &["server"]),
            unknown(What::Render, &["haproxy"]),
            Failed::CloudTarget,
            Failed::NoCredential {
                provider: ProviderName::Hetzner,
                word: "token".into(),
                variable: "HCLOUD_TOKEN".into(),
            },
            Failed::Credential {
                of: "token of hetzner".into(),
                why: "token.txt can be read by others (mode 644)".into(),
                help: "type: chmod 600 token.txt".into(),
            },
            Failed::Busy("ha provision (process 7)".into()),
            Failed::NotProvisioned("shop".into()),
            Failed::WrongName {
                typed: "sohp".into(),
                workspace: "shop".into(),
            },
            Failed::Exists("/shop/workspace.ncl".into()),
            Failed::NotAPlan("it is int".into()),
            Failed::Blocked {
                step: "server us-app-1".into(),
                needs: vec!["network us-net".into()],
            },
            Failed::StillUsed {
                step: "server us-app-3".into(),
                by: vec!["load_balancer us-lb".into()],
            },
            Failed::BadArgument {
                what: "a delay below zero".into(),
                why: "nothing arrives before it is sent".into(),
                help: "ha net set --delay 0ms".into(),
            },
            Failed::NoGuard("/bin/ha-guard".into()),
            Failed::Provider(ProviderError::Other {
                what: "the relay went away".into(),
            }),
            Failed::Provider(ProviderError::Io {
                what: "cannot write".into(),
                source: io::ErrorKind::StorageFull.into(),
            }),
            Failed::Oracle(OracleError::NoListener),
            Failed::Store(StoreError::Unreachable {
                endpoints: vec!["https://127.0.0.1:2379".into()],
                reason: "connection refused".into(),
            }),
            Failed::Store(StoreError::OutcomeUnknown {
                endpoint: "https://127.0.0.1:2379".into(),
                key: "term".into(),
                reason: "the connection went".into(),
            }),
            Failed::refused(Refusal::new(
                "ha::agreement::paused",
                "ann paused the guards",
                "ha resume",
            )),
            Failed::Oracle(OracleError::NotPassed("1 lost".into())),
            io(io::ErrorKind::PermissionDenied),
            io(io::ErrorKind::Other),
            Failed::Interrupted,
        ]
    }

    #[test]
    fn every_failure_has_a_code_a_mark_and_what_to_do_next() {
        for failed in each() {
            let (text, help) = (failed.to_string(), failed.help().unwrap_or_default());
            assert!(failed.code().starts_with("ha::"), "{text}");
            assert!(!failed.mark().is_empty(), "{text}");
            assert!(!help.is_empty(), "{text} says nothing of what to do next");
            assert!(!text.ends_with('.') && !help.ends_with('.'), "{text}: {help}");
        }
    }
}
