//! Pure: is a difference more than chance.

use statrs::function::gamma::checked_gamma_ur;

use super::Verdict;

/// A difference that chance makes less often than this is none of chance's.
pub const LEVEL: f64 = 0.001;
/// But nobody minds one of fewer than these shares: buckets are parts of a thousand, and a million connections show all of it.
pub const TOLERANCE: f64 = 0.02;
/// Pearson's test holds where so many are expected of each kind.
const EXPECTED: f64 = 5.0;
/// And fewer than these tell nothing, however they are spread.
const FEWEST: u64 = 50;

/// What a distribution is, compared with what is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// Pearson's sum.
    pub chi_square: Option<f64>,
    /// Probability of this or a larger one.
    pub probability: Option<f64>,
}

/// Compares how many there were of each kind with how many were expected; both have the same sum.
pub fn judge(cells: &[(u64, f64)]) -> Judgement {
    let total: u64 = cells.iter().map(|(observed, _)| observed).sum();
    if total < FEWEST {
        return Judgement { verdict: Verdict::TooFew, chi_square: None, probability: None };
    }
    let share = |(observed, expected): &(u64, f64)| (*observed as f64 - expected).abs() / total as f64;
    let deviates = cells.iter().any(|cell| share(cell) >= TOLERANCE);
    let Some((chi_square, probability)) = pearson(&pool(cells)) else {
        let wanted = cells.iter().filter(|(_, expected)| *expected > 0.0).count();
        let verdict = match (wanted, deviates) {
            // One kind alone is expected, so that others are not chance.
            (1, true) => Verdict::Skewed,
            (1, false) => Verdict::AsWanted,
            _ => Verdict::TooFew,
        };
        return Judgement { verdict, chi_square: None, probability: None };
    };
    let verdict = if deviates && probability < LEVEL { Verdict::Skewed } else { Verdict::AsWanted };
    Judgement { verdict, chi_square: Some(chi_square), probability: Some(probability) }
}

/// Puts kinds of which few are expected together, and with the least one of the others if they are few even then.
fn pool(cells: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let (mut large, small): (Vec<_>, Vec<_>) = cells.iter().copied().partition(|(_, expected)| *expected >= EXPECTED);
    let rest = small.iter().fold((0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
    large.sort_by(|one, other| one.1.total_cmp(&other.1));
    match large.first_mut() {
        Some(_) if rest.1 >= EXPECTED => large.push(rest),
        Some(least) => *least = (least.0 + rest.0, least.1 + rest.1),
        None => large.push(rest),
    }
    large
}

/// Pearson's sum and the probability of one that is not smaller; `None` where there is nothing to compare.
pub fn pearson(cells: &[(u64, f64)]) -> Option<(f64, f64)> {
    if cells.len() < 2 || cells.iter().any(|(_, expected)| *expected <= 0.0) {
        return None;
    }
    let part = |(observed, expected): &(u64, f64)| (*observed as f64 - expected).powi(2) / expected;
    let chi_square: f64 = cells.iter().map(part).sum();
    let degrees = (cells.len() - 1) as f64;
    // It is not defined at 0, where it is 1.
    let probability = checked_gamma_ur(degrees / 2.0, chi_square / 2.0).unwrap_or(1.0);
    Some((chi_square, probability))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splitmix64.
    struct Dice(u64);

    impl Dice {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ z >> 31) >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// Throws `count` times; kind i comes with probability `shares[i]`.
        fn throw(&mut self, shares: &[f64], count: u64) -> Vec<u64> {
            let mut seen = vec![0; shares.len()];
            for _ in 0..count {
                let mut at = self.next();
                let kind = shares.iter().position(|share| {
                    at -= share;
                    at < 0.0
                });
                seen[kind.unwrap_or(shares.len() - 1)] += 1;
            }
            seen
        }
    }

    fn against(seen: &[u64], wanted: &[f64]) -> Judgement {
        let total: u64 = seen.iter().sum();
        judge(&seen.iter().zip(wanted).map(|(seen, share)| (*seen, share * total as f64)).collect::<Vec<_>>())
    }

    #[test]
    fn the_probability_is_that_of_the_tables() {
        for (chi_square, kinds, probability) in
            [(3.841, 2, 0.05), (10.828, 2, 0.001), (5.991, 3, 0.05), (16.919, 10, 0.05)]
        {
            // All of the difference in the first kind, against the last.
            let expected = 1e6;
            let shift = (chi_square * expected / 2.0_f64).sqrt();
            let mut cells = vec![(1_000_000, expected); kinds];
            cells[0] = ((expected + shift) as u64, expected);
            cells[kinds - 1] = ((expected - shift) as u64, expected);
            let (sum, found) = pearson(&cells).unwrap();
            assert!((sum - chi_square).abs() < 0.01, "{sum}");
            assert!((found - probability).abs() < 0.0005, "{chi_square} of {kinds}: {found}");
        }
        assert_eq!(pearson(&[(10, 10.0), (10, 10.0)]), Some((0.0, 1.0)));
    }

    #[test]
    fn chance_is_rarely_judged_skewed() {
        let mut dice = Dice(1);
        let mut skewed = 0;
        for round in 0..4000 {
            let wanted: &[f64] = [&[0.5, 0.5][..], &[0.75, 0.25], &[0.5, 0.3, 0.2], &[0.97, 0.01, 0.02]][round % 4];
            let seen = dice.throw(wanted, 50 + (round as u64 * 7) % 900);
            skewed += u32::from(against(&seen, wanted).verdict == Verdict::Skewed);
        }
        assert!(skewed <= 15, "{skewed} of 4000, expected are 4 at most");
    }

    #[test]
    fn few_tell_nothing_and_what_is_not_wanted_tells_at_once() {
        assert_eq!(against(&[49, 0], &[0.5, 0.5]).verdict, Verdict::TooFew);
        assert_eq!(against(&[200, 0], &[1.0, 0.0]).verdict, Verdict::AsWanted);
        assert_eq!(against(&[199, 1], &[1.0, 0.0]).verdict, Verdict::AsWanted);
        assert_eq!(against(&[150, 50], &[1.0, 0.0]).verdict, Verdict::Skewed);
        assert_eq!(against(&[100, 100, 100], &[0.5, 0.5, 0.0]).verdict, Verdict::Skewed);
        assert_eq!(judge(&[]).verdict, Verdict::TooFew);
        assert_eq!(against(&[510_000, 490_000], &[0.5, 0.5]).verdict, Verdict::AsWanted, "within the tolerance");
    }

    proptest! {
        #[test]
        fn ten_points_of_skew_are_always_found(seed: u64, first in 0.15_f64..0.75, kinds in 2_usize..5) {
            let rest = (1.0 - first) / (kinds - 1) as f64;
            let mut wanted = vec![rest; kinds];
            wanted[0] = first;
            let mut real = vec![(0.9 - first) / (kinds - 1) as f64; kinds];
            real[0] = first + 0.1;
            let seen = Dice(seed).throw(&real, 3000);
            prop_assert_eq!(against(&seen, &wanted).verdict, Verdict::Skewed);
        }

        #[test]
        fn anything_is_judged(cells in prop::collection::vec((0_u64..1_000_000, 0.0_f64..1e6), 0..8)) {
            let judgement = judge(&cells);
            if let Some(probability) = judgement.probability {
                prop_assert!((0.0..=1.0).contains(&probability));
            }
        }
    }
}
