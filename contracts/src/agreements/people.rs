//! The people of a firm, as the registry knows them.

use crate::codec::Record;
use crate::engine::{Candidate, People};
use crate::records::{self, Skills};
use crate::{Overlay, Refusal, StateRead, keys};

/// Most people of one firm that are looked at when one is chosen, in order of id; a firm with more registers shifts or
/// sites as firms of their own.
const CANDIDATES_MAX: usize = 1_000;

pub(super) struct Registered<'a, 'b>(pub &'a Overlay<'b>);

impl People for Registered<'_, '_> {
    fn of_firm(&self, firm: &str) -> Result<Vec<Candidate>, Refusal> {
        let prefix = keys::people(firm);
        let mut candidates = Vec::new();
        for (key, skills) in self.0.scan(&prefix, CANDIDATES_MAX) {
            let id = key.get(prefix.len()..).and_then(|id| std::str::from_utf8(id).ok());
            let (Some(id), Some(Skills(skills))) = (id, Skills::from_bytes(&skills)) else {
                return Err(records::corrupt(&key));
            };
            let open_orders = records::load::<u64>(self.0, &keys::load(id))?.unwrap_or(0);
            candidates.push(Candidate { id: id.to_owned(), firm: firm.to_owned(), skills, open_orders });
        }
        Ok(candidates)
    }
}
