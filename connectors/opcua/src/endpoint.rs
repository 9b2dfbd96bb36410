//! Which of the endpoints a server offers we take, and how the password travels. Pure.
//!
//! The list of endpoints comes over an unsecured channel (Part 4 §5.5.4), so a forger can shorten it. He gains nothing:
//! `best` never goes below SignAndEncrypt with Basic256Sha256, and the certificate is pinned by `trust`.

use opcua::crypto::SecurityPolicy;
use opcua::types::{EndpointDescription, MessageSecurityMode, UAString, UserTokenPolicy, UserTokenType};
use tally_connector_api::LinkFault;
use tally_model::{LinkProtection, LinkProtocol, LinkSecurity, Login, OpcUaPolicy, Security};
use url::Url;

type Protection = (SecurityPolicy, MessageSecurityMode);

/// What each word of a mapping accepts, strongest first.
fn accepted(policy: OpcUaPolicy) -> &'static [Protection] {
    use MessageSecurityMode::{None as Open, Sign, SignAndEncrypt};
    match policy {
        OpcUaPolicy::Best => &[
            (SecurityPolicy::Aes256Sha256RsaPss, SignAndEncrypt),
            (SecurityPolicy::Aes128Sha256RsaOaep, SignAndEncrypt),
            (SecurityPolicy::Basic256Sha256, SignAndEncrypt),
        ],
        OpcUaPolicy::None => &[(SecurityPolicy::None, Open)],
        OpcUaPolicy::Basic256Sha256Sign => &[(SecurityPolicy::Basic256Sha256, Sign)],
        OpcUaPolicy::Basic256Sha256SignAndEncrypt => &[(SecurityPolicy::Basic256Sha256, SignAndEncrypt)],
        OpcUaPolicy::Aes128Sign => &[(SecurityPolicy::Aes128Sha256RsaOaep, Sign)],
        OpcUaPolicy::Aes128SignAndEncrypt => &[(SecurityPolicy::Aes128Sha256RsaOaep, SignAndEncrypt)],
        OpcUaPolicy::Aes256Sign => &[(SecurityPolicy::Aes256Sha256RsaPss, Sign)],
        OpcUaPolicy::Aes256SignAndEncrypt => &[(SecurityPolicy::Aes256Sha256RsaPss, SignAndEncrypt)],
        // Never part of `best`; the plan lets them through only with `insecure: true`.
        OpcUaPolicy::Basic256SignAndEncrypt => &[(SecurityPolicy::Basic256, SignAndEncrypt)],
        OpcUaPolicy::Basic128Rsa15SignAndEncrypt => &[(SecurityPolicy::Basic128Rsa15, SignAndEncrypt)],
    }
}

/// Chooses an endpoint, addressed by the host and port we were told, with the one login we will use.
pub(crate) fn choose(
    offered: &[EndpointDescription],
    security: &Security,
    url: &str,
) -> Result<EndpointDescription, LinkFault> {
    let mut login_fault = None;
    for protection in accepted(security.policy) {
        for endpoint in offered.iter().filter(|endpoint| is_binary(endpoint) && protection_of(endpoint) == *protection)
        {
            match login(endpoint, security) {
                Ok(login) => return Ok(addressed(endpoint, login, url)),
                Err(fault) => login_fault = Some(fault),
            }
        }
    }
    Err(match login_fault {
        Some(fault) => LinkFault::Credentials(fault),
        None => LinkFault::Refused(not_offered(offered, security.policy)),
    })
}

/// `opc.tcp` only; servers also list HTTPS endpoints.
fn is_binary(endpoint: &EndpointDescription) -> bool {
    endpoint.endpoint_url.as_ref().starts_with("opc.tcp:")
}

fn protection_of(endpoint: &EndpointDescription) -> Protection {
    (policy_of(&endpoint.security_policy_uri), endpoint.security_mode)
}

/// `SecurityPolicy::from_uri` of the library, without its error log for policies it does not know.
fn policy_of(uri: &UAString) -> SecurityPolicy {
    const KNOWN: [SecurityPolicy; 6] = [
        SecurityPolicy::None,
        SecurityPolicy::Basic128Rsa15,
        SecurityPolicy::Basic256,
        SecurityPolicy::Basic256Sha256,
        SecurityPolicy::Aes128Sha256RsaOaep,
        SecurityPolicy::Aes256Sha256RsaPss,
    ];
    KNOWN.into_iter().find(|known| known.to_uri() == uri.as_ref()).unwrap_or(SecurityPolicy::Unknown)
}

