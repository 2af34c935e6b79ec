//! Reads a workspace: flag, settings, files, evaluation.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ha_core::{
    check::codes,
    config::{self, Config, Target},
    finding::{self, Finding, Severity},
    model::Workspace,
};
use ha_nickel::{Evaluation, evaluate};
use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Span, Spanned};

use super::{Places, Settings, find};
use crate::{
    HaPlugin,
    error::{Failed, What},
    log,
    nu::At,
};

/// One workspace as one command sees it.
pub(crate) struct Context {
    /// `workspace.ncl`, absolute.
    pub(crate) file: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) places: Places,
    pub(crate) config: Config,
    config_findings: Vec<Finding>,
    evaluation: Arc<Evaluation>,
    span: Span,
}

impl Context {
    /// Finds and reads the workspace of this call. What is wrong *in* it is kept as findings.
    pub(crate) fn open(
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        let named: Option<Spanned<String>> = call.get_flag("workspace")?;
        let span = named.as_ref().map_or(call.head, |named| named.span);
        Self::open_named(plugin, engine, named.map(|it| it.item.into()), span)
    }

    pub(crate) fn open_named(
        plugin: &HaPlugin,
        engine: &EngineInterface,
        named: Option<PathBuf>,
        span: Span,
    ) -> Result<Self, LabeledError> {
        let settings = Settings::read(engine)?;
        let places = Places::ask(engine)?;
        log::follow(places.variable(log::VARIABLE).as_deref()).at(span)?;
        let here = PathBuf::from(engine.get_current_dir()?);
        let file = find::find(named.as_deref().or(settings.workspace.as_deref()), &here).at(span)?;
        let evaluation = plugin.evaluations.get(&file, &places.cache()).at(span)?;
        let (config, config_findings) = read_config(&file.with_file_name(find::CONFIG)).at(span)?;
        Ok(Self {
            file,
            settings,
            places,
            config,
            config_findings,
            evaluation,
            span,
        })
    }

    /// The typed workspace; only one that could not be read into types is refused here.
    pub(crate) fn workspace(&self) -> Result<&Workspace, LabeledError> {
        match &self.evaluation.workspace {
            Some(workspace) => Ok(workspace),
            None => Err(crate::nu::label(invalid(&self.evaluation.findings), self.span)),
        }
    }

    /// The typed workspace when nothing at all is wrong with it.
    pub(crate) fn sound(&self) -> Result<&Workspace, LabeledError> {
        let workspace = self.workspace()?;
        let findings = self.findings();
        if findings.iter().any(|it| it.severity == Severity::Error) {
            return Err(crate::nu::label(invalid(&findings), self.span));
        }
        Ok(workspace)
    }

    /// For what asks the guards and the stores themselves: at the clouds this version has no way to them.
    pub(crate) fn local(&self) -> Result<(), Failed> {
        match self.config.target {
            Target::Local => Ok(()),
            Target::Cloud => Err(Failed::CloudTarget),
        }
    }

