//! `$env.config.plugins.ha`: the plugin's own settings. Everything else is `config.toml`.

use std::{path::PathBuf, time::Duration};

use nu_plugin::EngineInterface;
use nu_protocol::{FromValue, LabeledError, Value};

use crate::{error::Failed, nu::label};

const KEYS: [&str; 3] = ["workspace", "timeout", "concurrency"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) workspace: Option<PathBuf>,
    /// Of one request or probe.
    pub(crate) timeout: Duration,
    /// Steps and requests under way at once.
    pub(crate) concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workspace: None,
            timeout: Duration::from_secs(2),
            concurrency: 8,
        }
    }
}

impl Settings {
    pub(crate) fn read(engine: &EngineInterface) -> Result<Self, LabeledError> {
        match engine.get_plugin_config()? {
            Some(value) => Self::parse(value),
            None => Ok(Self::default()),
        }
    }

    /// The shell's own reading of records ignores unknown keys, and a misspelt setting must not be ignored.
    fn parse(value: Value) -> Result<Self, LabeledError> {
        let mut settings = Self::default();
        if value.is_nothing() {
            return Ok(settings);
        }
        let Value::Record { val, .. } = value else {
            return Err(wrong("ha", &value, "a record, as {timeout: 5sec}"));
        };
        for (key, value) in val.into_owned() {
            let span = value.span();
            let wrong = |expected, value: &Value| wrong(&format!("ha.{key}"), value, expected);
            match key.as_str() {
                _ if value.is_nothing() => {}
                "workspace" => match value {
                    Value::String { val, .. } => settings.workspace = Some(val.into()),
                    other => return Err(wrong("a path", &other)),
                },
                "timeout" => match Duration::from_value(value.clone()) {
                    Ok(timeout) if !timeout.is_zero() => settings.timeout = timeout,
                    _ => return Err(wrong("a duration above zero, as 5sec", &value)),
                },
                "concurrency" => match usize::from_value(value.clone()) {
                    Ok(count) if count > 0 => settings.concurrency = count,
                    _ => return Err(wrong("a number above zero", &value)),
                },
                _ => {
                    let near = ha_core::names::nearest(&key, KEYS).map(str::to_owned);
                    return Err(label(Failed::UnknownSetting { key, near }, span));
                }
            }
        }
        Ok(settings)
    }
}

fn wrong(key: &str, value: &Value, expected: &'static str) -> LabeledError {
    let failed = Failed::WrongSetting {
        key: key.to_owned(),
        got: value.get_type().to_string(),
        expected,
    };
    label(failed, value.span())
}

#[cfg(test)]
mod tests {
    use nu_protocol::record;

    use super::*;

    #[test]
    fn a_misspelt_setting_is_an_error_that_names_the_right_one() {
        let value = Value::test_record(record! { "timeuot" => Value::test_duration(1) });
        let error = Settings::parse(value).expect_err("must be refused");
        assert_eq!(error.code.as_deref(), Some("ha::setting::unknown"));
        assert!(error.help.is_some_and(|help| help.contains("\"timeout\"")));
    }

    #[test]
    fn settings_are_typed() {
        let value = Value::test_record(record! {
            "timeout" => Value::test_duration(3_000_000_000),
            "concurrency" => Value::test_int(2),
        });
        let settings = Settings::parse(value).expect("right settings");
        assert_eq!(settings.timeout, Duration::from_secs(3));
        assert_eq!(settings.concurrency, 2);
        let zero = Value::test_record(record! { "concurrency" => Value::test_int(0) });
        let error = Settings::parse(zero).expect_err("must be refused");
        assert_eq!(error.code.as_deref(), Some("ha::setting::wrong_type"));
        let error = Settings::parse(Value::test_int(3)).expect_err("must be refused");
        assert_eq!(error.code.as_deref(), Some("ha::setting::wrong_type"));
    }
}