/// What the mapping logs in with.
fn login_kind(security: &Security) -> UserTokenType {
    match (&security.user_certificate, &security.user) {
        (Some(_), _) => UserTokenType::Certificate,
        (None, Some(_)) => UserTokenType::UserName,
        (None, None) => UserTokenType::Anonymous,
    }
}

/// How a session on the chosen endpoint is secured: policy and mode of its channel, and the server's certificate as far as the
/// channel rests on it (Part 4 §5.5.2: with mode None nothing is signed with it).
pub(crate) fn link_security(chosen: &EndpointDescription, security: &Security) -> LinkSecurity {
    use sha2::Digest;
    let protection = match chosen.security_mode {
        MessageSecurityMode::Sign => LinkProtection::Sign,
        MessageSecurityMode::SignAndEncrypt => LinkProtection::SignEncrypt,
        _ => LinkProtection::None,
    };
    let certificate = chosen.server_certificate.value.as_ref().filter(|_| protection != LinkProtection::None);
    let login = match login_kind(security) {
        UserTokenType::Certificate | UserTokenType::IssuedToken => Login::Certificate,
        UserTokenType::UserName => Login::UserName,
        UserTokenType::Anonymous => Login::Anonymous,
    };
    LinkSecurity {
        protocol: LinkProtocol::OpcUa,
        protection,
        policy: Some(policy_of(&chosen.security_policy_uri).to_uri().to_owned()),
        certificate: certificate.map(|der| sha2::Sha256::digest(leaf_of(der)).into()),
        login: Some(login),
    }
}

/// The server's own certificate: the first of what may be a chain, one DER item behind the other (Part 6 §6.2.3).
fn leaf_of(der: &[u8]) -> &[u8] {
    let length = match der {
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        [0x30, 0x81, length, ..] => 3 + usize::from(*length),
        _ => der.len(),
    };
    der.get(..length).unwrap_or(der)
}

/// The login that protects the secret best, or why there is none.
fn login(endpoint: &EndpointDescription, security: &Security) -> Result<UserTokenPolicy, String> {
    let kind = login_kind(security);
    let logins = endpoint.user_identity_tokens.iter().flatten().filter(|login| login.token_type == kind);
    let usable = logins.filter_map(|login| Some((login_strength(endpoint, login, security)?, login)));
    let best = usable.max_by_key(|(strength, _)| *strength).map(|(_, login)| login.clone());
    let mut login = best.ok_or_else(|| match kind {
        UserTokenType::Anonymous => {
            "the server lets nobody in without a user; write `user` and `password` of the device".to_owned()
        }
        UserTokenType::Certificate => {
            "the server takes no user certificate on this endpoint; log in with `user` and `password`, or switch \
             certificate logins on in the server"
                .to_owned()
        }
        _ => {
            "the server takes no password on this endpoint, or only in the clear; a password is sent in the clear only \
              with `policy: none`"
                .to_owned()
        }
    })?;
    if kind == UserTokenType::Certificate && login.security_policy_uri.is_empty() {
        // An empty policy means the channel's (Part 4 §7.41); the library would take it for None and not sign.
        login.security_policy_uri = endpoint.security_policy_uri.clone();
    }
    Ok(login)
}

/// How well the password would be protected, or the proof of a certificate signed; `None` when it must not be sent this
/// way (Part 4 §7.40.2, table of security policies of the channel and of the token).
fn login_strength(endpoint: &EndpointDescription, login: &UserTokenPolicy, security: &Security) -> Option<u8> {
    let (channel, mode) = protection_of(endpoint);
    let uri = &login.security_policy_uri;
    // Without a policy of its own the token takes the channel's.
    let policy = if uri.is_empty() { channel } else { policy_of(uri) };
    match policy {
        SecurityPolicy::Unknown => None,
        _ if login.token_type == UserTokenType::Anonymous => Some(0),
        // The library would take the missing certificate for granted and panic.
        p if p != SecurityPolicy::None && endpoint.server_certificate.is_null_or_empty() => None,
        SecurityPolicy::Aes256Sha256RsaPss => Some(5),
        SecurityPolicy::Aes128Sha256RsaOaep => Some(4),
        SecurityPolicy::Basic256Sha256 => Some(3),
        // In a channel that is not encrypted the password would rest on a deprecated policy alone.
        SecurityPolicy::Basic256 | SecurityPolicy::Basic128Rsa15
            if mode != MessageSecurityMode::SignAndEncrypt
                && security.policy != OpcUaPolicy::None
                && !security.insecure =>
        {
            None
        }
        SecurityPolicy::Basic256 | SecurityPolicy::Basic128Rsa15 => Some(2),
        // Without a policy nothing is signed, so a certificate proves nothing.
        SecurityPolicy::None if login.token_type == UserTokenType::Certificate => None,
        // Not encrypted by itself: fine inside an encrypted channel, and where the mapping says `none`.
        SecurityPolicy::None if mode == MessageSecurityMode::SignAndEncrypt => Some(1),
        SecurityPolicy::None => (security.policy == OpcUaPolicy::None).then_some(0),
    }
}

