//! A workspace from what exists: the text of a `workspace.ncl` that declares it as it is.
//!
//! What a workspace cannot say is a comment in the text and a note in a row. Nothing is guessed that a plan would carry
//! out: what would come out otherwise than it is now is left as a comment.

mod groups;
mod kinds;
mod text;
mod words;

use std::collections::BTreeMap;

use crate::{
    existing::{Found, FoundKind},
    geo,
    names::{ProviderName, RegionName, WorkspaceName},
    resource::Kind,
};

/// What became of one found thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Declared as it is.
    Written,
    /// Declared; something of it is not said, and a comment beside it says what.
    Partly,
    /// A comment alone.
    LeftOut,
}

impl Outcome {
    /// As in the column `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Partly => "partly",
            Self::LeftOut => "left_out",
        }
    }
}

/// One found thing and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<'a> {
    pub found: &'a Found,
    /// None where it belongs to no region.
    pub region: Option<RegionName>,
    pub outcome: Outcome,
    /// What the comment says.
    pub note: Option<String>,
}

/// A workspace, and what became of each thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Import<'a> {
    /// The whole file.
    pub text: String,
    pub told: Vec<Told<'a>>,
}

/// One resource as it will be written.
struct Item<'a> {
    /// The field in its region.
    field: String,
    /// `digitalocean.Droplet`
    kind: String,
    fields: Vec<(String, serde_json::Value)>,
    /// What is not said of it.
    notes: Vec<String>,
    /// The things that it declares; several for a group of servers.
    of: Vec<&'a Found>,
}

impl Item<'_> {
    fn says_where(&self) -> bool {
        self.fields
            .iter()
            .any(|(name, _)| name == "location" || name == "region")
    }
}

/// What is written of one kind, and what is not.
#[derive(Default)]
struct Section<'a> {
    items: Vec<Item<'a>>,
    /// With the reason, as a sentence without its end.
    left_out: Vec<(&'a Found, String)>,
}

/// Declares what was found in a workspace of this name.
///
/// `region_of` is what the region at this location of a provider is called, where somebody has said it; a label of this
/// workspace says it as well, and otherwise it is called like the location. What carries the label of another workspace
/// belongs there and is left out.
pub fn import<'a>(
    name: &WorkspaceName,
    found: &'a [Found],
    region_of: impl Fn(ProviderName, &str) -> Option<RegionName>,
) -> Import<'a> {
    let mut told = Vec::new();
    let mut regions: BTreeMap<RegionName, Vec<&Found>> = BTreeMap::new();
    let mut outside: Vec<(&Found, String)> = Vec::new();
    let places = Places::new(name, found, region_of);
    for it in found {
        match places.of(it) {
            Ok(Some(region)) => regions.entry(region).or_default().push(it),
            Ok(None) => {}
            Err(why) => outside.push((it, why)),
        }
    }
    // The one with most servers takes writes at first; whoever wants another edits one word.
    let servers = |of: &[&Found]| of.iter().filter(|it| is(it, Kind::Server)).count();
    let mut order: Vec<(RegionName, Vec<&Found>)> = regions.into_iter().collect();
    order.sort_by_key(|(name, of)| (usize::MAX - servers(of), name.clone()));
    let mut ranges: Vec<(String, String)> = Vec::new();
    let mut body = String::new();
    let mut at = 0;
    for (region, of) in &order {
        let sections = kinds::sections(of, &mut ranges);
        if sections.iter().flat_map(|it| &it.items).any(Item::says_where) {
            body.push_str(&written(region, at, &sections));
            told.extend(outcomes(region, &sections));
            at += 1;
            continue;
        }
        // A region is where its things are.
        for section in sections {
            let alone = section.items.into_iter().flat_map(|it| it.of);
            outside.extend(alone.map(|it| {
                (
                    it,
                    "nothing else is in its region, and it does not say where that is".into(),
                )
            }));
            outside.extend(section.left_out);
        }
    }
    let mut text = head(name);
    text.push_str(&distance(&order));
    text.push_str(&body);
    if at == 0 {
        text.push_str(&text::comment("Nothing was found that a workspace could declare.", 2));
    }
    for (it, why) in outside {
        text.push_str(&text::comment(&left_out(it, &why), 2));
        told.push(Told {
            found: it,
            region: None,
            outcome: Outcome::LeftOut,
            note: Some(why),
        });
    }
    text.push_str("} | Workspace\n");
    let place = |it: &Told| {
        (
            it.region.is_none(),
            it.region.clone(),
            it.found.kind,
            it.found.name.clone(),
        )
    };
    told.sort_by_cached_key(place);
    Import { text, told }
}

fn is(found: &Found, kind: Kind) -> bool {
    found.kind == FoundKind::Resource(kind)
}

/// Where things belong.
struct Places<'a, F> {
    ws: &'a WorkspaceName,
    found: &'a [Found],
    /// As labels of this workspace say.
    labelled: BTreeMap<(ProviderName, &'a str), &'a RegionName>,
    region_of: F,
}

