//! Which image a server starts from.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ha_core::resource::Resource;

use crate::{
    ProviderError,
    aws::{call::Repeat::Freely, fault::Class, place::Place},
};

/// In front of the path of a parameter that names an AMI, as EC2 itself writes it.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html>.
pub(in crate::aws) const BY_PARAMETER: &str = "resolve:ssm:";

/// AMIs by location and path, each looked up once: a hundred servers of one group are one question, and all the same.
#[derive(Debug, Default)]
pub(in crate::aws) struct Images {
    known: Mutex<HashMap<(String, String), String>>,
}

impl Images {
    /// The AMI that `image` names in this place: itself, or what the parameter says now.
    pub(in crate::aws) async fn resolve(
        &self,
        place: &Place,
        want: &Resource,
        image: &str,
    ) -> Result<String, ProviderError> {
        let Some(path) = image.strip_prefix(BY_PARAMETER) else {
            return Ok(image.to_owned());
        };
        let key = (place.location.clone(), path.to_owned());
        if let Some(ami) = self.lock().get(&key) {
            return Ok(ami.clone());
        }
        let request = place.ssm.get_parameter().name(path);
        let answer = match place.call("ssm:GetParameter", Freely, || request.clone().send()).await {
            Err(fault) if fault.is(Class::NotFound) => return Err(no_image(want, image, place)),
            answer => answer?,
        };
        let ami = answer
            .parameter
            .and_then(|it| it.value)
            .filter(|it| it.starts_with("ami-"));
        let ami = ami.ok_or_else(|| no_image(want, image, place))?;
        self.lock().insert(key, ami.clone());
        Ok(ami)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        // Entries are written whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(in crate::aws) fn no_image(want: &Resource, image: &str, place: &Place) -> ProviderError {
    ProviderError::Refused {
        what: format!("{}: there is no image {image} in {}", want.id, place.location),
        help: format!(
            "set image_id at {} in workspace.ncl; an AMI belongs to one region",
            want.path
        ),
    }
}
