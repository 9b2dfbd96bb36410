//! Why the gate does nothing, in words, and what to do about it.

use super::Command;

/// Why the gate does nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Which of the reasons in `docs/operator/access.md`.
    pub code: &'static str,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub hint: &'static str,
    /// Whether the permit is burnt by it.
    pub is_burnt: bool,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, text: String) -> Self {
        Self { code, text, hint: hint(code), is_burnt: false }
    }

    pub(super) fn busy(most: usize) -> Self {
        Self::new("busy", format!("{most} permits wait already; nothing was done"))
    }

    pub(super) fn burnt(self) -> Self {
        Self { is_burnt: true, ..self }
    }

    /// What is our own trouble is no attempt of anybody.
    pub(super) fn is_worth_recording(&self) -> bool {
        !matches!(self.code, "busy" | "disk" | "no-ledger-key" | "key-away")
    }
}

const fn hint(code: &str) -> &'static str {
    match code.as_bytes() {
        b"forged" => {
            "bring the file that `tally access request` wrote, unchanged; permits are made by the ledger alone"
        }
        b"replayed" => "request a new one",
        b"revoked" => "ask the owner of the device why; then request a new one",
        b"too-early" => "bring it again when its time has come",
        b"expired" => "request a new one",
        b"other-agent" => "bring it to the agent it names",
        b"clock" => "set the clock of the agent's computer (chrony, PTP), then restart the agent",
        b"stale" => {
            "connect the agent to the ledger, or bring a permit with a fresh proof: `tally access permits --permit N --out FILE`"
        }
        b"unknown-device" | b"unknown-point" | b"wrong-address" => {
            "the policy and the mapping must name the same point at the same address; correct one of them, then request again"
        }
        b"not-writable" => {
            "write `writable: true` at the point in the mapping, if it may be written at all, then `tally reload`"
        }
        b"out-of-bounds" => "the bounds stand in the mapping as `write_range`; ask for a value within",
        b"wrong-type" => "ask for a value of the point's type",
        b"busy" => "bring it again in a moment",
        b"malformed" => "docs/formats/topics.md says what a command looks like",
        b"retained" => "publish commands without the retain flag, and delete the one that the broker keeps",
        b"no-time" => "say in the command when it was sent: `at`, or the timestamp of the Sparkplug payload",
        b"too-old" | b"from-the-future" => {
            "set the clocks of SCADA and of the agent's computer by the same server (NTP), then send it again"
        }
        b"replayed-command" => "give every command an id of its own",
        b"no-policy" => {
            "the owner of the device seals a standing policy for this sender: `who: [{sender: …}]`, see docs/operator/access.md"
        }
        b"beyond-policy" => "ask for a value within the policy, or the owner for a wider one",
        b"out-of-hours" => "wait for the shift, or ask the owner for other hours",
        b"too-many" => "wait: the policy allows so many within its period",
        b"quarantined" => "ask the owner why; he lifts it with `tally access quarantine --lift`",
        b"ledger-away" => "see whether the node runs and the agent reaches it (`tally status`), then send it again",
        _ => "see docs/operator/access.md",
    }
}

/// A contract's number in words for whoever stands at the machine.
pub(super) fn ledger_refusal(command: &Command, number: u16) -> Refusal {
    let Command { sender, device, point, .. } = command;
    let value = command.value.as_ref().map_or_else(String::new, |value| format!(" {value}"));
    let (code, why) = match number {
        124 => ("quarantined", "the device or this agent is in quarantine".to_owned()),
        153 => {
            ("no-policy", format!("no standing policy lets {sender} {} `{point}` of `{device}`", command.right.word()))
        }
        154 => ("beyond-policy", format!("{value} for `{point}` is outside of what the standing policy allows")),
        155 => ("out-of-hours", "outside of the hours, days or dates of the standing policy".to_owned()),
        156 => ("too-many", format!("{sender} has had as much done as the standing policy allows within its period")),
        _ => ("ledger-refused", format!("the contract said no with number {number} (docs/formats/refusals.md)")),
    };
    Refusal::new(code, format!("refused by the ledger ({number}): {}", why.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn every_reason_has_its_own_hint() {
        for code in
            ["forged", "replayed", "revoked", "too-early", "expired", "other-agent", "clock", "stale", "wrong-address"]
        {
            assert_ne!(hint(code), hint("else"), "{code}");
        }
    }
}
