//! What every command about the agreement begins with.

use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Span};
use tokio::runtime::Runtime;

use super::Agreement;
use crate::{
    HaPlugin,
    acts::Acts,
    context::Context,
    error::Failed,
    nu::{At, Wanted},
};

pub(crate) struct Session<'a> {
    pub(crate) head: Span,
    pub(crate) runtime: &'a Runtime,
    pub(crate) wanted: Wanted,
    pub(crate) agreement: Arc<Agreement>,
    pub(crate) acts: Acts,
}

impl<'a> Session<'a> {
    /// The workspace of this call, and where everything of it is.
    pub(crate) fn open(
        plugin: &'a HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.workspace()?.clone();
        context.local().at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let agreement = wanted
            .block_on(runtime, Agreement::open(&context, &workspace))
            .at(head)?;
        let acts = context.acts(&workspace, &agreement.provider);
        Ok(Self {
            head,
            runtime,
            wanted,
            agreement: Arc::new(agreement),
            acts,
        })
    }

    /// As long as somebody waits for it.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = Result<T, Failed>>) -> Result<T, LabeledError> {
        self.wanted.block_on(self.runtime, work).at(self.head)
    }
}
