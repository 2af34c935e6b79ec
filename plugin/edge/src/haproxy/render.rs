//! The configuration file. Pure: the same input gives the same text, and the comments in it say why, because
//! people review it before it goes anywhere.

use std::{
    fmt::{self, Write},
    net::IpAddr,
    time::Duration,
};

use ha_core::resource::spec_hash;

use super::{APP, AppSide, DatabaseNode, DatabaseSide, HOLD, HaproxyInput, READ, READ_FAR, READ_NEAR, WRITE};

/// Lines are added with `put!`; writing to a `String` cannot fail.
struct Text(String);

impl Text {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // The one error a String's writer knows is a formatter that fails, and none here does.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

macro_rules! put {
    ($text:expr) => { $text.line(format_args!("")) };
    ($text:expr, $($arg:tt)+) => { $text.line(format_args!($($arg)+)) };
}

/// Stands where the version goes until the rest is there to be hashed.
const VERSION: &str = "@version@";
const DESCRIPTION: &str = "    description ha ";

/// The text of `haproxy.cfg`, without warnings in HAProxy 2.6 and later; with a database side it needs one with Lua.
///
/// Names and addresses go in as they are: whoever calls has checked them.
pub fn render(input: &HaproxyInput) -> String {
    let mut text = Text(String::with_capacity(8192));
    head(&mut text, input);
    if let Some(app) = &input.app {
        frontends(&mut text, app);
        app_backend(&mut text, app);
    }
    if let Some(database) = &input.database {
        database_defaults(&mut text, database);
        write_listener(&mut text, database);
        read_listener(&mut text, database, &input.region);
    }
    let version = hash(&text.0);
    text.0.replacen(VERSION, &version, 1)
}

fn hash(text: &str) -> String {
    spec_hash(&text.into())
}

/// Of a rendered text; [`Admin::version`](super::Admin::version) says the same of the process that reads it.
pub fn version(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(DESCRIPTION))
}

fn head(text: &mut Text, input: &HaproxyInput) {
    put!(
        text,
        "# {} in {}, workspace {}",
        input.name,
        input.region,
        input.workspace
    );
    put!(
        text,
        "# Rendered by ha from workspace.ncl; the next ha provision writes it again."
    );
    put!(text);
    put!(text, "global");
    put!(text, "    log stdout format raw local0 info");
    put!(
        text,
        "    # Full rights over this process; its listeners are handed to the next one at a reload."
    );
    put!(
        text,
        "    stats socket {} mode 600 level admin expose-fd listeners",
        input.admin_socket.display()
    );
    put!(text, "    stats timeout 30s");
    put!(
        text,
        "    # Which version of this file a process has read: a reload can get lost (`show info`)."
    );
    put!(text, "{DESCRIPTION}{VERSION}");
    put!(text, "    nbthread {}", input.threads.max(1));
    put!(text, "    # Bounds the memory: about 33 kB for each connection in use.");
    put!(text, "    maxconn {}", input.max_connections);
    put!(
        text,
        "    # After a reload the old process keeps its connections for this long, and five old ones at most are kept."
    );
    put!(text, "    hard-stop-after {}", time(input.drain));
    put!(text, "    mworker-max-reloads 5");
    put!(
        text,
        "    # At start nobody is known to be primary: look at all within this time, not within the slowest interval."
    );
    put!(text, "    max-spread-checks 200ms");
    put!(text, "    ssl-default-bind-options ssl-min-ver TLSv1.2");
    if let Some(database) = &input.database {
        put!(
            text,
            "    # Holds who comes to write while nobody is primary; version {}.",
            hash(HOLD)
        );
        put!(text, "    lua-load {}", database.hold.display());
    }
    put!(text);
    put!(text, "defaults common");
    put!(text, "    log global");
    put!(
        text,
        "    # Errors and changes of a server's health are logged, ordinary requests are not."
    );
    put!(text, "    option dontlognull");
    put!(text, "    option dontlog-normal");
    put!(text, "    option log-health-checks");
    put!(text, "    timeout connect 5s");
    put!(text, "    timeout client 50s");
    put!(text, "    timeout server 50s");
    put!(text, "    timeout queue 5s");
    put!(text, "    retries 3");
    put!(text, "    # A second try goes to another server.");
    put!(text, "    option redispatch 1");
    if let Some(source) = &input.source {
        put!(text, "    # Others tell by this address who calls.");
        put!(text, "    source {source}");
    }
}

fn frontends(text: &mut Text, app: &AppSide) {
    put!(text);
    put!(text, "defaults web from common");
    put!(text, "    mode http");
    put!(text, "    option httplog");
    put!(text, "    option forwardfor");
    put!(text, "    timeout http-request 10s");
    put!(text, "    timeout http-keep-alive 10s");
    if let Some(listen) = &app.http {
        put!(text);
        put!(text, "frontend http from web");
        put!(text, "    bind {listen}");
        if let Some(https) = app.https.as_ref().filter(|_| app.redirect_to_https) {
            let port = match https.public_port {
                443 => String::new(),
                port => format!(":{port}"),
            };
            put!(
                text,
                "    # Not the health check: who asks for it wants this balancer's answer, not a redirect."
            );
            put!(
                text,
                "    http-request set-var(txn.host) req.hdr(host),regsub(:[0-9]+$,)"
            );
            put!(
                text,
                "    http-request redirect code 308 location https://%[var(txn.host)]{port}%[pathq] unless {{ path {} }}",
                app.health.path
            );
        }
        put!(text, "    default_backend {APP}");
    }
    if let Some(https) = &app.https {
        put!(text);
        put!(text, "frontend https from web");
        put!(
            text,
            "    bind {} ssl crt {} alpn h2,http/1.1",
            https.listen,
            https.certificate.display()
        );
        put!(text, "    http-request set-header X-Forwarded-Proto https");
        put!(text, "    default_backend {APP}");
    }
}