impl<'a, F: Fn(ProviderName, &str) -> Option<RegionName>> Places<'a, F> {
    fn new(ws: &'a WorkspaceName, found: &'a [Found], region_of: F) -> Self {
        let ours = found.iter().filter_map(|it| {
            let owner = it.owner.as_ref().filter(|owner| owner.ws == *ws)?;
            Some(((it.provider, it.location.as_deref()?), owner.region.as_ref()?))
        });
        Self {
            ws,
            found,
            labelled: ours.collect(),
            region_of,
        }
    }

    /// The region it belongs to; none for what is of no interest.
    ///
    /// # Errors
    ///
    /// Why it is in no region of this workspace.
    fn of(&self, it: &Found) -> Result<Option<RegionName>, String> {
        if it.of_the_account {
            return Ok(None);
        }
        if it.kind == FoundKind::Address {
            return Err("an address by itself is nothing that a workspace declares".to_owned());
        }
        if let Some(owner) = &it.owner {
            if owner.ws != *self.ws {
                return Err(format!("it belongs to the workspace {}", owner.ws));
            }
            if let Some(region) = &owner.region {
                return Ok(Some(region.clone()));
            }
        }
        match &it.location {
            Some(location) => Ok(Some(self.at(it.provider, location))),
            // It has no place, and stands before servers that have one.
            None => {
                let before = kinds::targets(it);
                let near = self.found.iter().find(|server| {
                    is(server, Kind::Server) && server.provider == it.provider && before.contains(&server.name.as_str())
                });
                let place = near.and_then(|server| server.location.as_deref());
                match place {
                    Some(location) => Ok(Some(self.at(it.provider, location))),
                    None => Err("it stands before no server, so nothing says which region it belongs to".to_owned()),
                }
            }
        }
    }

    fn at(&self, provider: ProviderName, location: &str) -> RegionName {
        let labelled = self.labelled.get(&(provider, location)).map(|it| (*it).clone());
        labelled
            .or_else(|| (self.region_of)(provider, location))
            .unwrap_or_else(|| RegionName::new(location))
    }
}

fn head(name: &WorkspaceName) -> String {
    format!(
        "# Written by ha import from what exists. Read it, then: ha check, ha adopt --dry-run, ha adopt, ha plan.\n\
         # No provider tells which SSH keys and user data a server was made with; what is made from now on needs them here:\n\
         # ssh_keys = [\"…\"]. Databases and stores that run on servers are nothing a provider knows: ha.Postgres, ha.Store.\n\
         let {{ digitalocean, hetzner, aws, ha, Workspace, .. }} = import \"ha.ncl\" in\n\
         {{\n  workspace = {},\n",
        text::string(name.as_str())
    )
}

/// Regions that are nearer than a workspace has to have them are so on purpose, or by history.
fn distance(regions: &[(RegionName, Vec<&Found>)]) -> String {
    const USUAL_KM: f64 = 500.0;
    let at = |of: &[&Found]| {
        let server = of.iter().find(|it| is(it, Kind::Server)).or(of.first())?;
        geo::location(server.provider, server.location.as_deref()?)
    };
    let places: Vec<_> = regions.iter().filter_map(|(_, of)| at(of)).collect();
    let pairs = places
        .iter()
        .enumerate()
        .flat_map(|(index, one)| places[..index].iter().map(|other| one.at.distance_km(other.at)));
    match pairs.min_by(f64::total_cmp) {
        Some(nearest) if nearest < USUAL_KM => format!(
            "  objectives = {{ min_distance_km = {} }}, # regions of a workspace usually are 500 km apart\n",
            nearest.floor()
        ),
        _ => String::new(),
    }
}

fn written(region: &RegionName, at: usize, sections: &[Section]) -> String {
    let role = match at {
        0 => "'Primary",
        1 => "'Secondary",
        _ => "'Tertiary",
    };
    let mut out = format!(
        "\n  region_{} = {{\n    role = {role},\n",
        region.as_str().replace('-', "_")
    );
    for section in sections {
        for item in &section.items {
            for note in &item.notes {
                out.push_str(&text::comment(note, 4));
            }
            out.push_str(&text::resource(&item.field, &item.kind, &item.fields, 4));
        }
        for (found, why) in &section.left_out {
            out.push_str(&text::comment(&left_out(found, why), 4));
        }
    }
    out.push_str("  },\n");
    out
}

fn left_out(found: &Found, why: &str) -> String {
    let name = if found.name.is_empty() {
        "without a name"
    } else {
        &found.name
    };
    format!(
        "not declared: {} {name} ({}, {}): {why}",
        found.kind, found.provider, found.number
    )
}

fn outcomes<'a>(region: &RegionName, sections: &[Section<'a>]) -> Vec<Told<'a>> {
    let mut out = Vec::new();
    let mut tell = |found: &'a Found, outcome: Outcome, note: Option<String>| {
        out.push(Told {
            found,
            region: Some(region.clone()),
            outcome,
            note,
        });
    };
    for section in sections {
        for item in &section.items {
            let outcome = match item.notes.is_empty() {
                true => Outcome::Written,
                false => Outcome::Partly,
            };
            let note = (!item.notes.is_empty()).then(|| item.notes.join("; "));
            item.of.iter().for_each(|it| tell(it, outcome, note.clone()));
        }
        for (found, why) in &section.left_out {
            tell(found, Outcome::LeftOut, Some(why.clone()));
        }
    }
    out
}

#[cfg(test)]
mod tests;
