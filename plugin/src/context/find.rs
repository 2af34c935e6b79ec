//! From what was typed to the path of one `workspace.ncl`.

use std::path::{Path, PathBuf};

use crate::error::Failed;

pub(crate) const WORKSPACE: &str = "workspace.ncl";
pub(crate) const CONFIG: &str = "config.toml";

/// The named one (a file, or the folder it is in), or the nearest at `from` or above.
/// A named one need not exist yet: reading it says so, with its whole path.
pub(crate) fn find(named: Option<&Path>, from: &Path) -> Result<PathBuf, Failed> {
    match named {
        Some(named) => {
            let path = from.join(named);
            Ok(if path.is_dir() { path.join(WORKSPACE) } else { path })
        }
        None => from
            .ancestors()
            .map(|folder| folder.join(WORKSPACE))
            .find(|path| path.is_file())
            .ok_or_else(|| Failed::NoWorkspace(from.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_above_is_found_and_a_named_one_wins() {
        let root = tempfile::tempdir().expect("a folder");
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("folders");
        assert!(matches!(find(None, &deep), Err(Failed::NoWorkspace(_))));

        let nearest = root.path().join("a").join(WORKSPACE);
        std::fs::write(&nearest, "{}").expect("a file");
        assert_eq!(find(None, &deep).expect("found"), nearest);

        let other = root.path().join("other.ncl");
        assert_eq!(find(Some(&other), &deep).expect("taken as named"), other);
        assert_eq!(
            find(Some(Path::new("..")), &deep).expect("a folder"),
            deep.join("..").join(WORKSPACE)
        );
    }
}
