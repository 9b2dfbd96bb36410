//! The part of the state tree above its pages: in memory, 100 bytes a page.
//!
//! **Which page has a key.** Read the bits of the key hash backwards, the first one as the lowest: page `i` of `2^d` has the keys
//! whose first `d` bits give the number `i`. There need not be a power of two: with `2^d + s` pages, those numbered below `s` are
//! split by one bit more, their other halves are the pages from `2^d` on (linear hashing). So the tree grows by one page at a
//! time, the next one always known, and no table says where a key is.

use super::chunks::Chunks;
use tally_evidence::{EMPTY_STATE, Hash, KeyScheme};

/// The hashes of all pages and of the nodes above them.
#[derive(Debug)]
pub struct Top {
    scheme: KeyScheme,
    /// Root of each page; [`EMPTY_STATE`] where it has no leaves.
    pages: Chunks<Hash>,
    /// `above[d][i]` is the node over all keys whose first `d` bits are the number `i`; the last one holds `2^depth`. Not backwards as the pages: so the
    /// two sides of a node are neighbours, and one access to memory brings both.
    above: Vec<Vec<Hash>>,
}

/// A page was split by `bit`: the keys with a 0 there stay in page `of`, the others go to page `new`, the last one.
#[derive(Debug, Clone, Copy)]
pub struct Split {
    pub of: u32,
    pub new: u32,
    pub bit: u8,
}

/// Where the way to a key enters a page, and the steps down to there.
pub struct TopWay {
    pub page: u32,
    pub steps: Vec<(u8, Hash)>,
}

impl Top {
    /// Of pages with these roots.
    pub fn new(scheme: KeyScheme, pages: &[Hash]) -> Self {
        let depth = pages.len().max(1).ilog2() as usize;
        let above = (0..=depth).map(|level| vec![EMPTY_STATE; 1 << level]).collect();
        let mut top = Self { scheme, pages: pages.into(), above };
        // Each node once: opening waits for it.
        for level in (0..=top.depth()).rev() {
            for node in 0..1 << level {
                top.above[usize::from(level)][node as usize] = top.joined(level, node);
            }
        }
        top
    }

    /// See [`StateTree::begin`](super::StateTree::begin).
    pub const fn begin(&mut self, scheme: KeyScheme) {
        self.scheme = scheme;
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    pub const fn pages(&self) -> &Chunks<Hash> {
        &self.pages
    }

    /// Root of the whole tree.
    pub fn root(&self) -> Hash {
        self.above.first().and_then(|level| level.first()).copied().unwrap_or(EMPTY_STATE)
    }

    /// The page of a key hash.
    pub fn page_of(&self, key: &Hash) -> u32 {
        let bits = backwards(key);
        let page = bits & mask(self.depth() + 1);
        if page < self.len() { page } else { bits & mask(self.depth()) }
    }

    /// Says what the root of a page is; the nodes above learn it from [`settle`](Self::settle).
    pub fn set(&mut self, page: u32, root: Hash) {
        self.pages[page as usize] = root;
    }

    /// Hashes the nodes above these pages. Cheapest when they come in the order of their keys: then those that share a node
    /// are neighbours.
    pub fn settle(&mut self, mut nodes: Vec<u32>) {
        let depth = self.depth();
        nodes.iter_mut().for_each(|page| *page = reversed(*page, depth));
        for level in (0..=depth).rev() {
            nodes.dedup();
            for node in &mut nodes {
                self.above[usize::from(level)][*node as usize] = self.joined(level, *node);
                *node >>= 1;
            }
        }
    }

    /// The page that is split next.
    pub fn next_split(&self) -> u32 {
        self.len() & mask(self.depth())
    }

    /// Adds a page: the other half of the next one in turn. Its root and that of the first half must be [`set`](Self::set); no
    /// node above them changes.
    pub fn split(&mut self) -> Split {
        let split = Split { of: self.next_split(), new: self.len(), bit: self.depth() };
        self.pages.push(EMPTY_STATE);
        split
    }

    /// To be called when the halves of a [`split`](Self::split) are set.
    pub fn deepen(&mut self) {
        if self.pages.len() == 2 << self.depth() {
            let (level, count) = (self.depth() + 1, self.len());
            self.above.push((0..count).map(|node| self.pages[reversed(node, level) as usize]).collect());
        }
    }

    /// The way to a key hash; where only one side of a node has keys there is no node, and the way goes on there.
    pub fn way(&self, key: &Hash) -> TopWay {
        let (bits, depth) = (backwards(key), self.depth());
        let (mut node, mut steps) = (0, Vec::new());
        for level in 0..=depth {
            let Some([left, right]) = self.below(level, node) else {
                return TopWay { page: reversed(node, depth), steps };
            };
            let is_right = bits >> level & 1 == 1;
            let (taken, sibling) = if is_right { (right, left) } else { (left, right) };
            let goes_right = if taken == EMPTY_STATE { !is_right } else { is_right };
            if taken != EMPTY_STATE && sibling != EMPTY_STATE {
                steps.push((level, sibling));
            }
            node = node << 1 | u32::from(goes_right);
        }
        TopWay { page: reversed(node, depth + 1), steps }
    }

    /// The number of bits by which all pages are told apart.
    fn depth(&self) -> u8 {
        u8::try_from(self.above.len() - 1).unwrap_or(u8::MAX)
    }

    fn joined(&self, level: u8, node: u32) -> Hash {
        match self.below(level, node) {
            None => self.pages[reversed(node, level) as usize],
            Some([left, EMPTY_STATE]) => left,
            Some([EMPTY_STATE, right]) => right,
            Some([left, right]) => self.scheme.node_hash(level, &left, &right),
        }
    }

    /// The two sides of a node; `None` when it is a page.
    fn below(&self, level: u8, node: u32) -> Option<[Hash; 2]> {
        if level < self.depth() {
            let left = node as usize * 2;
            let nodes = &self.above[usize::from(level) + 1];
            return Some([nodes[left], nodes[left + 1]]);
        }
        let page = reversed(node, level);
        let other = (page | 1 << level) as usize;
        Some([self.pages[page as usize], *self.pages.get(other)?])
    }
}

/// The first 32 bits of a key hash, the first one as the lowest.
fn backwards(key: &Hash) -> u32 {
    let [a, b, c, d, ..] = *key;
    u32::from_be_bytes([a, b, c, d]).reverse_bits()
}

/// The last so many bits of a number, in the other order.
const fn reversed(number: u32, bits: u8) -> u32 {
    if bits == 0 { 0 } else { number.reverse_bits() >> (32 - bits) }
}

const fn mask(bits: u8) -> u32 {
    if bits >= 32 { u32::MAX } else { (1 << bits) - 1 }
}
