//! Where readings come from: the link they came over, how that was secured, and what the device at its end calls itself.

use std::fmt;

/// The protocol of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkProtocol {
    /// Modbus, over TCP or a serial line.
    Modbus,
    /// OPC UA, binary.
    OpcUa,
    /// MQTT, through a broker: the other side of the link is the broker, not the device.
    Mqtt,
    /// None: a recording was played.
    Replay,
}

/// What protects a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkProtection {
    /// Nothing: whoever is on the wire could read and forge the values.
    None,
    /// OPC UA message mode Sign: nobody could alter the values, everybody could read them.
    Sign,
    /// OPC UA message mode SignAndEncrypt.
    SignEncrypt,
    /// TLS.
    Tls,
}

/// How we logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Login {
    /// As nobody.
    Anonymous,
    /// With a name and a password.
    UserName,
    /// With a certificate: of a user (OPC UA), or our own in TLS.
    Certificate,
}

impl LinkProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Modbus, Self::OpcUa, Self::Mqtt, Self::Replay];

    /// The word in formats and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Modbus => "modbus",
            Self::OpcUa => "opc-ua",
            Self::Mqtt => "mqtt",
            Self::Replay => "replay",
        }
    }

    /// The protocol of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl LinkProtection {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Sign, Self::SignEncrypt, Self::Tls];

    /// The word in formats and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sign => "sign",
            Self::SignEncrypt => "sign-encrypt",
            Self::Tls => "tls",
        }
    }

    /// The protection of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl Login {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anonymous, Self::UserName, Self::Certificate];

    /// The word in formats and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::UserName => "user-name",
            Self::Certificate => "certificate",
        }
    }

    /// The login of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// How a link is secured, as it was negotiated, not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkSecurity {
    /// Which protocol.
    pub protocol: LinkProtocol,
    /// What protects it.
    pub protection: LinkProtection,
    /// By which rules: the URI of the OPC UA security policy, or the version of TLS.
    pub policy: Option<String>,
    /// SHA-256 over the DER of the certificate with which the other side secured the link. `None` without protection: a
    /// certificate that nothing was signed with says nothing.
    pub certificate: Option<[u8; 32]>,
    /// How we logged in; `None` where the protocol has no login.
    pub login: Option<Login>,
}

impl LinkSecurity {
    /// A link that nothing protects.
    #[must_use]
    pub const fn none(protocol: LinkProtocol) -> Self {
        Self { protocol, protection: LinkProtection::None, policy: None, certificate: None, login: None }
    }

    /// Whether its parts belong together: a certificate exactly where something is protected.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.certificate.is_some() == (self.protection != LinkProtection::None)
            && self.policy.as_ref().is_none_or(|policy| is_word(policy, POLICY_BYTES_MAX))
    }
}

/// Longest name of a policy, bytes.
pub const POLICY_BYTES_MAX: usize = 128;

/// Longest text with which a device names itself, bytes.
pub const IDENTITY_BYTES_MAX: usize = 256;

fn is_word(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// Where readings come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The link.
    pub link: LinkSecurity,
    /// What the device calls itself: maker, product, revision, as [`identity_of`] puts them together. `None`: it was not asked, or
    /// did not say.
    pub identity: Option<String>,
}

impl Origin {
    /// Whether it is one that may be written down.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.link.is_consistent() && self.identity.as_ref().is_none_or(|said| is_word(said, IDENTITY_BYTES_MAX))
    }
}

/// One text from the parts with which a device names itself (maker, product, revision): control characters out, blanks around
/// them off, `; ` between, and cut at [`IDENTITY_BYTES_MAX`]. `None` when all parts are empty.
#[must_use]
pub fn identity_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let clean = |part: &str| part.chars().filter(|one| !one.is_control()).collect::<String>().trim().to_owned();
    let parts: Vec<String> = parts.into_iter().map(clean).collect();
    if parts.iter().all(String::is_empty) {
        return None;
    }
    let mut text = parts.join("; ");
    while text.len() > IDENTITY_BYTES_MAX {
        text.pop();
    }
    Some(text)
}

