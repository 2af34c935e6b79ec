use std::time::Duration;

use ha_core::agreement::Phase;
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use crate::{
    HaPlugin,
    agreement::{Look, Session},
    nu::{Bytes, Count, MILLISECOND, Time, args, table, to_the},
};

pub(super) struct Lease;

#[derive(IntoValue)]
struct Row {
    holder: Option<String>,
    region: Option<String>,
    phase: String,
    epoch: Count,
    left: Option<Duration>,
    age: Option<Duration>,
    hold: Duration,
    take: Duration,
    counter: Option<Count>,
    timeline: u32,
    written: Option<String>,
    mode: String,
    /// Who is to be primary next.
    next: Option<String>,
    paused: Option<String>,
    changed_by: String,
    changed_at: Time,
    last_switch: Option<String>,
    lost: Option<Bytes>,
}

impl PluginCommand for Lease {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha lease"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Who may write, in which epoch, and for how long without a renewal"
    }

    fn extra_description(&self) -> &str {
        "phase is active, sealing (nobody may write: the next primary is being decided) or switching (about to hand over to
next). left is what is left of hold since the lease was renewed, by the clocks of the holder and of this machine; below zero
it is null, and the holder has fenced itself or is about to. take is when another may act on a lease that does not change.
lost is what the last change of primary is known to have cost. Durability rests on seals and not on the lease, in strict mode."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["leader", "epoch", "term", "holder", "primary"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha lease",
                description: "Who leads",
                result: None,
            },
            Example {
                example: "ha lease | get 0.holder",
                description: "Only its name",
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
        let look = session.wait(session.agreement.look())?;
        Ok(table(
            vec![row(&session, &look)],
            &["holder", "region", "phase", "epoch", "left"],
            call.head,
        ))
    }
}

fn row(session: &Session<'_>, look: &Look) -> Row {
    let (term, timing) = (&look.term, session.agreement.workspace.timing);
    let lease = look.lease.as_ref().filter(|it| it.epoch == term.epoch);
    let now = Timestamp::now();
    let age = lease.and_then(|it| Duration::try_from(now.duration_since(it.sent_at)).ok());
    let holder = (term.phase != Phase::Sealing).then(|| term.leader.clone());
    let next = term
        .chosen()
        .cloned()
        .or_else(|| term.switch.as_ref().map(|it| it.to.clone()));
    let paused = look
        .pause
        .as_ref()
        .filter(|it| it.until.is_none_or(|until| until > now));
    Row {
        region: holder.as_deref().and_then(|it| session.agreement.region_of(it)),
        holder,
        phase: term.phase.as_str().to_owned(),
        epoch: Count(term.epoch),
        left: age
            .and_then(|age| timing.hold.checked_sub(age))
            .map(|it| to_the(MILLISECOND, it)),
        age: age.map(|it| to_the(MILLISECOND, it)),
        hold: timing.hold,
        take: timing.take,
        counter: lease.map(|it| Count(it.counter)),
        timeline: term.timeline,
        written: lease.and_then(|it| it.written).map(|it| it.lsn.to_string()),
        mode: term.mode.as_str().to_owned(),
        next,
        paused: paused.map(|it| format!("{}: {}", it.by, it.why)),
        changed_by: term.changed_by.clone(),
        changed_at: Time(term.changed_at),
        last_switch: term.last_switch.as_ref().map(|it| match it.detail.as_str() {
            "" => format!("to {}: {:?}", it.to, it.outcome).to_lowercase(),
            why => format!("to {}: {:?}, {why}", it.to, it.outcome).to_lowercase(),
        }),
        lost: look.newest().and_then(|it| it.lost_bytes).map(Bytes),
    }
}
