//! Problem documents (RFC 9457).

use crate::disclose::DiscloseError;
use crate::reload::Refused;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::fmt::Display;

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: &'static str,
    /// Faults of a mapping, for programs.
    faults: Vec<Value>,
}

impl Problem {
    pub fn forbidden(code: &'static str, detail: String, hint: &'static str) -> Self {
        Self { status: StatusCode::FORBIDDEN, code, detail, hint, faults: Vec::new() }
    }

    /// A mapping that was not taken.
    pub fn faults(code: &'static str, refused: Refused) -> Self {
        let (status, hint) = (StatusCode::UNPROCESSABLE_ENTITY, "nothing was changed; `tally check` shows the same");
        Self { status, code, detail: refused.text, hint, faults: refused.faults }
    }

    pub fn not_found(code: &'static str, detail: String, hint: &'static str) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, detail, hint, faults: Vec::new() }
    }

    pub fn bad_request(code: &'static str, detail: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            detail,
            hint: "the id of a trigger stands on the ledger and in MQTT",
            faults: Vec::new(),
        }
    }

    pub fn gone(code: &'static str, detail: String) -> Self {
        Self {
            status: StatusCode::GONE,
            code,
            detail,
            hint: "make evidence files before vault_days are over",
            faults: Vec::new(),
        }
    }

    pub fn not_now(code: &'static str, detail: String) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, detail, hint: "see /status", faults: Vec::new() }
    }

    pub fn internal(fault: &dyn Display) -> Self {
        let detail = fault.to_string();
        tracing::error!("an answer of the agent's interface failed: {detail}");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "internal",
            detail,
            hint: "see the agent's log",
            faults: Vec::new(),
        }
    }
}

impl From<DiscloseError> for Problem {
    fn from(fault: DiscloseError) -> Self {
        match fault {
            DiscloseError::Unknown(_) => Self::not_found(
                "statement",
                fault.to_string(),
                "was it sealed by another agent, or before this one lost its data folder?",
            ),
            DiscloseError::NotAnchored { .. } => Self::not_found(
                "anchor",
                fault.to_string(),
                "the newest readings are covered by the next anchor; those of long ago may stand in anchors that only the ledger keeps",
            ),
            DiscloseError::Store(fault) => fault.into(),
            _ => Self::internal(&fault),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail, hint, faults } = self;
        let mut body = json!({
            "type": format!("urn:tallystick:problem:{code}"),
            "title": status.canonical_reason().unwrap_or("problem"),
            "status": status.as_u16(), "code": code, "detail": detail, "hint": hint,
        });
        if !faults.is_empty() {
            body["faults"] = faults.into();
        }
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
    }
}
