//! The agreement store: compare-and-swap and watch over etcd.
