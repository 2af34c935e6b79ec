//! Databases: observe, create, replicate. PostgreSQL first.
