//! One witness asked over HTTP, with TLS where its URL says `https`.
//!
//! **Limits.** 2 s to connect, 5 s for a whole answer, 64 KiB of it: a slow, dead or hostile witness costs its own task that, and nobody else.

use super::policy::AskedWitness;
use http::{Method, StatusCode};
use std::time::Duration;
use tally_ledger_client::{Access, Client, Timeouts};

const CONNECT_TIME: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A witness's answer, whatever it is.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    /// Not UTF-8: empty.
    pub text: String,
}

/// The way to a witness.
pub struct Line {
    client: Client,
    prefix: String,
}

impl Line {
    pub fn new(witness: &AskedWitness) -> Self {
        let timeouts = Timeouts { connect: CONNECT_TIME, answer: ANSWER_TIME, ..Timeouts::default() };
        let access = Access { tls: witness.tls.clone(), token: None };
        let client = Client::with_timeouts(witness.url.address.clone(), timeouts).with_access(access);
        Self { client, prefix: witness.url.prefix.clone() }
    }

    /// Asks; `Err` says in words why there is no answer.
    pub async fn ask(&self, method: Method, path: &str, body: String) -> Result<Answered, String> {
        let path = format!("{}{path}", self.prefix);
        let answered = self.client.exchange(method, &path, body.into_bytes(), ANSWER_BYTES_MAX).await;
        let (status, body) = answered.map_err(|fault| fault.to_string())?;
        Ok(Answered { status, text: String::from_utf8(body).unwrap_or_default() })
    }
}
