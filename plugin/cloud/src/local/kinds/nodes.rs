//! Database nodes as specs name them: `region/server`.

use std::collections::BTreeMap;

use crate::ProviderError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) region: String,
    pub(crate) server: String,
    /// The server's name; with the region before it where two regions use the same one, since replication slots and
    /// HAProxy's servers need names that are unique.
    pub(crate) name: String,
}

/// In the order given.
pub(crate) fn read(places: &[String]) -> Result<Vec<Node>, ProviderError> {
    let mut pairs = Vec::new();
    for place in places {
        let pair = place.split_once('/').ok_or_else(|| ProviderError::Other {
            what: format!("{place:?} is not of the form region/server"),
        })?;
        pairs.push(pair);
    }
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, server) in &pairs {
        *uses.entry(server).or_default() += 1;
    }
    let node = |(region, server): &(&str, &str)| Node {
        region: (*region).to_owned(),
        server: (*server).to_owned(),
        name: match uses.get(server) {
            Some(1) => (*server).to_owned(),
            _ => format!("{region}-{server}"),
        },
    };
    Ok(pairs.iter().map(node).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_even_where_servers_are_not() {
        let places = ["us-east/db-1", "eu-central/db-1", "eu-central/db-2"].map(String::from);
        let names: Vec<String> = read(&places)
            .expect("nodes")
            .into_iter()
            .map(|node| node.name)
            .collect();
        assert_eq!(names, ["us-east-db-1", "eu-central-db-1", "db-2"]);
        assert!(read(&["us-east".into()]).is_err());
    }
}
