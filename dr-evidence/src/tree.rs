//! The Merkle tree of RFC 6962 (RFC 9162, section 2.1): roots, and proofs that a reader checks without the other leaves.

use dr_core::base::Digest;
use sha2::{Digest as _, Sha256};

/// The hash of an inner node: a byte 1 goes first, so that no node can pass for a leaf.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.bytes());
    hasher.update(right.bytes());
    Digest::new(hasher.finalize().into())
}

/// The root over leaf hashes, in order. That of no leaves is the SHA-256 of nothing.
#[must_use]
pub fn root(leaves: &[Digest]) -> Digest {
    let mut forest = Forest::default();
    for leaf in leaves {
        forest.push(*leaf);
    }
    forest.root()
}

/// A tree that grows: it keeps one hash for each complete subtree, and answers the root of every size that it passes.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Roots of complete subtrees with their sizes, the largest first.
    trees: Vec<(u64, Digest)>,
}

impl Forest {
    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let (mut size, mut hash) = (1_u64, leaf);
        while let Some((_, left)) = self.trees.pop_if(|(same, _)| *same == size) {
            hash = node_hash(&left, &hash);
            size = size.saturating_mul(2);
        }
        self.trees.push((size, hash));
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut trees = self.trees.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = trees.next() else { return Digest::new(Sha256::digest([]).into()) };
        trees.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The largest power of two below `size`, for a size of at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two().checked_div(2).unwrap_or(1)
}

/// Returns the hashes that prove that the leaf at `index` (from 0) is in the tree; `None` when there is no such leaf.
#[must_use]
pub fn inclusion(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, other) = match index.checked_sub(left.len()) {
        Some(index) => (inclusion(right, index)?, root(left)),
        None => (inclusion(left, index)?, root(right)),
    };
    proof.push(other);
    Some(proof)
}

/// Returns the hashes that prove that the tree only grew since it had `size` leaves; `None` for 0 and for more leaves than there are.
#[must_use]
pub fn consistency(leaves: &[Digest], size: usize) -> Option<Vec<Digest>> {
    (size > 0 && size <= leaves.len()).then(|| grown(leaves, size, true)).flatten()
}

/// `SUBPROOF` of RFC 9162, section 2.1.4.1. `whole`: the reader knows the root of the first `size` leaves.
fn grown(leaves: &[Digest], size: usize, whole: bool) -> Option<Vec<Digest>> {
    if size == leaves.len() {
        return Some(if whole { Vec::new() } else { vec![root(leaves)] });
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, other) = match size.checked_sub(left.len()) {
        None | Some(0) => (grown(left, size, whole)?, root(right)),
        Some(rest) => (grown(right, rest, false)?, root(left)),
    };
    proof.push(other);
    Some(proof)
}

/// Tells whether `proof` shows that the leaf with hash `leaf` is number `index` (from 0) of a tree of `size` leaves with `root`
/// (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn proves_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size.saturating_sub(1), *leaf);
    for other in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(other, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, other);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// A tree as somebody saw it: how many leaves it had, and their root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of leaves.
    pub size: u64,
    /// The root.
    pub root: Digest,
}

/// Tells whether `proof` shows that the tree `new` begins with the leaves of the tree `old` (RFC 9162, section 2.1.4.2). An `old` tree
/// without leaves is refused: it says nothing.
#[must_use]
pub fn proves_consistency(old: &Seen, new: &Seen, proof: &[Digest]) -> bool {
    if old.size == 0 || old.size > new.size {
        return false;
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    let mut hashes = proof.iter();
    let first = if old.size.is_power_of_two() { Some(&old.root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old.size.saturating_sub(1), new.size.saturating_sub(1));
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut small, mut large) = (*first, *first);
    for other in hashes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            small = node_hash(other, &small);
            large = node_hash(other, &large);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            large = node_hash(&large, other);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && small == old.root && large == new.root
}

#[cfg(test)]
mod tests {
    use dr_core::base::canonical::leaf_hash;
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|number| leaf_hash(number.to_string().as_bytes())).collect()
    }

    /// The root by the definition of RFC 9162, section 2.1.1.
    fn defined(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => dr_core::base::canonical::sha256(b""),
            [leaf] => *leaf,
            many => {
                let (left, right) = many.split_at(split(many.len()));
                node_hash(&defined(left), &defined(right))
            }
        }
    }

    proptest! {
        #[test]
        fn growing_tree_has_the_root_of_the_definition(count in 0_usize..70) {
            prop_assert_eq!(root(&leaves(count)), defined(&leaves(count)));
        }

        #[test]
        fn own_proofs_hold_for_their_leaf_alone(count in 1_usize..70, index in 0_usize..70, other in 0_usize..70) {
            let leaves = leaves(count);
            let (index, other) = (index % count, other % count);
            let proof = inclusion(&leaves, index).unwrap();
            let holds = |at: usize| {
                proves_inclusion(&leaves[at], index as u64, count as u64, &proof, &root(&leaves))
            };
            prop_assert!(holds(index));
            prop_assert_eq!(holds(other), index == other);
        }

        #[test]
        fn own_proofs_of_growth_hold_for_that_history_alone(count in 1_usize..70, old in 0_usize..70, bit in 0_usize..256) {
            let leaves = leaves(count);
            let old = old % count + 1;
            let proof = consistency(&leaves, old).unwrap();
            let new = Seen { size: count as u64, root: root(&leaves) };
            let before = Seen { size: old as u64, root: root(&leaves[..old]) };
            prop_assert!(proves_consistency(&before, &new, &proof));
            let mut bytes = *before.root.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let other = Seen { root: Digest::new(bytes), ..before };
            prop_assert!(!proves_consistency(&other, &new, &proof));
        }
    }
}
