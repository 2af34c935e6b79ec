//! Servers into groups: `us-app-1`, `us-app-2`, `us-app-3` are the group `us-app` of three.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{desired::FIXED_ADDRESS, existing::Found};

/// Servers that one declaration can stand for.
pub(super) struct Group<'a> {
    pub(super) name: String,
    /// From the first on, in the order of their numbers.
    pub(super) servers: Vec<&'a Found>,
}

/// The groups among these servers of one region, and the servers that are in none, each with the reason.
pub(super) fn groups<'a>(servers: &[&'a Found]) -> (Vec<Group<'a>>, Vec<(&'a Found, String)>) {
    let mut numbered: BTreeMap<&str, Vec<(u32, &Found)>> = BTreeMap::new();
    let mut alone = Vec::new();
    for server in servers {
        match number(&server.name) {
            Some((group, index)) => numbered.entry(group).or_default().push((index, server)),
            None => alone.push((
                *server,
                format!(
                    "a group has members called <name>-1, <name>-2 …: declare one, then ha adopt <name>-1 --id {}",
                    server.number
                ),
            )),
        }
    }
    let mut groups = Vec::new();
    for (name, mut members) in numbered {
        members.sort_by_key(|(index, server)| (*index, &server.number));
        let mut group: Vec<&Found> = Vec::new();
        for (index, server) in members {
            let expected = group.len() as u32 + 1;
            let why = match group.first() {
                _ if index < expected => Some("another server is called so, too".to_owned()),
                _ if index > expected => Some(format!("there is no {name}-{expected} before it")),
                Some(first) => unlike(first, server)
                    .map(|what| format!("its {what} is not that of {}, and all of a group are alike", first.name)),
                None => None,
            };
            match why {
                None => group.push(server),
                Some(why) => alone.push((server, why)),
            }
        }
        if !group.is_empty() {
            groups.push(Group {
                name: name.to_owned(),
                servers: group,
            });
        }
    }
    (groups, alone)
}

/// The group and the number in it.
fn number(name: &str) -> Option<(&str, u32)> {
    let (group, digits) = name.rsplit_once('-')?;
    let index: u32 = digits.parse().ok().filter(|it| *it > 0)?;
    // `us-app-01` would be made anew as `us-app-1`.
    (index.to_string() == digits && !group.is_empty()).then_some((group, index))
}

/// The first thing in which two servers differ that a group has once.
fn unlike<'a>(one: &Found, other: &Found) -> Option<&'a str> {
    let field = |it: &Found, name: &str| it.spec.get(name).cloned().unwrap_or(Value::Null);
    ["size", "image", "location", FIXED_ADDRESS]
        .into_iter()
        .find(|name| field(one, name) != field(other, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{existing::testing::found, resource::Kind};

    fn server(name: &str, size: &str) -> Found {
        Found {
            spec: json!({ "size": size, "image": "debian-12", "location": "nyc3" }),
            ..found(Kind::Server, name)
        }
    }

    #[test]
    fn only_what_one_declaration_makes_again_is_a_group() {
        let all = [
            server("us-app-2", "small"),
            server("us-app-1", "small"),
            server("us-app-3", "large"),
            server("us-app-4", "small"),
            server("bastion", "small"),
            server("web-01", "small"),
            server("db-2", "small"),
            server("-1", "small"),
        ];
        let (groups, alone) = groups(&all.iter().collect::<Vec<_>>());
        let names = |of: &[&Found]| of.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(groups.len(), 1);
        assert_eq!(
            (groups[0].name.as_str(), names(&groups[0].servers)),
            ("us-app", vec!["us-app-1".to_owned(), "us-app-2".to_owned()])
        );
        let why: BTreeMap<&str, &str> = alone.iter().map(|(it, why)| (it.name.as_str(), why.as_str())).collect();
        assert_eq!(why.len(), 6);
        assert!(why["us-app-3"].contains("size"));
        assert!(why["us-app-4"].contains("no us-app-3"));
        assert!(why["bastion"].contains("--id number of bastion"));
        assert!(why["db-2"].contains("no db-1"));
    }
}
