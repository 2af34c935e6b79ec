//! How long an evaluation takes, with nothing kept and with everything kept: `cargo bench -p ha-nickel`.
//!
//! Without the cache it happens in a child process, as in the plugin.

use std::path::{Path, PathBuf};

use divan::Bencher;
use ha_nickel::evaluate;

fn main() {
    if ha_nickel::evaluates() {
        return;
    }
    divan::main();
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workspace.ncl")
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn uncached(bencher: Bencher) {
    anew(bencher, &workspace());
}

/// What the evaluator needs for itself: its child, its standard library.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn uncached_and_empty(bencher: Bencher) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    std::fs::write(&path, "{}").expect("written");
    anew(bencher, &path);
}

fn anew(bencher: Bencher, path: &Path) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let entries = cache.path().join("evaluations");
    bencher
        .with_inputs(|| std::fs::remove_dir_all(&entries).ok())
        .bench_values(|_| evaluate(path, cache.path()).expect("an evaluation"));
}

#[divan::bench]
fn cached(bencher: Bencher) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    bencher.bench(|| evaluate(&workspace(), cache.path()).expect("an evaluation"));
}
