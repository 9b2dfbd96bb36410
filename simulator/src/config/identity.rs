//! `identity:` of a Modbus device.

use super::check::Checker;
use super::written;
use crate::identity::TEXT_BYTES_MAX;
use crate::{Identities, Identity};
use serde_saphyr::Spanned;
use tally_model::{DeviceId, Endpoint};

impl Checker<'_> {
    /// As written, else the usual one; the spare is as the device, but for what is written and its revision.
    pub(super) fn identity(
        &mut self,
        written: Option<Spanned<written::Identity>>,
        device: &DeviceId,
        serve: Option<&Endpoint>,
    ) -> Identities {
        let usual = Identity::usual(device);
        let Some(written) = written else { return Identities { spare: spare_of(&usual), own: usual } };
        if serve.is_some_and(|serve| !matches!(serve, Endpoint::Modbus { .. })) {
            self.fault(written.referenced, "`identity` is for Modbus devices; an OPC UA server has its own; remove it");
        }
        let written::Identity { maker, product, revision, name, spare } = written.value;
        let own = self.written_or([maker, product, revision, name], usual);
        let written::Spare { maker, product, revision, name } = spare;
        let spare = self.written_or([maker, product, revision, name], spare_of(&own));
        Identities { own, spare }
    }

    fn written_or(&mut self, written: [Option<Spanned<String>>; 4], usual: Identity) -> Identity {
        let Identity { maker, product, revision, name } = usual;
        let mut texts = [maker, product, revision, name];
        for (text, written) in texts.iter_mut().zip(written) {
            let Some(written) = written else { continue };
            let is_plain = written.value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if !is_plain || written.value.len() > TEXT_BYTES_MAX {
                let fault = format!("`{}`: at most {TEXT_BYTES_MAX} plain characters (ASCII)", written.value);
                self.fault(written.referenced, fault);
            }
            *text = written.value;
        }
        let [maker, product, revision, name] = texts;
        Identity { maker, product, revision, name }
    }
}

/// Nobody takes it for the device it replaces.
fn spare_of(own: &Identity) -> Identity {
    let revision: String = format!("{} spare", own.revision).chars().take(TEXT_BYTES_MAX).collect();
    Identity { revision, ..own.clone() }
}
