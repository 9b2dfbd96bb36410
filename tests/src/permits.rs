//! What every test about permits begins with: a policy, the permit as a file, and what the agent says to it.

use crate::{Party, Site, eventually};
use serde_json::Value as Json;
use std::time::Duration;
use tally_evidence::cbor::bytes;
use tally_evidence::{Allowed, PermitFile, Policy, Right, Who, permit_state_key};
use tally_ledger_client::RequestError;
use tally_model::{DeviceId, PartyId, PolicyId};

/// What a policy says of one point: id, place, rights, range.
pub type OnPoint<'p> = (&'p str, &'p str, &'p [Right], Option<(f64, f64)>);

/// A policy for one device, whose permits last ten minutes, at all hours and at any rate.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn policy(id: &str, device: &str, who: Who, points: &[OnPoint<'_>]) -> Policy {
    let allowed = |(id, at, rights, range): &OnPoint<'_>| {
        (id.parse().unwrap(), Allowed { address: (*at).to_owned(), rights: rights.to_vec(), range: *range })
    };
    Policy {
        id: PolicyId::try_new(id).unwrap(),
        devices: vec![DeviceId::try_new(device).unwrap()],
        who: vec![who],
        points: points.iter().map(allowed).collect(),
        rate: None,
        hours: None,
        days: None,
        from: None,
        until: None,
        lasts: Duration::from_secs(600),
    }
}

/// A clause for one party.
///
/// # Panics
/// When the name is none.
#[must_use]
pub fn party(id: &str) -> Who {
    Who { party: Some(PartyId::try_new(id).unwrap()), ..Who::default() }
}

impl Site {
    /// Puts a policy in force.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn allow(&self, owner: &Party, policy: &Policy) {
        let done = owner.call(&self.node, "access", "policy", None, &[("policy", bytes(policy.encode()))]).await;
        assert_eq!(done.refusal, None);
    }

    /// The device answers: else every write would be refused for another reason than the one tested.
    ///
    /// # Panics
    /// When it does not.
    pub async fn connected(&self, device: &str) {
        eventually(&format!("{device} to be read"), async || (self.readings(device).await > 0).then_some(())).await;
    }

    /// An open permit with its proof.
    ///
    /// # Panics
    /// When it is not open.
    pub async fn permit_file(&self, id: u64) -> PermitFile {
        let key: String = permit_state_key(id).iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.node.get_bytes(&format!("/state/{key}")).await.unwrap();
        PermitFile::from_state_answer(&answer).unwrap().expect("the permit is open")
    }

    /// Brings a permit to the agent: its report, or the code of its refusal; the words must be there.
    ///
    /// # Errors
    /// The code.
    ///
    /// # Panics
    /// When the agent is not there.
    pub async fn bring(&self, file: Vec<u8>) -> Result<Json, String> {
        match self.agent.post_bytes("/permits/use", file).await {
            Ok(report) => Ok(report),
            Err(RequestError::Refused { code, text, .. }) => {
                assert!(text.len() > 20, "{code} says why: {text}");
                Err(code)
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}
