//! What minutes cost: a base price, price steps, free minutes, VAT; and what a part of a purchase
//! is worth when it is reversed.
//!
//! Prices are thousandths of a cent per minute inside, whole cents on an invoice. There is one
//! place of rounding, [`half_up`]: once for the net sum of a purchase, once for the VAT on that.
//! Deliberately absent: floats, and time.

use crate::units::Cents;

/// The price side of one tariff version. Never changes once used (I18).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Net price of a minute up to the first step, in thousandths of a cent; zero is „kostenfrei".
    pub per_minute_millicents: i64,
    /// By rising `after_minutes`: each purchase begins at the base price again.
    pub steps: Vec<PriceStep>,
    /// The first minutes of each purchase, recharges included, cost nothing.
    pub free_minutes: u32,
    /// 19 % is 1900.
    pub vat_basis_points: u32,
}

/// From here on a minute costs something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceStep {
    /// So many minutes of the purchase have the price before; free minutes are counted too.
    pub after_minutes: u32,
    pub per_minute_millicents: i64,
}

/// What minutes cost. `gross` is `net` and `vat` together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub net: Cents,
    pub vat: Cents,
    pub gross: Cents,
    /// Shown as „kostenfrei".
    pub free: bool,
}

impl PriceList {
    /// Net rounded half up to a cent, then the VAT on that, half up again, so that the three figures
    /// of an invoice line agree.
    pub fn price(&self, minutes: u32) -> Price {
        let net = half_up(self.millicents(minutes), 1000);
        let vat = half_up(net.saturating_mul(i64::from(self.vat_basis_points)), 10_000);
        Price {
            net: Cents::new(net),
            vat: Cents::new(vat),
            gross: Cents::new(net.saturating_add(vat)),
            free: net == 0,
        }
    }

    /// The unrounded net price of the first `minutes` of a purchase.
    pub fn millicents(&self, minutes: u32) -> i64 {
        let mut sum: i64 = 0;
        let mut price = self.per_minute_millicents;
        let mut from = 0;
        for step in &self.steps {
            sum = sum.saturating_add(self.stretch(from, step.after_minutes.min(minutes), price));
            from = step.after_minutes;
            price = step.per_minute_millicents;
        }
        sum.saturating_add(self.stretch(from, minutes, price))
    }

    /// Minutes `from..to` of a purchase, as far as they are not free.
    fn stretch(&self, from: u32, to: u32, price: i64) -> i64 {
        let charged = to.saturating_sub(from.max(self.free_minutes));
        price.saturating_mul(i64::from(charged))
    }
}

/// The share of `cents` that `part` of `whole` is worth, for `0 <= part <= whole` and `whole > 0`.
/// Reversals take differences of growing shares: whatever the parts, the whole is exactly `cents`.
pub fn share(cents: i64, part: i64, whole: i64) -> i64 {
    let product = i128::from(cents.max(0)) * i128::from(part.clamp(0, whole));
    let share = (2 * product + i128::from(whole)) / (2 * i128::from(whole).max(1));
    i64::try_from(share).unwrap_or(i64::MAX)
}

