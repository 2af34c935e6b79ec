use std::collections::BTreeMap;

use ha_core::{
    cost::{self, Change, Origin, Row as Line, Wrong},
    model::Workspace,
    names::ProviderName,
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, Flag, FromValue, IntoValue, LabeledError, PipelineData, Signature, Span, Spanned, SyntaxShape, Type, Value,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Prices},
    error::{Failed, What},
    nu::{At, Count, Time, args, table},
};

pub(super) struct Cost;

const WHAT_IF: &str = "what-if";

#[derive(IntoValue)]
struct Row {
    region: Option<String>,
    component: String,
    name: String,
    r#type: String,
    count: Count,
    unit_cost: Option<f64>,
    monthly_cost: Option<f64>,
    monthly_cost_eur: Option<f64>,
    before: Option<f64>,
    difference: Option<f64>,
    error: Option<String>,
    provider: String,
    currency: Option<String>,
    rate: f64,
    origin: Option<String>,
    as_of: Option<Time>,
    stale: bool,
    source: Option<String>,
    note: Option<String>,
}

impl PluginCommand for Cost {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha cost"
    }

    fn signature(&self) -> Signature {
        // In this order: a list is text, too.
        let change = SyntaxShape::OneOf(vec![
            SyntaxShape::List(Box::new(SyntaxShape::String)),
            SyntaxShape::String,
        ]);
        args::signature(self.name())
            .param(args::region())
            .param(
                Flag::new(WHAT_IF).arg(change).desc(
                    "count=2, size=cpx32, us-app.count=2: what it would cost then; one, a list, or several times",
                ),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "What the workspace costs a month as declared: a row per line of the bill, in dollars and in euros"
    }

    fn extra_description(&self) -> &str {
        "unit_cost, monthly_cost, before and difference are in dollars, monthly_cost_eur in euros; currency is the one in which
the provider bills, rate the dollars for one euro between them. Without tax. An hourly price counts for 730 hours, as AWS
counts them. Not counted is what comes with use: traffic, requests, snapshots; nor the boot disk of an AWS server.

A price is the one in config.toml, below [prices.<provider>], by the word in column type and in dollars a month; else
the one that the provider tells, which is asked where target = \"cloud\"; else that of the file which is part of the
program: origin says which (written, told, file), as_of of which day, and stale that it, or the rate, is older than 180
days. Hetzner tells all of its prices, DigitalOcean those of Droplets, AWS none. Of a provider that did not answer the
file's prices count, and note says why. A line without a known price has null for its cost, and error says
why. There is no row of sums: they are a pipeline away, and one over a null is refused by math sum instead of being
too small.

With --what-if, monthly_cost is what it would be, and before and difference compare. count=2 alone is for every group on
which only the application runs, size=cpx32 alone for every group of a provider that has it."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec![
            "price",
            "bill",
            "money",
            "euro",
            "dollar",
            "expensive",
            "savings",
            "infracost",
        ]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha cost | where monthly_cost != null | group-by region --to-table | insert monthly_cost {|it| \
                          $it.items.monthly_cost | math sum } | reject items",
                description: "By region, in dollars",
                result: None,
            },
            Example {
                example: "ha cost | get monthly_cost_eur | compact | math sum",
                description: "All of it, in euros",
                result: None,
            },
            Example {
                example: "ha cost --what-if [count=2 us-db.size=s-4vcpu-8gb] | where difference != 0",
                description: "Two application servers in each region instead of three, and one larger database server",
                result: None,
            },
            Example {
                example: "ha cost | where stale or error != null | select name type as_of error source",
                description: "Prices to look up again, or to write into config.toml",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let changes = changes(call)?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let Prices { all: prices, unheard } = context.prices(plugin, engine, workspace)?;
        let now = Timestamp::now();
        let of = |workspace: &Workspace| cost::rows(workspace, &prices, now).map_err(unreadable).at(call.head);
        let before = of(workspace)?;
        let after = match changes.is_empty() {
            true => None,
            false => {
                let mut changed = workspace.clone();
                for change in &changes {
                    let applied = change.item.apply(&mut changed, region.as_deref(), &prices);
                    applied.map_err(|wrong| refused(wrong, workspace)).at(change.span)?;
                }
                Some(of(&changed)?)
            }
        };
        let rate = cost::rate().map_err(unreadable).at(call.head)?.usd_per_eur;
        // Another number or another size moves no line of the bill.
        let lines: Vec<(Line, Option<Line>)> = match after {
            Some(after) => after.into_iter().zip(before.into_iter().map(Some)).collect(),
            None => before.into_iter().map(|it| (it, None)).collect(),
        };
        let of_region = |it: &Line| {
            region
                .as_deref()
                .is_none_or(|name| it.region.as_ref().is_some_and(|it| *it == name))
        };
        let rows = lines
            .into_iter()
            .filter(|(line, _)| of_region(line))
            .map(|(line, before)| row(line, before, rate, &unheard))
            .collect();
        Ok(table::<Row>(
            rows,
            &["region", "component", "name", "count", "monthly_cost"],
            call.head,
        ))
    }
}

