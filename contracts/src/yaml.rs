//! YAML as a tree with places, so that a text can be checked whole: every fault at once, each with line and column.
//!
//! Scalars stay as written (`50000`, `4h`, `true` are texts here); what they should be is the checker's business.

use crate::Fault;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// Deepest nesting: a contract needs 6; each level costs stack.
const DEPTH_MAX: usize = 24;
/// Most nodes, repeated ones counted each time: the longest contract has some thousands.
const NODES_MAX: usize = 50_000;
/// Most uses of anchors.
const ALIASES_MAX: usize = 500;

/// A node and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub line: u64,
    pub column: u64,
    pub value: Tree,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Empty,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Reads a text; a text that is no YAML has one fault.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_aliases: ALIASES_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let (line, column) = fault.location().map_or((0, 0), |place| (place.line(), place.column()));
        Fault {
            line,
            column,
            key: String::new(),
            found: fault.without_snippet().to_string(),
            hint: "write YAML 1.2; quote texts with `: ` or `#` in them".into(),
        }
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        let place = spanned.referenced;
        Ok(Self { line: place.line(), column: place.column(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a map")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Empty)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(flag.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number.to_string()))
    }

    /// A bare `1000.00` would arrive as 1000: its digits are lost, so it is told apart by its `.0`.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(format!("{number:?}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            map.push(pair);
        }
        Ok(Tree::Map(map))
    }
}

impl Node {
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Tree::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for faults.
    pub(crate) fn what(&self) -> String {
        match &self.value {
            Tree::Empty => "nothing".into(),
            Tree::Scalar(text) => format!("`{text}`"),
            Tree::List(items) => format!("a list of {}", items.len()),
            Tree::Map(pairs) => format!("a map of {}", pairs.len()),
        }
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, at: &Node, key: &str, found: impl Into<String>, hint: impl Into<String>) {
        let (found, hint) = (found.into(), hint.into());
        self.0.push(Fault { line: at.line, column: at.column, key: key.to_owned(), found, hint });
    }

    /// A scalar, or a fault.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, key: &str, expected: &str) -> Option<&'n str> {
        let scalar = node.scalar();
        if scalar.is_none() {
            self.add(node, key, format!("is {}", node.what()), format!("write {expected}"));
        }
        scalar
    }

    /// A scalar that parses, or a fault.
    pub(crate) fn parse<T: std::str::FromStr<Err: fmt::Display>>(
        &mut self,
        node: &Node,
        key: &str,
        expected: &str,
    ) -> Option<T> {
        let text = self.scalar(node, key, expected)?;
        let parsed = text.parse();
        let fault = |fault: T::Err| self.add(node, key, format!("is `{text}`: {fault}"), format!("write {expected}"));
        parsed.map_err(fault).ok()
    }

    /// The items of a list (nothing is the empty list), or a fault.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        match &node.value {
            Tree::List(items) => items,
            Tree::Empty => &[],
            _ => {
                self.add(node, key, format!("is {}", node.what()), "write a list: `[a, b]` or one `- ` per line");
                &[]
            }
        }
    }

    /// The pairs of a map (nothing is the empty map), or a fault. Keys are scalars.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, key: &str) -> Vec<(&'n str, &'n Node, &'n Node)> {
        let Tree::Map(pairs) = &node.value else {
            if !matches!(node.value, Tree::Empty) {
                self.add(node, key, format!("is {}", node.what()), "write a map: `{key: value}`");
            }
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in pairs {
            if let Some(text) = self.scalar(name, key, "a word as key") {
                named.push((text, name, value));
            }
        }
        named
    }

    /// A map with known keys.
    pub(crate) fn section<'n>(&mut self, node: &'n Node, path: &str) -> Section<'n> {
        Section { node, path: path.to_owned(), pairs: self.map(node, path), known: Vec::new() }
    }
}

/// A map whose keys are asked for one by one; [`Section::finish`] names those nobody asked for.
pub(crate) struct Section<'n> {
    pub node: &'n Node,
    pub path: String,
    pairs: Vec<(&'n str, &'n Node, &'n Node)>,
    known: Vec<&'static str>,
}

impl<'n> Section<'n> {
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.pairs.iter().find(|(name, _, _)| *name == key).map(|(_, _, value)| *value)
    }

    pub(crate) fn need(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'n Node> {
        let value = self.take(key);
        if value.is_none() {
            faults.add(self.node, &self.path_of(key), "is missing", format!("write `{key}:` here"));
        }
        value
    }

    pub(crate) fn finish(self, faults: &mut Faults) {
        for (name, place, _) in &self.pairs {
            if !self.known.contains(name) {
                let hint = format!("allowed here: {}", self.known.join(", "));
                faults.add(place, &self.path_of(name), "is unknown", hint);
            }
        }
    }
}
