//! `nu_plugin_ha`: what Nushell starts when a command of `ha` is typed.

use nu_plugin::{MsgPackSerializer, serve_plugin};
use nu_plugin_ha::HaPlugin;

fn main() {
    // A workspace is evaluated by a child of the same program, which can be ended when it never would end by itself.
    if ha_nickel::evaluates() {
        return;
    }
    serve_plugin(&HaPlugin::default(), MsgPackSerializer);
}
