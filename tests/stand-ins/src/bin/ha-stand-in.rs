//! A stand-in by itself, for scripts and judges: prints where it listens and serves until it is ended.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ha_stand_ins::{RateLimit, aws_replay, digitalocean, hetzner};

#[derive(Clone, Copy, ValueEnum)]
enum Provider {
    Hetzner,
    Digitalocean,
    /// Instances from memory, for reading alone: no token, no limit, nothing that changes.
    AwsReplay,
}

/// A provider's API on this machine.
#[derive(Parser)]
struct Arguments {
    provider: Provider,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
    /// The token to take instead of the stand-in's own.
    #[arg(long)]
    token: Option<String>,
    /// Added before every answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// How long states and actions take.
    #[arg(long, default_value_t = 5)]
    state_ms: u64,
    /// Requests an hour instead of the provider's own limit.
    #[arg(long)]
    rate_limit: Option<u32>,
    /// Running servers that are there from the start, named `server-1` and so on.
    #[arg(long, default_value_t = 0)]
    servers: u32,
    /// A label of each of those servers, as key=value; `{name}` is the server's name. At DigitalOcean, which has
    /// tags, `ha:ws=shop` becomes the tag `ha:ws:shop`.
    #[arg(long = "label", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// An SSH key of this name that is there from the start.
    #[arg(long = "ssh-key")]
    ssh_keys: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Arguments {
    /// The name and the labels of each server that is there from the start.
    fn planted(&self) -> impl Iterator<Item = (String, Vec<(String, String)>)> {
        (1..=self.servers).map(|n| {
            let name = format!("server-{n}");
            let labels = self
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.replace("{name}", &name)));
            let labels = labels.collect();
            (name, labels)
        })
    }
}

async fn serve_hetzner(arguments: &Arguments) -> std::io::Result<(hetzner::StandIn, String)> {
    let stand_in = hetzner::StandIn::listen(arguments.listen).await?;
    stand_in.latency(Duration::from_millis(arguments.latency_ms));
    stand_in.world(|world| {
        world.knobs.action_time = Duration::from_millis(arguments.state_ms);
        if let Some(token) = &arguments.token {
            world.knobs.token_text.clone_from(token);
        }
        if let Some(limit) = arguments.rate_limit {
            world.knobs.rate_limit = RateLimit::per_hour(limit);
        }
        for name in &arguments.ssh_keys {
            world.plant_ssh_key(name);
        }
        for (name, labels) in arguments.planted() {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            world.plant_server(&name, &labels);
        }
    });
    let endpoint = stand_in.endpoint();
    Ok((stand_in, endpoint))
}

async fn serve_digitalocean(arguments: &Arguments) -> std::io::Result<(digitalocean::StandIn, String)> {
    let stand_in = digitalocean::StandIn::listen(arguments.listen).await?;
    stand_in.latency(Duration::from_millis(arguments.latency_ms));
    stand_in.world(|world| {
        world.knobs.state_time = Duration::from_millis(arguments.state_ms);
        if let Some(token) = &arguments.token {
            world.knobs.token_text.clone_from(token);
        }
        if let Some(limit) = arguments.rate_limit {
            world.knobs.rate_limit = RateLimit::per_hour(limit);
        }
        for name in &arguments.ssh_keys {
            world.plant_ssh_key(name);
        }
        for (name, labels) in arguments.planted() {
            let tags: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            world.plant_droplet(&name, &tags);
        }
    });
    let endpoint = stand_in.endpoint();
    Ok((stand_in, endpoint))
}

async fn replay_aws(arguments: &Arguments) -> std::io::Result<(aws_replay::Replay, String)> {
    let latency = Duration::from_millis(arguments.latency_ms);
    let replay = aws_replay::Replay::listen(arguments.listen, latency, arguments.planted()).await?;
    let endpoint = replay.endpoint();
    Ok((replay, endpoint))
}

/// Serving until it is dropped.
enum Serving {
    Hetzner { _it: hetzner::StandIn },
    DigitalOcean { _it: digitalocean::StandIn },
    Aws { _it: aws_replay::Replay },
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (_serving, endpoint) = match arguments.provider {
        Provider::Hetzner => {
            let (it, endpoint) = serve_hetzner(&arguments).await?;
            (Serving::Hetzner { _it: it }, endpoint)
        }
        Provider::Digitalocean => {
            let (it, endpoint) = serve_digitalocean(&arguments).await?;
            (Serving::DigitalOcean { _it: it }, endpoint)
        }
        Provider::AwsReplay => {
            let (it, endpoint) = replay_aws(&arguments).await?;
            (Serving::Aws { _it: it }, endpoint)
        }
    };
    let mut out = std::io::stdout();
    writeln!(out, "{endpoint}")?;
    out.flush()?;
    tokio::signal::ctrl_c().await
}
