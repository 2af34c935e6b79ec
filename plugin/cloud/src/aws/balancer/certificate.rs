//! The certificate of an HTTPS rule, looked at before anything is made.

use aws_sdk_acm::types::CertificateStatus;
use ha_core::resource::Resource;

use super::shape::Wanted;
use crate::{
    ProviderError,
    aws::{call::Repeat::Freely, fault::Class, place::Place},
};

/// Every certificate lies where the balancer does, and is issued.
///
/// A balancer cannot use one of another region; only CloudFront wants its own in us-east-1.
/// Source: <https://docs.aws.amazon.com/acm/latest/userguide/acm-regions.html>.
pub(super) async fn check(place: &Place, want: &Resource, wanted: &Wanted) -> Result<(), ProviderError> {
    for rule in &wanted.rules {
        let Some(arn) = &rule.certificate else { continue };
        let refused = |why: String, help: String| ProviderError::Refused {
            what: format!("{}: certificate {arn} {why}", want.id),
            help,
        };
        let elsewhere = located(arn).filter(|it| *it != place.location);
        if let Some(there) = elsewhere {
            return Err(refused(
                format!("is in {there}, and the balancer in {}", place.location),
                format!(
                    "aws acm request-certificate --region {} --domain-name …",
                    place.location
                ),
            ));
        }
        // Certificates of IAM have no region and no state.
        if !arn.contains(":acm:") {
            continue;
        }
        let request = place.acm.describe_certificate().certificate_arn(arn);
        let found = place
            .call("acm:DescribeCertificate", Freely, || request.clone().send())
            .await;
        let found = match found {
            Err(fault) if fault.is(Class::NotFound) => {
                let list = format!("aws acm list-certificates --region {}", place.location);
                return Err(refused("does not exist".into(), format!("see what there is: {list}")));
            }
            found => found?,
        };
        let status = found.certificate().and_then(|it| it.status());
        if status != Some(&CertificateStatus::Issued) {
            let status = status.map_or("in no known state", CertificateStatus::as_str);
            return Err(refused(
                format!("is {status}, not ISSUED"),
                "finish its validation (AWS console: Certificate Manager), and run it again".into(),
            ));
        }
    }
    Ok(())
}

/// `arn:aws:acm:ap-southeast-1:123456789012:certificate/…`
fn located(arn: &str) -> Option<&str> {
    arn.split(':').nth(3).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::located;

    #[test]
    fn an_arn_says_where_it_lies_unless_it_lies_nowhere() {
        let acm = "arn:aws:acm:us-east-1:123456789012:certificate/1";
        assert_eq!(located(acm), Some("us-east-1"));
        assert_eq!(located("arn:aws:iam::123456789012:server-certificate/shop"), None);
    }
}