/// For people: `OPC UA, sign-encrypt, Basic256Sha256, certificate 3fa2…, login user-name; it calls itself "Acme; Press 7; 1.2"`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkSecurity { protocol, protection, policy, certificate, login } = &self.link;
        write!(f, "{}, security {}", protocol.word(), protection.word())?;
        if let Some(policy) = policy {
            write!(f, ", {}", policy.rsplit('#').next().unwrap_or(policy))?;
        }
        if let Some(certificate) = certificate {
            f.write_str(", certificate ")?;
            certificate.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        if let Some(login) = login {
            write!(f, ", login {}", login.word())?;
        }
        self.identity.as_ref().map_or(Ok(()), |said| write!(f, "; the device calls itself \"{said}\""))
    }
}

/// From which reading on an origin holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// Number of the first reading.
    pub from: u64,
    /// Where it, and all behind it up to the next stretch, come from.
    pub origin: Origin,
}

/// Whether stretches are in the one form in which they are written: rising, no two neighbours with the same origin, each
/// consistent.
#[must_use]
pub fn are_stretches(stretches: &[Stretch]) -> bool {
    stretches.iter().all(|stretch| stretch.origin.is_consistent())
        && stretches.is_sorted_by(|one, next| one.from < next.from && one.origin != next.origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_one_meaning() {
        assert!(LinkProtocol::ALL.into_iter().all(|one| LinkProtocol::from_word(one.word()) == Some(one)));
        assert!(LinkProtection::ALL.into_iter().all(|one| LinkProtection::from_word(one.word()) == Some(one)));
        assert!(Login::ALL.into_iter().all(|one| Login::from_word(one.word()) == Some(one)));
    }

    #[test]
    fn an_identity_is_one_line_of_bounded_length() {
        assert_eq!(identity_of(["Acme", " P\u{7}-1\n", "2.3"]).unwrap(), "Acme; P-1; 2.3");
        assert_eq!(identity_of(["", " \n"]), None);
        let long = identity_of(["ä".repeat(300).as_str()]).unwrap();
        assert_eq!(long.len(), IDENTITY_BYTES_MAX);
    }

    #[test]
    fn a_certificate_goes_with_protection_and_with_nothing_else() {
        let open = LinkSecurity::none(LinkProtocol::Mqtt);
        assert!(open.is_consistent());
        assert!(!LinkSecurity { certificate: Some([1; 32]), ..open.clone() }.is_consistent());
        let tls = LinkSecurity { protection: LinkProtection::Tls, certificate: Some([1; 32]), ..open.clone() };
        assert!(tls.is_consistent());
        assert!(!LinkSecurity { certificate: None, ..tls.clone() }.is_consistent());
        let stretch =
            |from, link: &LinkSecurity| Stretch { from, origin: Origin { link: link.clone(), identity: None } };
        assert!(are_stretches(&[stretch(1, &open), stretch(2, &tls)]));
        assert!(!are_stretches(&[stretch(1, &open), stretch(2, &open)]), "no change");
        assert!(!are_stretches(&[stretch(2, &open), stretch(1, &tls)]), "falling");
    }

    #[test]
    fn people_read_it() {
        let link = LinkSecurity {
            protocol: LinkProtocol::OpcUa,
            protection: LinkProtection::Sign,
            policy: Some("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256".into()),
            certificate: Some([0xab; 32]),
            login: Some(Login::UserName),
        };
        let text = Origin { link, identity: Some("Acme; P-1; 2.3".into()) }.to_string();
        let digest = "ab".repeat(32);
        let wanted = format!(
            "opc-ua, security sign, Basic256Sha256, certificate {digest}, login user-name; the device calls itself \"Acme; P-1; 2.3\""
        );
        assert_eq!(text, wanted);
    }
}
