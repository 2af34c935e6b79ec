//! Every path of the local target, in one place.
//!
//! ```text
//! <state root>/events/<workspace>.jsonl        acts typed in the shell; kept after destroy
//! <state root>/<workspace>/
//!   workspace.json  lock  links.json  bin/  secrets/
//!   regions/<region>/
//!     resources/<kind>.<name>.json             the label file: this is the resource's identity
//!     events.jsonl  supervise.{json,lock,log}
//!     hosts/<host>/{power,units,run,log,etc,data}
//! <runtime root>/<W>/<region>.sock             the region's supervisor
//! <runtime root>/<W>/<R>/<host>/               sockets of one host
//! ```

use std::path::{Path, PathBuf};

use ha_core::resource::ResourceId;

use crate::ProviderError;

/// The host that carries a region's relay; neither a server nor a balancer may have this name.
pub(crate) const RELAY: &str = "relay";

/// In a region's folder: one label file for each resource.
pub(crate) const RESOURCES: &str = "resources";

/// Beside the folders of the workspaces; no workspace may have this name.
pub(crate) const EVENTS: &str = "events";

pub(crate) mod port {
    pub(crate) const APP: u16 = 8080;
    pub(crate) const HTTP: u16 = 8080;
    pub(crate) const HTTPS: u16 = 8443;
    pub(crate) const WRITE: u16 = 5432;
    pub(crate) const READ: u16 = 5433;
    pub(crate) const GUARD: u16 = 8008;
    pub(crate) const POSTGRES: u16 = 5432;
    pub(crate) const ETCD_CLIENT: u16 = 2379;
    pub(crate) const ETCD_PEER: u16 = 2380;
    /// Plain HTTP, for `/health` and `/metrics`; not reached from other regions.
    pub(crate) const ETCD_METRICS: u16 = 2381;
    pub(crate) const RELAY_STATUS: u16 = 8009;
}

/// Paths of one workspace.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) state_root: PathBuf,
    /// `<state root>/<workspace>`
    pub(crate) root: PathBuf,
    runtime_root: PathBuf,
    workspace: String,
}

impl Layout {
    pub(crate) fn new(state_root: &Path, runtime_root: &Path, workspace: &str) -> Self {
        Self {
            state_root: state_root.to_owned(),
            root: state_root.join(workspace),
            runtime_root: runtime_root.to_owned(),
            workspace: workspace.to_owned(),
        }
    }

    pub(crate) fn workspace_file(&self) -> PathBuf {
        self.root.join("workspace.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links.json")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    pub(crate) fn regions(&self) -> PathBuf {
        self.root.join("regions")
    }

    pub(crate) fn region(&self, region: &str) -> Region {
        Region(self.regions().join(region))
    }

    pub(crate) fn resource(&self, id: &ResourceId) -> PathBuf {
        self.region(id.region.as_str()).resources().join(resource_file(id))
    }

    pub(crate) fn host(&self, region: &str, host: &str) -> Host {
        Host(self.region(region).0.join("hosts").join(host))
    }

    /// What was typed in the shell; outlives the workspace.
    pub(crate) fn acts(&self) -> PathBuf {
        self.state_root.join(EVENTS).join(format!("{}.jsonl", self.workspace))
    }

    pub(crate) fn runtime_root(&self) -> &Path {
        &self.runtime_root
    }

    pub(crate) fn runtime(&self, octet: u8) -> PathBuf {
        self.runtime_root.join(octet.to_string())
    }

    /// # Errors
    /// `Refused` when the kernel would not take it as the path of a socket.
    pub(crate) fn check_socket(path: &Path, longest_name: usize) -> Result<(), ProviderError> {
        /// `sun_path` of unix(7), less the zero at its end.
        const LONGEST: usize = 107;
        if path.as_os_str().len() + longest_name <= LONGEST {
            return Ok(());
        }
        Err(ProviderError::Refused {
            what: format!(
                "a path below {LONGEST} characters is needed for a socket: {}",
                path.display()
            ),
            help: "set HA_RUNTIME_DIR to a shorter folder, /tmp/ha for example, or choose shorter names".into(),
        })
    }

    pub(crate) fn supervisor_socket(&self, octet: u8, region: &str) -> PathBuf {
        self.runtime(octet).join(format!("{region}.sock"))
    }

    pub(crate) fn runtime_region(&self, octet: u8, region_octet: u8) -> PathBuf {
        self.runtime(octet).join(region_octet.to_string())
    }

    /// Regions may use the same names for their hosts, so the region's octet stands before it.
    pub(crate) fn runtime_host(&self, octet: u8, region_octet: u8, host: &str) -> PathBuf {
        self.runtime_region(octet, region_octet).join(host)
    }
}

/// `server.us-app-1.json`
pub(crate) fn resource_file(id: &ResourceId) -> String {
    format!("{}.{}.json", id.kind, id.name)
}

/// `regions/<region>/`
#[derive(Clone, Debug)]
pub(crate) struct Region(pub(crate) PathBuf);

impl Region {
    pub(crate) fn resources(&self) -> PathBuf {
        self.0.join(RESOURCES)
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    pub(crate) fn supervisor_run(&self) -> PathBuf {
        self.0.join("supervise.json")
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervise.log")
    }
}

/// `regions/<region>/hosts/<host>/`
#[derive(Clone, Debug)]
pub(crate) struct Host(pub(crate) PathBuf);

impl Host {
    pub(crate) fn power(&self) -> PathBuf {
        self.0.join("power")
    }

    pub(crate) fn units(&self) -> PathBuf {
        self.0.join("units")
    }

    pub(crate) fn unit(&self, unit: &str) -> PathBuf {
        self.units().join(format!("{unit}.json"))
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn log(&self, unit: &str) -> PathBuf {
        self.logs().join(format!("{unit}.log"))
    }

    pub(crate) fn etc(&self, file: &str) -> PathBuf {
        self.0.join("etc").join(file)
    }

    pub(crate) fn tls(&self, file: &str) -> PathBuf {
        self.0.join("etc/tls").join(file)
    }

    pub(crate) fn data(&self, what: &str) -> PathBuf {
        self.0.join("data").join(what)
    }
}
