//! Listeners: one for each port, which forwards or redirects.

use aws_sdk_elasticloadbalancingv2::types::{self as elb, ActionTypeEnum, ProtocolEnum};
use futures::future::join_all;

use super::shape::{Entry, Pieces, Rule, Target, Wanted, forward, redirects};
use crate::{
    ProviderError,
    aws::{
        call::Repeat::{Freely, WhenRefused},
        fault::Fault,
        network::gone_already,
        place::Place,
    },
};

/// Afterwards the balancer listens on the ports of its rules, and on no others.
pub(super) async fn ensure(
    place: &Place,
    wanted: &Wanted,
    found: &Pieces,
    balancer: &str,
    groups: &[(Target, String)],
) -> Result<(), ProviderError> {
    let ports = wanted.listeners();
    let extra = found
        .listeners
        .iter()
        .filter(|it| !ports.iter().any(|(port, _)| it.port() == Some(*port)));
    let gone = join_all(extra.filter_map(|it| it.listener_arn()).map(|arn| async move {
        let request = place.elb.delete_listener().listener_arn(arn);
        let outcome = place
            .call("elasticloadbalancing:DeleteListener", Freely, || request.clone().send())
            .await;
        gone_already(outcome)
    }));
    gone.await.into_iter().collect::<Result<(), _>>()?;
    let made = join_all(ports.iter().map(|(port, rule)| async move {
        let action = action(wanted, *rule, groups);
        let now = found.listeners.iter().find(|it| it.port() == Some(*port));
        match now {
            Some(now) if is_so(now, *rule, &action) => Ok(()),
            Some(now) => modify(place, now.listener_arn().unwrap_or_default(), *rule, action).await,
            None => create(place, balancer, *port, *rule, action).await,
        }
    }));
    made.await.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

fn action(wanted: &Wanted, rule: Option<&Rule>, groups: &[(Target, String)]) -> elb::Action {
    let plain = rule.is_none_or(|it| it.entry == Entry::Http);
    let build = elb::Action::builder();
    match (wanted.https_port(), rule) {
        (Some(port), _) if wanted.redirect && plain => build
            .r#type(ActionTypeEnum::Redirect)
            .redirect_config(
                elb::RedirectActionConfig::builder()
                    .protocol("HTTPS")
                    .port(port.to_string())
                    .status_code(elb::RedirectActionStatusCodeEnum::Http301)
                    .build(),
            )
            .build(),
        (_, rule) => {
            let group = rule.and_then(|rule| groups.iter().find(|(target, _)| *target == rule.target));
            build
                .r#type(ActionTypeEnum::Forward)
                .set_target_group_arn(group.map(|it| it.1.clone()))
                .build()
        }
    }
}

fn protocol(rule: Option<&Rule>) -> ProtocolEnum {
    match rule.map(|it| it.entry) {
        Some(Entry::Https) => ProtocolEnum::Https,
        _ => ProtocolEnum::Http,
    }
}

fn certificates(rule: Option<&Rule>) -> Option<Vec<elb::Certificate>> {
    let arn = rule?.certificate.clone()?;
    Some(vec![elb::Certificate::builder().certificate_arn(arn).build()])
}

/// AWS fills in what an action leaves out, so only what was said is compared.
fn is_so(now: &elb::Listener, rule: Option<&Rule>, action: &elb::Action) -> bool {
    let leads = match action.target_group_arn() {
        Some(arn) => forward(now) == Some(arn),
        None => {
            let to = |action: &elb::Action| action.redirect_config().and_then(|it| it.port().map(str::to_owned));
            redirects(now) && now.default_actions().first().and_then(to) == to(action)
        }
    };
    let certificate = now.certificates().first().and_then(|it| it.certificate_arn());
    leads && now.protocol() == Some(&protocol(rule)) && certificate == rule.and_then(|it| it.certificate.as_deref())
}

async fn create(
    place: &Place,
    balancer: &str,
    port: i32,
    rule: Option<&Rule>,
    action: elb::Action,
) -> Result<(), Fault> {
    let request = place
        .elb
        .create_listener()
        .load_balancer_arn(balancer)
        .port(port)
        .protocol(protocol(rule))
        .set_certificates(certificates(rule))
        .default_actions(action);
    // Twice is refused: a port has one listener. The next look finds the one that is there.
    place
        .settled("elasticloadbalancing:CreateListener", WhenRefused, || {
            request.clone().send()
        })
        .await
        .map(drop)
}

async fn modify(place: &Place, listener: &str, rule: Option<&Rule>, action: elb::Action) -> Result<(), Fault> {
    let request = place
        .elb
        .modify_listener()
        .listener_arn(listener)
        .protocol(protocol(rule))
        .set_certificates(certificates(rule))
        .default_actions(action);
    place
        .settled("elasticloadbalancing:ModifyListener", Freely, || request.clone().send())
        .await
        .map(drop)
}
