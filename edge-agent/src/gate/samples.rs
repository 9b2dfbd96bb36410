//! What the tests of the gate are made of.

use super::refusal::Refusal;
use tally_evidence::{Permit, Right};
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, Value};

/// Tina may read the set point of press-01 through agent-01, from 1970 to 1,000 s later.
pub fn permit() -> Permit {
    Permit {
        id: 1,
        ledger: "press-line".into(),
        requester: PartyId::try_new("tina").unwrap(),
        sender: None,
        agent: PartyId::try_new("agent-01").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        point: PointId::try_new("setpoint").unwrap(),
        address: "holding:17".into(),
        right: Right::Read,
        value: None,
        from: Timestamp::default(),
        until: Timestamp::from_micros(1_000_000_000),
        policy: PolicyId::try_new("service").unwrap(),
        carried: false,
    }
}

/// She may set it to 42 instead, from 100 s after 1970 to 700 s.
pub fn permit_to_write() -> Permit {
    let (from, until) = (Timestamp::from_micros(100_000_000), Timestamp::from_micros(700_000_000));
    Permit { id: 9, right: Right::Write, value: Some(Value::Integer(42)), from, until, ..permit() }
}

/// Which reason, or `fine`.
pub fn code<T>(checked: Result<T, Refusal>) -> &'static str {
    checked.map_or_else(|refusal| refusal.code, |_| "fine")
}