/// Whether the chosen login puts the password on the wire for all to read.
pub(crate) fn password_in_the_clear(chosen: &EndpointDescription, security: &Security) -> bool {
    let logins = chosen.user_identity_tokens.iter().flatten();
    security.user.is_some()
        && logins.filter_map(|login| login_strength(chosen, login, security)).all(|strength| strength == 0)
}

/// The endpoint under the host and port we were told: servers announce `0.0.0.0`, a name only they can resolve, or the
/// address before a NAT. The path is the server's, it may carry several endpoints.
fn addressed(endpoint: &EndpointDescription, login: UserTokenPolicy, told: &str) -> EndpointDescription {
    let mut endpoint = endpoint.clone();
    let path = Url::parse(endpoint.endpoint_url.as_ref()).map(|url| url.path().to_owned()).unwrap_or_default();
    let url = Url::parse(told).map_or_else(
        |_| told.to_owned(),
        |mut url| {
            url.set_path(&path);
            url.into()
        },
    );
    endpoint.endpoint_url = url.into();
    endpoint.user_identity_tokens = Some(vec![login]);
    endpoint
}

fn not_offered(offered: &[EndpointDescription], policy: OpcUaPolicy) -> String {
    let offers = |wanted: Protection| offered.iter().any(|endpoint| protection_of(endpoint) == wanted);
    let list: Vec<_> = offered.iter().filter(|endpoint| is_binary(endpoint)).map(describe).collect();
    let offers_one = |policy| accepted(policy).iter().any(|wanted| offers(*wanted));
    let hint = match policy {
        _ if policy != OpcUaPolicy::Best && offers_one(OpcUaPolicy::Best) => "write `policy: best`",
        _ if offers((SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign)) => {
            "write `policy: basic256sha256-sign` if it is enough that nobody can alter the values"
        }
        _ if offers_one(OpcUaPolicy::Basic256SignAndEncrypt) => {
            "switch Basic256Sha256 on in the server, or write `policy: basic256-sign-encrypt` with `insecure: true`"
        }
        _ if offers_one(OpcUaPolicy::Basic128Rsa15SignAndEncrypt) => {
            "switch Basic256Sha256 on in the server, or write `policy: basic128rsa15-sign-encrypt` with `insecure: true`"
        }
        _ if offers((SecurityPolicy::None, MessageSecurityMode::None)) => {
            "switch security on in the server, or write `policy: none` if everybody on this network may read and forge \
             the values"
        }
        _ => "switch Basic256Sha256 on in the server",
    };
    format!("asked for security `{}`, the server offers {}; {hint}", policy.word(), list.join(", "))
}

