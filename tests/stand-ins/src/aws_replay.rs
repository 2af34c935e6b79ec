//! A region of AWS full of instances, told from memory: what a full read of it costs can be measured here.
//!
//! An emulator in Python needs over a second to write down a thousand instances, and that would be measured in place of
//! whoever reads them. This one writes them down once, when it starts, and gives them out in pages as EC2 does. Nothing
//! in it can be changed, and filters are not looked at: all that is in it is what was asked for. Judging requests is the
//! part of the emulator.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The most that one page of EC2 holds, and the least that may be asked for.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>, `MaxResults`.
const PAGE: std::ops::RangeInclusive<usize> = 5..=1000;

/// A region that answers on this machine. It stops when it is dropped.
pub struct Replay {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// A server's name and its tags.
pub type Tagged = (String, Vec<(String, String)>);

impl Replay {
    /// Serves these servers, each as an instance that runs; every answer comes after `latency`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn listen(
        address: SocketAddr,
        latency: Duration,
        servers: impl IntoIterator<Item = Tagged>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let region = Region {
            reservations: servers
                .into_iter()
                .enumerate()
                .map(|(at, (name, tags))| reservation(at, &name, &tags))
                .collect(),
            latency,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().fallback(take).with_state(Arc::new(region));
        let serve = axum::serve(listener, app).with_graceful_shutdown(async {
            // Ends as well when the sender is dropped, which is the only thing that ever happens to it.
            let _ = stopped.await;
        });
        tokio::spawn(async move { serve.await });
        Ok(Self { address, _stop: stop })
    }

    /// What takes the place of AWS's own endpoints, for every service.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

struct Region {
    /// Each as it is written on a page.
    reservations: Vec<String>,
    latency: Duration,
}

async fn take(State(region): State<Arc<Region>>, body: Bytes) -> impl IntoResponse {
    tokio::time::sleep(region.latency).await;
    let (status, text) = region.answer(&body);
    (status, [(header::CONTENT_TYPE, "text/xml")], text)
}

impl Region {
    fn answer(&self, body: &[u8]) -> (StatusCode, String) {
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body).unwrap_or_default();
        let field = |name: &str| fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
        let action = field("Action").unwrap_or_default();
        match action {
            "DescribeInstances" => self.page(field("MaxResults"), field("NextToken")),
            "GetCallerIdentity" => {
                let who = "<Arn>arn:aws:iam::111111111111:user/replay</Arn><UserId>replay</UserId>\
                           <Account>111111111111</Account>";
                (
                    StatusCode::OK,
                    of_query(action, "sts.amazonaws.com/doc/2011-06-15", who),
                )
            }
            "DescribeLoadBalancers" | "DescribeTargetGroups" => {
                let set = action.trim_start_matches("Describe");
                let space = "elasticloadbalancing.amazonaws.com/doc/2015-12-01";
                (StatusCode::OK, of_query(action, space, &format!("<{set}/>")))
            }
            "DescribeDBInstances" => {
                let space = "rds.amazonaws.com/doc/2014-10-31";
                (StatusCode::OK, of_query(action, space, "<DBInstances/>"))
            }
            _ => match empty_list(action) {
                Some(set) => (StatusCode::OK, of_ec2(action, &format!("<{set}/>"))),
                None => refused("InvalidAction", &format!("the replay has no {action}")),
            },
        }
    }

    fn page(&self, most: Option<&str>, token: Option<&str>) -> (StatusCode, String) {
        let size = match most.map(str::parse::<usize>) {
            // Whoever names no size is given everything at once, as at EC2.
            None => self.reservations.len(),
            Some(Ok(size)) if PAGE.contains(&size) => size,
            Some(_) => return refused("InvalidParameterValue", "MaxResults is from 5 to 1000"),
        };
        let from = match token.map(|token| token.strip_prefix("from-").and_then(|it| it.parse::<usize>().ok())) {
            None => 0,
            Some(Some(from)) if from < self.reservations.len() => from,
            Some(_) => return refused("InvalidNextToken", "no page has this token"),
        };
        let to = self.reservations.len().min(from + size);
        let mut text = format!(
            "<reservationSet>{}</reservationSet>",
            self.reservations[from..to].concat()
        );
        if to < self.reservations.len() {
            text.push_str(&format!("<nextToken>from-{to}</nextToken>"));
        }
        (StatusCode::OK, of_ec2("DescribeInstances", &text))
    }
}

/// The list in the answer to each action about what this region has none of.
fn empty_list(action: &str) -> Option<&'static str> {
    Some(match action {
        "DescribeAddresses" => "addressesSet",
        "DescribeInternetGateways" => "internetGatewaySet",
        "DescribeKeyPairs" => "keySet",
        "DescribeNetworkInterfaces" => "networkInterfaceSet",
        "DescribeRouteTables" => "routeTableSet",
        "DescribeSecurityGroups" => "securityGroupInfo",
        "DescribeSubnets" => "subnetSet",
        "DescribeVolumes" => "volumeSet",
        "DescribeVpcs" => "vpcSet",
        _ => return None,
    })
}

fn of_ec2(action: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>00000000-0000-4000-8000-000000000000</requestId>{inside}</{action}Response>"
    )
}

/// The other services wrap what they answer once more.
fn of_query(action: &str, space: &str, inside: &str) -> String {
    format!(
        "<{action}Response xmlns=\"http://{space}/\"><{action}Result>{inside}</{action}Result>\
         <ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000</RequestId></ResponseMetadata>\
         </{action}Response>"
    )
}

