//! What must hold of a permit or a command before a device is touched: whose it is, when, and whether it is still open. What the
//! mapping says stands in [`super::order`]. Pure: what is known comes in, a reason in words comes out.

use super::refusal::Refusal;
use super::{Command, GateSetting, PastAge};
use std::time::Duration;
use tally_connector_api::ClockHealth;
use tally_evidence::{Permit, PermitFile, ProvenPermit, Right, VerifyingKey};
use tally_model::{PartyId, Timestamp};

/// How far the agent's clock may be behind the block that proves a permit: clocks of two computers, kept right.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// What the book knows of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Used,
    Revoked,
}

pub(super) fn is_for(permit: &Permit, agent: &PartyId) -> Result<(), Refusal> {
    if permit.agent == *agent {
        return Ok(());
    }
    Err(Refusal::new("other-agent", format!("permit {} is for agent `{}`; this is `{agent}`", permit.id, permit.agent)))
}

pub(super) fn is_unused(id: u64, known: Known) -> Result<(), Refusal> {
    match known {
        Known::Nothing => Ok(()),
        Known::Used => Err(Refusal::new("replayed", format!("permit {id} was used already; it works once"))),
        Known::Revoked => Err(Refusal::new("revoked", format!("permit {id} was revoked"))),
    }
}

/// A clock that cannot be right decides nothing.
pub(super) fn is_time(proven: &ProvenPermit, now: Timestamp, health: ClockHealth) -> Result<(), Refusal> {
    let ProvenPermit { permit, open_at, .. } = proven;
    if health.ahead > CLOCK_SLACK || health.leapt > CLOCK_SLACK {
        let text = format!(
            "the clock of this computer leapt by {:.0} s since the agent started; whether permit {} is valid now cannot be said",
            health.ahead.max(health.leapt).as_secs_f64(),
            permit.id
        );
        return Err(Refusal::new("clock", text));
    }
    if now.plus(CLOCK_SLACK) < *open_at {
        let text = format!("the clock of this computer says {now}, the ledger said {open_at} already: it is behind");
        return Err(Refusal::new("clock", text));
    }
    if now < permit.from {
        return Err(Refusal::new(
            "too-early",
            format!("permit {} is valid from {}; now it is {now}", permit.id, permit.from),
        ));
    }
    if now > permit.until {
        return Err(Refusal::new(
            "expired",
            format!("permit {} was valid until {}; now it is {now}", permit.id, permit.until),
        ));
    }
    Ok(())
}

/// The node's word of this moment, with its proof.
pub(super) fn is_still_open(file: &PermitFile, answer: &[u8], ledger: &str, key: &VerifyingKey) -> Result<(), Refusal> {
    let id = Permit::decode(&file.permit).map(|permit| permit.id).unwrap_or_default();
    let doubtful = |fault: String| {
        Refusal::new("doubtful", format!("what the node says about permit {id} does not hold: {fault}"))
    };
    match PermitFile::from_state_answer(answer) {
        Ok(None) => Err(Refusal::new(
            "revoked",
            format!("the ledger says that permit {id} is not open any more: used or revoked"),
        )),
        Ok(Some(now)) if now.permit != file.permit => Err(doubtful("it shows another permit under this number".into())),
        Ok(Some(now)) => now.check(ledger, key).map(|_| ()).map_err(|fault| doubtful(fault.to_string())),
        Err(fault) => Err(doubtful(fault.to_string())),
    }
}

/// The node is away: how long ago the permit may last have been known to be open, which was at `open_at`.
pub(super) fn is_fresh(
    proven: &ProvenPermit,
    open_at: Timestamp,
    now: Timestamp,
    setting: GateSetting,
) -> Result<(), Refusal> {
    let age = now.since(open_at);
    let is_let_through = match setting.past_age {
        PastAge::Refuse => false,
        PastAge::AllowRead => proven.permit.right == Right::Read,
        PastAge::Allow => true,
    };
    if age <= setting.proof_age || is_let_through {
        return Ok(());
    }
    let text = format!(
        "the ledger cannot be asked, and the latest proof that permit {} is open is {} s old ({} s are believed): it may have been revoked",
        proven.permit.id,
        age.as_secs(),
        setting.proof_age.as_secs()
    );
    Err(Refusal::new("stale", text))
}

