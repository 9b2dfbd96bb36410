//! Who this ledger is, for clients of any SCITT transparency service (draft-ietf-scitt-scrapi-09 §2.1).

use super::Api;
use super::problem::Problem;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tally_evidence::VerifyingKey;
use tally_evidence::cbor::{self, Cbor, int};

/// `GET /.well-known/scitt-configuration`.
pub async fn configuration(State(api): State<Api>) -> Response {
    let algorithms = Cbor::Array(vec![cbor::text("ES256")]);
    let configuration = cbor::map([
        ("issuer", cbor::text(api.engine.ledger())),
        ("keys_uri", cbor::text("/.well-known/scitt-keys")),
        ("registration_endpoint", cbor::text("/entries")),
        ("supported_signature_algorithms", algorithms),
    ]);
    as_cbor(&configuration)
}

/// `GET /.well-known/scitt-keys`: a COSE Key Set (RFC 9052 §7).
pub async fn keys(State(api): State<Api>) -> Response {
    as_cbor(&Cbor::Array(vec![cose_key(api.engine.key())]))
}

/// `GET /.well-known/scitt-keys/{kid}` (hexadecimal): one key.
pub async fn one_key(State(api): State<Api>, Path(kid): Path<String>) -> Result<Response, Problem> {
    let key = api.engine.key();
    if key.id().to_string() == kid {
        return Ok(as_cbor(&cose_key(key)));
    }
    Err(Problem::not_found("kid", format!("no key `{kid}`"), "GET /.well-known/scitt-keys lists them"))
}

/// `GET /key.pem`: the same key as SPKI PEM, for openssl and people.
pub async fn key_pem(State(api): State<Api>) -> Result<Response, Problem> {
    let pem = api.engine.key().to_pem().map_err(|fault| Problem::internal(&fault))?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}

/// A P-256 key (RFC 9053 §7.1.1) with kid and alg; the kid is its thumbprint (RFC 9679).
fn cose_key(key: &VerifyingKey) -> Cbor {
    let (x, y) = key.sec1()[1..].split_at(32);
    Cbor::Map(vec![
        (int(1), int(2)),
        (int(2), cbor::bytes(key.id().0)),
        (int(3), int(-7)),
        (int(-1), int(1)),
        (int(-2), cbor::bytes(x)),
        (int(-3), cbor::bytes(y)),
    ])
}

fn as_cbor(value: &Cbor) -> Response {
    ([(header::CONTENT_TYPE, "application/cbor")], cbor::encode(value)).into_response()
}
