//! A value with its place, while it is checked.

use crate::fault::Fault;
use crate::yaml::{Document, Node, Place, child, fault_at};

/// Where a value is, or would be if it were written.
#[derive(Debug, Clone)]
pub(crate) struct Site<'a> {
    pub document: &'a Document,
    /// The value; `None` when the key is not there.
    pub node: Option<&'a Node>,
    /// The value, or the nearest thing around it.
    near: &'a Node,
    pub path: String,
}

impl<'a> Site<'a> {
    pub(crate) fn root(document: &'a Document) -> Self {
        Self { document, node: Some(&document.root), near: &document.root, path: String::new() }
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        let node = self.node.and_then(|node| node.get(key));
        Self { document: self.document, node, near: node.unwrap_or(self.near), path: child(&self.path, key) }
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        let node = self.node.and_then(|node| node.item(index));
        Self { document: self.document, node, near: node.unwrap_or(self.near), path: format!("{}[{index}]", self.path) }
    }

    pub(crate) fn place(&self) -> &'a Place {
        &self.near.place
    }

    /// A fault of this value.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        self.fault_at(self.place(), message)
    }

    /// A fault somewhere inside this value.
    pub(crate) fn fault_at(&self, place: &Place, message: impl Into<String>) -> Fault {
        fault_at(&self.document.file, place, &self.path, message)
    }
}
