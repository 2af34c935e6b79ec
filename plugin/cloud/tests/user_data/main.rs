//! User data of cloud servers, judged by the programs that read it: cloud-init, HAProxy, PostgreSQL, systemd and a shell.

mod cloud_init;
mod programs;
mod support;
mod text;