fn app_backend(text: &mut Text, app: &AppSide) {
    let health = &app.health;
    put!(text);
    put!(text, "backend {APP} from web");
    put!(text, "    balance {}", app.algorithm.as_str());
    put!(
        text,
        "    # A request that a dying server left without an answer is sent again, if sending it twice is harmless."
    );
    put!(text, "    retry-on conn-failure empty-response");
    put!(text, "    http-request disable-l7-retry unless METH_GET");
    put!(text, "    option httpchk GET {}", health.path);
    put!(text, "    http-check expect status 200");
    put!(text, "    timeout check {}", time(health.timeout));
    put!(
        text,
        "    default-server inter {} fall {} rise {}",
        time(health.interval),
        health.fall,
        health.rise
    );
    for server in &app.servers {
        put!(text, "    server {} {} check", server.name, server.address);
    }
}

/// What all that leads to a database has in common.
fn database_defaults(text: &mut Text, database: &DatabaseSide) {
    put!(text);
    put!(text, "defaults database from common");
    put!(text, "    mode tcp");
    put!(text, "    option tcplog");
    put!(
        text,
        "    # Database connections rest in pools: keepalive ends the dead ones, not the quiet."
    );
    put!(text, "    timeout client 12h");
    put!(text, "    timeout server 12h");
    for (option, side) in [("clitcpka", "client"), ("srvtcpka", "server")] {
        put!(
            text,
            "    # Towards a {side} that fell silent: given up after 10 s + 3 × 5 s."
        );
        put!(text, "    option {option}");
        put!(text, "    {option}-idle 10s");
        put!(text, "    {option}-intvl 5s");
        put!(text, "    {option}-cnt 3");
    }
    put!(text, "    timeout check 1s");
    put!(
        text,
        "    # Whoever is in a session with a node that is out would wait for minutes: the session is ended."
    );
    put!(
        text,
        "    default-server inter 1s fastinter 300ms downinter 300ms fall 2 rise 1 on-marked-down shutdown-sessions"
    );
    if database
        .nodes
        .iter()
        .any(|node| node.address.parse::<IpAddr>().is_err())
    {
        put!(
            text,
            "    # Names are looked up at start and at each reload; one that nobody knows yet is a server that is down."
        );
        put!(text, "    default-server init-addr libc,none");
    }
}

/// The guard beside a database says what it is.
fn guard_check(text: &mut Text, question: &str) {
    put!(text, "    option httpchk GET {question}");
    put!(text, "    http-check expect status 200");
}

fn write_listener(text: &mut Text, database: &DatabaseSide) {
    put!(text);
    put!(
        text,
        "# Writes go to the one node whose guard says that it is primary, in whichever region."
    );
    put!(text, "listen {WRITE} from database");
    put!(text, "    bind {}", database.write);
    put!(
        text,
        "    # While nobody is primary, or two say so (or, just after a start or reload, were not asked yet), who comes waits"
    );
    put!(
        text,
        "    # and is let through to the one that there is then; refused after 5 s."
    );
    put!(text, "    tcp-request inspect-delay 6s");
    put!(text, "    tcp-request content lua.hold");
    put!(text, "    tcp-request content reject unless {{ nbsrv({WRITE}) eq 1 }}");
    guard_check(text, "/primary");
    for node in &database.nodes {
        put!(text, "    server {} check port {}", place(node), node.guard_port);
    }
}

fn read_listener(text: &mut Text, database: &DatabaseSide, region: &str) {
    let (near, far): (Vec<_>, Vec<_>) = database.nodes.iter().partition(|node| node.region == region);
    put!(text);
    put!(text, "# Reads stay in the region while a node of it can be read from.");
    put!(text, "frontend {READ} from database");
    put!(text, "    bind {}", database.read);
    match (near.is_empty(), far.is_empty()) {
        (false, true) => put!(text, "    default_backend {READ_NEAR}"),
        (true, _) => put!(text, "    default_backend {READ_FAR}"),
        (false, false) => {
            put!(text, "    use_backend {READ_NEAR} if {{ nbsrv({READ_NEAR}) gt 0 }}");
            put!(text, "    default_backend {READ_FAR}");
        }
    }
    if !near.is_empty() {
        put!(text);
        put!(
            text,
            "# A replica of this region that is not too far behind, else the primary when it is here."
        );
        read_backend(text, READ_NEAR, &near, &database.max_lag);
    }
    if near.is_empty() || !far.is_empty() {
        put!(text);
        put!(text, "# A replica elsewhere, else the primary: the last resort.");
        read_backend(text, READ_FAR, &far, &database.max_lag);
    }
}

fn read_backend(text: &mut Text, name: &str, nodes: &[&DatabaseNode], max_lag: &str) {
    put!(text, "backend {name} from database");
    put!(text, "    balance leastconn");
    guard_check(text, &format!("/replica?max_lag={max_lag}"));
    for node in nodes {
        put!(text, "    server {} check port {}", place(node), node.guard_port);
    }
    for node in nodes {
        put!(
            text,
            "    server {}-as-primary {}:{} track {WRITE}/{} backup",
            node.name,
            node.address,
            node.port,
            node.name
        );
    }
}

fn place(node: &DatabaseNode) -> String {
    format!("{} {}:{}", node.name, node.address, node.port)
}

/// In HAProxy's words, exact to the millisecond: `5s`, `300ms`.
fn time(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
