//! A command of somebody who has no key: SCADA, over a broker that is trusted with nothing. The agent asks the ledger for a permit
//! in its own name, under the standing policy that the owner wrote for this sender, and carries the permit out as any other.
//!
//! ```text
//! command ──▶ for now? ──▶ the mapping? ──▶ heard before? (on disk) ──▶ ledger: a permit, or a numbered no ──▶ the gate ──▶ answer
//! ```
//! So nothing is written without a permit, and none twice: `docs/decisions/033-commands.md`.

use super::check;
use super::order::order;
use super::refusal::{Refusal, ledger_refusal};
use super::report::{self, Report};
use super::{Gate, mapped};
use std::time::Duration;
use tally_evidence::cbor::{Cbor, from_value, int, text};
use tally_evidence::{Hash, Permit, PermitFile, Right, permit_state_key, sha256};
use tally_journal::Storage;
use tally_ledger_client::Submitted;
use tally_model::{DeviceId, PointId, PointSpec, PolicyId, Timestamp, Value};

/// How long the ledger may take to grant a permit: a command is for now.
const GRANT_TIME: Duration = Duration::from_secs(5);
/// Longest account of how a command came, in bytes.
const SAID_BYTES_MAX: usize = 1_024;

/// What somebody without a key wants done.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Who, as the owner's policy names him: `mqtt:hmi-3`.
    pub sender: String,
    /// On which device.
    pub device: String,
    /// On which point.
    pub point: String,
    /// Write or call.
    pub right: Right,
    /// What is written.
    pub value: Option<Value>,
    /// The sender's own name for this command: no two of his may have the same.
    pub id: String,
    /// When it was sent, by the sender's clock.
    pub at: Option<Timestamp>,
    /// Whether the broker had kept it from earlier.
    pub is_retained: bool,
    /// How it came, in words: for whoever reads the entry.
    pub said: String,
}

impl Command {
    /// The same command has the same: what is remembered so that nothing is done twice.
    fn digest(&self) -> Hash {
        sha256(format!("tallystick command\0{}\0{}", self.sender, self.id).as_bytes())
    }

    /// The permit that would do it, to be held against the mapping before the ledger is bothered.
    fn draft(&self, address: &dyn Fn(&DeviceId, &PointId) -> Option<String>) -> Result<Permit, Refusal> {
        let unknown = |what: &str, name: &str| {
            Refusal::new(
                if what == "device" { "unknown-device" } else { "unknown-point" },
                format!("`{name}` is no {what}"),
            )
        };
        let device = DeviceId::try_new(self.device.clone()).map_err(|_| unknown("device", &self.device))?;
        let point = PointId::try_new(self.point.clone()).map_err(|_| unknown("point", &self.point))?;
        let nobody = || Refusal::new("malformed", format!("`{}` is no name of a sender", self.sender));
        Ok(Permit {
            id: 0,
            ledger: String::new(),
            requester: "agent".parse().map_err(|_| nobody())?,
            sender: Some(self.sender.clone()),
            agent: "agent".parse().map_err(|_| nobody())?,
            address: address(&device, &point).unwrap_or_default(),
            device,
            point,
            right: self.right,
            value: self.value.clone(),
            from: Timestamp::default(),
            until: Timestamp::default(),
            policy: PolicyId::try_new("none").map_err(|_| nobody())?,
            carried: true,
        })
    }
}

