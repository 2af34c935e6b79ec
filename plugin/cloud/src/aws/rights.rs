//! What a key may do, by the names that a policy has for it.
//!
//! Lists are asked for. What EC2 changes is asked for with `DryRun`, which answers `DryRunOperation` where it would be
//! done and `UnauthorizedOperation` where it may not be, and does nothing in either case. Whatever such a trial names
//! leads nowhere besides, wherever something has to be named. The other services have no trial: nothing is sent.
//! Sources: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-policies-for-amazon-ec2.html>,
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>.

use std::{collections::BTreeSet, iter};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};

mod trial;

use super::{
    AwsProvider,
    call::Repeat::Freely,
    fault::{Class, Fault},
    offers::Regions,
    place::Place,
};
use trial::{list, trial};

use crate::{
    ProviderError,
    rights::{Door, Held, Report, Right, Rights, Told, Use},
};

/// Every action that is called, and what for. A test compares it with what the sources of this provider call.
const ACTIONS: &[(Use, &[&str])] = &[
    (
        Use::Looking,
        &[
            "sts:GetCallerIdentity",
            "ec2:DescribeRegions",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeImages",
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeVpcs",
            "ec2:DescribeSubnets",
            "ec2:DescribeInternetGateways",
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeInstances",
            "ec2:DescribeVolumes",
            "ec2:DescribeKeyPairs",
            "ec2:DescribeAddresses",
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTargetHealth",
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:DescribeTags",
            "rds:DescribeDBInstances",
            "rds:DescribeDBSubnetGroups",
            "rds:ListTagsForResource",
        ],
    ),
    (
        Use::Networks,
        &[
            "ec2:CreateVpc",
            "ec2:CreateSubnet",
            "ec2:CreateInternetGateway",
            "ec2:AttachInternetGateway",
            "ec2:CreateRouteTable",
            "ec2:CreateRoute",
            "ec2:ReplaceRoute",
            "ec2:AssociateRouteTable",
            "ec2:DisassociateRouteTable",
            "ec2:DetachInternetGateway",
            "ec2:DeleteInternetGateway",
            "ec2:DeleteRouteTable",
            "ec2:DeleteSubnet",
            "ec2:DeleteVpc",
            // Every network has the group of its servers.
            "ec2:CreateSecurityGroup",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
            "ec2:CreateTags",
            "ec2:DeleteTags",
        ],
    ),
    (
        Use::Servers,
        &[
            "ssm:GetParameter",
            "ec2:ImportKeyPair",
            "ec2:DeleteKeyPair",
            "ec2:RunInstances",
            "ec2:StartInstances",
            "ec2:StopInstances",
            "ec2:TerminateInstances",
            "ec2:ModifyInstanceAttribute",
            "ec2:ModifyNetworkInterfaceAttribute",
        ],
    ),
    (
        Use::Volumes,
        &[
            "ec2:CreateVolume",
            "ec2:AttachVolume",
            "ec2:DetachVolume",
            "ec2:ModifyVolume",
            "ec2:DeleteVolume",
        ],
    ),
    (
        Use::LoadBalancers,
        &[
            "acm:DescribeCertificate",
            "elasticloadbalancing:CreateLoadBalancer",
            "elasticloadbalancing:DeleteLoadBalancer",
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:ModifyTargetGroup",
            "elasticloadbalancing:ModifyTargetGroupAttributes",
            "elasticloadbalancing:DeleteTargetGroup",
            "elasticloadbalancing:CreateListener",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:DeleteListener",
            "elasticloadbalancing:RegisterTargets",
            "elasticloadbalancing:DeregisterTargets",
            "elasticloadbalancing:AddTags",
            "elasticloadbalancing:RemoveTags",
            LINKED_ROLE,
        ],
    ),
    (
        Use::Databases,
        &[
            "rds:CreateDBSubnetGroup",
            "rds:CreateDBInstance",
            "rds:CreateDBInstanceReadReplica",
            "rds:ModifyDBInstance",
            "rds:PromoteReadReplica",
            "rds:StartDBInstance",
            "rds:DeleteDBInstance",
            "rds:DeleteDBSubnetGroup",
            "rds:AddTagsToResource",
            // RDS makes the password and keeps it in Secrets Manager.
            // Source: <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html>.
            "secretsmanager:CreateSecret",
            "secretsmanager:TagResource",
            "kms:DescribeKey",
        ],
    ),
    (
        Use::Dns,
        &[
            "route53:ListHostedZones",
            "route53:CreateHostedZone",
            "route53:DeleteHostedZone",
            "route53:ListResourceRecordSets",
            "route53:ChangeResourceRecordSets",
            "route53:GetChange",
            "route53:ListHealthChecks",
            "route53:GetHealthCheckStatus",
            "route53:CreateHealthCheck",
            "route53:UpdateHealthCheck",
            "route53:DeleteHealthCheck",
            "route53:ListTagsForResource",
            "route53:ListTagsForResources",
            "route53:ChangeTagsForResource",
        ],
    ),
];

