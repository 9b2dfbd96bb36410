//! Which route needs which role, and which could show what somebody hides. One table; a test walks it and the routes of the source, and what has no row is closed.

/// What somebody is to this node. What a seal says is checked besides, and by whom the ledger believes it: a role opens the door, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A program that seals: submits, and reads what becomes of its own. Sees no accounts, no tables, no other party's lists.
    Agent,
    /// Runs the node, calls contracts: everything.
    Operator,
    /// Reads everything, changes nothing.
    Auditor,
    /// Reads what stands on the ledger, and may call contracts; not how the node is run.
    Regulator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Operator, Self::Auditor, Self::Regulator];

    /// The word in configurations and token files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Regulator => "regulator",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// What an answer may show of keys, names and skills of parties and of sites of devices, which their owners may hide
/// (`tally_contracts::sight`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Nothing of them, whoever asks.
    Nothing,
    /// Some: the handler asks for each (`sight.rs`).
    Some,
    /// Whatever there is: refused to whom anything is hidden from, before the handler.
    All,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET` (with `HEAD`) or `POST`.
    pub method: &'static str,
    /// As the router has it.
    pub path: &'static str,
    /// Who may; empty: anybody who reaches the socket.
    pub roles: &'static [Role],
    /// What it may show.
    pub shows: Shows,
}

use Role::{Agent, Auditor, Operator, Regulator};

const ANYBODY: &[Role] = &[];
const ALL: &[Role] = &Role::ALL;
/// Whoever reads the ledger as a whole.
const READERS: &[Role] = &[Operator, Auditor, Regulator];
/// Whoever may seal something.
const SEALERS: &[Role] = &[Agent, Operator, Regulator];
/// How the node is run.
const HOUSE: &[Role] = &[Operator, Auditor];
const OPERATOR: &[Role] = &[Operator];

const NOTHING: Shows = Shows::Nothing;
const SOME: Shows = Shows::Some;
const EVERYTHING: Shows = Shows::All;

const fn get(path: &'static str, roles: &'static [Role], shows: Shows) -> Route {
    Route { method: "GET", path, roles, shows }
}

const fn post(path: &'static str, roles: &'static [Role], shows: Shows) -> Route {
    Route { method: "POST", path, roles, shows }
}

/// Every route of the node.
pub const ROUTES: &[Route] = &[
    // Whether it is there, and the keys that everybody may know.
    get("/live", ANYBODY, NOTHING),
    get("/ready", ANYBODY, NOTHING),
    get("/.well-known/scitt-configuration", ANYBODY, NOTHING),
    get("/.well-known/scitt-keys", ANYBODY, NOTHING),
    get("/.well-known/scitt-keys/{kid}", ANYBODY, NOTHING),
    get("/key.pem", ANYBODY, NOTHING),
    get("/openapi.json", ANYBODY, NOTHING),
    // Other ledgers ask for cosignatures: the signature of the log's key shows who asks, and is looked at first.
    post("/witness/add-checkpoint", ANYBODY, NOTHING),
    get("/witness/{hash}/checkpoint", ANYBODY, NOTHING),
    // What an agent needs.
    post("/entries", SEALERS, NOTHING),
    get("/entries/{id}", ALL, SOME),
    get("/entries/{id}/statement", ALL, SOME),
    get("/entries/{id}/batch", ALL, SOME),
    get("/entries/{id}/outcome", ALL, SOME),
    get("/checkpoint", ALL, NOTHING),
    get("/checkpoints/{height}", ALL, NOTHING),
    get("/consistency/{old}", ALL, NOTHING),
    get("/tlog/checkpoint", ALL, NOTHING),
    get("/tlog/tile/{*path}", ALL, NOTHING),
    get("/state/{key}", ALL, SOME),
    get("/status", ALL, NOTHING),
    get("/events", ALL, SOME),
    get("/access/permits", ALL, NOTHING),
    get("/access/policies", ALL, NOTHING),
    get("/access/quarantines", ALL, NOTHING),
    get("/agreements/{id}", ALL, NOTHING),
    get("/contracts/{name}", ALL, NOTHING),
    get("/registry/parties/{id}", ALL, SOME),
    get("/registry/devices/{id}", ALL, SOME),
    get("/registry/parties/{id}/sight", ALL, NOTHING),
    // The ledger as a whole.
    get("/entries", READERS, NOTHING),
    get("/entries/{id}/private", READERS, NOTHING),
    get("/entries/{id}/private/{field}", READERS, SOME),
    get("/blocks/{height}", READERS, NOTHING),
    get("/agreements", READERS, NOTHING),
    get("/agreements/{id}/evidence", READERS, SOME),
    get("/accounts", READERS, NOTHING),
    get("/totals", READERS, NOTHING),
    get("/parties", READERS, SOME),
    get("/devices", READERS, SOME),
    get("/devices/{id}/coverage", READERS, SOME),
    get("/query/entries", READERS, SOME),
    get("/query/agreements", READERS, NOTHING),
    get("/query/agreements/{id}/history", READERS, SOME),
    get("/query/devices/{id}/history", READERS, SOME),
    get("/query/parties/{id}/history", READERS, SOME),
    get("/query/aggregates/agreements", READERS, NOTHING),
    post("/query/sql", READERS, EVERYTHING),
    // How the node is run.
    get("/metrics", HOUSE, NOTHING),
    get("/disk", HOUSE, NOTHING),
    get("/alarms", HOUSE, NOTHING),
    post("/alarms/{id}", OPERATOR, NOTHING),
    // All of it, private fields too: for a node that follows.
    get("/copy", HOUSE, EVERYTHING),
    get("/copy/blocks", HOUSE, EVERYTHING),
    get("/copy/{folder}/{name}", HOUSE, EVERYTHING),
    get("/retention", HOUSE, NOTHING),
    post("/retention", OPERATOR, NOTHING),
];

/// What the answer may show; everything when the table does not know it.
pub(super) fn shows(method: &str, path: &str) -> Shows {
    row(method, path).map_or(Shows::All, |route| route.shows)
}

/// Who may do this; `None` when the table does not know it.
pub(super) fn roles_of(method: &str, path: &str) -> Option<&'static [Role]> {
    row(method, path).map(|route| route.roles)
}

fn row(method: &str, path: &str) -> Option<&'static Route> {
    // A HEAD is a GET without its body (RFC 9110 §9.3.2), and the router answers it as one.
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What the sources hand to the router, as rows of a table.
    fn routes_in_the_source(folder: &Path, found: &mut BTreeSet<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                routes_in_the_source(&path, found);
                continue;
            }
            // This file has the word in a string; the rest of the folder is the node's interface.
            let text = std::fs::read_to_string(&path).unwrap();
            if path.ends_with("roles.rs") {
                continue;
            }
            for call in text.split(".route(").skip(1) {
                let mut quoted = call.split('"');
                let place = quoted.nth(1).unwrap().to_owned();
                let line = call.split('\n').next().unwrap();
                for (word, method) in [
                    ("get(", "GET"),
                    ("post(", "POST"),
                    ("put(", "PUT"),
                    ("delete(", "DELETE"),
                    ("patch(", "PATCH"),
                    ("any(", "ANY"),
                    ("on(", "ON"),
                ] {
                    if line
                        .match_indices(word)
                        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
                    {
                        found.insert((method.to_owned(), place.clone()));
                    }
                }
            }
        }
    }

    #[test]
    fn every_route_has_a_row_and_every_row_a_route() {
        let mut found = BTreeSet::new();
        routes_in_the_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
        let rows: BTreeSet<_> = ROUTES.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
        assert_eq!(rows.len(), ROUTES.len(), "a route stands in the table twice");
        assert!(found.len() > 35, "only {} routes were found in the source", found.len());
        let without: Vec<_> = found.difference(&rows).collect();
        let idle: Vec<_> = rows.difference(&found).collect();
        assert!(
            without.is_empty() && idle.is_empty(),
            "routes without a row: {without:?}; rows without a route: {idle:?}"
        );
    }

    #[test]
    fn nothing_that_changes_is_open_and_auditors_change_nothing() {
        for row in ROUTES {
            let asks_only = row.method == "GET" || row.path == "/query/sql";
            // Changes what this node remembers of another ledger, and that only as the other ledger's key has signed.
            let is_signed = row.path == "/witness/add-checkpoint";
            assert!(asks_only || is_signed || !row.roles.is_empty(), "{} is open", row.path);
            assert!(asks_only || !row.roles.contains(&Auditor), "an auditor may {} {}", row.method, row.path);
            assert!(row.roles.is_empty() || row.roles.contains(&Operator), "{} is closed to operators", row.path);
        }
        assert_eq!(roles_of("HEAD", "/accounts"), Some(READERS));
        assert_eq!(roles_of("DELETE", "/accounts"), None);
    }
}
