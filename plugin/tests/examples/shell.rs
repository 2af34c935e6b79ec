//! A shell in the process of the test, and its answers.

use std::path::{Path, PathBuf};

use nu_plugin_ha::HaPlugin;
use nu_plugin_test_support::PluginTest;
use nu_protocol::{LabeledError, PipelineData, ShellError, Span, Value};
use tempfile::TempDir;

/// The project's own example, which the documents show.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) struct Shell {
    pub(crate) test: PluginTest,
    pub(crate) folder: TempDir,
}

impl Shell {
    /// A shell in `here`, with a state folder of its own.
    pub(crate) fn at(here: &Path) -> Self {
        let mut test = PluginTest::new("ha", HaPlugin::default().into()).expect("the plugin loads");
        let folder = tempfile::tempdir().expect("a folder");
        let state = test.engine_state_mut();
        let mut set = |name: &str, path: &Path| {
            state.add_env_var(name.into(), Value::test_string(path.display().to_string()));
        };
        set("PWD", here);
        set("HA_STATE_HOME", &folder.path().join("state"));
        set("HA_RUNTIME_DIR", &folder.path().join("run"));
        set("XDG_CACHE_HOME", &folder.path().join("cache"));
        Self { test, folder }
    }

    pub(crate) fn example() -> Self {
        Self::at(&example().canonicalize().expect("the project's folder"))
    }

    /// A workspace made of the example with changes.
    pub(crate) fn with(change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = std::fs::read_to_string(example().join("workspace.ncl")).expect("the example");
        std::fs::write(folder.path().join("workspace.ncl"), change(text)).expect("a workspace");
        let mut shell = Self::at(folder.path());
        // Kept as long as the shell.
        std::fs::create_dir_all(shell.folder.path()).expect("a folder");
        let kept = std::mem::replace(&mut shell.folder, folder);
        drop(kept);
        let root = shell.folder.path().to_owned();
        let state = shell.test.engine_state_mut();
        for (name, below) in [("HA_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")] {
            state.add_env_var(name.into(), Value::test_string(root.join(below).display().to_string()));
        }
        shell
    }

    pub(crate) fn settings(mut self, settings: Value) -> Self {
        let state = self.test.engine_state_mut();
        let mut config = (**state.get_config()).clone();
        config.plugins.insert("ha".into(), settings);
        state.set_config(config);
        self
    }

    pub(crate) fn rows(&mut self, code: &str) -> Vec<Value> {
        let value = self.test.eval(code).and_then(PipelineData::into_value_of_test);
        value.expect(code).into_list().expect("a table")
    }

    pub(crate) fn refused(&mut self, code: &str) -> LabeledError {
        match self.test.eval(code).and_then(PipelineData::into_value_of_test) {
            Err(ShellError::LabeledError(error)) => *error,
            other => panic!("{code}: expected an error of the plugin, got {other:?}"),
        }
    }
}

trait OfTest: Sized {
    fn into_value_of_test(self) -> Result<Value, ShellError>;
}

impl OfTest for PipelineData {
    fn into_value_of_test(self) -> Result<Value, ShellError> {
        self.into_value(Span::test_data())
    }
}

pub(crate) fn code(error: &LabeledError) -> &str {
    error.code.as_deref().unwrap_or_default()
}

pub(crate) fn columns(rows: &[Value]) -> Vec<String> {
    let record = rows.first().expect("a row").as_record().expect("a record");
    record.columns().cloned().collect()
}

pub(crate) fn text(row: &Value, column: &str) -> String {
    let value = row
        .get_data_by_key(column)
        .unwrap_or_else(|| panic!("no column {column}"));
    value.coerce_into_string().unwrap_or_default()
}
