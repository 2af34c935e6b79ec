//! Whether anybody still waits for the answer.

use std::{os::unix::process::parent_id, sync::LazyLock, time::Duration};

use nu_plugin::EngineInterface;
use nu_protocol::{HandlerGuard, ShellError, SignalAction};
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Failed;

/// The shell that started this process. When it dies, the process gets another parent.
static SHELL: LazyLock<u32> = LazyLock::new(parent_id);

const SHELL_GONE_EVERY: Duration = Duration::from_millis(500);

/// Remembers which process is the shell; called once, before anything can outlive it.
pub(crate) fn remember_shell() {
    LazyLock::force(&SHELL);
}

/// Stands for the interest of one caller. The token is cancelled by Ctrl-C, by the death of the shell, and
/// when this value is dropped: work that was started for a stream ends when nobody reads the stream any more.
pub(crate) struct Wanted {
    token: CancellationToken,
    _on_drop: DropGuard,
    _handler: HandlerGuard,
}

impl Wanted {
    pub(crate) fn new(engine: &EngineInterface, runtime: &Runtime) -> Result<Self, ShellError> {
        let token = CancellationToken::new();
        let interrupted = token.clone();
        let handler = engine.register_signal_handler(Box::new(move |action| {
            if action == SignalAction::Interrupt {
                interrupted.cancel();
            }
        }))?;
        // A Ctrl-C that came before the handler was there.
        if engine.signals().interrupted() {
            token.cancel();
        }
        let orphaned = token.clone();
        runtime.spawn(async move {
            // Nothing tells a process that its parent died without a signal handler, which this one leaves alone.
            let mut look = tokio::time::interval(SHELL_GONE_EVERY);
            loop {
                tokio::select! {
                    () = orphaned.cancelled() => return,
                    _ = look.tick() => if parent_id() != *SHELL {
                        orphaned.cancel();
                        return;
                    },
                }
            }
        });
        Ok(Self {
            _on_drop: token.clone().drop_guard(),
            token,
            _handler: handler,
        })
    }

    /// Waits for `work`, and no longer than somebody waits for it.
    pub(crate) fn block_on<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.token.cancelled() => Err(Failed::Interrupted),
            }
        })
    }

    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