fn row(line: Line, before: Option<Line>, rate: f64, unheard: &BTreeMap<ProviderName, String>) -> Row {
    let usd = |line: &Line| line.monthly.map(|it| it.usd);
    let difference = before.as_ref().and_then(|before| difference(&line, before));
    let (now, before) = (usd(&line), before.as_ref().and_then(usd));
    let unheard = unheard.get(&line.provider);
    let (error, price) = match line.price {
        Ok(price) => (None, Some(price)),
        Err(error) => (Some(error.to_string()), None),
    };
    let unasked = price.as_ref().is_none_or(|it| it.origin == Origin::File);
    let note = unheard
        .filter(|_| unasked)
        .map(|why| format!("{} did not tell its prices: {why}", line.provider));
    Row {
        region: line.region.map(|it| it.to_string()),
        component: line.component.as_str().to_owned(),
        name: line.name,
        r#type: line.r#type,
        count: Count(line.count),
        unit_cost: line.unit,
        monthly_cost: now,
        monthly_cost_eur: line.monthly.map(|it| it.eur),
        before,
        difference,
        error,
        provider: line.provider.to_string(),
        currency: price.as_ref().map(|it| it.currency.as_str().to_owned()),
        rate,
        origin: price.as_ref().map(|it| it.origin.as_str().to_owned()),
        as_of: price.as_ref().and_then(|it| it.as_of).and_then(day),
        stale: line.stale,
        source: price.map(|it| it.source),
        note,
    }
}

/// In dollars, to the cent. What is as it was has none, whatever it costs.
fn difference(now: &Line, before: &Line) -> Option<f64> {
    if (now.count, &now.r#type) == (before.count, &before.r#type) {
        return Some(0.0);
    }
    let (now, before) = (now.monthly?, before.monthly?);
    Some(((now.usd - before.usd) * 100.0).round() / 100.0)
}

/// Its beginning, in the time that needs no place.
fn day(date: Date) -> Option<Time> {
    let midnight = date.to_zoned(TimeZone::UTC).ok()?;
    Some(Time(midnight.timestamp()))
}

/// Of every `--what-if`: the flag may be repeated, and may have a list.
fn changes(call: &EvaluatedCall) -> Result<Vec<Spanned<Change>>, LabeledError> {
    let given = call.named.iter().filter(|(name, _)| name.item == WHAT_IF);
    let values = given.filter_map(|(_, value)| value.clone());
    let mut changes = Vec::new();
    for value in values {
        let texts = match value {
            Value::List { .. } => value.into_list()?,
            one => vec![one],
        };
        for text in texts {
            let text = Spanned::<String>::from_value(text)?;
            let change = Change::parse(&text.item).map_err(argument).at(text.span)?;
            changes.push(spanned(change, text.span));
        }
    }
    Ok(changes)
}

fn spanned(item: Change, span: Span) -> Spanned<Change> {
    Spanned { item, span }
}

fn refused(wrong: Wrong, workspace: &Workspace) -> Failed {
    match wrong {
        Wrong::Group { name, known } => {
            Failed::unknown(What::Group, &name, format!("workspace {}", workspace.name), known)
        }
        other => argument(other),
    }
}

fn argument(wrong: Wrong) -> Failed {
    Failed::BadArgument {
        what: format!("--{WHAT_IF}"),
        why: wrong.to_string(),
        help: wrong.help(),
    }
}

fn unreadable(error: cost::NoPrice) -> Failed {
    Failed::BadArgument {
        what: "a bill".to_owned(),
        why: error.to_string(),
        help: "this is a mistake in the program".to_owned(),
    }
}
