//! From an endpoint URL to an activated session: own certificate, endpoints, choice, trust, login. The same for links and
//! for visits.

use crate::error::link_fault;
use crate::expiry::Expiry;
use crate::session::Connection;
use crate::{Settings, config, endpoint, trust};
use opcua::client::{Client, IdentityToken};
use opcua::crypto::{CertificateStore, PrivateKey};
use opcua::types::MessageSecurityMode;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::{Security, Timestamp};
use tally_secrets::SecretFault;

/// Opens sessions, one after the other.
pub(crate) struct Connector {
    settings: Settings,
    timeout: Duration,
    /// Made at the first attempt, when certificate and key exist.
    client: Option<Client>,
    expiry: Expiry,
    /// What is to be said about certificates while we are connected.
    pub(crate) remark: Option<String>,
}

impl Connector {
    pub(crate) fn new(settings: Settings, timeout: Duration) -> Self {
        Self { settings, timeout, client: None, expiry: Expiry::default(), remark: None }
    }

    /// Says what has become due about certificates.
    pub(crate) fn look_at_certificates(&mut self, url: &str, now: Timestamp) {
        self.remark = self.expiry.look(&self.settings.pki, url, now);
    }

    /// Own certificate, endpoints, choice, trust, session; everything is looked at anew at every connect.
    pub(crate) async fn connect(
        &mut self,
        url: &str,
        security: &Security,
        now: Timestamp,
    ) -> Result<Connection, LinkFault> {
        self.prepare().await?;
        let Some(client) = &mut self.client else { return Err(LinkFault::Line("no client".into())) };
        let asked = "ask for the endpoints";
        let endpoints = in_time(self.timeout, asked, async {
            let list = client.get_server_endpoints_from_url(url).await;
            list.map_err(|fault| link_fault(asked, fault.status(), &fault.to_string()))
        });
        let chosen = endpoint::choose(&endpoints.await?, security, url)?;
        let is_secured = chosen.security_mode != MessageSecurityMode::None;
        if is_secured {
            trust::judge(&self.settings, &chosen)?;
        }
        if endpoint::password_in_the_clear(&chosen, security) {
            tracing::warn!(endpoint = url, "the password travels in the clear, as `policy: none` allows");
        }
        self.expiry.met(&chosen);
        self.remark = self.expiry.look(&self.settings.pki, url, now);
        let identity = identity(security)?;
        let secured = endpoint::link_security(&chosen, security);
        let opened = Connection::open(client, chosen, identity, secured);
        let opened = in_time(self.timeout, "open a session", opened).await;
        opened.map_err(|fault| if is_secured { perhaps_untrusted(fault) } else { fault })
    }

    async fn prepare(&mut self) -> Result<(), LinkFault> {
        let settings = self.settings.clone();
        let made = tokio::task::spawn_blocking(move || trust::ensure_own(&settings)).await;
        made.map_err(|fault| LinkFault::Refused(format!("making our certificate failed: {fault}")))??;
        if self.client.is_none() {
            self.client = Some(config::client(&self.settings, self.timeout)?);
        }
        Ok(())
    }
}

/// Who we say we are. A user certificate is read at every connect, so that a renewed one needs no restart.
fn identity(security: &Security) -> Result<IdentityToken, LinkFault> {
    match (&security.user_certificate, &security.user_key, &security.user, &security.password) {
        (Some(certificate), Some(key), ..) => {
            let of_certificate = |fault: String| unusable("certificate", certificate, &fault);
            let certificate = CertificateStore::read_cert(certificate).map_err(of_certificate)?;
            Ok(IdentityToken::new_x509(certificate, user_key(key)?))
        }
        (_, _, Some(user), Some(password)) => Ok(IdentityToken::new_user_name(user, password.reveal())),
        _ => Ok(IdentityToken::Anonymous),
    }
}

fn user_key(file: &Path) -> Result<PrivateKey, LinkFault> {
    let pem = tally_secrets::read_text(file).map_err(|fault| match fault {
        SecretFault::Open(open) => LinkFault::Credentials(format!("the key of the user certificate {open}")),
        SecretFault::Read(fault) => unusable("key", file, &fault),
    })?;
    PrivateKey::from_pem(pem.as_bytes()).map_err(|_| unusable("key", file, &"it holds no RSA key in PEM form"))
}

fn unusable(what: &str, file: &Path, fault: &dyn std::fmt::Display) -> LinkFault {
    LinkFault::Credentials(format!("the user's {what} `{}` cannot be read: {fault}", file.display()))
}

/// Some servers close the line without a word on a certificate they do not know; they did answer the question before.
fn perhaps_untrusted(fault: LinkFault) -> LinkFault {
    match fault {
        LinkFault::Line(text) => LinkFault::Line(format!(
            "{text}; the server had just answered without security, so perhaps it does not trust our certificate: look \
             for it in the server's list of rejected ones"
        )),
        other => other,
    }
}

/// Connecting takes a handful of round trips, and the library waits for some of them for ever.
async fn in_time<T>(
    timeout: Duration,
    asked: &str,
    work: impl Future<Output = Result<T, LinkFault>> + Send,
) -> Result<T, LinkFault> {
    let timeout = timeout * 3;
    let in_time = tokio::time::timeout(timeout, work).await;
    in_time.unwrap_or_else(|_| Err(LinkFault::Line(format!("{asked}: no answer within {timeout:?}"))))
}
