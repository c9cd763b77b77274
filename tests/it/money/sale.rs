//! Quotes, the limit, and that a purchase is whole or not at all.

use cardline::store::OperatorEdit;

use super::*;

const MINUTE: i64 = 60_000;

fn dearer() -> TariffEdit {
    TariffEdit {
        price_per_minute_millicents: Some(300_000),
        ..TariffEdit::default()
    }
}

on_each_database!(a_quote_keeps_its_price_for_fifteen_minutes_and_one_purchase);
async fn a_quote_keeps_its_price_for_fifteen_minutes_and_one_purchase(on: Kind) {
    let till = till(on).await;
    let quote = async |after_ms, minutes| {
        let row = till.store.card_quote(at(after_ms), "test1", minutes).await;
        row.unwrap().quote
    };
    let (buys, tops, late, other) = (
        quote(0, 10).await,
        quote(0, 10).await,
        quote(0, 10).await,
        quote(0, 10).await,
    );
    till.tariff(dearer()).await;
    let card = till.order(15 * MINUTE, 10, Some(&buys)).await.unwrap();
    assert_eq!(
        card.price_cents,
        Some(2368),
        "the price of the quote, at its last moment"
    );
    assert_eq!(refused(till.order(0, 10, Some(&buys)).await), "quote_used");
    let top = async |after_ms, minutes, quote: &str| {
        let act = act(after_ms, None);
        till.store
            .card_topup_quoted(&act, &card.serial, minutes, Some(quote))
            .await
    };
    assert_eq!(top(0, 10, &tops).await.unwrap().price_cents, Some(2368));
    assert_eq!(refused(top(0, 10, &tops).await), "quote_used");
    assert_eq!(refused(top(15 * MINUTE + 1, 10, &late).await), "quote_expired");
    assert_eq!(refused(top(0, 11, &late).await), "quote_mismatch");
    assert_eq!(refused(top(0, 10, "Q-none").await), "quote_not_found");
    till.store
        .project_new(&act(0, None), "test2", &ProjectEdit::default())
        .await
        .unwrap();
    let foreign = NewCard {
        project: "test2".to_owned(),
        minutes: 10,
        note: None,
        quote: Some(other),
    };
    assert_eq!(
        refused(till.store.card_buy(&act(0, None), &foreign).await),
        "quote_mismatch"
    );
    assert_eq!(
        till.buy(10).await.price_cents,
        Some(3570),
        "without a quote the new price"
    );
    till.clean(1).await;
}

on_each_database!(a_purchase_that_breaks_halfway_leaves_nothing);
async fn a_purchase_that_breaks_halfway_leaves_nothing(on: Kind) {
    let till = till(on).await;
    let card = till.buy(1).await;
    let mut raw = till.database.raw().await;
    if on == Kind::Postgres {
        let sql = "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'broken'; END; $$";
        sqlx::query(sql).execute(&mut raw).await.unwrap();
    }
    for table in ["purchase", "ledger", "invoice_line", "audit", "idempotency"] {
        let (make, drop) = match on {
            Kind::Sqlite => (
                format!(
                    "CREATE TRIGGER broken BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'broken'); END"
                ),
                "DROP TRIGGER broken".to_owned(),
            ),
            Kind::Postgres => (
                format!(
                    "CREATE TRIGGER broken BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION broken()"
                ),
                format!("DROP TRIGGER broken ON {table}"),
            ),
        };
        sqlx::query(sqlx::AssertSqlSafe(make))
            .execute(&mut raw)
            .await
            .unwrap();
        let new = NewCard {
            project: "test1".to_owned(),
            minutes: 5,
            note: None,
            quote: None,
        };
        let key = act(0, Some(table));
        let result = till.store.card_buy(&key, &new).await;
        assert!(matches!(result, Err(AdminError::Fault(_))), "{table}");
        let result = till.store.card_topup(&key, &card.serial, 5).await;
        assert!(matches!(result, Err(AdminError::Fault(_))), "{table}");
        sqlx::query(sqlx::AssertSqlSafe(drop))
            .execute(&mut raw)
            .await
            .unwrap();
    }
    let counts: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM card), (SELECT COUNT(*) FROM purchase), (SELECT COUNT(*) FROM ledger),
            (SELECT COUNT(*) FROM invoice_line)",
    )
    .fetch_one(&mut raw)
    .await
    .unwrap();
    assert_eq!(counts, (1, 1, 1, 1));
    assert_eq!(till.show(0, &card.serial).await.balance_ms, MINUTE);
    till.clean(1).await;
}

