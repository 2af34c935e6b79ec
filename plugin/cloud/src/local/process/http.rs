//! Asking the processes of this machine over HTTP.

use std::{path::Path, time::Duration};

use serde::de::DeserializeOwned;

/// Loopback: whoever has not answered by then is not busy but stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// # Errors
/// In words, for a detail: who was asked and what went wrong.
pub(crate) async fn get<T: DeserializeOwned>(url: &str) -> Result<T, String> {
    let client = client(None).map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| said(url, &error))?;
    let answer = answer.error_for_status().map_err(|error| said(url, &error))?;
    answer.json().await.map_err(|error| said(url, &error))
}

/// A status below 400.
pub(crate) async fn is_fine(url: &str) -> bool {
    let Ok(client) = client(None) else { return false };
    client
        .get(url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().as_u16() < 400)
}

pub(crate) fn client(socket: Option<&Path>) -> Result<reqwest::Client, reqwest::Error> {
    // A proxy of the operator's environment has no business on loopback.
    let mut builder = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN);
    if let Some(socket) = socket {
        builder = builder.unix_socket(socket);
    }
    builder.build()
}

/// The innermost reason, which is the one that says what happened.
pub(crate) fn said(url: &str, error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    format!("{url}: {source}")
}
