//! Tables of the keys that seal most ([`KeyTable`]): their seals cost half as much to check.
//!
//! **Which keys.** Seals that hold are counted by key, so nobody who only forges counts. Behind [`Limits::seen_min`] a key gets a
//! table, where there is room; where there is none, instead of one that no seal was checked by for long. So many busy keys
//! at once never push each other out, and all tables together stay below 6 MB.
//! **Who has the last word.** `aws-lc-rs`. What a table denies is checked by it, so a fault there can turn nobody away. Of what tables
//! affirm it checks one in [`Limits::control_every`]; should it ever deny one, that statement is refused and no table is used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tally_evidence::{KeyId, KeyTable, SignedStatement, VerifyingKey};

/// Keys counted that have no table; with more, counting begins anew.
const SEEN_MAX: usize = 4_096;

/// When a key gets a table.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Seals that held. Making a table costs as much time as it saves in some thirty.
    seen_min: u32,
    /// Tables at once.
    tables_max: usize,
    /// A table gives way when so many seals were looked at since it was used.
    idle: u64,
    /// One in so many affirmed seals is checked with aws-lc-rs as well.
    control_every: u64,
}

/// The tables.
#[derive(Debug)]
pub struct KeyTables {
    limits: Limits,
    /// The lock is held for single map operations.
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    /// Seals looked at: what idleness is measured by.
    looks: u64,
    /// Seals that held, by keys without a table.
    seen: HashMap<KeyId, u32>,
    /// With the look at which each was used last.
    tables: HashMap<KeyId, (Arc<KeyTable>, u64)>,
    /// A table affirmed what aws-lc-rs denied.
    is_distrusted: bool,
}

impl Default for KeyTables {
    fn default() -> Self {
        Self::new(Limits { seen_min: 256, tables_max: 64, idle: 65_536, control_every: 256 })
    }
}

impl KeyTables {
    fn new(limits: Limits) -> Self {
        Self { limits, keys: Mutex::default() }
    }

    /// Whether the seal of `parsed`, which names `key`, holds under it.
    pub fn seal_holds(&self, parsed: &SignedStatement, key: &VerifyingKey) -> bool {
        match self.table(&parsed.key) {
            Some((table, is_control)) if parsed.seal_holds_by(&table) => !is_control || self.control(parsed, key),
            Some(_) => parsed.seal_holds_under(key),
            None => {
                let holds = parsed.seal_holds_under(key);
                if holds && self.is_due(parsed.key) {
                    self.keep(parsed.key, KeyTable::new(key));
                }
                holds
            }
        }
    }

    /// The table of a key, and whether what it affirms is to be checked as well.
    fn table(&self, id: &KeyId) -> Option<(Arc<KeyTable>, bool)> {
        let mut keys = self.lock();
        keys.looks += 1;
        let looks = keys.looks;
        let (table, used) = keys.tables.get_mut(id)?;
        *used = looks;
        Some((Arc::clone(table), looks.is_multiple_of(self.limits.control_every)))
    }

    /// Counts a seal that held; says whether its key is to get a table, for which there is room then.
    fn is_due(&self, id: KeyId) -> bool {
        let mut keys = self.lock();
        if keys.is_distrusted {
            return false;
        }
        if keys.seen.len() >= SEEN_MAX {
            keys.seen.clear();
        }
        let seen = keys.seen.entry(id).or_insert(0);
        *seen = seen.saturating_add(1);
        *seen >= self.limits.seen_min && keys.has_room(&self.limits)
    }

    fn keep(&self, id: KeyId, table: Option<KeyTable>) {
        let mut keys = self.lock();
        // Looked again: another thread may have taken the room while this table was made.
        let has_room = !keys.is_distrusted && keys.has_room(&self.limits);
        if let Some(table) = table.filter(|_| has_room) {
            let looks = keys.looks;
            keys.seen.remove(&id);
            keys.tables.insert(id, (Arc::new(table), looks));
        }
    }

