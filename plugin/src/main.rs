//! `nu_plugin_ha`: what Nushell starts when a command of `ha` is typed.

use nu_plugin::{MsgPackSerializer, serve_plugin};
use nu_plugin_ha::HaPlugin;

fn main() {
    serve_plugin(&HaPlugin::default(), MsgPackSerializer);
}
