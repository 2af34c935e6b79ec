//! The contract library, and the folder of this machine that holds it for the evaluator.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The file a workspace imports.
pub(crate) const MAIN: &str = "ha.ncl";

/// The library's files: name relative to its folder, and text.
pub const LIBRARY: &[(&str, &str)] = &[
    (MAIN, include_str!("../ha.ncl")),
    ("ha/aws.ncl", include_str!("../ha/aws.ncl")),
    ("ha/contracts.ncl", include_str!("../ha/contracts.ncl")),
    ("ha/digitalocean.ncl", include_str!("../ha/digitalocean.ncl")),
    ("ha/hetzner.ncl", include_str!("../ha/hetzner.ncl")),
    ("ha/neutral.ncl", include_str!("../ha/neutral.ncl")),
];

/// The workspace `ha init` writes; its own name is that of the project's example, see [`example`].
pub const EXAMPLE: &str = include_str!("../../../workspace.ncl");

/// The `config.toml` `ha init` writes beside it.
pub const EXAMPLE_CONFIG: &str = include_str!("../../../config.toml");

/// [`EXAMPLE`] with a name of its own. Whatever `folder` is called, the name is one the contract accepts.
pub fn example(folder: &str) -> String {
    let plain: String = folder
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(48)
        .collect();
    let name = plain.trim_matches('-');
    let name = if name.is_empty() { "shop" } else { name };
    EXAMPLE.replacen("workspace = \"shop\"", &format!("workspace = \"{name}\""), 1)
}

/// Changes whenever the library does.
pub(crate) fn hash() -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in LIBRARY {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Writes the library below `cache`, in a folder named by its content, and returns that folder.
///
/// Afterwards every file holds exactly the text of this build: a damaged one is replaced. Files
/// appear whole or not at all, so any number of processes may do this at once.
pub(crate) fn install(cache: &Path) -> io::Result<PathBuf> {
    let folder = cache.join(format!("library-{}", hash()));
    write_into(&folder)?;
    keep(&folder.join(MAIN))?;
    Ok(folder)
}

/// Makes a file new that was not used since yesterday, so that [`crate::cache::sweep`] leaves it.
fn keep(file: &Path) -> io::Result<()> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let age = fs::metadata(file)?.modified()?.elapsed().unwrap_or_default();
    if age > DAY {
        fs::File::options()
            .append(true)
            .open(file)?
            .set_modified(SystemTime::now())?;
    }
    Ok(())
}

/// Writes the library into `folder`: `ha init` puts it beside a new workspace for the bare nickel command.
pub fn write_into(folder: &Path) -> io::Result<()> {
    for (name, text) in LIBRARY {
        let file = folder.join(name);
        if !matches!(fs::read(&file), Ok(found) if found == text.as_bytes()) {
            replace(&file, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Replaces `file` in one step; a reader sees the old text or the new one, never a part.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    // As the umask allows: a library beside a workspace is read by whoever reads the workspace.
    let permissions = fs::Permissions::from_mode(0o666);
    let temporary = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    fs::write(temporary.path(), content)?;
    temporary.persist(file)?;
    Ok(())
}
