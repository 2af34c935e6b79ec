//! Flags that many commands share, and their completions.

use nu_protocol::{Category, Completion, Flag, Signature, SyntaxShape};

pub(crate) const KINDS: &[&str] = &[
    "network",
    "firewall",
    "volume",
    "server",
    "store",
    "database",
    "load_balancer",
];

/// Everything starts from here: category and the flag that names the workspace.
pub(crate) fn signature(name: &str) -> Signature {
    Signature::build(name).category(category()).param(
        Flag::new("workspace")
            .short('w')
            .arg(SyntaxShape::Filepath)
            .desc("workspace.ncl, or the folder it is in; default: upward from the current folder"),
    )
}

pub(crate) fn category() -> Category {
    Category::Custom("ha".into())
}

pub(crate) fn region() -> Flag {
    Flag::new("region")
        .short('r')
        .arg(SyntaxShape::String)
        .desc("only this region")
}

pub(crate) fn dry_run() -> Flag {
    Flag::new("dry-run")
        .short('n')
        .desc("show what would be done and change nothing")
}

pub(crate) fn kinds() -> Completion {
    Completion::new_list(KINDS)
}

/// Completes `--region` and the flags named from the workspace. The shell calls this API experimental and
/// marks it deprecated to say so.
macro_rules! complete {
    ($($flag:literal => $list:path),+ $(; $position:literal => $positional:path)?) => {
        #[expect(deprecated, reason = "the shell's mark for an experimental API")]
        fn get_dynamic_completion(
            &self,
            plugin: &Self::Plugin,
            engine: &nu_plugin::EngineInterface,
            _call: nu_plugin::DynamicCompletionCall,
            arg_type: nu_protocol::engine::ArgType<'_>,
            _experimental: nu_protocol::engine::ExperimentalMarker,
        ) -> Option<Vec<nu_protocol::DynamicSuggestion>> {
            match arg_type {
                $(nu_protocol::engine::ArgType::Flag(name) if name == $flag => Some($list(plugin, engine)),)+
                $(nu_protocol::engine::ArgType::Positional($position) => Some($positional(plugin, engine)),)?
                _ => None,
            }
        }
    };
}
pub(crate) use complete;
