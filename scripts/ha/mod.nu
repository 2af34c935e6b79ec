# Steps of a deployment, each usable alone: `use scripts/ha *`, then `help modules ha` or Tab after a name.
# The plugin holds the hard parts; what happens in which order is decided here and in deploy.nu, by you.

export use check.nu *
export use faults.nu *
export use lag.nu *
export use retry.nu
export use rollout.nu *
export use wait.nu *
