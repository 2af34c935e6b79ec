//! The configuration file.

use super::HaproxyInput;

/// The text of `haproxy.cfg`.
pub fn render(input: &HaproxyInput) -> String {
    input.name.clone()
}