fn describe(endpoint: &EndpointDescription) -> String {
    let uri = endpoint.security_policy_uri.as_ref();
    format!("{} {:?}", uri.rsplit('#').next().unwrap_or(uri), endpoint.security_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::ByteString;
    use tally_model::Secret;

    const TOLD: &str = "opc.tcp://10.0.0.7:14840";

    fn offer(
        policy: SecurityPolicy,
        mode: MessageSecurityMode,
        logins: &[(UserTokenType, &str)],
    ) -> EndpointDescription {
        let login = |(token_type, uri): &(UserTokenType, &str)| UserTokenPolicy {
            policy_id: format!("{token_type:?}{uri}").into(),
            token_type: *token_type,
            security_policy_uri: (*uri).into(),
            ..Default::default()
        };
        EndpointDescription {
            endpoint_url: "opc.tcp://0.0.0.0:4840/server/".into(),
            security_policy_uri: policy.to_uri().into(),
            security_mode: mode,
            server_certificate: ByteString::from(vec![1]),
            user_identity_tokens: Some(logins.iter().map(login).collect()),
            ..Default::default()
        }
    }

    fn all(logins: &[(UserTokenType, &str)]) -> Vec<EndpointDescription> {
        use MessageSecurityMode::{None as Open, Sign, SignAndEncrypt};
        vec![
            offer(SecurityPolicy::None, Open, logins),
            offer(SecurityPolicy::Basic256Sha256, Sign, logins),
            offer(SecurityPolicy::Basic256Sha256, SignAndEncrypt, logins),
            offer(SecurityPolicy::Aes128Sha256RsaOaep, SignAndEncrypt, logins),
            offer(SecurityPolicy::Aes256Sha256RsaPss, SignAndEncrypt, logins),
            offer(SecurityPolicy::Aes256Sha256RsaPss, Sign, logins),
        ]
    }

    fn security(policy: OpcUaPolicy, user: bool) -> Security {
        let user_and_password = user.then(|| ("operator".to_owned(), Secret::new("secret".to_owned())));
        let (user, password) = user_and_password.unzip();
        Security { policy, user, password, ..Security::default() }
    }

    const ANONYMOUS: &[(UserTokenType, &str)] = &[(UserTokenType::Anonymous, "")];
    const USER: &[(UserTokenType, &str)] = &[(UserTokenType::UserName, "")];

    #[test]
    fn best_takes_the_strongest_and_never_less_than_encryption() {
        let chosen = choose(&all(ANONYMOUS), &security(OpcUaPolicy::Best, false), TOLD).unwrap();
        assert_eq!(protection_of(&chosen), (SecurityPolicy::Aes256Sha256RsaPss, MessageSecurityMode::SignAndEncrypt));
        let chosen = choose(&all(ANONYMOUS)[..3], &security(OpcUaPolicy::Best, false), TOLD).unwrap();
        assert_eq!(protection_of(&chosen), (SecurityPolicy::Basic256Sha256, MessageSecurityMode::SignAndEncrypt));
        let only_none = choose(&all(ANONYMOUS)[..1], &security(OpcUaPolicy::Best, false), TOLD).unwrap_err();
        assert!(only_none.to_string().contains("`policy: none`"), "{only_none}");
        let only_sign = choose(&all(ANONYMOUS)[..2], &security(OpcUaPolicy::Best, false), TOLD).unwrap_err();
        assert!(only_sign.to_string().contains("`policy: basic256sha256-sign`"), "{only_sign}");
    }

    #[test]
    fn a_named_policy_is_that_policy() {
        let chosen = choose(&all(ANONYMOUS), &security(OpcUaPolicy::Basic256Sha256Sign, false), TOLD).unwrap();
        assert_eq!(protection_of(&chosen), (SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign));
        let chosen = choose(&all(ANONYMOUS), &security(OpcUaPolicy::None, false), TOLD).unwrap();
        assert_eq!(protection_of(&chosen), (SecurityPolicy::None, MessageSecurityMode::None));
        let refused = choose(&all(ANONYMOUS)[1..], &security(OpcUaPolicy::None, false), TOLD).unwrap_err();
        assert!(refused.to_string().contains("Basic256Sha256 Sign"), "{refused}");
    }

    #[test]
    fn we_connect_to_the_host_we_were_told() {
        let chosen = choose(&all(ANONYMOUS), &security(OpcUaPolicy::Best, false), TOLD).unwrap();
        assert_eq!(chosen.endpoint_url.as_ref(), "opc.tcp://10.0.0.7:14840/server/");
    }

    #[test]
    fn a_password_never_travels_in_the_clear_unless_the_mapping_says_none() {
        let plain = &[(UserTokenType::UserName, "http://opcfoundation.org/UA/SecurityPolicy#None")];
        let signed = [offer(SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign, plain)];
        assert!(choose(&signed, &security(OpcUaPolicy::Basic256Sha256Sign, true), TOLD).is_err());
        let signed = [offer(SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign, USER)];
        assert!(choose(&signed, &security(OpcUaPolicy::Basic256Sha256Sign, true), TOLD).is_ok());
        let open = [offer(SecurityPolicy::None, MessageSecurityMode::None, plain)];
        let none = security(OpcUaPolicy::None, true);
        assert!(password_in_the_clear(&choose(&open, &none, TOLD).unwrap(), &none));
        let both = &[plain[0], (UserTokenType::UserName, SecurityPolicy::Basic256Sha256.to_uri())];
        let open = [offer(SecurityPolicy::None, MessageSecurityMode::None, both)];
        let chosen = choose(&open, &none, TOLD).unwrap();
        assert!(!password_in_the_clear(&chosen, &none));
        // Encrypting needs a certificate to encrypt for; without one the plain login is all there is.
        let mut bare = open[0].clone();
        bare.server_certificate = ByteString::null();
        assert!(password_in_the_clear(&choose(&[bare], &none, TOLD).unwrap(), &none));
    }

    #[test]
    fn a_missing_login_is_explained() {
        let fault = choose(&all(USER), &security(OpcUaPolicy::Best, false), TOLD).unwrap_err().to_string();
        assert!(fault.contains("without a user"), "{fault}");
        let fault = choose(&all(ANONYMOUS), &security(OpcUaPolicy::Best, true), TOLD).unwrap_err().to_string();
        assert!(fault.contains("takes no password"), "{fault}");
    }
}