/// A command is for now: not kept by the broker, sent within `age_max`, by clocks that agree. Until when it counts.
pub(super) fn is_for_now(
    command: &Command,
    now: Timestamp,
    health: &ClockHealth,
    age_max: Duration,
) -> Result<Timestamp, Refusal> {
    let id = &command.id;
    let refuse = |code, text| Err(Refusal::new(code, text));
    if command.is_retained {
        return refuse("retained", format!("the broker had kept command `{id}` from earlier; a command is for now"));
    }
    if health.ahead > CLOCK_SLACK || health.leapt > CLOCK_SLACK {
        let leap = health.ahead.max(health.leapt).as_secs();
        let text =
            format!("the clock of the agent's computer leapt by {leap} s; how old command `{id}` is cannot be said");
        return refuse("clock", text);
    }
    let Some(at) = command.at else {
        return refuse("no-time", format!("command `{id}` does not say when it was sent"));
    };
    if now.since(at) > age_max {
        let (age, most) = (now.since(at).as_secs(), age_max.as_secs_f64());
        return refuse("too-old", format!("command `{id}` was sent {age} s ago; at most {most} s are taken"));
    }
    if at.since(now) > CLOCK_SLACK {
        let ahead = at.since(now).as_secs();
        return refuse(
            "from-the-future",
            format!("command `{id}` says that it is sent in {ahead} s: the clocks differ"),
        );
    }
    Ok(at.plus(age_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::refusal::ledger_refusal;
    use crate::gate::samples::{code, permit_to_write as permit};
    use tally_model::Value;

    #[test]
    fn time_is_checked_by_a_clock_that_can_be_right() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let proven = ProvenPermit { permit: permit(), open_at: at(100), height: 1 };
        let fine = ClockHealth::default();
        assert_eq!(code(is_time(&proven, at(100), fine)), "fine");
        assert_eq!(code(is_time(&proven, at(700), fine)), "fine");
        assert_eq!(code(is_time(&proven, at(701), fine)), "expired");
        assert_eq!(code(is_time(&proven, at(99), fine)), "too-early");
        assert_eq!(code(is_time(&proven, at(90), fine)), "clock", "behind the block");
        let leapt = ClockHealth { leapt: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_time(&proven, at(100), leapt)), "clock");
        let back = ClockHealth { ahead: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_time(&proven, at(100), back)), "clock");
    }

    #[test]
    fn a_command_is_for_now() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let command = Command {
            sender: "mqtt:hmi-3".into(),
            device: "press-01".into(),
            point: "setpoint".into(),
            right: Right::Write,
            value: Some(Value::Integer(42)),
            id: "7".into(),
            at: Some(at(100)),
            is_retained: false,
            said: String::new(),
        };
        let (fine, most) = (ClockHealth::default(), Duration::from_secs(10));
        assert_eq!(is_for_now(&command, at(110), &fine, most).unwrap(), at(110));
        assert_eq!(code(is_for_now(&command, at(111), &fine, most)), "too-old");
        assert_eq!(code(is_for_now(&command, at(94), &fine, most)), "from-the-future");
        let leapt = ClockHealth { leapt: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_for_now(&command, at(100), &leapt, most)), "clock");
        let kept = Command { is_retained: true, ..command.clone() };
        assert_eq!(code(is_for_now(&kept, at(100), &fine, most)), "retained");
        assert_eq!(code(is_for_now(&Command { at: None, ..command.clone() }, at(100), &fine, most)), "no-time");
        for number in 100..200 {
            let refusal = ledger_refusal(&command, number);
            assert!(refusal.text.contains(&number.to_string()) && refusal.text.len() > 40, "{refusal}");
        }
    }

    #[test]
    fn past_the_age_a_setting_decides_and_is_closed_by_default() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let proven = ProvenPermit { permit: permit(), open_at: at(100), height: 1 };
        let open_at = proven.open_at;
        assert_eq!(code(is_fresh(&proven, open_at, at(160), GateSetting::default())), "fine");
        assert_eq!(code(is_fresh(&proven, open_at, at(161), GateSetting::default())), "stale");
        assert_eq!(code(is_fresh(&proven, at(110), at(161), GateSetting::default())), "fine", "known to be open later");
        let running_on = GateSetting { past_age: PastAge::Allow, ..GateSetting::default() };
        assert_eq!(code(is_fresh(&proven, open_at, at(690), running_on)), "fine");
        let looking_on = GateSetting { past_age: PastAge::AllowRead, ..GateSetting::default() };
        assert_eq!(code(is_fresh(&proven, open_at, at(690), looking_on)), "stale", "a write moves a machine");
        let read = ProvenPermit { permit: Permit { right: Right::Read, value: None, ..permit() }, ..proven };
        assert_eq!(code(is_fresh(&read, open_at, at(690), looking_on)), "fine");
    }
}
