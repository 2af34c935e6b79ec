//! The agent beside each database; one small binary with several faces.