/// `value / unit` for values that are not negative, half a unit rounded up.
fn half_up(value: i64, unit: i64) -> i64 {
    value / unit + i64::from(value % unit * 2 >= unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(millicents: i64) -> PriceList {
        PriceList {
            per_minute_millicents: millicents,
            vat_basis_points: 1900,
            ..PriceList::default()
        }
    }

    #[test]
    fn prices_round_half_up_to_cents() {
        for (millicents, minutes, net, vat) in [
            (0, 9999, 0, 0),
            (199_000, 10, 1990, 378),
            (50, 1, 0, 0),
            (500, 1, 1, 0),
            (499, 1, 0, 0),
            (1_999, 5, 10, 2),
            (4_200, 5, 21, 4),
            (8_403, 1, 8, 2),
            (i64::MAX, 9999, i64::MAX / 1000 + 1, 922_337_203_685_478),
        ] {
            let price = flat(millicents).price(minutes);
            assert_eq!(
                (price.net.get(), price.vat.get(), price.free),
                (net, vat, net == 0),
                "{millicents} x {minutes}"
            );
            assert_eq!(price.gross.get(), net + vat);
        }
    }

    #[test]
    fn steps_and_free_minutes_count_the_minutes_of_one_purchase() {
        let step = |after_minutes, per_minute_millicents| PriceStep {
            after_minutes,
            per_minute_millicents,
        };
        let stepped = PriceList {
            steps: vec![step(10, 100_000), step(60, 0)],
            ..flat(200_000)
        };
        let with_gift = PriceList {
            free_minutes: 15,
            ..stepped.clone()
        };
        for (what, prices, minutes, net) in [
            ("below the step", &stepped, 9, 1_800),
            ("at the step", &stepped, 10, 2_000),
            ("the first dearer minute is past", &stepped, 11, 2_100),
            ("at the last step", &stepped, 60, 7_000),
            ("beyond it everything is free", &stepped, 9_999, 7_000),
            ("a gift below", &with_gift, 15, 0),
            ("a gift reaches into the second step", &with_gift, 16, 100),
            ("a gift and all steps", &with_gift, 100, 4_500),
        ] {
            assert_eq!(prices.price(minutes).net.get(), net, "{what}");
        }
    }

    #[test]
    fn a_share_is_rounded_half_up_and_never_more_than_the_whole() {
        for (cents, part, whole, want) in [
            (1990, 0, 600_000, 0),
            (1990, 600_000, 600_000, 1990),
            (1990, 300_000, 600_000, 995),
            (1, 299_999, 600_000, 0),
            (1, 300_000, 600_000, 1),
            (1990, 700_000, 600_000, 1990),
            (-5, 1, 2, 0),
            (i64::MAX, 1, 1, i64::MAX),
        ] {
            assert_eq!(share(cents, part, whole), want, "{cents} {part}/{whole}");
        }
    }

    fn any_list() -> impl Strategy<Value = PriceList> {
        let steps = proptest::collection::btree_map(1u32..9999, 0i64..1_000_000, 0..5);
        (0i64..1_000_000, steps, 0u32..200, 0u32..3000).prop_map(|(base, steps, free_minutes, vat)| {
            PriceList {
                per_minute_millicents: base,
                steps: steps
                    .into_iter()
                    .map(|(after_minutes, per_minute_millicents)| PriceStep {
                        after_minutes,
                        per_minute_millicents,
                    })
                    .collect(),
                free_minutes,
                vat_basis_points: vat,
            }
        })
    }

    proptest! {
        #[test]
        fn more_minutes_never_cost_less_and_nothing_is_negative(prices in any_list(), minutes in 1u32..9999, more in 0u32..500) {
            let (less, all) = (prices.price(minutes), prices.price(minutes + more));
            prop_assert!(less.net.get() >= 0 && less.vat.get() >= 0);
            prop_assert!(less.net <= all.net && less.gross <= all.gross);
        }

        #[test]
        fn a_price_is_the_sum_of_its_minutes(prices in any_list(), minutes in 1u32..400) {
            let by_minute: i64 = (1..=minutes)
                .map(|n| {
                    let price = prices
                        .steps
                        .iter()
                        .rev()
                        .find(|step| step.after_minutes < n)
                        .map_or(prices.per_minute_millicents, |step| step.per_minute_millicents);
                    if n <= prices.free_minutes { 0 } else { price }
                })
                .sum();
            prop_assert_eq!(prices.millicents(minutes), by_minute);
        }

        #[test]
        fn reversed_parts_add_up_to_the_whole(cents in 0i64..10_000_000, parts in proptest::collection::vec(1i64..1_000_000, 1..20)) {
            let whole: i64 = parts.iter().sum();
            let (mut done, mut paid) = (0, 0);
            for part in parts {
                let line = share(cents, done + part, whole) - share(cents, done, whole);
                prop_assert!(line >= 0);
                done += part;
                paid += line;
            }
            prop_assert_eq!(paid, cents);
        }
    }
}
