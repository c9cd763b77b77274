//! Cards by the hundred: all of them or none, each as if it had been bought alone.

use cardline::store::{BATCH_MAX, CardFilter, ImportRow, NewBatch, OperatorEdit};
use cardline::units::E164;

use super::*;

fn order(count: i64) -> NewBatch {
    NewBatch {
        project: "test1".to_owned(),
        count,
        minutes: 20,
        note: Some("Messe".to_owned()),
    }
}

on_each_database!(a_batch_is_made_once_per_key_and_adds_up);
async fn a_batch_is_made_once_per_key_and_adds_up(on: Kind) {
    let till = till(on).await;
    till.buy(1).await;
    let key = act(1, Some("batch"));
    let made = till.store.card_batch(&key, &order(700)).await.unwrap();
    assert_eq!((made.count, made.cards.len()), (700, 700));
    assert_eq!(made.price_cents, 700 * (3980 + 756));
    let mut pins: Vec<&str> = made.cards.iter().map(|card| card.pin.as_str()).collect();
    pins.sort_unstable();
    pins.dedup();
    assert_eq!(pins.len(), 700);
    assert!(
        pins.iter().all(|pin| pin.len() == 12),
        "more than 300 cards need longer PINs"
    );
    let again = till.store.card_batch(&key, &order(700)).await.unwrap();
    assert_eq!(again, made);
    assert_eq!(
        refused(till.store.card_batch(&key, &order(701)).await),
        "idempotency_key_reused"
    );
    let all = till.store.card_list(at(1), &CardFilter::default()).await.unwrap();
    assert_eq!(all.len(), 701);
    // One of them behaves as any other.
    let card = till.show(1, &made.cards[350].serial).await;
    assert_eq!(card.balance_ms, 1_200_000);
    till.store
        .card_topup(&act(2, None), &card.serial, 1)
        .await
        .unwrap();
    till.store.card_cancel(&act(3, None), &card.serial).await.unwrap();
    till.clean(4).await;
}

on_each_database!(a_batch_beyond_a_limit_makes_no_card);
async fn a_batch_beyond_a_limit_makes_no_card(on: Kind) {
    let till = till(on).await;
    let most = i64::try_from(BATCH_MAX).unwrap();
    for (count, code) in [
        (0, "invalid_count"),
        (-1, "invalid_count"),
        (most + 1, "invalid_count"),
    ] {
        let result = till.store.card_batch(&act(0, None), &order(count)).await;
        assert_eq!(refused(result), code, "{count}");
    }
    let limit = OperatorEdit {
        credit_limit_cents: Some(Some(10 * 4736 - 1)),
        ..OperatorEdit::default()
    };
    till.store.operator_edit(&act(0, None), &limit).await.unwrap();
    let result = till.store.card_batch(&act(0, None), &order(10)).await;
    assert_eq!(refused(result), "over_limit");
    assert_eq!(till.invoiced().await.2, 0);
    till.store.card_batch(&act(0, None), &order(9)).await.unwrap();
    let rehearsed = till.store.rehearsal().card_batch(&act(0, None), &order(1)).await;
    assert_eq!(refused(rehearsed), "over_limit");
    till.clean(1).await;
}

on_each_database!(a_file_is_imported_whole_or_not_at_all);
async fn a_file_is_imported_whole_or_not_at_all(on: Kind) {
    let till = till(on).await;
    let bound = till.buy(1).await;
    let taken = E164::parse("+491700000001").unwrap();
    till.store
        .card_bind(&act(0, None), &bound.serial, &taken, false)
        .await
        .unwrap();
    let row = |line_no, note: &str, minutes, line: Option<&str>| ImportRow {
        line_no,
        note: note.to_owned(),
        minutes,
        line: line.map(|line| E164::parse(line).unwrap()),
    };
    let long = "x".repeat(201);
    let bad = [
        row(2, "fine", 5, None),
        row(3, &long, 0, Some("+491700000001")),
        row(5, "a", 5, Some("+491700000002")),
        row(6, "b", 5, Some("+491700000002")),
        row(7, "c", 5, Some("+499001234567")),
    ];
    let result = till.store.card_import(&act(1, None), "test1", &bad).await;
    let Err(AdminError::Refused(cardline::store::Refusal::Rows(faults))) = result else {
        panic!("{result:?}");
    };
    let places: Vec<(usize, &str)> = faults.iter().map(|f| (f.line, f.column.as_str())).collect();
    assert_eq!(
        places,
        [(3, "note"), (3, "minutes"), (3, "line"), (6, "line"), (7, "line")]
    );
    assert_eq!(till.invoiced().await.2, 1, "nothing was imported");
    let good = [
        row(1, "Frau A", 5, Some("+491700000003")),
        row(2, "Herr B", 7, None),
    ];
    let key = act(2, Some("file"));
    for _ in 0..2 {
        let made = till.store.card_import(&key, "test1", &good).await.unwrap();
        let cards: Vec<(&str, i64, Option<&str>)> = made
            .cards
            .iter()
            .map(|card| (card.note.as_str(), card.minutes, card.line.as_deref()))
            .collect();
        assert_eq!(cards, [("Frau A", 5, Some("+491700000003")), ("Herr B", 7, None)]);
        let first = till.show(2, &made.cards[0].serial).await;
        assert_eq!((first.state, first.lines.len()), ("freigeschaltet", 1));
    }
    assert_eq!(till.invoiced().await.2, 3);
    till.clean(3).await;
}
