//! Certification requests (PKCS#10, RFC 2986): made on the side of who wants a certificate, read on the side of who gives it.

use crate::CaFault;
use crate::key::Key;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, DnValue, PublicKeyData, SanType};
use zeroize::Zeroizing;

/// Bytes of an uncompressed point of P-256 (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;

/// A key, and the request for its certificate.
pub struct Request {
    key: Key,
    der: Vec<u8>,
}

impl Request {
    /// A fresh P-256 key and a request in these names; the first is the common name.
    ///
    /// # Errors
    /// [`CaFault::BadName`], [`CaFault::Make`].
    pub fn new(names: &[String]) -> Result<Self, CaFault> {
        Self::with_key(Key::generate()?, names)
    }

    /// The same for a key that exists (PKCS#8 PEM).
    ///
    /// # Errors
    /// As above.
    pub fn of_key(pem: &str, names: &[String]) -> Result<Self, CaFault> {
        Self::with_key(Key::from_pem(pem)?, names)
    }

    fn with_key(key: Key, names: &[String]) -> Result<Self, CaFault> {
        let params = params(names)?;
        let der = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key, der })
    }

    /// The request in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// The public key as it stands in a certificate (SEC 1 point).
    #[must_use]
    pub fn point(&self) -> &[u8] {
        self.key.der_bytes()
    }
}

/// Subject and alternative names of a request or a certificate.
pub(crate) fn params(names: &[String]) -> Result<CertificateParams, CaFault> {
    let first = names.first().ok_or_else(|| CaFault::BadName(String::new()))?;
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(CaFault::BadName(bad.clone()));
    }
    // Addresses become addresses, everything else a DNS name; a name that DNS does not know stands in the subject only.
    let alternatives: Vec<_> = names.iter().filter(|name| is_host(name)).cloned().collect();
    let mut params = CertificateParams::new(alternatives)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    Ok(params)
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn is_host(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// A request as it came: its signature holds, so who sent it has the key.
#[derive(Debug)]
pub struct Asked {
    pub(crate) key: rcgen::PublicKey,
    /// Everything it wants to be called, the common name first.
    pub names: Vec<String>,
}

impl Asked {
    /// Reads a request in DER. What it says besides names and key counts for nothing.
    ///
    /// # Errors
    /// [`CaFault::Request`], [`CaFault::KeyKind`].
    pub fn read(der: &[u8]) -> Result<Self, CaFault> {
        let fault = |fault: &dyn std::fmt::Display| CaFault::Request(fault.to_string());
        let read = CertificateSigningRequestParams::from_der(&der.to_vec().into()).map_err(|error| fault(&error))?;
        let point = read.public_key.der_bytes();
        // The library tells the curve by the signature's algorithm, which other curves share.
        let is_p256 = point.len() == POINT_BYTES && point.first() == Some(&4);
        if !is_p256 || read.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(CaFault::KeyKind);
        }
        let mut names = Vec::new();
        match read.params.distinguished_name.get(&DnType::CommonName) {
            Some(DnValue::Utf8String(name)) => names.push(name.clone()),
            Some(DnValue::PrintableString(name)) => names.push(name.as_str().to_owned()),
            Some(_) => return Err(fault(&"the common name is neither UTF8String nor PrintableString")),
            None => return Err(fault(&"it has no common name")),
        }
        for name in &read.params.subject_alt_names {
            let name = match name {
                SanType::DnsName(name) => Ia5String::as_str(name).to_owned(),
                SanType::IpAddress(address) => address.to_string(),
                _ => return Err(fault(&"it asks for a name that is neither a DNS name nor an address")),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Self { key: read.public_key, names })
    }

    /// Nothing but what is allowed.
    ///
    /// # Errors
    /// [`CaFault::Name`].
    pub fn within(&self, allowed: &[String]) -> Result<(), CaFault> {
        match self.names.iter().find(|name| !allowed.contains(name)) {
            Some(asked) => Err(CaFault::Name { asked: asked.clone(), allowed: allowed.join(", ") }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_asked_is_what_is_read() {
        let asked = names(&["agent-01", "agent.plant", "10.0.0.7"]);
        let read = Asked::read(Request::new(&asked).unwrap().der()).unwrap();
        assert_eq!(read.names, asked);
        assert!(read.within(&asked).is_ok());
        assert!(
            matches!(read.within(&names(&["agent-01"])), Err(CaFault::Name { asked, .. }) if asked == "agent.plant")
        );
        let person = Asked::read(Request::new(&names(&["anna@acme"])).unwrap().der()).unwrap();
        assert_eq!(person.names, ["anna@acme"]);
    }

    #[test]
    fn a_request_of_another_curve_or_with_a_changed_name_is_refused() {
        let wide = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let request = Request::with_key(Key::of(wide), &names(&["a"])).unwrap();
        assert!(matches!(Asked::read(request.der()), Err(CaFault::KeyKind)));
        let mut der = Request::new(&names(&["agent-01"])).unwrap().der().to_vec();
        let at = der.windows(8).position(|window| window == b"agent-01").unwrap();
        der[at + 7] = b'2';
        assert!(matches!(Asked::read(&der), Err(CaFault::Request(_))));
        assert!(matches!(Request::new(&names(&["a b"])), Err(CaFault::BadName(_))));
        assert!(matches!(Request::new(&[]), Err(CaFault::BadName(_))));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(place in 0..400_usize, byte: u8, cut in 1..400_usize) {
            let mut der = Request::new(&names(&["agent-01"])).unwrap().der().to_vec();
            if let Some(at) = der.get_mut(place) {
                *at = byte;
            }
            der.truncate(cut);
            let _ = Asked::read(&der);
        }
    }
}
