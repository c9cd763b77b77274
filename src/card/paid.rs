//! Which of a card's talk time was paid for and is unused: what a storno gives money back for, and
//! what a transfer takes along.
//!
//! The rule: use counts against what was bought, oldest purchase first; what was given (goodwill,
//! corrections) is used last and is never paid out. So the unused rest is the newest purchases', and
//! an operator who takes talk time away takes paid time first, newest purchase first.

use crate::units::TalkTime;

/// Talk time on one card that one purchase paid for: what it brought, less what left again by
/// storno or transfer, plus what arrived by transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    /// Row of the purchase; rises with time.
    pub purchase: i64,
    pub amount: TalkTime,
}

/// A card at the moment of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Sum of its usage entries.
    pub used: TalkTime,
    /// Set aside by calls in progress: counts as used, and may not be taken (I9).
    pub reserved: TalkTime,
    /// Balance less reserved.
    pub available: TalkTime,
}

/// The unused part of each lot, newest first, together at most what is available.
pub fn unused(lots: &[Lot], spent: Spent) -> Vec<Lot> {
    let bought = lots
        .iter()
        .fold(TalkTime::ZERO, |sum, lot| sum.saturating_add(lot.amount));
    let gone = spent.used.saturating_add(spent.reserved);
    let rest = bought.saturating_sub(gone).min(spent.available);
    newest_first(lots, rest)
}

/// What taking `amount` away takes of the paid talk time. What is not covered was given free.
pub fn taken(lots: &[Lot], spent: Spent, amount: TalkTime) -> Vec<Lot> {
    let mut unused = unused(lots, spent);
    unused.reverse();
    newest_first(&unused, amount)
}

/// The newest lots up to `amount` together.
fn newest_first(lots: &[Lot], amount: TalkTime) -> Vec<Lot> {
    let mut lots = lots.to_vec();
    lots.sort_unstable_by_key(|lot| std::cmp::Reverse(lot.purchase));
    let mut left = amount.max(TalkTime::ZERO);
    let mut parts = Vec::new();
    for lot in lots {
        let part = lot.amount.min(left);
        if part > TalkTime::ZERO {
            left = left.saturating_sub(part);
            parts.push(Lot {
                purchase: lot.purchase,
                amount: part,
            });
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minutes(n: i64) -> TalkTime {
        TalkTime::from_ms(n * 60_000)
    }

    fn lots(amounts: &[i64]) -> Vec<Lot> {
        (1..)
            .zip(amounts)
            .map(|(purchase, amount)| Lot {
                purchase,
                amount: minutes(*amount),
            })
            .collect()
    }

    fn spent(used: i64, reserved: i64, available: i64) -> Spent {
        Spent {
            used: minutes(used),
            reserved: minutes(reserved),
            available: minutes(available),
        }
    }

    #[test]
    fn the_newest_purchases_are_unused_and_gifts_are_not_paid_out() {
        for (what, bought, of, want) in [
            (
                "nothing used",
                &[10, 20][..],
                spent(0, 0, 30),
                &[(2, 20), (1, 10)][..],
            ),
            (
                "the oldest is used first",
                &[10, 20],
                spent(12, 0, 18),
                &[(2, 18)],
            ),
            ("goodwill is used last", &[10], spent(10, 0, 5), &[]),
            ("half of it used, five given", &[10], spent(5, 0, 10), &[(1, 5)]),
            ("a call is on", &[10, 20], spent(0, 2, 28), &[(2, 20), (1, 8)]),
            ("a call is on, and five given", &[10], spent(0, 2, 13), &[(1, 8)]),
            ("corrected away", &[10], spent(0, 0, 3), &[(1, 3)]),
            ("nothing bought", &[], spent(0, 0, 30), &[]),
            ("more used than bought", &[10], spent(12, 0, 3), &[]),
        ] {
            let got: Vec<(i64, i64)> = unused(&lots(bought), of)
                .iter()
                .map(|lot| (lot.purchase, lot.amount.as_ms() / 60_000))
                .collect();
            assert_eq!(got, want, "{what}");
        }
    }

    #[test]
    fn taking_takes_paid_time_before_given_time() {
        let bought = lots(&[10, 20]);
        for (amount, want) in [
            (5, &[(2, 5)][..]),
            (25, &[(2, 20), (1, 5)]),
            (33, &[(2, 20), (1, 10)]),
            (0, &[]),
        ] {
            let got: Vec<(i64, i64)> = taken(&bought, spent(0, 0, 35), minutes(amount))
                .iter()
                .map(|lot| (lot.purchase, lot.amount.as_ms() / 60_000))
                .collect();
            assert_eq!(got, want, "{amount}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_never_more_than_asked_available_or_bought(
            amounts in proptest::collection::vec(0i64..100, 0..6),
            used in 0i64..200, reserved in 0i64..50, given in 0i64..50, asked in 0i64..300,
        ) {
            let bought: i64 = amounts.iter().sum();
            let balance = bought + given - used;
            prop_assume!(balance >= reserved);
            let of = spent(used, reserved, balance - reserved);
            let lots = lots(&amounts);
            let sum = |parts: &[Lot]| parts.iter().map(|lot| lot.amount.as_ms()).sum::<i64>();
            let all = sum(&unused(&lots, of));
            let part = sum(&taken(&lots, of, minutes(asked)));
            prop_assert!(all <= of.available.as_ms());
            prop_assert!(all <= minutes(bought).as_ms().saturating_sub(minutes(used + reserved).as_ms()).max(0));
            prop_assert_eq!(part, all.min(minutes(asked).as_ms()));
            for lot in unused(&lots, of) {
                let whole = lots.iter().find(|whole| whole.purchase == lot.purchase).map(|whole| whole.amount);
                prop_assert!(Some(lot.amount) <= whole);
            }
        }
    }
}
