//! Where a record leads: an address, or a balancer of AWS that has only a name.

use std::net::Ipv4Addr;

use super::{plain, record::Target};

/// The balancer of a region, as DNS can point at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    To(Ipv4Addr),
    /// At AWS: its addresses change, and Route 53 follows them.
    Alias {
        name: String,
        zone: &'static str,
    },
}

impl Leads {
    /// From the address of a balancer; the error says why no record can lead there.
    pub fn parse(address: &str) -> Result<Self, String> {
        if let Ok(address) = address.parse() {
            return Ok(Self::To(address));
        }
        let name = plain(address);
        let Some((_, location)) = name
            .strip_suffix(".elb.amazonaws.com")
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            return Err(format!("{address} is neither an IPv4 address nor a balancer of AWS"));
        };
        let found = ALIAS_ZONES.iter().find(|(of, _)| *of == location);
        let (_, zone) = found.ok_or_else(|| format!("the zone of balancers in {location} is not known"))?;
        Ok(Self::Alias { name, zone })
    }

    /// What a record says. An alias of a record with a check is dead as well when none of its servers is well.
    pub fn target(&self, evaluate: bool) -> Target {
        match self {
            Self::To(address) => Target::Values(vec![address.to_string()]),
            Self::Alias { name, zone } => Target::Alias {
                zone: (*zone).to_owned(),
                name: name.clone(),
                evaluate,
            },
        }
    }

    /// As people know it.
    pub fn words(&self) -> String {
        match self {
            Self::To(address) => address.to_string(),
            Self::Alias { name, .. } => name.clone(),
        }
    }
}

/// The hosted zones in which AWS keeps the names of Application Load Balancers, by location. An alias has to name it.
/// Source: <https://docs.aws.amazon.com/general/latest/gr/elb.html>.
const ALIAS_ZONES: &[(&str, &str)] = &[
    ("af-south-1", "Z268VQBMOI5EKX"),
    ("ap-east-1", "Z3DQVH9N71FHZ0"),
    ("ap-east-2", "Z02789141MW7T1WBU19PO"),
    ("ap-northeast-1", "Z14GRHDCWA56QT"),
    ("ap-northeast-2", "ZWKZPGTI48KDX"),
    ("ap-northeast-3", "Z5LXEXXYW11ES"),
    ("ap-south-1", "ZP97RAFLXTNZK"),
    ("ap-south-2", "Z0173938T07WNTVAEPZN"),
    ("ap-southeast-1", "Z1LMS91P8CMLE5"),
    ("ap-southeast-2", "Z1GM3OXH4ZPM65"),
    ("ap-southeast-3", "Z08888821HLRG5A9ZRTER"),
    ("ap-southeast-4", "Z09517862IB2WZLPXG76F"),
    ("ap-southeast-5", "Z06010284QMVVW7WO5J"),
    ("ap-southeast-6", "Z023301818UFJ50CIO0MV"),
    ("ap-southeast-7", "Z0390008CMBRTHFGWBCB"),
    ("ca-central-1", "ZQSVJUPU6J1EY"),
    ("ca-west-1", "Z06473681N0SF6OS049SD"),
    ("eu-central-1", "Z215JYRZR1TBD5"),
    ("eu-central-2", "Z06391101F2ZOEP8P5EB3"),
    ("eu-north-1", "Z23TAZ6LKFMNIO"),
    ("eu-south-1", "Z3ULH7SSC9OV64"),
    ("eu-south-2", "Z0956581394HF5D5LXGAP"),
    ("eu-west-1", "Z32O12XQLNTSW2"),
    ("eu-west-2", "ZHURV8PSTC4K8"),
    ("eu-west-3", "Z3Q77PNBQS71R4"),
    ("il-central-1", "Z09170902867EHPV2DABU"),
    ("me-central-1", "Z08230872XQRWHG2XF6I"),
    ("me-south-1", "ZS929ML54UICD"),
    ("mx-central-1", "Z023552324OKD1BB28BH5"),
    ("sa-east-1", "Z2P70J7HTTTPLU"),
    ("us-east-1", "Z35SXDOTRQ7X7K"),
    ("us-east-2", "Z3AADJGX6KTTL2"),
    ("us-west-1", "Z368ELLRRE2KJ0"),
    ("us-west-2", "Z1H1FL5HABSF5"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{geo, names::ProviderName};

    #[test]
    fn a_balancer_of_aws_is_an_alias_in_the_zone_of_its_location() {
        let leads = Leads::parse("Asia-LB-17.ap-southeast-1.elb.amazonaws.com.").expect("a balancer");
        let target = Target::Alias {
            zone: "Z1LMS91P8CMLE5".into(),
            name: "asia-lb-17.ap-southeast-1.elb.amazonaws.com".into(),
            evaluate: true,
        };
        assert_eq!(leads.target(true), target);
        assert_eq!(Leads::parse("192.0.2.7"), Ok(Leads::To(Ipv4Addr::new(192, 0, 2, 7))));
        for other in [
            "2001:db8::1",
            "lb.example.com",
            "elb.amazonaws.com",
            "x.mars-1.elb.amazonaws.com",
        ] {
            assert!(Leads::parse(other).is_err(), "{other}");
        }
    }

    #[test]
    fn every_location_of_aws_has_such_a_zone() {
        for location in geo::locations(ProviderName::Aws) {
            let address = format!("lb-1.{}.elb.amazonaws.com", location.slug);
            assert!(Leads::parse(&address).is_ok(), "{}", location.slug);
        }
    }
}
