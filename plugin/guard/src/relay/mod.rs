//! (being written)

use std::path::Path;

pub async fn run(_config: &Path) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
