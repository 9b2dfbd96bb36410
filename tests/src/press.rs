//! The mapping and the simulation of one press behind Modbus, which most plants of the tests are.

/// A mapping with the device `press-01` on this port; `rest` is what is written of it, with four blanks before each key, and what
/// stands behind it.
#[must_use]
pub fn press(port: u16, rest: &str) -> String {
    format!("plant: line\ndevices:\n  - id: press-01\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n{rest}")
}

/// The simulation of such a press; `rest` likewise, with its signals.
#[must_use]
pub fn simulated_press(port: u16, rest: &str) -> String {
    format!("devices:\n  - id: press-01\n    serve: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n{rest}")
}