/// The first balancer and the first database of an account make a role for their service.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/elb-service-linked-roles.html>.
const LINKED_ROLE: &str = "iam:CreateServiceLinkedRole";
const LINKED_SERVICES: [&str; 2] = ["elasticloadbalancing.amazonaws.com", "rds.amazonaws.com"];

const NO_TRIAL: &str = "AWS has no trial of it, and it is not tried in earnest";

pub(crate) fn rights() -> Vec<Right> {
    let of = |(used_for, names): &(Use, &'static [&'static str])| {
        let used_for = *used_for;
        names.iter().map(move |name| Right { name, used_for })
    };
    ACTIONS.iter().flat_map(of).collect()
}

/// The smallest policy of IAM: what is asked in regions, in these regions alone.
/// Source of its form: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>.
pub(crate) fn policy(needed: &[Right], locations: &[String]) -> Value {
    let everywhere = |name: &str| ["sts:", "route53:"].iter().any(|it| name.starts_with(it)) || name == HOME_ACTION;
    let names = |chosen: &dyn Fn(&str) -> bool| -> Vec<&str> {
        let names = needed.iter().map(|it| it.name);
        names.filter(|name| *name != LINKED_ROLE && chosen(name)).collect()
    };
    let statement = |sid: &str, actions: Vec<&str>, condition: Value| {
        let mut statement = json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": "*" });
        if !condition.is_null() {
            statement["Condition"] = condition;
        }
        (!actions.is_empty()).then_some(statement)
    };
    let here = match locations {
        [] => Value::Null,
        some => json!({ "StringEquals": { "aws:RequestedRegion": some } }),
    };
    let linked = match needed.iter().any(|it| it.name == LINKED_ROLE) {
        true => vec![LINKED_ROLE],
        false => Vec::new(),
    };
    let services = json!({ "StringEquals": { "iam:AWSServiceName": LINKED_SERVICES } });
    let statements = [
        statement("Regions", names(&|name| !everywhere(name)), here),
        statement("Everywhere", names(&everywhere), Value::Null),
        statement("Roles", linked, services),
    ];
    let statements: Vec<Value> = statements.into_iter().flatten().collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Asked where every account may ask, to learn in which regions it may.
const HOME_ACTION: &str = "ec2:DescribeRegions";

#[async_trait]
impl Rights for AwsProvider {
    async fn report(&self, uses: &BTreeSet<Use>) -> Report {
        let needed: Vec<Right> = rights().into_iter().filter(|it| uses.contains(&it.used_for)).collect();
        let regions = Regions::new(&self.options);
        let places = self.places();
        let asked = places.iter().enumerate().map(|(index, place)| {
            let (needed, regions) = (&needed, &regions);
            async move {
                match caller(place).await {
                    Err(fault) => (Err(closed(fault, regions).await), Vec::new()),
                    Ok(who) => {
                        // What holds for all regions is asked for in one of them.
                        let here = needed
                            .iter()
                            .filter(|it| index == 0 || !it.name.starts_with("route53:"));
                        let told = here.map(|right| async move {
                            Told {
                                right: *right,
                                location: Some(place.location.clone()),
                                held: held(place, regions, right.name).await,
                            }
                        });
                        (Ok(who), join_all(told).await)
                    }
                }
            }
        });
        let answers = join_all(asked).await;
        let mut report = Report {
            doors: Vec::new(),
            rights: Vec::new(),
        };
        for (place, (who, told)) in iter::zip(&places, answers) {
            report.doors.push(Door {
                location: Some(place.location.clone()),
                who,
            });
            report.rights.extend(told);
        }
        report
    }
}

async fn caller(place: &Place) -> Result<String, Fault> {
    let request = place.sts.get_caller_identity();
    let answer = place
        .call("sts:GetCallerIdentity", Freely, || request.clone().send())
        .await?;
    Ok(answer.arn.or(answer.account).unwrap_or_else(|| "unknown".to_owned()))
}

/// Why nobody is let in there. A region that is not enabled refuses every key as if it were a wrong one.
async fn closed(fault: Fault, regions: &Regions) -> ProviderError {
    if matches!(fault.class, Class::Credential | Class::NotEnabled)
        && let Ok(all) = regions.all().await
        && let Some(why) = all.objection(&fault.location)
    {
        return ProviderError::Refused {
            what: why.message,
            help: why.help,
        };
    }
    let what = fault.to_string();
    match help(&fault.code, &fault.message) {
        Some(help) => ProviderError::Refused {
            what,
            help: help.to_owned(),
        },
        None => fault.into(),
    }
}

/// What to do about a credential that is not accepted; none for any other refusal.
///
/// Sources: <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html>.
fn help(code: &str, message: &str) -> Option<&'static str> {
    const CLOCK: &str = "set this machine's clock (timedatectl set-ntp true) and run it again: AWS takes what was signed \
                         within five minutes";
    // One word for two things, told apart by what is said besides.
    let late = ["expired", "not yet current"].iter().any(|it| message.contains(it));
    Some(match code {
        "SignatureDoesNotMatch" | "InvalidSignatureException" if late => CLOCK,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => CLOCK,
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature" => {
            "the secret_access_key does not belong to this access_key_id: copy both again, or make a new key (AWS console: \
             IAM, Users, Security credentials)"
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            "AWS knows no such access_key_id: it was removed, or it is of another partition (aws-cn, aws-us-gov); a key that \
             begins with ASIA needs its session_token as well"
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            "the session is over: begin another one (aws sso login, aws sts assume-role) and give its three values"
        }
        _ => return None,
    })
}