on_each_database!(the_limit_holds_for_purchases_at_one_instant);
async fn the_limit_holds_for_purchases_at_one_instant(on: Kind) {
    let till = till(on).await;
    let limit = |cents| OperatorEdit {
        credit_limit_cents: Some(cents),
        ..OperatorEdit::default()
    };
    // Three cards at 2,37 € and not a fourth.
    let row = till
        .store
        .operator_edit(&act(0, None), &limit(Some(711)))
        .await
        .unwrap();
    assert_eq!((row.credit_limit_cents, row.open_cents), (Some(711), 0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let store = till.store.clone();
        tasks.spawn(async move {
            let new = NewCard {
                project: "test1".to_owned(),
                minutes: 1,
                note: None,
                quote: None,
            };
            store.card_buy(&act(0, None), &new).await
        });
    }
    let (sold, no): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((sold.len(), no.len()), (3, 7));
    assert!(no.into_iter().all(|no| refused(no) == "over_limit"));
    let serial = sold[0].as_ref().unwrap().serial.clone();
    assert_eq!(
        refused(till.store.card_topup(&act(0, None), &serial, 1).await),
        "over_limit"
    );
    // A storno makes room again.
    till.store.card_storno(&act(0, None), &serial, 1).await.unwrap();
    till.store.card_topup(&act(0, None), &serial, 1).await.unwrap();
    till.store
        .operator_edit(&act(0, None), &limit(None))
        .await
        .unwrap();
    till.buy(100).await;
    till.clean(1).await;
}

on_each_database!(the_operator_is_edited_in_words);
async fn the_operator_is_edited_in_words(on: Kind) {
    let till = till(on).await;
    let edit = OperatorEdit {
        name: Some("Sterntaler GmbH".to_owned()),
        time_zone: Some("America/Havana".to_owned()),
        ..OperatorEdit::default()
    };
    let row = till.store.operator_edit(&act(0, None), &edit).await.unwrap();
    assert_eq!(
        (row.name.as_str(), row.time_zone.as_str()),
        ("Sterntaler GmbH", "America/Havana")
    );
    // Three years end in Havana at five in the morning UTC.
    assert_eq!(
        till.buy(1).await.expires_at.as_deref(),
        Some("2029-01-01T05:00:00.000Z")
    );
    let wrong = OperatorEdit {
        time_zone: Some("Europe/Bielefeld".to_owned()),
        ..OperatorEdit::default()
    };
    assert_eq!(
        refused(till.store.operator_edit(&act(0, None), &wrong).await),
        "invalid_time_zone"
    );
}

on_each_database!(a_dry_run_says_the_answer_and_changes_nothing);
async fn a_dry_run_says_the_answer_and_changes_nothing(on: Kind) {
    let till = till(on).await;
    let card = till.buy(10).await;
    let dry = till.store.rehearsal();
    let topped = dry
        .card_topup(&act(0, Some("dry")), &card.serial, 5)
        .await
        .unwrap();
    assert_eq!((topped.balance_ms, topped.price_cents), (15 * MINUTE, Some(1184)));
    dry.card_cancel(&act(0, None), &card.serial).await.unwrap();
    assert_eq!(
        refused(dry.card_storno(&act(0, None), &card.serial, 11).await),
        "not_available"
    );
    let same = till.show(0, &card.serial).await;
    assert_eq!((same.state, same.balance_ms), ("neu", 10 * MINUTE));
    assert_eq!(till.invoiced().await.2, 1);
    // The key was not used up by the try.
    let real = till.store.card_topup(&act(0, Some("dry")), &card.serial, 6).await;
    assert_eq!(real.unwrap().balance_ms, 16 * MINUTE);
    till.clean(1).await;
}