    /// What a table affirmed, checked without it.
    fn control(&self, parsed: &SignedStatement, key: &VerifyingKey) -> bool {
        let holds = parsed.seal_holds_under(key);
        if !holds {
            tracing::error!(key = %parsed.key, statement = %parsed.id, "a key's table affirmed a seal that does not hold; tables are not used any more. This is a bug, report it");
            let mut keys = self.lock();
            keys.tables.clear();
            keys.is_distrusted = true;
        }
        holds
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Makes room for one more table, if that can be.
    fn has_room(&mut self, limits: &Limits) -> bool {
        if self.tables.len() < limits.tables_max {
            return true;
        }
        let Some((id, used)) = self.tables.iter().map(|(id, (_, used))| (*id, *used)).min_by_key(|(_, used)| *used)
        else {
            return false;
        };
        let is_idle = self.looks - used >= limits.idle;
        if is_idle {
            self.tables.remove(&id);
        }
        is_idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::{SigningKey, StatementKind, sign};
    use tally_model::PartyId;

    const LIMITS: Limits = Limits { seen_min: 3, tables_max: 1, idle: 10, control_every: 1_000 };

    fn key(secret: u8) -> SigningKey {
        SigningKey::from_secret(&[secret; 32]).unwrap()
    }

    fn sealed_by(key: &SigningKey) -> SignedStatement {
        let issuer = PartyId::try_new("anna").unwrap();
        let bytes = sign(StatementKind::Call, key, &issuer, "s", "ledger", 1_790_000_000, vec![0xa0]);
        SignedStatement::parse(&bytes).unwrap()
    }

    fn forged(key: &SigningKey) -> SignedStatement {
        let issuer = PartyId::try_new("anna").unwrap();
        let mut bytes = sign(StatementKind::Call, key, &issuer, "s", "ledger", 1_790_000_000, vec![0xa0]);
        *bytes.last_mut().unwrap() ^= 1;
        SignedStatement::parse(&bytes).unwrap()
    }

    fn with_table(tables: &KeyTables) -> Vec<KeyId> {
        tables.lock().tables.keys().copied().collect()
    }

    #[test]
    fn a_busy_key_gets_a_table_and_forging_in_its_name_earns_none() {
        let (tables, anna) = (KeyTables::new(LIMITS), key(1));
        for _ in 0..10 {
            assert!(!tables.seal_holds(&forged(&anna), anna.public()));
        }
        for number in 0..5 {
            assert_eq!(with_table(&tables).len(), usize::from(number >= 3));
            assert!(tables.seal_holds(&sealed_by(&anna), anna.public()));
        }
        assert!(!tables.seal_holds(&forged(&anna), anna.public()), "by table");
    }

    #[test]
    fn busy_keys_keep_their_tables_and_idle_ones_give_way() {
        let (tables, anna, bert) = (KeyTables::new(LIMITS), key(1), key(2));
        let seal = |key: &SigningKey| assert!(tables.seal_holds(&sealed_by(key), key.public()));
        (0..3).for_each(|_| seal(&anna));
        for _ in 0..6 {
            (0..3).for_each(|_| seal(&bert));
            seal(&anna);
        }
        assert_eq!(with_table(&tables), [anna.public().id()]);
        (0..10).for_each(|_| seal(&bert));
        assert_eq!(with_table(&tables), [bert.public().id()]);
    }

    #[test]
    fn a_table_that_lies_is_found_out_and_none_is_used_again() {
        let (tables, anna, mallory) = (KeyTables::new(Limits { control_every: 4, ..LIMITS }), key(1), key(2));
        tables.keep(anna.public().id(), KeyTable::new(mallory.public()));
        let mut lie = sealed_by(&mallory);
        lie.key = anna.public().id();
        // It denies what holds, which harms nobody, and affirms what does not: until it is controlled.
        assert!(tables.seal_holds(&sealed_by(&anna), anna.public()));
        assert!(tables.seal_holds(&lie, anna.public()) && tables.seal_holds(&lie, anna.public()));
        assert!(!tables.seal_holds(&lie, anna.public()));
        assert_eq!(with_table(&tables), []);
        for _ in 0..5 {
            assert!(!tables.seal_holds(&lie, anna.public()));
            assert!(tables.seal_holds(&sealed_by(&anna), anna.public()));
        }
        assert_eq!(with_table(&tables), [], "none is made again");
    }
}
