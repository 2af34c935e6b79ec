//! Which of what exists is given the labels of what is declared.

use super::{Found, FoundKind, runs_on_a_server};
use crate::{
    names::WorkspaceName,
    resource::{Kind, Resource},
};

/// What is to become of one declared resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption<'a> {
    pub want: &'a Resource,
    pub verdict: Verdict<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// This one is given its labels.
    Adopt(&'a Found),
    /// It carries them already.
    Ours(&'a Found),
    /// Nothing is called so: `ha provision` makes it.
    Absent,
    /// Several are called so, and nobody said which.
    Several(Vec<&'a Found>),
    /// What is meant carries the labels of another workspace, or of another resource of this one.
    Taken(&'a Found),
}

/// A verdict on each of `desired` that is an object of its own at its provider, in an order in which they can be
/// labelled: what others are described by comes first (a balancer by the names of its servers).
///
/// `numbers` are the provider's own ids of those that are meant, for when names do not say it; one that is named so may
/// be called otherwise.
pub fn adoptions<'a>(
    desired: &'a [Resource],
    found: &'a [Found],
    ws: &WorkspaceName,
    numbers: &[String],
) -> Vec<Adoption<'a>> {
    let mut all: Vec<Adoption> = desired
        .iter()
        .filter(|want| !runs_on_a_server(want))
        .map(|want| Adoption {
            want,
            verdict: verdict(want, desired, found, ws, numbers),
        })
        .collect();
    all.sort_by_key(|it| turn(it.want.id.kind));
    all
}

const fn turn(kind: Kind) -> u8 {
    match kind {
        Kind::Network => 0,
        Kind::Server => 1,
        Kind::Volume => 2,
        Kind::Firewall => 3,
        Kind::Store | Kind::Database => 4,
        Kind::LoadBalancer => 5,
    }
}

fn verdict<'a>(
    want: &Resource,
    desired: &[Resource],
    found: &'a [Found],
    ws: &WorkspaceName,
    numbers: &[String],
) -> Verdict<'a> {
    if let Some(ours) = found.iter().find(|it| it.is(&want.id, ws)) {
        return Verdict::Ours(ours);
    }
    let alike = |it: &&Found| it.kind == FoundKind::Resource(want.id.kind) && it.provider == want.provider;
    // With one resource alone a number may name something that is called otherwise.
    let renames = desired.len() == 1;
    let meant = |it: &&Found| alike(it) && numbers.contains(&it.number) && (renames || it.could_be(want));
    let mut candidates: Vec<&Found> = found.iter().filter(meant).collect();
    if candidates.is_empty() {
        candidates = found.iter().filter(|it| it.could_be(want)).collect();
    }
    // Somebody took labels of this workspace away, or died while they were written.
    let in_part = |it: &Found| it.is_of(ws) && it.owner.as_ref().is_some_and(|owner| !owner.is_whole());
    let (free, taken): (Vec<&Found>, Vec<&Found>) =
        candidates.into_iter().partition(|it| it.owner.is_none() || in_part(it));
    match (free.as_slice(), taken.first()) {
        ([one], _) => Verdict::Adopt(one),
        ([], Some(other)) => Verdict::Taken(other),
        ([], None) => Verdict::Absent,
        (several, _) => Verdict::Several(several.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::{
        Owner,
        testing::{desired, found, owned, ws},
    };

    fn numbered(kind: Kind, name: &str, number: &str) -> Found {
        Found {
            number: number.into(),
            ..found(kind, name)
        }
    }

    #[test]
    fn what_is_called_so_and_free_is_adopted_and_nothing_else() {
        let desired = desired();
        let mut theirs = found(Kind::Server, "us-app-2");
        theirs.owner = Some(Owner {
            ws: WorkspaceName::new("shop2"),
            region: None,
            name: None,
        });
        let all = [
            owned(found(Kind::Network, "us-net"), "us-east", "us-net"),
            found(Kind::Server, "us-app-1"),
            theirs,
            found(Kind::Server, "somebody-s"),
        ];
        let told = adoptions(&desired, &all, &ws(), &[]);
        let named: Vec<(&str, &Verdict)> = told.iter().map(|it| (it.want.id.name.as_str(), &it.verdict)).collect();
        assert_eq!(
            named,
            [
                ("us-net", &Verdict::Ours(&all[0])),
                ("us-app-1", &Verdict::Adopt(&all[1])),
                ("us-app-2", &Verdict::Taken(&all[2])),
            ],
            "the store runs on a server and is no object of its own"
        );
    }

    #[test]
    fn what_lost_a_part_of_its_labels_is_given_them_again() {
        let desired = desired();
        let mut half = owned(found(Kind::Server, "us-app-1"), "us-east", "us-app-1");
        half.owner.as_mut().expect("it is owned").region = None;
        let all = [half];
        let told = adoptions(&desired, &all, &ws(), &[]);
        let of = told
            .iter()
            .find(|it| it.want.id.name == "us-app-1")
            .expect("it is declared");
        assert_eq!(of.verdict, Verdict::Adopt(&all[0]));
    }

    #[test]
    fn of_two_that_are_called_so_a_number_tells_which() {
        let desired = desired();
        let all = [
            numbered(Kind::Server, "us-app-1", "7"),
            numbered(Kind::Server, "us-app-1", "8"),
        ];
        let of = |numbers: &[String]| {
            let mut told = adoptions(&desired, &all, &ws(), numbers);
            told.retain(|it| it.want.id.name == "us-app-1");
            told.pop().expect("it is declared").verdict
        };
        assert_eq!(of(&[]), Verdict::Several(vec![&all[0], &all[1]]));
        assert_eq!(of(&["8".into()]), Verdict::Adopt(&all[1]));
    }

    #[test]
    fn a_number_may_name_what_is_called_otherwise_when_one_resource_is_meant() {
        let desired = desired();
        let all = [numbered(Kind::Server, "web", "7")];
        let one: Vec<Resource> = desired.iter().filter(|it| it.id.name == "us-app-1").cloned().collect();
        let numbers = ["7".to_owned()];
        let verdict = |desired: &[Resource]| {
            let told = adoptions(desired, &all, &ws(), &numbers);
            let found = told.into_iter().find(|it| it.want.id.name == "us-app-1");
            matches!(found.expect("it is declared").verdict, Verdict::Adopt(_))
        };
        assert!(verdict(&one));
        assert!(!verdict(&desired), "of many resources nobody said which");
    }
}
