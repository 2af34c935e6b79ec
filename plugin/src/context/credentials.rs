//! What `config.toml` refers to, fetched when a provider is asked and kept nowhere.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use ha_cloud::secret::Secret;
use ha_core::{
    config::{Config, Reference},
    names::ProviderName,
};
use nu_plugin::EngineInterface;
use nu_protocol::Value;

use crate::error::Failed;

/// A password manager may ask its owner something first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The words of `[providers.<name>]` and the variables that each provider's own tools read.
const USUAL: [(ProviderName, &str, &str); 5] = [
    (ProviderName::Digitalocean, "token", "DIGITALOCEAN_TOKEN"),
    (ProviderName::Hetzner, "token", "HCLOUD_TOKEN"),
    (ProviderName::Aws, "access_key_id", "AWS_ACCESS_KEY_ID"),
    (ProviderName::Aws, "secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    (ProviderName::Aws, "session_token", "AWS_SESSION_TOKEN"),
];

/// Where the credentials of one workspace are looked for.
pub(super) struct Credentials<'a> {
    pub(super) engine: &'a EngineInterface,
    pub(super) config: &'a Config,
    /// Files are named from here: the folder of `config.toml`.
    pub(super) folder: &'a Path,
}

impl Credentials<'_> {
    /// The one that must be there.
    pub(super) fn required(&self, provider: ProviderName, word: &str) -> Result<Secret, Failed> {
        self.optional(provider, word)?.ok_or_else(|| Failed::NoCredential {
            provider,
            word: word.to_owned(),
            variable: usual(provider, word).unwrap_or_default().to_owned(),
        })
    }

    /// What `config.toml` refers to wins over the usual variable; none where neither is there.
    pub(super) fn optional(&self, provider: ProviderName, word: &str) -> Result<Option<Secret>, Failed> {
        let named = self.config.providers.get(&provider);
        let found = match named.and_then(|it| it.credentials.get(word)) {
            Some(reference) => Some(self.fetch(provider, word, reference)?),
            None => usual(provider, word).and_then(|name| self.variable(name)),
        };
        Ok(found.map(Secret::new))
    }

    fn fetch(&self, provider: ProviderName, word: &str, reference: &Reference) -> Result<String, Failed> {
        let of = format!("{word} of {provider}");
        let failed = |why: String, help: &str| Failed::Credential {
            of: of.clone(),
            why,
            help: help.to_owned(),
        };
        let text = match reference {
            Reference::Env(name) => self
                .variable(name)
                .ok_or_else(|| failed(format!("the variable {name} is not set"), "set it in this shell"))?,
            Reference::File(path) => {
                let path = self.folder.join(path);
                let shown = path.display();
                let mode = fs::metadata(&path)
                    .map_err(|error| failed(format!("{shown}: {error}"), "name an existing file in config.toml"))?
                    .mode();
                if mode & 0o077 != 0 {
                    let why = format!("{shown} can be read by others (mode {:o})", mode & 0o777);
                    return Err(failed(why, &format!("type: chmod 600 {shown}")));
                }
                fs::read_to_string(&path).map_err(|error| {
                    failed(
                        format!("{shown}: {error}"),
                        "make it readable for you, and only for you",
                    )
                })?
            }
            Reference::Command(words) => {
                run(words).map_err(|why| failed(why, "run it in a terminal and see what it says"))?
            }
        };
        let first = text.lines().next().unwrap_or_default().trim();
        if first.is_empty() {
            return Err(failed("it is empty".to_owned(), "put the credential itself there"));
        }
        Ok(first.to_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        match self.engine.get_env_var(name) {
            Ok(Some(Value::String { val, .. })) if !val.is_empty() => Some(val),
            _ => None,
        }
    }
}

fn usual(provider: ProviderName, word: &str) -> Option<&'static str> {
    let found = USUAL.iter().find(|it| it.0 == provider && it.1 == word);
    found.map(|it| it.2)
}

/// The output of a command that ends well and in time. What it says to a person goes to the person.
fn run(words: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // Read beside it, so that one which never ends is given up; what it prints ends when it does.
    let output = child.stdout.take();
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.map_or(Ok(0), |mut output| output.read_to_end(&mut text));
        // Nobody listens any more when it took too long.
        let _ = said.send(read.map(|_| text));
    });
    let Ok(text) = heard.recv_timeout(PATIENCE) else {
        // It had its time; whether it is gone already is no matter.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{program} did not end within {} s", PATIENCE.as_secs()));
    };
    let text = text.map_err(|error| format!("{program}: its output cannot be read: {error}"))?;
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    if !status.success() {
        return Err(format!("{program} ended with {status}"));
    }
    String::from_utf8(text).map_err(|_| format!("{program} printed no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_command_gives_what_it_prints_or_why_not() {
        assert_eq!(run(&words(&["echo", "tok-1"])).as_deref(), Ok("tok-1\n"));
        assert_eq!(
            run(&words(&["false"])),
            Err("false ended with exit status: 1".to_owned())
        );
        assert!(run(&words(&["no-such-program"])).is_err_and(|why| why.starts_with("no-such-program: ")));
        assert_eq!(run(&[]), Err("the command is empty".to_owned()));
    }

    #[test]
    fn each_provider_s_own_variable_is_known() {
        assert_eq!(usual(ProviderName::Hetzner, "token"), Some("HCLOUD_TOKEN"));
        assert_eq!(usual(ProviderName::Aws, "session_token"), Some("AWS_SESSION_TOKEN"));
        assert_eq!(usual(ProviderName::Aws, "token"), None);
    }
}
