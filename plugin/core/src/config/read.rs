//! Reading TOML so that whatever is wrong has a place, and the rest is used all the same.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, GuardSource, ProviderConfig, Reference, RegionClaim, Target};
use crate::{
    check::codes,
    finding::{Finding, Place},
    names::{self, ProviderName, RegionName},
};

/// Credentials of each provider, with the variable that its own tools use.
const CREDENTIALS: [(ProviderName, &[(&str, &str)]); 3] = [
    (ProviderName::Digitalocean, &[("token", "DIGITALOCEAN_TOKEN")]),
    (ProviderName::Hetzner, &[("token", "HCLOUD_TOKEN")]),
    (
        ProviderName::Aws,
        &[
            ("access_key_id", "AWS_ACCESS_KEY_ID"),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
            ("session_token", "AWS_SESSION_TOKEN"),
        ],
    ),
];

type Value<'t> = Spanned<DeValue<'t>>;

pub(super) struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    findings: Vec<Finding>,
}

pub(super) fn read(text: &str, file: &str) -> (Config, Vec<Finding>) {
    let mut reader = Reader {
        text,
        file,
        findings: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = error.message().replace('\n', ", ");
        let finding = Finding::error(codes::CONFIG_SYNTAX, format!("not TOML: {message}"));
        let place = reader.place(error.span().unwrap_or(0..0));
        reader.findings.push(
            finding
                .placed(place)
                .help("correct the marked line, then run: ha check"),
        );
    }
    let garbled: Vec<usize> = reader
        .findings
        .iter()
        .filter_map(|it| Some(it.place.as_ref()?.line))
        .collect();
    let config = reader.config(document.get_ref());
    // What is recovered from a line that could not be read is a guess: nothing more is said of it.
    let worth_saying = |it: &Finding| {
        it.code == codes::CONFIG_SYNTAX || it.place.as_ref().is_none_or(|it| !garbled.contains(&it.line))
    };
    reader.findings.retain(worth_saying);
    (config, reader.findings)
}

