//! From what was tried to what is said (protocol §6). Pure: rounds in, a verdict out.

use std::time::Duration;

use ha_core::agreement::Verdict;

/// How one way of seeing a node came out in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Works,
    Fails,
    /// Nothing for longer than there ever is between two signs of one that lives. Rounds are counted because one look may
    /// fail by chance; this is as long as a row of them by itself.
    Silent,
    /// Not tried, or not applicable: a witness has no database, and who does not follow a node does not hear from it.
    Absent,
}

use Line::{Absent, Fails, Silent, Works};

/// One look at a node from all sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// `select 1` in a session that was open.
    pub(super) sql: Line,
    /// A session can be opened.
    pub(super) knock: Line,
    /// Its guard answers, and says that the database does.
    pub(super) guard: Line,
    /// The own replica hears from it.
    pub(super) stream: Line,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// So many rounds in a row.
    pub(super) failures: u32,
    /// A database that answers nobody and still sends its log.
    pub(super) stall_limit: Duration,
    /// A longer time between two rounds: this guard was not looking, and what it had counted means nothing.
    pub(super) gap: Duration,
}

/// What is known of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    verdict: Verdict,
    /// Rounds in a row without SQL.
    sql_fail: u32,
    knock_fail: u32,
    guard_fail: u32,
    stream_fail: u32,
    good: u32,
    /// It was down, and has not worked for as long as it took to say so.
    returning: bool,
    /// Since SQL failed first.
    mute_for: Duration,
    /// Without any failure; none before the first success.
    stable: Option<Duration>,
}

impl Standing {
    pub(super) const fn new() -> Self {
        Self {
            verdict: Verdict::Unknown,
            sql_fail: 0,
            knock_fail: 0,
            guard_fail: 0,
            stream_fail: 0,
            good: 0,
            returning: false,
            mute_for: Duration::ZERO,
            stable: None,
        }
    }

    /// How long it has worked without a failure.
    pub(super) const fn stable_for(&self) -> Option<Duration> {
        self.stable
    }

    /// One round more, `passed` after the one before.
    pub(super) fn add(&mut self, round: Round, rules: &Rules, passed: Duration) -> Verdict {
        if passed > rules.gap {
            *self = Self {
                stable: None,
                ..Self::new()
            };
        }
        // A node without a database is as good as its guard.
        let answer = if round.sql == Absent { round.guard } else { round.sql };
        count(&mut self.knock_fail, round.knock);
        count(&mut self.guard_fail, round.guard);
        count(&mut self.stream_fail, round.stream);
        match answer {
            Works => {
                self.good = self.good.saturating_add(1);
                self.sql_fail = 0;
                self.mute_for = Duration::ZERO;
            }
            Fails | Silent => {
                self.good = 0;
                self.mute_for = if self.sql_fail == 0 {
                    Duration::ZERO
                } else {
                    self.mute_for + passed
                };
                self.sql_fail = self.sql_fail.saturating_add(1);
            }
            Absent => {}
        }
        self.stable = match (answer, self.stable) {
            (Fails | Silent, _) => None,
            (Works, Some(before)) => Some(before + passed),
            (Works, None) => Some(Duration::ZERO),
            (Absent, before) => before,
        };
        self.returning &= self.good < rules.failures.max(1);
        self.verdict = self.judge(round, answer, rules);
        self.returning |= self.verdict == Verdict::Down;
        self.verdict
    }

    fn judge(&self, round: Round, answer: Line, rules: &Rules) -> Verdict {
        let failures = rules.failures.max(1);
        let lines = [
            (round.sql, self.sql_fail),
            (round.guard, self.guard_fail),
            (round.stream, self.stream_fail),
        ];
        let mut tried = lines.iter().filter(|(line, _)| *line != Absent).peekable();
        let gone = |&(line, failed): &(Line, u32)| line == Silent || (line == Fails && failed >= failures);
        if tried.peek().is_some() && tried.all(gone) {
            return Verdict::Down;
        }
        // It sends its log, so it lives, but it has answered nobody for long, and its own guard does not speak for it.
        if self.mute_for >= rules.stall_limit && self.sql_fail >= failures && round.guard != Works {
            return Verdict::Down;
        }
        let alive = [round.sql, round.guard, round.stream].contains(&Works);
        match (self.verdict, answer) {
            // A sign of life takes the word back at once; it is up again when it has been so for as long.
            (_, Works) if self.returning => Verdict::Suspect,
            (Verdict::Down, _) if !alive => Verdict::Down,
            (_, Works) if self.knock_fail >= failures => Verdict::Suspect,
            (Verdict::Suspect, Works) if self.good < 2 => Verdict::Suspect,
            (_, Works) => Verdict::Up,
            (_, Fails | Silent) if alive && self.sql_fail >= failures => Verdict::Suspect,
            // Not yet often enough to say anything else than before.
            (Verdict::Down, Fails | Silent) => Verdict::Suspect,
            (before, Fails | Silent | Absent) => before,
        }
    }
}