async fn held(place: &Place, regions: &Regions, name: &'static str) -> Held {
    if name == "sts:GetCallerIdentity" {
        // It was just called; and nobody can be denied it.
        return Held::Yes;
    }
    let answer = if name == HOME_ACTION {
        Some(regions.all().await.map(drop))
    } else if let Some(answer) = list(place, name).await {
        Some(answer)
    } else if let Some(answer) = trial(place, name).await {
        return tried(answer);
    } else {
        None
    };
    match answer {
        Some(Ok(())) => Held::Yes,
        Some(Err(fault)) if fault.is(Class::Denied) => Held::No,
        Some(Err(fault)) => Held::Unknown(fault.to_string()),
        None => Held::Unknown(NO_TRIAL.into()),
    }
}

fn tried(answer: Result<(), Fault>) -> Held {
    match answer {
        Err(fault) if fault.code == "DryRunOperation" => Held::Yes,
        Err(fault) if fault.is(Class::Denied) => Held::No,
        // Which of the two AWS looks at first is not documented.
        Err(fault) if matches!(fault.class, Class::Refused | Class::NotFound) => Held::Unknown(format!(
            "its trial was refused for what it names, not for the right: {fault}"
        )),
        Err(fault) => Held::Unknown(fault.to_string()),
        Ok(()) => {
            Held::Unknown("its trial was taken in earnest, which AWS itself never does: look at what it made".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every `"ec2:RunInstances"` in the sources of this provider, other than this file.
    fn called(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the sources are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                called(&path, found);
            } else if path
                .file_name()
                .is_some_and(|it| it != "rights.rs" && it != "trial.rs" && it != "tests.rs")
            {
                let text = fs::read_to_string(&path).expect("a source");
                let words = text.split('"').filter(|it| !it.contains(char::is_whitespace));
                let actions = words.filter(|it| {
                    let Some((service, action)) = it.split_once(':') else {
                        return false;
                    };
                    let is_service = ["ec2", "elasticloadbalancing", "rds", "sts", "acm", "ssm", "route53"];
                    is_service.contains(&service) && action.starts_with(|it: char| it.is_ascii_uppercase())
                });
                found.extend(actions.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_action_that_is_called_is_on_the_list() {
        let mut all = BTreeSet::new();
        for folder in ["src/aws", "src/dns/route53"] {
            called(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
        }
        assert!(all.len() > 50, "{all:?}");
        let listed: BTreeSet<String> = rights().iter().map(|it| it.name.to_owned()).collect();
        let missing: Vec<_> = all.difference(&listed).collect();
        assert_eq!(missing, Vec::<&String>::new());
        // And nothing is asked for that nobody calls, other than what AWS itself calls in the name of the key.
        let by_others = ["iam:", "secretsmanager:", "kms:"];
        let idle: Vec<_> = listed.difference(&all).collect();
        let idle: Vec<_> = idle
            .iter()
            .filter(|it| !by_others.iter().any(|by| it.starts_with(by)))
            .collect();
        assert!(idle.is_empty(), "{idle:?}");
    }

    #[test]
    fn a_wrong_key_a_wrong_secret_a_session_that_is_over_and_a_wrong_clock_are_told_apart() {
        let table = [
            (
                "InvalidClientTokenId",
                "The security token included in the request is invalid",
                "knows no such",
            ),
            (
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match",
                "secret_access_key",
            ),
            (
                "SignatureDoesNotMatch",
                "Signature expired: 20261120T1 is now earlier than",
                "clock",
            ),
            (
                "SignatureDoesNotMatch",
                "Signature not yet current: 20261120T1 is still later than",
                "clock",
            ),
            ("RequestExpired", "Request has expired", "clock"),
            (
                "ExpiredToken",
                "The security token included in the request is expired",
                "session is over",
            ),
        ];
        for (code, message, words) in table {
            let help = help(code, message).expect(code);
            assert!(help.contains(words), "{code}: {help}");
        }
        assert_eq!(help("AccessDenied", "not authorized"), None);
    }

    #[test]
    fn a_policy_holds_to_the_regions_of_the_workspace_and_names_the_services_of_its_roles() {
        let policy = policy(&rights(), &["ap-southeast-1".to_owned()]);
        let statements = policy["Statement"].as_array().expect("statements");
        let of = |sid: &str| statements.iter().find(|it| it["Sid"] == sid).expect("it is there");
        assert_eq!(
            of("Regions")["Condition"]["StringEquals"]["aws:RequestedRegion"][0],
            "ap-southeast-1"
        );
        assert!(of("Everywhere").get("Condition").is_none());
        let services = &of("Roles")["Condition"]["StringEquals"]["iam:AWSServiceName"];
        assert_eq!(services[0], "elasticloadbalancing.amazonaws.com");
        let text = policy.to_string();
        assert!(!text.contains(":*") && !text.contains("\"Action\":\"*\""), "{text}");
    }
}