impl Reader<'_> {
    fn config(&mut self, root: &DeTable) -> Config {
        self.known(root, "", &["target", "providers", "dns", "local", "cloud", "prices"]);
        let mut config = Config::default();
        if let Some(value) = root.get("target") {
            config.target = self.target(value);
        }
        if let Some(providers) = self.section(root, "providers") {
            for (key, value) in providers {
                if let Some(name) = self.provider_name(key, "providers")
                    && let Some(table) = self.table(value, &format!("providers.{name}"))
                {
                    config.providers.insert(name, self.provider(name, table));
                }
            }
        }
        if let Some(dns) = self.section(root, "dns") {
            self.known(dns, "dns", &["domain"]);
            config.dns_domain = dns.get("domain").and_then(|value| self.filled(value, "dns.domain"));
        }
        if let Some(local) = self.section(root, "local") {
            self.known(local, "local", &["app_command"]);
            let command = local.get("app_command");
            config.local.app_command = command.and_then(|value| self.command(value, "local.app_command"));
        }
        if let Some(cloud) = self.section(root, "cloud") {
            self.known(cloud, "cloud", &["ssh_public_key", "guard"]);
            let key = cloud.get("ssh_public_key");
            config.cloud.ssh_public_key = key
                .and_then(|value| self.filled(value, "cloud.ssh_public_key"))
                .map(PathBuf::from);
            let guard = cloud.get("guard");
            config.cloud.guard = guard.and_then(|value| self.guard(value));
        }
        if let Some(prices) = self.section(root, "prices") {
            for (key, value) in prices {
                if let Some(name) = self.provider_name(key, "prices")
                    && let Some(table) = self.table(value, &format!("prices.{name}"))
                {
                    config.prices.insert(name, self.prices(name, table));
                }
            }
        }
        config
    }

    fn target(&mut self, value: &Value) -> Target {
        const KNOWN: [&str; 2] = ["local", "cloud"];
        let Some(word) = self.text(value, "target") else {
            return Target::default();
        };
        match word.as_str() {
            "local" => Target::Local,
            "cloud" => Target::Cloud,
            other => {
                let help = match names::nearest(other, KNOWN) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write target = \"local\" or target = \"cloud\"".to_owned(),
                };
                let message = format!("\"{other}\" is not a target");
                self.error(codes::CONFIG_VALUE, message, "target", value.span(), help);
                Target::default()
            }
        }
    }

    fn provider_name(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, section: &str) -> Option<ProviderName> {
        let word = key.get_ref().as_ref();
        let found = ProviderName::parse(word).filter(|name| *name != ProviderName::Local);
        if found.is_none() {
            let known = CREDENTIALS.map(|(name, _)| name.as_str());
            let help = match names::nearest(word, known) {
                _ if word == "local" => "what concerns this machine belongs into [local]".to_owned(),
                Some(near) => format!("did you mean [{section}.{near}]?"),
                None => format!("known providers: {}", known.join(", ")),
            };
            let path = format!("{section}.{word}");
            self.error(
                codes::CONFIG_UNKNOWN_KEY,
                format!("no provider is called \"{word}\""),
                &path,
                key.span(),
                help,
            );
        }
        found
    }

    fn provider(&mut self, name: ProviderName, table: &DeTable) -> ProviderConfig {
        let path = format!("providers.{name}");
        let credentials = CREDENTIALS
            .iter()
            .find(|(it, _)| *it == name)
            .map_or(&[][..], |(_, keys)| keys);
        let mut keys = vec!["region_name", "endpoint"];
        keys.extend(credentials.iter().map(|(key, _)| *key));
        self.known(table, &path, &keys);
        let mut config = ProviderConfig::default();
        if let Some(value) = table.get("region_name") {
            config.regions = self.region_names(value, &format!("{path}.region_name"));
        }
        if let Some(value) = table.get("endpoint") {
            config.endpoint = self.endpoint(value, &format!("{path}.endpoint"));
        }
        for (key, variable) in credentials {
            let entry = table.get_key_value(*key);
            if let Some((spanned, value)) = entry
                && let Some(found) = self.reference(spanned.span(), value, &format!("{path}.{key}"), variable)
            {
                config.credentials.insert((*key).to_owned(), found);
            }
        }
        config
    }

    /// `"us-east"`, `["us-east", "us-west"]`, or `{ nyc3 = "us-east", sfo3 = "us-west" }`.
    fn region_names(&mut self, value: &Value, path: &str) -> Vec<RegionClaim> {
        let mut out = Vec::new();
        let mut claim = |reader: &mut Self, value: &Value, path: &str, location: Option<String>| {
            let region = reader.filled(value, path)?;
            out.push(RegionClaim {
                region: RegionName::new(region),
                location,
                place: Some(reader.place(value.span())),
            });
            Some(())
        };
        match value.get_ref() {
            DeValue::String(_) => drop(claim(self, value, path, None)),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    claim(self, item, &format!("{path}[{at}]"), None);
                }
            }
            DeValue::Table(table) => {
                for (key, item) in table {
                    let location = key.get_ref().as_ref();
                    claim(self, item, &format!("{path}.{location}"), Some(location.to_owned()));
                }
            }
            other => self.wrong_type(
                path,
                value.span(),
                "a name, a list of names or a table of names",
                other.type_str(),
            ),
        }
        out
    }

    fn endpoint(&mut self, value: &Value, path: &str) -> Option<String> {
        let text = self.filled(value, path)?;
        if text.starts_with("https://") || text.starts_with("http://") {
            return Some(text);
        }
        let help = "write it in full: endpoint = \"https://api.example.com\"";
        self.error(
            codes::CONFIG_VALUE,
            format!("\"{text}\" is not an address"),
            path,
            value.span(),
            help,
        );
        None
    }

    /// `{ url = "https://…", sha256 = "…" }`
    fn guard(&mut self, value: &Value) -> Option<GuardSource> {
        let table = self.table(value, "cloud.guard")?;
        self.known(table, "cloud.guard", &["url", "sha256"]);
        let help = "write guard = { url = \"https://…\", sha256 = \"…\" } with the first word that sha256sum prints";
        let (Some(url), Some(sha256)) = (table.get("url"), table.get("sha256")) else {
            let message = "cloud.guard needs url and sha256".to_owned();
            self.error(codes::CONFIG_VALUE, message, "cloud.guard", value.span(), help);
            return None;
        };
        let url = self.endpoint(url, "cloud.guard.url")?;
        let hash = self.filled(sha256, "cloud.guard.sha256")?;
        if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(GuardSource { url, sha256: hash });
        }
        let message = "cloud.guard.sha256 is no SHA-256: it has 64 hexadecimal digits".to_owned();
        self.error(codes::CONFIG_VALUE, message, "cloud.guard.sha256", sha256.span(), help);
        None
    }

    /// The value is never repeated in a message: it may be the secret itself.
    fn reference(&mut self, key: Range<usize>, value: &Value, path: &str, variable: &str) -> Option<Reference> {
        const KNOWN: [&str; 3] = ["env", "command", "file"];
        let name = path.rsplit('.').next().unwrap_or(path);
        let example = format!("{name} = {{ env = \"{variable}\" }}");
        let table = match value.get_ref() {
            DeValue::Table(table) => table,
            _ => {
                let message = format!("{path} is written out; a secret is only ever named here");
                let help = format!(
                    "write {example}, or {{ command = [\"pass\", \"show\", \"…\"] }}, or {{ file = \"…\" }} of mode 0600; \
                     if it was a real one, revoke it at the provider"
                );
                self.error(codes::CONFIG_LITERAL_SECRET, message, path, key, help);
                return None;
            }
        };
        self.known(table, path, &KNOWN);
        let given: Vec<&str> = KNOWN.into_iter().filter(|kind| table.get(*kind).is_some()).collect();
        let [kind] = given[..] else {
            if given.len() > 1 || table.is_empty() {
                let message = format!("{path} needs exactly one of env, command and file");
                self.error(
                    codes::CONFIG_VALUE,
                    message,
                    path,
                    value.span(),
                    format!("write {example}"),
                );
            }
            return None;
        };
        let inner = table.get(kind)?;
        let path = format!("{path}.{kind}");
        match kind {
            "command" => self.command(inner, &path).map(Reference::Command),
            "file" => self
                .filled(inner, &path)
                .map(|file| Reference::File(PathBuf::from(file))),
            _ => {
                let name = self.filled(inner, &path)?;
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Some(Reference::Env(name));
                }
                let message = format!("{path} is not the name of an environment variable");
                let help = format!("only its name, without $ or braces: {example}");
                self.error(codes::CONFIG_VALUE, message, &path, inner.span(), help);
                None
            }
        }
    }

    fn command(&mut self, value: &Value, path: &str) -> Option<Vec<String>> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(
                path,
                value.span(),
                "a list, the program first",
                value.get_ref().type_str(),
            );
            return None;
        };
        let words: Option<Vec<String>> = items.iter().map(|item| self.text(item, path)).collect();
        let words = words?;
        if words.first().is_none_or(String::is_empty) {
            let message = format!("{path} names no program");
            let help = "leave it out, or name a program: [\"/usr/bin/app\", \"--flag\"]";
            self.error(codes::CONFIG_VALUE, message, path, value.span(), help);
            return None;
        }
        Some(words)
    }

    fn prices(&mut self, name: ProviderName, table: &DeTable) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::new();
        for (key, value) in table {
            let size = key.get_ref();
            let path = format!("prices.{name}.{size}");
            let price = match value.get_ref() {
                DeValue::Integer(number) => i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
                    .ok()
                    .map(|whole| whole as f64),
                DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
                DeValue::Table(_) => {
                    let help = format!("a size with a dot in it needs quotes: \"{size}.…\" = 30.0");
                    self.error(
                        codes::CONFIG_TYPE,
                        format!("{path} is a table, not a price"),
                        &path,
                        key.span(),
                        help,
                    );
                    continue;
                }
                other => {
                    self.wrong_type(&path, value.span(), "dollars a month, a number", other.type_str());
                    continue;
                }
            };
            match price.filter(|price| price.is_finite() && *price >= 0.0) {
                Some(price) => drop(out.insert(size.to_string(), price)),
                None => {
                    let help = "write dollars a month: 24.0";
                    self.error(
                        codes::CONFIG_VALUE,
                        format!("{path} is not a price"),
                        &path,
                        value.span(),
                        help,
                    );
                }
            }
        }
        out
    }

    fn section<'t>(&mut self, root: &'t DeTable<'t>, name: &str) -> Option<&'t DeTable<'t>> {
        root.get(name).and_then(|value| self.table(value, name))
    }

    fn table<'t>(&mut self, value: &'t Value<'t>, path: &str) -> Option<&'t DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let found = value.get_ref().type_str();
            self.wrong_type(path, value.span(), &format!("a section, [{path}]"), found);
        }
        table
    }

    fn text(&mut self, value: &Value, path: &str) -> Option<String> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(path, value.span(), "text in quotes", value.get_ref().type_str());
        }
        text.map(str::to_owned)
    }

    fn filled(&mut self, value: &Value, path: &str) -> Option<String> {
        let text = self.text(value, path)?;
        if !text.trim().is_empty() {
            return Some(text);
        }
        let help = "fill it in, or leave the line out";
        self.error(
            codes::CONFIG_VALUE,
            format!("{path} is empty"),
            path,
            value.span(),
            help,
        );
        None
    }

    fn known(&mut self, table: &DeTable, path: &str, keys: &[&str]) {
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if keys.contains(&word) {
                continue;
            }
            let full = if path.is_empty() {
                word.to_owned()
            } else {
                format!("{path}.{word}")
            };
            let help = match names::nearest(word, keys.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", keys.join(", ")),
            };
            self.error(
                codes::CONFIG_UNKNOWN_KEY,
                format!("unknown key {full}"),
                &full,
                key.span(),
                help,
            );
        }
    }

    fn wrong_type(&mut self, path: &str, span: Range<usize>, wanted: &str, found: &str) {
        let message = format!("{path} should be {wanted}");
        self.error(
            codes::CONFIG_TYPE,
            message,
            path,
            span,
            format!("this is a TOML {found}"),
        );
    }

    fn error(&mut self, code: &str, message: String, path: &str, span: Range<usize>, help: impl Into<String>) {
        let place = self.place(span);
        self.findings
            .push(Finding::error(code, message).at(path).placed(place).help(help));
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::of(self.file, self.text, span)
    }
}