impl<S: Storage + Send + 'static> Gate<S> {
    /// Has a command carried out, or says why not. What became of it is on disk before this returns. `age_max`: how old a command
    /// may be.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn obey(&self, command: &Command, age_max: Duration) -> Result<Report, Refusal> {
        let done = self.obey_checked(command, age_max).await;
        let count = &self.status.count;
        if done.is_ok() {
            count.commands_granted.add(1)
        } else {
            count.commands_refused.add(1)
        }
        done
    }

    /// A command that cannot even be read, or must not be looked at: counted and on record like every other refusal.
    pub fn turn_command_away(&self, sender: &str, refusal: Refusal) -> Refusal {
        self.status.count.commands_refused.add(1);
        self.turned_away_for(Some(sender), None, refusal)
    }

    async fn obey_checked(&self, command: &Command, age_max: Duration) -> Result<Report, Refusal> {
        let away = |refusal| self.turned_away_for(Some(&command.sender), None, refusal);
        let until = self.check_command(command, age_max).map_err(away)?;
        let (digest, now) = (command.digest(), self.clock.now());
        let is_new = self.in_book(move |book| book.ask(digest, until, now)).await.map_err(away)?;
        if !is_new {
            let text =
                format!("command `{}` of {} was heard before; nothing is done twice", command.id, command.sender);
            return Err(away(Refusal::new("replayed-command", text)));
        }
        // A no of the ledger is an entry already: nothing more is to be recorded.
        let permit = self.ask_ledger(command, until).await?;
        let file = self.fetch_granted(command, permit).await.map_err(away)?;
        self.use_permit(&file.encode()).await
    }

    /// What the agent knows by itself; until when the command counts.
    fn check_command(&self, command: &Command, age_max: Duration) -> Result<Timestamp, Refusal> {
        let until = check::is_for_now(command, self.clock.now(), &self.clock.health(), age_max)?;
        let devices = self.devices.borrow();
        let draft = command.draft(&|device, point| mapped(&devices, device, point).map(PointSpec::place))?;
        order(&draft, &devices)?;
        Ok(until)
    }

    /// Asks in the agent's own name. The statement follows from the command alone, so asking twice gives one entry.
    async fn ask_ledger(&self, command: &Command, until: Timestamp) -> Result<u64, Refusal> {
        let statement = self.request_of(command, until)?;
        match tokio::time::timeout(GRANT_TIME, self.client.submit(&statement)).await {
            Ok(Ok(Submitted { refusal: None, entry, .. })) => Ok(entry),
            Ok(Ok(Submitted { refusal: Some(number), .. })) => Err(ledger_refusal(command, number)),
            Ok(Err(fault)) => Err(ledger_away(&fault.to_string())),
            Err(_) => Err(ledger_away("no answer within 5 s")),
        }
    }

    fn request_of(&self, command: &Command, until: Timestamp) -> Result<Vec<u8>, Refusal> {
        let at = command.at.unwrap_or_default();
        let lasts = until.since(self.clock.now()).max(Duration::from_secs(1));
        let said = report::cut(&command.said, SAID_BYTES_MAX);
        let mut args = vec![
            ("device", text(command.device.clone())),
            ("point", text(command.point.clone())),
            ("right", text(command.right.word())),
            ("sender", text(command.sender.clone())),
            ("said", text(said)),
            ("lasts", int(u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX))),
            // Nobody else is to carry it out, and not later either.
            ("carried", Cbor::Bool(true)),
        ];
        args.extend(command.value.as_ref().map(|value| ("value", from_value(value))));
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&command.digest()[..16]);
        report::seal_with(&self.sealer, "request", args, at, nonce).map_err(|fault| super::key_away(&fault))
    }

    /// The permit as the ledger's state proves it, and that it is the one asked for: not another one that lies ready.
    async fn fetch_granted(&self, command: &Command, id: u64) -> Result<PermitFile, Refusal> {
        let path = format!("/state/{}", report::hex(&permit_state_key(id)));
        let asked = tokio::time::timeout(GRANT_TIME, self.client.get_bytes(&path)).await;
        let answer = asked.map_err(|_| ledger_away("no answer within 5 s"))?;
        let answer = answer.map_err(|fault| ledger_away(&fault.to_string()))?;
        let doubtful = |what: String| Refusal::new("doubtful", format!("what the node says about permit {id}: {what}"));
        let file = PermitFile::from_state_answer(&answer).map_err(|fault| doubtful(fault.to_string()))?;
        let gone = || Refusal::new("revoked", format!("permit {id} was revoked as soon as it was granted"));
        let file = file.ok_or_else(gone)?;
        let permit = Permit::decode(&file.permit).map_err(|fault| doubtful(fault.to_string()))?;
        let is_it = permit.id == id
            && permit.sender.as_deref() == Some(&command.sender)
            && (permit.device.as_str(), permit.point.as_str()) == (&command.device, &command.point)
            && (permit.right, &permit.value) == (command.right, &command.value);
        if is_it { Ok(file) } else { Err(doubtful("it is not what was asked for".to_owned())) }
    }
}

fn ledger_away(why: &str) -> Refusal {
    let text = format!("the ledger cannot be asked, and without its permit nothing is written: {why}");
    Refusal::new("ledger-away", text)
}
