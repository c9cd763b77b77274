//! What goes back or elsewhere: stornos, cancellations, transfers, merges, and a new PIN.

use cardline::card::PinVerdict;
use cardline::ids::NumberId;
use cardline::secret::Pin;
use cardline::units::E164;

use super::*;

const MINUTE: i64 = 60_000;

on_each_database!(unused_minutes_of_the_newest_purchase_are_given_back_first);
async fn unused_minutes_of_the_newest_purchase_are_given_back_first(on: Kind) {
    let till = till(on).await;
    let card = till.buy(10).await;
    let half = TariffEdit {
        price_per_minute_millicents: Some(100_000),
        ..TariffEdit::default()
    };
    till.tariff(half).await;
    till.store
        .card_topup(&act(0, None), &card.serial, 10)
        .await
        .unwrap();
    assert_eq!(till.invoiced().await, (1990 + 1000, 378 + 190, 2));
    let back = async |minutes, key| {
        let act = act(1, Some(key));
        till.store.card_storno(&act, &card.serial, minutes).await.unwrap()
    };
    for _ in 0..2 {
        let row = back(4, "a").await;
        assert_eq!((row.price_cents, row.balance_ms), (Some(-476), 16 * MINUTE));
    }
    // The other six of the second purchase, and one of the first.
    assert_eq!(back(7, "b").await.price_cents, Some(-(600 + 114) - (199 + 38)));
    let gone = till.store.card_cancel(&act(2, None), &card.serial).await.unwrap();
    assert_eq!((gone.state, gone.balance_ms), ("storniert", 0));
    assert_eq!(
        till.invoiced().await,
        (0, 0, 6),
        "everything was given back, to the cent"
    );
    let text: (String,) = sqlx::query_as("SELECT text FROM invoice_line ORDER BY id DESC LIMIT 1")
        .fetch_one(&mut till.database.raw().await)
        .await
        .unwrap();
    assert_eq!(text.0, format!("Storno Karte {}, 9:00 Minuten", card.serial));
    till.clean(3).await;
}

on_each_database!(use_and_goodwill_are_not_paid_out);
async fn use_and_goodwill_are_not_paid_out(on: Kind) {
    let till = till(on).await;
    let card = till.buy(10).await;
    till.call(0, 1, card.id, 400).await;
    till.settle(1, 1, card.id, 390).await;
    till.store
        .card_correct(&act(1, None), &card.serial, 5 * MINUTE, "Kulanz")
        .await
        .unwrap();
    let gone = till.store.card_cancel(&act(2, None), &card.serial).await.unwrap();
    // 3:30 of 10 minutes are unused: 35 % of 19,90 € is 6,965 €, of 3,78 € is 1,323 €.
    assert_eq!(gone.price_cents, Some(-(697 + 132)));
    let kinds = till.kinds(&card.serial).await;
    assert_eq!(
        kinds.last().unwrap(),
        &("storno".to_owned(), -(3 * MINUTE + 30_000 + 5 * MINUTE))
    );
    till.clean(3).await;
}

on_each_database!(what_a_call_has_reserved_is_not_touched);
async fn what_a_call_has_reserved_is_not_touched(on: Kind) {
    let till = till(on).await;
    let (card, other) = (till.buy(10).await, till.buy(1).await);
    assert_eq!(till.call(0, 1, card.id, 120).await, 2 * MINUTE);
    let (store, serial) = (&till.store, card.serial.as_str());
    assert_eq!(
        refused(store.card_storno(&act(1, None), serial, 9).await),
        "not_available"
    );
    assert_eq!(
        refused(store.card_cancel(&act(1, None), serial).await),
        "card_in_use"
    );
    assert_eq!(
        refused(store.card_transfer(&act(1, None), serial, &other.serial, 9).await),
        "not_available"
    );
    store.card_storno(&act(1, None), serial, 3).await.unwrap();
    let moved = store
        .card_merge(&act(1, None), serial, &other.serial, false)
        .await
        .unwrap();
    assert_eq!(
        (moved.moved_ms, moved.from.available_ms, moved.from.reserved_ms),
        (5 * MINUTE, 0, 2 * MINUTE)
    );
    assert_eq!(moved.to.available_ms, 6 * MINUTE);
    assert_eq!(
        refused(
            store
                .card_merge(&act(1, None), serial, &other.serial, false)
                .await
        ),
        "not_available"
    );
    // The call uses up what it had; nothing is left and nothing is missing.
    till.settle(2, 1, card.id, 120).await;
    assert_eq!(till.show(2, serial).await.balance_ms, 0);
    till.clean(3).await;
}

