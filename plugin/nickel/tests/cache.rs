//! What is kept between runs is fast, and never wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use ha_nickel::{EXAMPLE, Evaluation, LIBRARY, evaluate};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        folder.write("workspace.ncl", EXAMPLE);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn evaluate(&self) -> Evaluation {
        evaluate(&self.0.path().join("workspace.ncl"), &self.cache()).expect("the file is there")
    }

    fn files_below(&self, name: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.cache(), &mut found);
        found.retain(|path| path.to_string_lossy().contains(name));
        found
    }
}

#[test]
fn the_second_evaluation_gives_the_same_answer_without_evaluating() {
    let folder = Folder::new();
    let first = folder.evaluate();
    // The evaluator cannot work without the library, and would have it written again.
    for file in folder.files_below("library-") {
        fs::remove_file(file).expect("removed");
    }
    let second = folder.evaluate();
    assert!(folder.files_below("library-").is_empty());
    assert_eq!(first.workspace, second.workspace);
    assert_eq!(first.findings, second.findings);
    let path = "region_us_east.network.ip_range";
    assert_eq!(first.map.place(path), second.map.place(path));
}

#[test]
fn a_change_is_seen_at_once() {
    let folder = Folder::new();
    folder.evaluate();
    folder.write("workspace.ncl", &EXAMPLE.replace("count = 3", "count = 5"));
    let workspace = folder.evaluate().workspace.expect("still right");
    assert_eq!(workspace.regions[0].servers[0].count, 5);
}

#[test]
fn a_change_of_an_imported_file_is_seen_and_so_is_a_new_one_that_hides_the_library() {
    let folder = Folder::new();
    folder.write(
        "workspace.ncl",
        "let { Workspace, .. } = import \"ha.ncl\" in { workspace = \"a\", region_x = import \"x.ncl\" } | Workspace",
    );
    let region = |count: u32| {
        format!(
            "let {{ aws, .. }} = import \"ha.ncl\" in \
             {{ role = 'Primary, s = aws.EC2 & {{ name = \"s\", region = \"eu-west-1\", count = {count} }} }}"
        )
    };
    folder.write("x.ncl", &region(1));
    folder.evaluate();
    folder.write("x.ncl", &region(2));
    let workspace = folder.evaluate().workspace.expect("right");
    assert_eq!(workspace.regions[0].servers[0].count, 2);

    folder.write("ha.ncl", "{ Workspace = { workspace | Number, .. } }");
    assert!(folder.evaluate().workspace.is_none(), "the nearer ha.ncl counts");
}

#[test]
fn a_damaged_entry_is_neither_believed_nor_in_the_way() {
    let folder = Folder::new();
    let first = folder.evaluate();
    let [entry] = folder.files_below("evaluations").try_into().expect("one entry");
    let whole = fs::read(&entry).expect("an entry");
    let forged = String::from_utf8_lossy(&whole).replace("us-app", "xx-app");
    for damage in [&b""[..], &whole[..whole.len() / 2], b"not an entry", forged.as_bytes()] {
        fs::write(&entry, damage).expect("damaged");
        assert_eq!(folder.evaluate().workspace, first.workspace);
        assert_eq!(fs::read(&entry).expect("written anew"), whole);
    }
}

#[test]
fn a_damaged_library_is_written_anew() {
    let folder = Folder::new();
    folder.evaluate();
    for file in folder.files_below("library-") {
        fs::write(file, "{").expect("damaged");
    }
    folder.write("workspace.ncl", &EXAMPLE.replace("shop", "shop2"));
    assert!(folder.evaluate().workspace.is_some());
    assert_eq!(folder.files_below("library-").len(), LIBRARY.len());
}

#[test]
fn what_nobody_used_for_a_month_goes() {
    let folder = Folder::new();
    let library = |version: &str| format!("cache/library-{version}/ha.ncl");
    for name in [
        &library("old"),
        &library("young"),
        "cache/evaluations/old.json",
        "cache/evaluations/young.json",
    ] {
        folder.write(name, "{");
    }
    folder.evaluate();
    let used = folder.files_below("library-").into_iter().find(|it| {
        let text = fs::read_to_string(it).expect("a file");
        it.ends_with("ha.ncl") && text.len() > 1
    });
    let used = used.expect("the library of this version");
    let age = |path: &Path, days: u64| {
        let file = fs::File::options().append(true).open(path).expect("a file");
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        file.set_modified(then).expect("aged");
    };
    age(&folder.0.path().join(library("old")), 31);
    age(&folder.0.path().join(library("young")), 29);
    age(&folder.cache().join("evaluations/old.json"), 31);
    age(&used, 31);
    folder.write("workspace.ncl", &EXAMPLE.replace("shop", "shop2"));
    folder.evaluate();
    let left = |name: &str| !folder.files_below(name).is_empty();
    assert!(!left("library-old") && !left("old.json"));
    assert!(left("library-young") && left("young.json"));
    assert!(used.is_file(), "whatever its age was, it is in use");
}

#[test]
fn many_may_begin_at_once_with_nothing_there() {
    let folder = Folder::new();
    thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| folder.evaluate())).collect();
        for one in all {
            assert!(one.join().expect("no panic").workspace.is_some());
        }
    });
    let left = folder.files_below("");
    assert_eq!(
        left.len(),
        LIBRARY.len() + 1,
        "nothing but the library and one entry: {left:?}"
    );
}

#[test]
fn a_cache_that_cannot_be_written_only_costs_time() {
    let folder = Folder::new();
    folder.write("cache", "a file where a folder should be");
    assert!(folder.evaluate().workspace.is_some());
}

#[test]
fn what_cannot_be_looked_at_says_what_to_type() {
    let folder = Folder::new();
    let error = |path: &Path| evaluate(path, &folder.cache()).expect_err("nothing to evaluate");
    let missing = error(&folder.0.path().join("nowhere.ncl"));
    assert_eq!(missing.code(), "ha::workspace::missing");
    assert!(missing.help().expect("help").contains("ha init"));
    let a_folder = error(folder.0.path());
    assert_eq!(a_folder.code(), "ha::workspace::unreadable");
    assert!(a_folder.help().expect("help").contains("workspace.ncl"));
    let binary = folder.0.path().join("binary.ncl");
    fs::write(&binary, [0xff, 0xfe, 0x00]).expect("written");
    let binary = error(&binary);
    assert_eq!(binary.code(), "ha::workspace::unreadable");
    assert!(binary.help().expect("help").contains("UTF-8"));
}
