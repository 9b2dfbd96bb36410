//! What a simulated Modbus device calls itself (function 43/14), and what another one would that was put in its place (`exchanged`).

use tally_model::DeviceId;

/// Longest text of an object, bytes: all of them fit into one answer.
pub(crate) const TEXT_BYTES_MAX: usize = 48;

/// The objects of a device (Modbus Application Protocol V1.1b3 §6.21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Object 0.
    pub maker: String,
    /// Object 1.
    pub product: String,
    /// Object 2.
    pub revision: String,
    /// Object 4.
    pub name: String,
}

impl Identity {
    /// Of a device whose file says nothing.
    #[must_use]
    pub fn usual(device: &DeviceId) -> Self {
        Self {
            maker: "Tallystick".to_owned(),
            product: "simulator".to_owned(),
            revision: env!("CARGO_PKG_VERSION").to_owned(),
            name: device.as_str().chars().take(TEXT_BYTES_MAX).collect(),
        }
    }

    /// By number, in order.
    pub(crate) fn objects(&self) -> [(u8, &str); 4] {
        [(0, &self.maker), (1, &self.product), (2, &self.revision), (4, &self.name)]
    }
}

/// A device and its spare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identities {
    /// The one that is there.
    pub own: Identity,
    /// The one that is there while it is exchanged.
    pub spare: Identity,
}
