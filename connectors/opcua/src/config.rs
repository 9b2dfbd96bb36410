//! What the agent tells this connector, and the limits we give the protocol library.

use opcua::client::{Client, ClientBuilder};
use std::path::PathBuf;
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::DeviceSpec;

/// Settings shared by all OPC UA links of an agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory with `own`, `trusted` and `rejected` below it; made when missing.
    pub pki: PathBuf,
    /// How we present ourselves to servers.
    pub application_name: String,
    /// Our application URI; it stands in our certificate and must stay the same as long as that lives.
    pub application_uri: String,
    /// Trust every server certificate on first sight. Only for tests and first contact on a bench.
    pub trust_any: bool,
}

/// Longest answer and shortest patience for one request: a mapping may ask for 10 ms, a secured handshake cannot.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Between two reads of the server's state. Two unanswered ones in a row mean a half-open line, so it is noticed
/// after about 1 s + 2 × timeout.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Publish requests wait for the server's next notification, so they need patience: an expired one makes the library
/// throw its answer away. A dead line is noticed by the keep-alive reads instead.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(600);

/// A server forgets a session we could not close after this time.
const SESSION_TIMEOUT_MS: u32 = 30_000;

/// One chunk as large as the library accepts by default; 1,024 of them are 64 MiB, some 500,000 values at once.
const CHUNKS_MAX: usize = 1_024;
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const ARRAY_LENGTH_MAX: usize = 100_000;

/// Own certificate and key, relative to [`Settings::pki`].
pub(crate) const OWN_CERTIFICATE: &str = "own/cert.der";
pub(crate) const OWN_KEY: &str = "own/private.pem";

/// How long one request of this link may take: the most patient of its devices, within reason.
pub(crate) fn request_timeout(devices: &[DeviceSpec]) -> Duration {
    let longest = devices.iter().map(|device| device.timeout).max().unwrap_or(TIMEOUT_MIN);
    longest.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
}

/// A client of the library that never retries, reconnects or re-creates subscriptions by itself: the link does, because
/// trust and namespaces must be looked at again at every connect.
pub(crate) fn client(settings: &Settings, timeout: Duration) -> Result<Client, LinkFault> {
    ClientBuilder::new()
        .application_name(&settings.application_name)
        .application_uri(&settings.application_uri)
        .product_uri("urn:tallystick:agent")
        .session_name(&settings.application_name)
        .pki_dir(&settings.pki)
        .certificate_path(OWN_CERTIFICATE)
        .private_key_path(OWN_KEY)
        .create_sample_keypair(false)
        .trust_server_certs(false)
        // The library would also insist on the host name in the certificate; `trust` pins the certificate itself.
        .verify_server_certs(false)
        .session_retry_limit(0)
        .recreate_subscriptions(false)
        .session_timeout(SESSION_TIMEOUT_MS)
        .request_timeout(timeout)
        .publish_timeout(PUBLISH_TIMEOUT)
        .min_publish_interval(Duration::from_millis(10))
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .max_failed_keep_alive_count(0)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_chunk_count(CHUNKS_MAX)
        .max_array_length(ARRAY_LENGTH_MAX)
        .client()
        .map_err(|faults| LinkFault::Refused(format!("the client settings are not usable: {}", faults.join("; "))))
}
