//! Certificates without a message around them: CMS SignedData without signers (RFC 8951 §3, RFC 5652 §5), as EST carries them.

use crate::CaFault;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

/// Packs certificates (DER).
///
/// # Errors
/// [`CaFault::Answer`].
pub fn pack(certificates: &[&[u8]]) -> Result<Vec<u8>, CaFault> {
    let fault = |fault: x509_cert::der::Error| CaFault::Answer(fault.to_string());
    let path = certificates.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
    let packed = ContentInfo::try_from(path.map_err(fault)?).map_err(fault)?;
    packed.to_der().map_err(fault)
}

/// The certificates (DER) of a message.
///
/// # Errors
/// [`CaFault::Answer`].
pub fn unpack(der: &[u8]) -> Result<Vec<Vec<u8>>, CaFault> {
    let fault = |fault: x509_cert::der::Error| CaFault::Answer(fault.to_string());
    let info = ContentInfo::from_der(der).map_err(fault)?;
    let data: SignedData = info.content.decode_as().map_err(fault)?;
    let choices = data.certificates.into_iter().flat_map(|set| set.0.into_vec());
    let certificates = choices.filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate.to_der().map_err(fault)),
        CertificateChoices::Other(_) => None,
    });
    certificates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let authority = crate::Authority::init(&dir.path().join("ca"), "Plant CA", 10, 1_790_000_000).unwrap();
        let der = authority.der().unwrap();
        assert_eq!(unpack(&pack(&[&der]).unwrap()).unwrap(), [der]);
        assert!(unpack(b"nothing").is_err());
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&bytes);
        }
    }
}
