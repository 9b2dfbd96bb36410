//! Devices that seal their payloads themselves: whoever runs the connectors has their keys, the connectors have not.

use tally_model::{DeviceId, Timestamp};

/// Opens what devices sealed.
pub trait OpenSeal: Send + Sync {
    /// The payload under the seal, when it holds, is this device's, is newer than all before and not too old by `received`.
    /// `None`: the very message that was taken last, which a broker may repeat; nothing is to be told.
    ///
    /// # Errors
    /// Why there is no value, in words.
    fn open(&self, device: &DeviceId, message: &[u8], received: Timestamp) -> Result<Option<Vec<u8>>, String>;
}
