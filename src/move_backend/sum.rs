//! What a table holds, as one number that does not depend on the order of its rows.
//!
//! Each row is hashed over its columns in the order of their names, each value with its type and length; the first 128 bits
//! of the hashes are added up. Two tables with the same rows, each as often, have the same sum, in whatever order they are
//! read; other rows have another one, but for a chance of 1 in 2^128.

use sha2::{Digest, Sha256};

use super::cell::Cell;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    /// Of the values alone.
    pub(super) bytes: u64,
    hashes: u128,
}

impl Sum {
    pub(super) fn add(&mut self, row: &[Cell<'_>]) {
        let mut hash = Sha256::new();
        for cell in row {
            cell.hash(&mut hash);
            self.bytes += cell.bytes() as u64;
        }
        let digest = hash.finalize();
        let first = digest[..16].try_into().expect("SHA-256 has 32 bytes");
        self.hashes = self.hashes.wrapping_add(u128::from_be_bytes(first));
        self.rows += 1;
    }

    /// With the rows of another one.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            hashes: self.hashes.wrapping_add(other.hashes),
        }
    }

    /// In hexadecimal.
    pub(super) fn hash(&self) -> String {
        format!("{:032x}", self.hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&[Cell<'_>]]) -> String {
        let mut sum = Sum::default();
        for row in rows {
            sum.add(row);
        }
        sum.hash()
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_everything_else_does() {
        let text = |text: &'static str| Cell::Text(text.into());
        let (one, other) = ([text("a"), Cell::Integer(1)], [text("b"), Cell::Null]);
        assert_eq!(sum(&[&one, &other]), sum(&[&other, &one]));
        let (mut parts, mut whole) = ([Sum::default(); 2], Sum::default());
        for (part, row) in parts.iter_mut().zip([&one, &other]) {
            part.add(row);
            whole.add(row);
        }
        assert_eq!(parts[0].and(parts[1]), whole);
        for changed in [
            vec![&one[..]],
            vec![&one[..], &one[..], &other[..]],
            vec![&one[..], &[text("b"), text("")]],
            vec![&one[..], &[text("b"), Cell::Integer(0)]],
            vec![&[Cell::Blob(b"a"), Cell::Integer(1)], &other[..]],
        ] {
            assert_ne!(sum(&changed), sum(&[&one, &other]), "{changed:?}");
        }
        // Where one value ends and the next begins counts.
        assert_ne!(sum(&[&[text("ab"), text("c")]]), sum(&[&[text("a"), text("bc")]]));
        assert_ne!(sum(&[&[text("a"), text("b")]]), sum(&[&[text("b"), text("a")]]));
        assert_eq!(sum(&[&[Cell::Real(-0.0)]]), sum(&[&[Cell::Real(0.0)]]));
    }
}