    /// Everything there is to say about workspace and configuration, placed and sorted.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.evaluation.findings.clone();
        // Rules across regions speak even where a field of one of them is wrong.
        if let Some(workspace) = self.evaluation.to_check() {
            findings.extend(ha_core::check::run(workspace, &self.config));
        }
        self.evaluation.map.resolve(&mut findings);
        findings.extend(self.config_findings.iter().cloned());
        finding::sort(&mut findings);
        findings.dedup();
        findings
    }

    /// Gives what others found its places in the files.
    pub(crate) fn placed(&self, mut findings: Vec<Finding>) -> Vec<Finding> {
        self.evaluation.map.resolve(&mut findings);
        finding::sort(&mut findings);
        findings
    }

    /// Refuses a plan to which there is an objection that is an error; these have no places yet.
    pub(crate) fn unobjected(&self, objections: Vec<Finding>) -> Result<(), Failed> {
        let objections = self.placed(objections);
        let errors = objections.iter().filter(|it| it.severity == Severity::Error);
        let Some(first) = errors.clone().next() else {
            return Ok(());
        };
        let known = codes::ALL.iter().find(|(code, _)| *code == first.code);
        Err(Failed::NotOffered {
            code: known.map_or(codes::OFFER_UNKNOWN, |(code, _)| code),
            message: located(first),
            help: first
                .help
                .clone()
                .unwrap_or_else(|| "run: ha check --offers".to_owned()),
            errors: errors.count(),
        })
    }

    /// The text of one of the files, as it was when it was read; places of findings count its bytes.
    /// None when the file went away since then: there is nothing to draw.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        match self.evaluation.map.text(file) {
            Some(text) => Some(text.to_owned()),
            None => std::fs::read_to_string(file).ok(),
        }
    }

    /// The region of `--region`, checked.
    pub(crate) fn region(&self, call: &EvaluatedCall) -> Result<Option<String>, LabeledError> {
        match call.get_flag::<Spanned<String>>("region")? {
            Some(region) => self.known_region(region).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn known_region(&self, region: Spanned<String>) -> Result<String, LabeledError> {
        let workspace = self.workspace()?;
        if workspace.region(&region.item).is_some() {
            return Ok(region.item);
        }
        let known = workspace.regions.iter().map(|it| it.name.to_string()).collect();
        let among = format!("workspace {}", workspace.name);
        Err(Failed::unknown(What::Region, &region.item, among, known)).at(region.span)
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

fn invalid(findings: &[Finding]) -> Failed {
    let errors = findings.iter().filter(|it| it.severity == Severity::Error);
    let message = match errors.clone().next() {
        Some(finding) => located(finding),
        None => "the workspace could not be read".to_owned(),
    };
    Failed::Invalid {
        message,
        errors: errors.count(),
    }
}

/// The message, behind its place where it has one.
fn located(finding: &Finding) -> String {
    let message = &finding.message;
    match &finding.place {
        Some(place) => format!("{}:{}:{}: {message}", place.file, place.line, place.column),
        None => message.clone(),
    }
}

pub(super) fn read_config(path: &Path) -> Result<(Config, Vec<Finding>), Failed> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(config::parse(&text, &path.display().to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((Config::default(), Vec::new())),
        Err(source) => Err(Failed::io(format!("cannot read {}", path.display()))(source)),
    }
}

/// Evaluations of this process, by path and contents. A cache: losing it costs time only.
#[derive(Default)]
pub(crate) struct Evaluations(Mutex<Vec<(Key, Arc<Evaluation>)>>);

#[derive(PartialEq, Eq)]
struct Key {
    path: PathBuf,
    text: blake3::Hash,
}

/// A person works on few workspaces at once.
const KEPT: usize = 4;

impl Evaluations {
    fn get(&self, path: &Path, cache: &Path) -> Result<Arc<Evaluation>, Failed> {
        let key = Key::of(path);
        if let Some(key) = &key
            && let Some((_, known)) = self.lock().iter().find(|(it, _)| it == key)
        {
            return Ok(known.clone());
        }
        // Not under the lock: two first callers evaluate twice, and nobody waits for a slow file.
        let evaluation = Arc::new(evaluate(path, cache)?);
        if let Some(key) = key {
            let mut kept = self.lock();
            kept.retain(|(it, _)| it.path != key.path);
            kept.truncate(KEPT - 1);
            kept.insert(0, (key, evaluation.clone()));
        }
        Ok(evaluation)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Key, Arc<Evaluation>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    /// None when the file's own text does not decide the outcome: it cannot be read, or imports more than the
    /// library, or a file of the library's name stands in front of it.
    fn of(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let imports = text.matches("import").count();
        let of_library = text.matches("import \"ha.ncl\"").count();
        if imports != of_library || path.with_file_name("ha.ncl").exists() {
            return None;
        }
        Some(Self {
            path: path.to_owned(),
            text: blake3::hash(text.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_workspace_that_imports_nothing_else_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("workspace.ncl");
        std::fs::write(&file, "let ha = import \"ha.ncl\" in {}").expect("a file");
        assert!(Key::of(&file).is_some());
        std::fs::write(&file, "(import \"ha.ncl\") & (import \"own.ncl\")").expect("a file");
        assert!(Key::of(&file).is_none());
        std::fs::write(&file, "import \"ha.ncl\"").expect("a file");
        std::fs::write(folder.path().join("ha.ncl"), "{}").expect("a file");
        assert!(Key::of(&file).is_none());
    }
}
