//! HAProxy and health probes.
