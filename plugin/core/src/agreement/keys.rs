use super::Epoch;

/// The keys of one cluster: `/ha/<workspace>/<cluster>/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(workspace: &str, cluster: &str) -> Self {
        Self {
            prefix: format!("/ha/{workspace}/{cluster}/"),
        }
    }

    /// Everything of the cluster starts with it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Who made the cluster, and its system identifier.
    pub fn init(&self) -> String {
        self.key("init")
    }

    pub fn term(&self) -> String {
        self.key("term")
    }

    pub fn lease(&self) -> String {
        self.key("lease")
    }

    pub fn pause(&self) -> String {
        self.key("pause")
    }

    pub fn members(&self) -> String {
        self.key("member/")
    }

    pub fn member(&self, node: &str) -> String {
        self.key(&format!("member/{node}"))
    }

    /// What a person asks of this node's guard.
    pub fn ask(&self, node: &str) -> String {
        self.key(&format!("ask/{node}"))
    }

    /// A person's word that this is the store from now on.
    pub fn adopted(&self) -> String {
        self.key("adopted")
    }

    pub fn histories(&self) -> String {
        self.key("history/")
    }

    /// Padded, so that the order of keys is that of epochs.
    pub fn history(&self, epoch: Epoch) -> String {
        self.key(&format!("history/{epoch:010}"))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
