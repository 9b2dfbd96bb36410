//! What a device calls itself: function 43/14 (Modbus Application Protocol V1.1b3 §6.21).
//!
//! Many devices know no such function and refuse it; some say nothing at all, some hang up. So nobody is asked unless somebody wants to know.

use crate::error::Failure;
use crate::link::connection::{Connection, Manners, short};
use std::collections::BTreeMap;
use tally_model::identity_of;
use tokio_modbus::prelude::ReadCode;
use tokio_modbus::{Request, Response};

/// Most answers one identification may take: 256 objects, one an answer.
const IDENTIFICATION_ANSWERS_MAX: usize = 256;

/// What a device says about itself: object id to text (App §6.21). 0 vendor, 1 product code, 2 revision, 3 vendor URL,
/// 4 product name, 5 model name, 6 user application name.
pub type Identification = BTreeMap<u8, String>;

/// The basic objects, which every device has that has any: maker, product code, revision.
const BASIC: [u8; 3] = [0, 1, 2];

/// What the device calls itself, in one line, from its basic objects: `Acme; P-1; 2.3`. `None` when they are empty. Other objects are left out:
/// what a user may change, or what counts hours, would make another device of it.
#[must_use]
pub fn identity(known: &Identification) -> Option<String> {
    identity_of(BASIC.iter().map(|id| known.get(id).map_or("", String::as_str)))
}

/// Asks for the basic objects only.
pub(crate) async fn identify_briefly(
    connection: &mut Connection,
    manners: &Manners,
) -> Result<Option<String>, Failure> {
    let mut known = Identification::new();
    read_objects(connection, manners, ReadCode::Basic, &mut known).await?;
    Ok(identity(&known))
}

/// Asks for all objects a device has, basic ones when it has no more (App §6.21).
pub(crate) async fn identify(connection: &mut Connection, manners: &Manners) -> Result<Identification, Failure> {
    let mut known = Identification::new();
    for code in [ReadCode::Basic, ReadCode::Regular, ReadCode::Extended] {
        match read_objects(connection, manners, code, &mut known).await {
            // A device of basic conformity may refuse the rest.
            Err(Failure::Exception(_)) if !known.is_empty() => break,
            outcome => outcome?,
        }
    }
    Ok(known)
}

async fn read_objects(
    connection: &mut Connection,
    manners: &Manners,
    code: ReadCode,
    known: &mut Identification,
) -> Result<(), Failure> {
    let mut next = 0;
    for _ in 0..IDENTIFICATION_ANSWERS_MAX {
        let request = Request::ReadDeviceIdentification(code, next);
        let Response::ReadDeviceIdentification(answer) = connection.ask(manners, &request).await? else {
            return Err(Failure::Nonsense(format!("asked for {}, got something else", short(&request))));
        };
        let before = next;
        for object in answer.device_id_objects {
            known.insert(object.id, String::from_utf8_lossy(&object.value).trim_end_matches('\0').to_owned());
        }
        next = answer.next_object_id;
        // A device that sends us back would be asked for ever.
        if !answer.more_follows || next <= before {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basic_objects_are_the_identity() {
        let known = |objects: &[(u8, &str)]| objects.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        assert_eq!(
            identity(&known(&[(0, "Acme"), (1, " P-1\n"), (2, "2.3"), (6, "hall 7")])).unwrap(),
            "Acme; P-1; 2.3"
        );
        assert_eq!(identity(&known(&[(1, "P-1")])).unwrap(), "; P-1; ");
        assert_eq!(identity(&known(&[(4, "press")])), None);
        assert_eq!(identity(&known(&[])), None);
    }
}
