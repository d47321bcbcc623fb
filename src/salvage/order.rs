//! What is out of order.

/// The longest ascending run of `0..count`, gaps allowed: what is not in it is out of order.
pub(super) fn ascending(count: usize, less: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    if (1..count).all(|place| less(place - 1, place)) {
        return (0..count).collect();
    }
    // Patience sorting: the smallest last element of the runs of each length, and what came before each element.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::with_capacity(count));
    for place in 0..count {
        let length = ends.partition_point(|end| less(*end, place));
        before.push(length.checked_sub(1).map(|length| ends[length]));
        if length == ends.len() {
            ends.push(place);
        } else {
            ends[length] = place;
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(place) = at {
        run.push(place);
        at = before[place];
    }
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::ascending;

    #[test]
    fn the_odd_one_out_is_left_out() {
        let kept = |keys: &[i64]| -> Vec<i64> {
            ascending(keys.len(), |one, other| keys[one] < keys[other])
                .into_iter()
                .map(|at| keys[at])
                .collect()
        };
        assert_eq!(kept(&[1, 2, 99, 4, 5]), [1, 2, 4, 5]);
        assert_eq!(kept(&[7, 1, 2, 3]), [1, 2, 3]);
        assert_eq!(kept(&[1, 2, 2, 3]), [1, 2, 3]);
        assert_eq!(kept(&[1, 2, 3]), [1, 2, 3]);
        assert!(kept(&[]).is_empty());
    }
}