fn refused(code: &str, message: &str) -> (StatusCode, String) {
    let text = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
    );
    (StatusCode::BAD_REQUEST, text)
}

/// One running instance with everything that EC2 says of it, as long as EC2 says it.
fn reservation(at: usize, name: &str, tags: &[(String, String)]) -> String {
    let id = format!("{at:017x}");
    let (high, low) = (at / 250 % 250, at % 250 + 1);
    let (private, public) = (format!("10.2.{high}.{low}"), format!("203.0.{high}.{low}"));
    let tags: String = tags
        .iter()
        .map(|(key, value)| format!("<item><key>{}</key><value>{}</value></item>", plain(key), plain(value)))
        .collect();
    let name = plain(name);
    format!(
        "<item><reservationId>r-{id}</reservationId><ownerId>111111111111</ownerId><groupSet/><instancesSet><item>\
         <instanceId>i-{id}</instanceId><imageId>ami-0123456789abcdef0</imageId>\
         <instanceState><code>16</code><name>running</name></instanceState>\
         <privateDnsName>ip-10-2-{high}-{low}.ec2.internal</privateDnsName>\
         <dnsName>ec2-203-0-{high}-{low}.compute.amazonaws.com</dnsName><reason/><keyName>provisioning-key</keyName>\
         <amiLaunchIndex>0</amiLaunchIndex><productCodes/><instanceType>t3.medium</instanceType>\
         <launchTime>2026-01-01T00:00:00.000Z</launchTime>\
         <placement><availabilityZone>ap-southeast-1a</availabilityZone><groupName/><tenancy>default</tenancy></placement>\
         <monitoring><state>disabled</state></monitoring><subnetId>subnet-0123456789abcdef0</subnetId>\
         <vpcId>vpc-0123456789abcdef0</vpcId><privateIpAddress>{private}</privateIpAddress><ipAddress>{public}</ipAddress>\
         <sourceDestCheck>true</sourceDestCheck>\
         <groupSet><item><groupId>sg-0123456789abcdef0</groupId><groupName>members</groupName></item></groupSet>\
         <architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>\
         <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-{id}</volumeId>\
         <status>attached</status><attachTime>2026-01-01T00:00:01.000Z</attachTime>\
         <deleteOnTermination>true</deleteOnTermination></ebs></item></blockDeviceMapping>\
         <virtualizationType>hvm</virtualizationType><clientToken>{name}</clientToken><tagSet>{tags}</tagSet>\
         <hypervisor>xen</hypervisor><networkInterfaceSet><item><networkInterfaceId>eni-{id}</networkInterfaceId>\
         <subnetId>subnet-0123456789abcdef0</subnetId><vpcId>vpc-0123456789abcdef0</vpcId><description/>\
         <ownerId>111111111111</ownerId><status>in-use</status><macAddress>02:00:00:00:00:00</macAddress>\
         <privateIpAddress>{private}</privateIpAddress><sourceDestCheck>true</sourceDestCheck>\
         <groupSet><item><groupId>sg-0123456789abcdef0</groupId><groupName>members</groupName></item></groupSet>\
         <association><publicIp>{public}</publicIp><ipOwnerId>amazon</ipOwnerId></association></item>\
         </networkInterfaceSet><ebsOptimized>false</ebsOptimized>\
         <cpuOptions><coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions>\
         <hibernationOptions><configured>false</configured></hibernationOptions>\
         <metadataOptions><state>applied</state><httpTokens>required</httpTokens>\
         <httpPutResponseHopLimit>2</httpPutResponseHopLimit><httpEndpoint>enabled</httpEndpoint></metadataOptions>\
         <enclaveOptions><enabled>false</enabled></enclaveOptions></item></instancesSet></item>"
    )
}

/// As it stands between the tags of XML.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(servers: usize) -> Region {
        Region {
            reservations: (0..servers).map(|at| reservation(at, "app", &[])).collect(),
            latency: Duration::ZERO,
        }
    }

    fn ids(text: &str) -> Vec<&str> {
        let parts = text.split("<instanceId>").skip(1);
        parts.filter_map(|it| Some(it.split_once("</instanceId>")?.0)).collect()
    }

    #[test]
    fn pages_lead_through_everything_once() {
        let region = region(2_100);
        let (mut seen, mut token) = (Vec::new(), None::<String>);
        for size in [1000, 1000, 100] {
            let next = token.as_ref().map_or_else(String::new, |it| format!("&NextToken={it}"));
            let body = format!("Action=DescribeInstances&MaxResults=1000{next}");
            let (status, text) = region.answer(body.as_bytes());
            assert_eq!((status, ids(&text).len()), (StatusCode::OK, size));
            seen.extend(ids(&text).into_iter().map(str::to_owned));
            token = text
                .split_once("<nextToken>")
                .and_then(|it| Some(it.1.split_once('<')?.0.to_owned()));
        }
        assert_eq!(token, None);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2_100);
    }

    #[test]
    fn what_ec2_refuses_is_refused() {
        for body in [
            "Action=DescribeInstances&MaxResults=2000",
            "Action=DescribeInstances&MaxResults=1000&NextToken=from-70",
            "Action=RunInstances",
        ] {
            assert_eq!(region(7).answer(body.as_bytes()).0, StatusCode::BAD_REQUEST, "{body}");
        }
    }
}
