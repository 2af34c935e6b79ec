use std::time::Duration;

use futures::future::join_all;
use ha_core::{
    agreement::{Phase, Verdict},
    resource::Status,
    switch::{self, AgreementFinding, NodeFacts, World},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use crate::{
    HaPlugin,
    agreement::{Agreement, Look, Session},
    nu::{Count, MICROSECOND, MILLISECOND, Map, args, table, to_the, word},
};

pub(super) struct Quorum;

#[derive(Default, IntoValue)]
struct Row {
    part: String,
    region: Option<String>,
    name: String,
    status: String,
    leader: bool,
    /// Of an observer: what it says of the primary.
    primary: Option<String>,
    error: Option<String>,
    detail: Option<String>,
    /// Of an observer: the highest epoch it supports; nothing is acknowledged for one below.
    promised: Option<Count>,
    /// Of an observer: since its last report, by this machine's clock.
    reported: Option<Duration>,
    votes: Option<Map>,
    latency: Option<Duration>,
    version: Option<String>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for Quorum {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha quorum"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Who decides: members of the store, observers and what they say of the primary, voters and seals"
    }

    fn extra_description(&self) -> &str {
        "part is store (a member of the agreement store; leader is the one that leads it), observer (a guard; primary is what
it says of the present primary from its own place: up, suspect, down or unknown, and votes what it says of each) or voter (a
database server whose acknowledgement counts; leader is the primary; left_out by ha db voters --drop). A row seals says how
many voters must seal before another primary is made and how many could now. promised is what each guard keeps on its own
disk: no store can take it back. finding is what is wrong with the agreement itself: a store that went back in time, clocks
that disagree, guards that were told different things; no such row is good. A failover by itself needs most of the observers to say down, and an
observer that does not reach the store has no vote."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["etcd", "members", "votes", "consensus", "witness", "majority"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha quorum",
                description: "Everybody who has a say",
                result: None,
            },
            Example {
                example: "ha quorum | where part == observer | select region primary",
                description: "What each place sees of the primary",
                result: None,
            },
        ]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let rows = session.wait(async {
            let (mut rows, world) = tokio::join!(store(&agreement), agreement.world());
            match world {
                Ok((look, world)) => {
                    rows.extend(observers(&look, &world));
                    rows.extend(voters(&look, &world.nodes));
                    rows.extend(switch::findings(&world).into_iter().map(|it| found(&look, &world, it)));
                }
                // Its members are what was asked for, above all when they do not answer.
                Err(failed) => rows.push(Row {
                    part: "seals".into(),
                    name: "voters".into(),
                    status: "unknown".into(),
                    error: Some(failed.to_string()),
                    ..Row::default()
                }),
            }
            Ok(rows)
        })?;
        Ok(table(
            rows,
            &["part", "region", "name", "status", "primary", "error"],
            call.head,
        ))
    }
}

/// Each member by itself: whether it reaches a majority, and who leads.
async fn store(agreement: &Agreement) -> Vec<Row> {
    let asked = agreement.members.iter().map(|member| async move {
        let row = Row {
            part: "store".into(),
            region: Some(member.region.clone()),
            name: member.name.clone(),
            ..Row::default()
        };
        if member.status == Status::Off {
            return Row {
                status: "off".into(),
                ..row
            };
        }
        let (health, status) = tokio::join!(
            agreement.etcd.health(&member.endpoint),
            agreement.etcd.status(&member.endpoint)
        );
        let status = status.ok();
        let row = Row {
            leader: status.as_ref().is_some_and(|it| it.leader),
            version: status.as_ref().map(|it| it.version.clone()),
            detail: status.as_ref().map(|it| format!("term {}", it.term)),
            ..row
        };
        match health {
            Ok(took) => Row {
                status: "ok".into(),
                latency: Some(to_the(MICROSECOND, took)),
                ..row
            },
            Err(error) => Row {
                status: "failed".into(),
                error: Some(error.to_string()),
                ..row
            },
        }
    });
    join_all(asked).await
}

