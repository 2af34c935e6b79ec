//! Providers' APIs that answer on this machine, with faults on demand.
