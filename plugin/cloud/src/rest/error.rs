//! What can go wrong with one request, told apart by what the caller can do about it.

use std::{fmt, time::Duration};

use crate::ProviderError;

/// A request that did not end in the answer it was sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestError {
    /// `hetzner: POST /servers`
    pub at: String,
    /// A request that only reads. One that does not may have acted: [`RestError::may_have_acted`].
    pub reads: bool,
    /// From the first attempt to the end of the last.
    pub took: Duration,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider's own refusal.
    Answered {
        status: u16,
        /// The provider's word for it: `uniqueness_error`.
        code: Option<String>,
        message: String,
    },
    NotJson {
        status: u16,
        html: bool,
    },
    /// JSON, and not of the form that the provider documents.
    Shape {
        why: String,
    },
    ConnectionRefused {
        host: String,
    },
    Certificate {
        host: String,
        why: String,
    },
    /// No connection, for another reason; nothing was sent.
    Unreachable {
        host: String,
        why: String,
    },
    /// Sent, and no answer in time.
    NoAnswer {
        after: Duration,
    },
    /// The connection broke after the request was sent, or while it was.
    Broken {
        why: String,
    },
    RateLimited {
        retry_after: Option<Duration>,
    },
    /// The pages of a list would not fit together, however often they were read.
    Shifting,
}

impl RestError {
    /// The provider's own word for it, where it gave one.
    pub fn code(&self) -> Option<&str> {
        match &self.fault {
            Fault::Answered { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self.fault {
            Fault::Answered { status, .. } | Fault::NotJson { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether something may have been changed. `false` is a proof that it was not.
    pub fn may_have_acted(&self) -> bool {
        !self.reads
            && match self.fault {
                Fault::Answered { status, .. } => status >= 500,
                // A proxy answered 4xx in the provider's place; after 2xx and 5xx nobody knows how far it went.
                Fault::NotJson { status, .. } => !(300..500).contains(&status),
                Fault::Shape { .. } | Fault::NoAnswer { .. } | Fault::Broken { .. } => true,
                Fault::ConnectionRefused { .. }
                | Fault::Certificate { .. }
                | Fault::Unreachable { .. }
                | Fault::RateLimited { .. }
                | Fault::Shifting => false,
            }
    }

    /// Whether asking again, a little later, may end better.
    pub(super) fn passes(&self) -> bool {
        match self.fault {
            Fault::Answered { status, .. } | Fault::NotJson { status, .. } => status >= 500,
            Fault::ConnectionRefused { .. }
            | Fault::Unreachable { .. }
            | Fault::NoAnswer { .. }
            | Fault::Broken { .. } => true,
            Fault::Shape { .. } | Fault::Certificate { .. } | Fault::RateLimited { .. } | Fault::Shifting => false,
        }
    }

    /// The outcome for those above the provider, as far as the status alone tells. A provider that has codes looks at
    /// [`Self::code`] first.
    pub fn into_provider(self) -> ProviderError {
        let words = self.to_string();
        if self.may_have_acted() {
            return ProviderError::OutcomeUnknown {
                what: words,
                after: self.took,
            };
        }
        match self.fault {
            Fault::RateLimited { retry_after } => ProviderError::RateLimited { retry_after },
            Fault::Answered { status: 401 | 403, .. } => ProviderError::Denied { what: words },
            Fault::Answered { status, .. } if status < 500 => ProviderError::Other { what: words },
            fault => ProviderError::Unreachable {
                what: words,
                help: fault.help(),
            },
        }
    }
}

impl Fault {
    /// What to look at next.
    fn help(&self) -> String {
        let text = match self {
            Self::NotJson { html: true, .. } => {
                "look at HTTPS_PROXY, and at the provider's `endpoint` in config.toml: its answer did not come from the API"
            }
            Self::NotJson { .. } | Self::Shape { .. } => {
                "look at the provider's `endpoint` in config.toml: what answers there does not speak its API"
            }
            Self::ConnectionRefused { .. } => {
                "look at the provider's `endpoint` in config.toml, or at the provider's status page, and run it again"
            }
            Self::Certificate { .. } => {
                "look at the clock of this machine (date); behind a proxy that opens TLS, set SSL_CERT_FILE to its certificate"
            }
            Self::Unreachable { .. } => "look at the network and the name server of this machine, and run it again",
            _ => "look at the provider's status page, and run the same command again",
        };
        text.to_owned()
    }
}

impl fmt::Display for RestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        match &self.fault {
            Fault::Answered {
                code: Some(code),
                message,
                ..
            } => write!(f, "{message} ({code})"),
            Fault::Answered { status, message, .. } => write!(f, "{message} (status {status})"),
            Fault::NotJson { status, html: true } => {
                write!(
                    f,
                    "an HTML page instead of JSON (status {status}): is a proxy in between?"
                )
            }
            Fault::NotJson { status, .. } => write!(f, "no JSON in the answer (status {status})"),
            Fault::Shape { why } => write!(f, "the answer is not of the documented form: {why}"),
            Fault::ConnectionRefused { host } => write!(f, "connection refused by {host}"),
            Fault::Certificate { host, why } => write!(f, "the TLS certificate of {host} is not valid: {why}"),
            Fault::Unreachable { host, why } => write!(f, "no connection to {host}: {why}"),
            Fault::NoAnswer { after } => write!(f, "no answer within {after:?}"),
            Fault::Broken { why } => write!(f, "the connection broke: {why}"),
            Fault::RateLimited {
                retry_after: Some(wait),
            } => write!(f, "rate limit reached, again in {wait:?}"),
            Fault::RateLimited { retry_after: None } => f.write_str("rate limit reached"),
            Fault::Shifting => f.write_str("the list changed while it was read, each time again"),
        }
    }
}

impl std::error::Error for RestError {}
