//! The end of a card's day: what is booked, when, and what a recharge revives.

use super::*;

const MINUTE: i64 = 60_000;

/// Cards that end with the next day: 2025-11-26T23:00:00Z.
async fn short(on: Kind) -> Till {
    let till = till(on).await;
    let edit = TariffEdit {
        expiry_days: Some(1),
        accept_short_expiry: true,
        ..TariffEdit::default()
    };
    till.tariff(edit).await;
    till
}

const END_MS: i64 = DAY_MS + 15 * 3_600_000;

on_each_database!(an_expired_balance_is_booked_out_once_after_its_grace);
async fn an_expired_balance_is_booked_out_once_after_its_grace(on: Kind) {
    let till = short(on).await;
    let card = till.buy(10).await;
    assert_eq!(card.expires_at.as_deref(), Some("2025-11-26T23:00:00.000Z"));
    for (after_ms, state) in [(END_MS - 1, "neu"), (END_MS, "abgelaufen")] {
        let row = till.show(after_ms, &card.serial).await;
        assert_eq!((row.state, row.balance_ms), (state, 10 * MINUTE));
    }
    let lapse = async |after_ms| till.store.lapse(at(after_ms)).await.unwrap();
    assert_eq!(lapse(END_MS + 30 * DAY_MS - 1).await.cards, 0);
    let done = lapse(END_MS + 30 * DAY_MS).await;
    assert_eq!((done.cards, done.lapsed_ms), (1, 10 * MINUTE));
    assert_eq!(lapse(END_MS + 31 * DAY_MS).await.cards, 0);
    assert_eq!(
        till.kinds(&card.serial).await,
        [
            ("purchase".to_owned(), 10 * MINUTE),
            ("expiry".to_owned(), -10 * MINUTE)
        ]
    );
    assert_eq!(till.show(END_MS, &card.serial).await.state, "abgelaufen");
    // Given later, it stays: one expiry is booked once.
    let late = act(END_MS + 32 * DAY_MS, None);
    till.store
        .card_correct(&late, &card.serial, MINUTE, "Kulanz")
        .await
        .unwrap();
    assert_eq!(lapse(END_MS + 33 * DAY_MS).await.cards, 0);
    till.clean(END_MS + 34 * DAY_MS).await;
}

on_each_database!(a_recharge_revives_an_expired_card_and_what_had_lapsed);
async fn a_recharge_revives_an_expired_card_and_what_had_lapsed(on: Kind) {
    let till = short(on).await;
    let (soon, late) = (till.buy(10).await, till.buy(10).await);
    let row = till
        .store
        .card_topup(&act(END_MS, None), &soon.serial, 5)
        .await
        .unwrap();
    assert_eq!((row.state, row.balance_ms), ("neu", 15 * MINUTE));
    assert_eq!(row.expires_at.as_deref(), Some("2025-11-28T23:00:00.000Z"));
    let booked = END_MS + 30 * DAY_MS;
    till.store.lapse(at(booked)).await.unwrap();
    assert_eq!(till.show(booked, &late.serial).await.balance_ms, 0);
    let row = till
        .store
        .card_topup(&act(booked + 1, None), &late.serial, 5)
        .await
        .unwrap();
    assert_eq!((row.state, row.balance_ms), ("neu", 15 * MINUTE));
    assert_eq!(
        till.kinds(&late.serial).await,
        [
            ("purchase".to_owned(), 10 * MINUTE),
            ("expiry".to_owned(), -10 * MINUTE),
            ("correction".to_owned(), 10 * MINUTE),
            ("topup".to_owned(), 5 * MINUTE)
        ]
    );
    // It expires again, and again once.
    let again = booked + 40 * DAY_MS;
    let done = till.store.lapse(at(again)).await.unwrap();
    assert_eq!((done.cards, done.lapsed_ms), (2, 30 * MINUTE));
    till.clean(again).await;
}

on_each_database!(a_call_that_is_on_at_the_expiry_goes_on_and_is_booked_first);
async fn a_call_that_is_on_at_the_expiry_goes_on_and_is_booked_first(on: Kind) {
    let till = short(on).await;
    let card = till.buy(10).await;
    till.call(END_MS - 1, 1, card.id, 120).await;
    let renew = LedgerRequest::Renew {
        op: OpId(77),
        call: CallKey::new(1),
        card: card.id,
        want: TalkTime::from_secs(120),
    };
    assert!(
        matches!(till.ask(END_MS + 1, &renew).await, LedgerReply::Renewed { .. }),
        "who began in time talks on"
    );
    let lapse = async || till.store.lapse(at(END_MS + 40 * DAY_MS)).await.unwrap();
    assert_eq!(lapse().await.cards, 0, "a call has some of it");
    till.settle(END_MS + 2, 1, card.id, 180).await;
    assert_eq!(lapse().await.lapsed_ms, 7 * MINUTE);
    till.clean(END_MS + 41 * DAY_MS).await;
}
