//! A program that lives long evaluates in a child, and survives every workspace. It has its own `main`, because that
//! is where a child begins.

use std::{
    fs, io,
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use ha_nickel::{EXAMPLE, EvaluateError, Evaluation, evaluate};

/// Calls itself, and remembers each call.
const ENDLESS: &str = "let rec endless = fun x => 1 + endless x in { workspace = endless 1 }";

fn main() -> io::Result<()> {
    if ha_nickel::evaluates() {
        return Ok(());
    }
    if let Some(text) = std::env::args().nth(1).filter(|argument| argument == ENDLESS) {
        evaluated(&text).ok();
        return Ok(());
    }
    let tests: [(&str, fn()); 5] = [
        ("a child gives the same answer", a_child_gives_the_same_answer),
        ("a workspace that grows without end is ended", a_growing_one_is_ended),
        ("a workspace that nests without end is survived", a_deep_one_is_survived),
        ("several at once do not meet", several_at_once),
        ("a child does not outlive who asked", a_child_does_not_outlive_who_asked),
    ];
    for (name, test) in tests {
        test();
        assert_eq!(children(std::process::id()), [0; 0], "{name}: no process is left");
        writeln!(io::stdout(), "test {name} ... ok")?;
    }
    Ok(())
}

fn evaluated(text: &str) -> Result<Evaluation, EvaluateError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("workspace.ncl");
    fs::write(&path, text).expect("written");
    evaluate(&path, &folder.path().join("cache"))
}

/// Processes that `parent` started and that are still there, zombies too.
fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let all = fs::read_dir("/proc").expect("a list of processes").flatten();
    let children = all.filter(|it| {
        let stat = fs::read_to_string(it.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        fields.split(' ').nth(1) == Some(&parent)
    });
    children
        .filter_map(|it| it.file_name().to_str()?.parse().ok())
        .collect()
}

/// Looks until there is something to see, and not for ever.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("a process has memory");
    let pages = statm.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.expect("a number") * 4096
}

fn a_child_gives_the_same_answer() {
    let whole = evaluated(EXAMPLE).expect("evaluated");
    assert_eq!(whole.findings, []);
    assert_eq!(whole.workspace.map(|it| it.regions.len()), Some(3));
    let place = whole.map.place("region_us_east.role").expect("was written");
    let text = whole.map.text(&place.file).expect("its text");
    assert_eq!(&text[place.start..place.end], "'Primary");

    let broken = evaluated(&EXAMPLE.replace("region = \"nyc3\"", "regoin = \"nyc3\"")).expect("evaluated");
    assert!(
        broken.findings.iter().all(|it| it.place.is_some()),
        "{:#?}",
        broken.findings
    );
    assert!(broken.findings.len() >= 4, "{:#?}", broken.findings);
}

fn a_growing_one_is_ended() {
    let before = resident();
    let started = Instant::now();
    let error = evaluated(ENDLESS);
    assert!(matches!(error, Err(EvaluateError::Endless(_))), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(resident().saturating_sub(before) < 64 << 20, "its memory went with it");
}

fn a_deep_one_is_survived() {
    for depth in [1_000, 1_000_000] {
        let text = format!("{{ workspace = {}1{} }}", "(".repeat(depth), ")".repeat(depth));
        match evaluated(&text) {
            Ok(evaluation) => assert!(evaluation.workspace.is_none()),
            Err(error) => assert!(
                matches!(error, EvaluateError::Broken(_) | EvaluateError::Endless(_)),
                "{error}"
            ),
        }
    }
}

/// However it ends: here it is killed in the middle of an evaluation that has no end.
fn a_child_does_not_outlive_who_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut asking = Command::new("/proc/self/exe");
    // Who is killed leaves its files behind.
    let asking = asking.arg(ENDLESS).env("TMPDIR", folder.path());
    let mut asking = asking.spawn().expect("started");
    let child = soon(|| children(asking.id()).first().copied());
    asking.kill().expect("killed");
    asking.wait().expect("gone");
    soon(|| (!Path::new(&format!("/proc/{child}")).exists()).then_some(()));
}

fn several_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let evaluated = |name: usize| {
        let path = folder.path().join(format!("{name}.ncl"));
        fs::write(&path, EXAMPLE.replace("shop", &format!("shop{name}"))).expect("written");
        let found = evaluate(&path, Path::new(&folder.path().join("cache"))).expect("evaluated");
        assert_eq!(found.workspace.expect("it is right").name, *format!("shop{name}"));
    };
    std::thread::scope(|scope| {
        (0..3).for_each(|name| {
            drop(scope.spawn({
                let evaluated = &evaluated;
                move || evaluated(name)
            }))
        })
    });
}
