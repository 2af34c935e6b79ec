//! The same workspace with another number of servers, or servers of another size.

use super::{Component, NoPrice, Prices, seller};
use crate::{
    model::{Region, Workspace},
    names,
};

/// `count=2`, `size=cpx32`, `us-app.count=2`, `us-app.size=s-4vcpu-8gb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Without one it is for every group that it fits: a count for those on which nothing but the application runs, a
    /// size for those whose provider has it.
    group: Option<String>,
    field: Field,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Count(u32),
    Size(String),
}

const FIELDS: [&str; 2] = ["count", "size"];
/// As many as a group may have in `workspace.ncl`.
const MOST: u32 = 100;

/// A change that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("\"{0}\" is not a change")]
    Form(String),
    #[error("a server group has no {0}")]
    Field(String),
    #[error("\"{0}\" is not a number of servers")]
    Count(String),
    #[error("no server group is called \"{name}\"")]
    Group { name: String, known: Vec<String> },
    #[error("no price of {size} is known")]
    Size { size: String, known: Vec<String> },
    #[error("no group of servers is there for the application alone")]
    NoApplication,
    #[error(transparent)]
    File(#[from] NoPrice),
}

impl Wrong {
    /// What to type instead.
    pub fn help(&self) -> String {
        match self {
            Self::Form(_) => "write count=2, size=s-4vcpu-8gb, or for one group us-app.count=2".to_owned(),
            Self::Field(word) => one_of(word, FIELDS, "it has count and size"),
            Self::Count(_) => format!("write a whole number from 0 to {MOST}: count=2"),
            Self::Group { name, known } => one_of(name, known.iter().map(String::as_str), &listed("one of: ", known)),
            Self::Size { size, known } => one_of(
                size,
                known.iter().map(String::as_str),
                &format!(
                    "known are: {}; another is known once it stands in config.toml, [prices.<provider>] \"{size}\" = …, \
                     in dollars a month",
                    known.join(", ")
                ),
            ),
            Self::NoApplication => "name the group: us-db.count=2".to_owned(),
            Self::File(_) => "this is a mistake in the program".to_owned(),
        }
    }
}

fn listed(before: &str, known: &[String]) -> String {
    match known {
        [] => "there is no server group at all".to_owned(),
        known => format!("{before}{}", known.join(", ")),
    }
}

fn one_of<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    match names::nearest(word, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => otherwise.to_owned(),
    }
}

impl Change {
    /// # Errors
    /// It is of another form, or its value can be none.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let (path, value) = text.split_once('=').ok_or_else(|| Wrong::Form(text.to_owned()))?;
        let (path, value) = (path.trim(), value.trim());
        let (group, field) = match path.split_once('.') {
            Some((group, field)) => (Some(group.to_owned()), field),
            None => (None, path),
        };
        if value.is_empty() || group.as_ref().is_some_and(String::is_empty) {
            return Err(Wrong::Form(text.to_owned()));
        }
        let field = match field {
            "count" => {
                let count = value.parse().ok().filter(|count| *count <= MOST);
                Field::Count(count.ok_or_else(|| Wrong::Count(value.to_owned()))?)
            }
            "size" => Field::Size(value.to_owned()),
            other => return Err(Wrong::Field(other.to_owned())),
        };
        Ok(Self { group, field })
    }

    /// Changes the workspace, in one region or in all of them. Nothing is changed where it is an error.
    ///
    /// # Errors
    /// There is no such group, or none of the providers concerned has a price of such a size.
    pub fn apply(&self, workspace: &mut Workspace, region: Option<&str>, prices: &Prices) -> Result<(), Wrong> {
        let mut changed = workspace.clone();
        let concerned = |it: &&mut Region| region.is_none_or(|name| it.name == name);
        let regions: Vec<&mut Region> = changed.regions.iter_mut().filter(concerned).collect();
        self.change(regions, prices)?;
        *workspace = changed;
        Ok(())
    }

    fn change(&self, mut regions: Vec<&mut Region>, prices: &Prices) -> Result<(), Wrong> {
        let (mut named, mut found, mut names, mut sizes) = (false, false, Vec::new(), Vec::new());
        for region in &mut regions {
            let busy = runs_something(region);
            let provider = region.provider;
            for group in &mut region.servers {
                names.push(group.declared.name.clone());
                if self.group.as_ref().is_some_and(|name| *name != group.declared.name) {
                    continue;
                }
                named = true;
                match &self.field {
                    Field::Count(_) if self.group.is_none() && busy.contains(&group.declared.name) => {}
                    Field::Count(count) => {
                        group.count = *count;
                        found = true;
                    }
                    Field::Size(size) => {
                        let seller = seller(&group.declared, provider);
                        let known = prices.known(seller, Component::Server)?;
                        if known.contains(size.as_str()) {
                            group.size.clone_from(size);
                            found = true;
                        } else {
                            sizes.extend(known.into_iter().map(str::to_owned));
                        }
                    }
                }
            }
        }
        match (&self.group, &self.field) {
            _ if found => Ok(()),
            (Some(name), _) if !named => {
                names.sort();
                names.dedup();
                Err(Wrong::Group {
                    name: name.clone(),
                    known: names,
                })
            }
            (_, Field::Size(size)) => {
                sizes.sort();
                sizes.dedup();
                Err(Wrong::Size {
                    size: size.clone(),
                    known: sizes,
                })
            }
            (_, Field::Count(_)) => Err(Wrong::NoApplication),
        }
    }
}

/// Groups that hold a database or a member of the store: their number is not how much the application gets.
fn runs_something(region: &Region) -> Vec<String> {
    let databases = region.databases.iter().filter_map(|it| it.runs_on.clone());
    let stores = region.stores.iter().map(|it| it.runs_on.clone());
    databases.chain(stores).collect()
}