fn observers<'a>(look: &'a Look, world: &'a World) -> impl Iterator<Item = Row> + 'a {
    world.nodes.iter().map(|(name, node)| {
        let votes = node.member.as_ref().map(|it| &it.votes);
        let says = votes.and_then(|it| it.get(&look.term.leader)).copied();
        let answers = node.report.as_ref().err();
        // A vote of a guard that is gone is no vote.
        let status = match (answers, votes) {
            (None, Some(_)) => "ok",
            (None, None) => "no_vote",
            (Some(_), _) if node.off => "off",
            (Some(_), _) => "failed",
        };
        Row {
            part: "observer".into(),
            region: Some(node.region.clone()),
            name: name.clone(),
            status: status.into(),
            primary: says.filter(|_| answers.is_none()).and_then(word),
            error: answers.filter(|_| !node.off).cloned(),
            detail: node
                .member
                .as_ref()
                .and_then(|it| it.blocked.clone().or_else(|| it.doing.clone())),
            promised: node.member.as_ref().map(|it| Count(it.promised)),
            reported: switch::age(world, node).map(|it| to_the(MILLISECOND, it)),
            votes: votes.map(|it| {
                Map(it
                    .iter()
                    .map(|(node, vote)| (node.clone(), Verdict::as_str(*vote).to_owned()))
                    .collect())
            }),
            version: node.report.as_ref().ok().map(|it| it.guard_version.clone()),
            ..Row::default()
        }
    })
}

/// What is wrong with the agreement itself.
fn found(look: &Look, world: &World, it: AgreementFinding) -> Row {
    let name = it.node.unwrap_or_else(|| look.term.leader.clone());
    Row {
        part: "finding".into(),
        region: Some(world.region_of(&name).to_owned()),
        name,
        status: "failed".into(),
        error: Some(it.why),
        code: Some(it.code.to_owned()),
        help: Some(it.help.to_owned()),
        ..Row::default()
    }
}

fn voters(look: &Look, nodes: &std::collections::BTreeMap<String, NodeFacts>) -> Vec<Row> {
    let term = &look.term;
    let mut able = 0;
    let mut rows: Vec<Row> = term
        .voters
        .iter()
        .map(|name| {
            let node = nodes.get(name);
            let leader = *name == term.leader;
            // An active primary was sealed once, too; only what is being decided counts.
            let sealed = node
                .filter(|_| term.phase == Phase::Sealing)
                .and_then(|it| it.member.as_ref()?.sealed_for(term.epoch));
            let answers = node.is_some_and(NodeFacts::answers);
            let status = match (leader, sealed.is_some(), answers) {
                (_, true, _) => "sealed",
                (true, ..) => "leader",
                (false, false, true) => "ok",
                (false, false, false) => "missing",
            };
            able += usize::from(sealed.is_some() || answers);
            Row {
                part: "voter".into(),
                region: node.map(|it| it.region.clone()),
                name: name.clone(),
                status: status.into(),
                leader,
                detail: node.and_then(NodeFacts::position).map(|it| it.to_string()),
                ..Row::default()
            }
        })
        .collect();
    // Whoever was left out streams all the same.
    rows.extend(
        term.excluded
            .iter()
            .filter(|it| !term.voters.contains(*it))
            .map(|name| Row {
                part: "voter".into(),
                region: nodes.get(name).map(|it| it.region.clone()),
                name: name.clone(),
                status: "left_out".into(),
                detail: Some(format!("no commit waits for it, until: ha db voters --add {name}")),
                ..Row::default()
            }),
    );
    let needed = term.seals_needed();
    rows.push(Row {
        part: "seals".into(),
        name: "voters".into(),
        status: if able >= needed { "ok" } else { "short" }.into(),
        detail: Some(format!(
            "{needed} of {} voters must seal before another primary is made, {able} could now; a commit waits for {} of them",
            term.voters.len(),
            term.acks
        )),
        ..Row::default()
    });
    rows
}
