//! (being written)

use std::path::Path;

pub async fn run(_region_dir: &Path, _socket: &Path) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
