//! A program that lives long evaluates in a child, and survives every workspace. It has its own `main`, because that
//! is where a child begins.

use std::{
    fs, io,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use ha_nickel::{EXAMPLE, EvaluateError, Evaluation, evaluate};

fn main() -> io::Result<()> {
    if ha_nickel::evaluates() {
        return Ok(());
    }
    let tests: [(&str, fn()); 4] = [
        ("a child gives the same answer", a_child_gives_the_same_answer),
        ("a workspace that grows without end is ended", a_growing_one_is_ended),
        ("a workspace that nests without end is survived", a_deep_one_is_survived),
        ("several at once do not meet", several_at_once),
    ];
    for (name, test) in tests {
        test();
        assert_eq!(children(), 0, "{name}: no process is left");
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

/// Processes that this one started and that are still there, zombies too.
fn children() -> usize {
    let own = std::process::id().to_string();
    let stats = fs::read_dir("/proc").expect("a list of processes").flatten();
    let parents = stats.filter_map(|it| {
        let stat = fs::read_to_string(it.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    });
    parents.filter(|parent| *parent == own).count()
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
    let error = evaluated("let rec endless = fun x => 1 + endless x in { workspace = endless 1 }");
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