fn count(failures: &mut u32, line: Line) {
    match line {
        Works => *failures = 0,
        Fails | Silent => *failures = failures.saturating_add(1),
        Absent => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: Rules = Rules {
        failures: 3,
        stall_limit: Duration::from_secs(30),
        gap: Duration::from_secs(5),
    };

    fn line(sign: char) -> Line {
        match sign {
            '+' => Works,
            '-' => Fails,
            '~' => Silent,
            _ => Absent,
        }
    }

    /// A round is written as SQL, guard, stream: `-+-`.
    fn rounds(text: &str) -> Vec<Round> {
        text.split_whitespace()
            .map(|signs| {
                let lines: Vec<Line> = signs.chars().map(line).collect();
                Round {
                    sql: lines[0],
                    guard: lines[1],
                    stream: lines[2],
                    knock: Absent,
                }
            })
            .collect()
    }

    fn after(text: &str) -> Vec<Verdict> {
        let mut standing = Standing::new();
        rounds(text)
            .into_iter()
            .map(|round| standing.add(round, &RULES, SECOND))
            .collect()
    }

    #[test]
    fn verdicts_by_what_was_seen() {
        use Verdict::{Down, Suspect, Unknown, Up};
        let table: &[(&str, &str, &[Verdict])] = &[
            ("all well", "+++ +++", &[Up, Up]),
            ("one failure is none", "+++ --- +++", &[Up, Up, Up]),
            ("three in a row, all sides", "+++ --- --- ---", &[Up, Up, Up, Down]),
            ("never seen alive", "--- --- ---", &[Unknown, Unknown, Down]),
            (
                "a failure between counts anew",
                "+++ --- --- --+ --- ---",
                &[Up, Up, Up, Suspect, Suspect, Suspect],
            ),
            (
                "no SQL, but log arrives",
                "+++ --+ --+ --+ --+",
                &[Up, Up, Up, Suspect, Suspect],
            ),
            (
                "no SQL, but its guard speaks for it",
                "+++ -+- -+- -+-",
                &[Up, Up, Up, Suspect],
            ),
            (
                "its guard is gone, the database is there",
                "+++ +-+ +-+ +-+",
                &[Up, Up, Up, Up],
            ),
            (
                "who does not follow it needs two",
                "++. --. --. --.",
                &[Up, Up, Up, Down],
            ),
            (
                "a witness has only its guard",
                ".+. .-. .-. .-. .+.",
                &[Up, Up, Up, Down, Suspect],
            ),
            (
                "a sign of life takes it back",
                "--- --- --- --+",
                &[Unknown, Unknown, Down, Suspect],
            ),
            (
                "up again takes as long",
                "--- --- --- +++ +++ +++",
                &[Unknown, Unknown, Down, Suspect, Suspect, Up],
            ),
            (
                "its log stopped while looks failed: as long a silence as they took",
                "+++ --+ --+ --~",
                &[Up, Up, Up, Down],
            ),
            (
                "a database that hangs beside its guard",
                "+++ -++ -++ -~~",
                &[Up, Up, Up, Down],
            ),
            (
                "silence alone is nothing while it answers",
                "+++ +~~ +~~ +~~",
                &[Up, Up, Up, Up],
            ),
            ("looks that failed too rarely", "+++ +~~ -~~ -~~", &[Up, Up, Up, Up]),
            ("nothing was tried yet", "... ...", &[Unknown, Unknown]),
        ];
        for (what, text, expected) in table {
            assert_eq!(after(text), *expected, "{what}");
        }
    }

    #[test]
    fn a_primary_that_only_sends_its_log_is_down_after_the_stall_limit() {
        let mut standing = Standing::new();
        let [well, stalled, vouched] = ["+++", "--+", "-++"].map(|it| rounds(it)[0]);
        standing.add(well, &RULES, SECOND);
        let mut verdicts = (0..=31).map(|_| standing.add(stalled, &RULES, SECOND));
        assert!(verdicts.by_ref().take(30).all(|it| it != Verdict::Down));
        assert_eq!(verdicts.last(), Some(Verdict::Down));
        // One whose own guard says that it answers is overloaded, not down.
        let mut standing = Standing::new();
        standing.add(well, &RULES, SECOND);
        let last = (0..100).map(|_| standing.add(vouched, &RULES, SECOND)).last();
        assert_eq!(last, Some(Verdict::Suspect));
    }

    #[test]
    fn a_postmaster_that_lets_nobody_in_is_suspect() {
        let mut standing = Standing::new();
        let round = |knock| Round {
            knock,
            ..rounds("+++")[0]
        };
        let verdicts: Vec<Verdict> = [Works, Fails, Fails, Fails, Absent, Works]
            .map(|knock| standing.add(round(knock), &RULES, SECOND))
            .into();
        use Verdict::{Suspect, Up};
        assert_eq!(verdicts, [Up, Up, Up, Suspect, Suspect, Up]);
    }

    #[test]
    fn a_guard_that_did_not_look_begins_anew() {
        let mut standing = Standing::new();
        let fails = rounds("---")[0];
        standing.add(fails, &RULES, SECOND);
        standing.add(fails, &RULES, SECOND);
        assert_eq!(standing.add(fails, &RULES, 20 * SECOND), Verdict::Unknown);
    }

    #[test]
    fn stable_is_since_the_last_failure() {
        let mut standing = Standing::new();
        assert_eq!(standing.stable_for(), None);
        for round in rounds("+++ +++ +++") {
            standing.add(round, &RULES, SECOND);
        }
        assert_eq!(standing.stable_for(), Some(2 * SECOND));
        standing.add(rounds("-++")[0], &RULES, SECOND);
        assert_eq!(standing.stable_for(), None);
    }
}
