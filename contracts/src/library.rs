//! The contracts that come with the program.

/// Name and YAML text of each contract of the library.
pub const LIBRARY: &[(&str, &str)] = &[("maintenance-order", include_str!("../library/maintenance-order.yaml"))];