on_each_database!(what_was_paid_goes_along_with_a_transfer);
async fn what_was_paid_goes_along_with_a_transfer(on: Kind) {
    let till = till(on).await;
    let (from, to) = (till.buy(10).await, till.buy(5).await);
    let key = act(1, Some("move"));
    for _ in 0..2 {
        let moved = till
            .store
            .card_transfer(&key, &from.serial, &to.serial, 8)
            .await
            .unwrap();
        assert_eq!(
            (moved.from.balance_ms, moved.to.balance_ms),
            (2 * MINUTE, 13 * MINUTE)
        );
    }
    // Used on the new card: what it got from the older purchase goes first.
    till.call(2, 1, to.id, 60).await;
    till.settle(3, 1, to.id, 60).await;
    let gone = till.store.card_cancel(&act(4, None), &to.serial).await.unwrap();
    // Five of its own, seven of the eight.
    assert_eq!(gone.price_cents, Some(-(995 + 189) - (1393 + 265)));
    till.store.card_cancel(&act(5, None), &from.serial).await.unwrap();
    let (net, vat, _) = till.invoiced().await;
    assert_eq!((net, vat), (199, 38), "one minute was used");
    till.clean(6).await;
}

on_each_database!(transfers_are_refused_in_words);
async fn transfers_are_refused_in_words(on: Kind) {
    let till = till(on).await;
    let (card, gone) = (till.buy(10).await, till.buy(1).await);
    let store = &till.store;
    store.card_cancel(&act(0, None), &gone.serial).await.unwrap();
    store
        .project_new(&act(0, None), "test2", &ProjectEdit::default())
        .await
        .unwrap();
    let new = NewCard {
        project: "test2".to_owned(),
        minutes: 1,
        note: None,
        quote: None,
    };
    let foreign = store.card_buy(&act(0, None), &new).await.unwrap();
    let serial = card.serial.as_str();
    for (to, minutes, after_ms, code) in [
        (serial, 1, 0, "invalid_to"),
        ("K-none", 1, 0, "card_not_found"),
        (foreign.serial.as_str(), 1, 0, "other_project"),
        (gone.serial.as_str(), 1, 0, "card_state"),
        (serial, 0, 0, "invalid_minutes"),
        (gone.serial.as_str(), 1, 1500 * DAY_MS, "card_state"),
    ] {
        let result = store
            .card_transfer(&act(after_ms, None), serial, to, minutes)
            .await;
        assert_eq!(refused(result), code, "{to}");
    }
    till.clean(1).await;
}

on_each_database!(a_merge_takes_the_lines_along_and_leaves_the_history);
async fn a_merge_takes_the_lines_along_and_leaves_the_history(on: Kind) {
    let till = till(on).await;
    let (lost, fresh) = (till.buy(10).await, till.buy(1).await);
    let line = E164::parse("+491701234567").unwrap();
    let store = &till.store;
    store
        .card_bind(&act(0, None), &lost.serial, &line, false)
        .await
        .unwrap();
    store.card_block(&act(1, None), &lost.serial).await.unwrap();
    let moved = store
        .card_merge(&act(2, None), &lost.serial, &fresh.serial, true)
        .await
        .unwrap();
    assert_eq!((moved.from.lines.len(), moved.to.lines.len()), (0, 1));
    assert_eq!(
        (moved.to.state, moved.to.balance_ms),
        ("freigeschaltet", 11 * MINUTE)
    );
    let kinds = till.kinds(&lost.serial).await;
    assert_eq!(
        kinds,
        [
            ("purchase".to_owned(), 10 * MINUTE),
            ("transfer_out".to_owned(), -10 * MINUTE)
        ]
    );
    till.clean(3).await;
}

on_each_database!(a_lost_pin_is_replaced_without_losing_minutes);
async fn a_lost_pin_is_replaced_without_losing_minutes(on: Kind) {
    let till = till(on).await;
    let card = till.buy(10).await;
    let key = act(1, Some("new pin"));
    let fresh = till.store.card_replace_pin(&key, &card.serial).await.unwrap();
    let again = till.store.card_replace_pin(&key, &card.serial).await.unwrap();
    assert_eq!(fresh.pin, again.pin, "a repeat gets the same PIN");
    assert_ne!(fresh.pin, card.pin);
    assert_eq!(fresh.balance_ms, 10 * MINUTE);
    till.call(2, 7, card.id, 10).await;
    for (pin, right) in [(&card.pin, false), (&fresh.pin, true)] {
        let check = LedgerRequest::CheckPin {
            call: CallKey::new(7),
            project: ProjectId::new(1),
            number: NumberId::new(1),
            pin: Pin::parse(pin.as_deref().unwrap()).unwrap(),
            line: None,
        };
        let reply = till.ask(3, &check).await;
        assert_eq!(
            matches!(reply, LedgerReply::Pin(PinVerdict::Right(_))),
            right,
            "{reply:?}"
        );
    }
    till.clean(4).await;
}
