//! How measured talk becomes billed talk, and minutes a price.

use crate::units::TalkTime;

/// The billing rules of one tariff version (product.md 3.5, A7). Never changes once used (I18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    pub version: i64,
    /// Thousandths of a cent for one minute, net; zero is „kostenfrei".
    pub price_per_minute_millicents: i64,
    /// 19 % is 1900.
    pub vat_basis_points: u32,
    /// First block and following steps; 1 s and 1 s by default.
    pub first_increment: TalkTime,
    pub next_increment: TalkTime,
    /// Least charge of a call that is charged at all.
    pub minimum: TalkTime,
    /// Calls with less raw talk than this are free; 5 s by default.
    pub free_under: TalkTime,
    pub connect_fee: TalkTime,
}
