//! Versions that never change, prices with steps, and the word on short expiries.

use cardline::store::StepRow;

use super::*;

fn step(after_minutes: i64, price_per_minute_millicents: i64) -> StepRow {
    StepRow {
        after_minutes,
        price_per_minute_millicents,
    }
}

on_each_database!(an_edit_makes_a_version_and_the_old_one_stays_as_it_was);
async fn an_edit_makes_a_version_and_the_old_one_stays_as_it_was(on: Kind) {
    let till = till(on).await;
    let before = till.store.tariff_show("test1").await.unwrap();
    let card = till.buy(10).await;
    assert_eq!(card.price_cents, Some(1990 + 378));
    let same = TariffEdit {
        price_per_minute_millicents: Some(199_000),
        ..TariffEdit::default()
    };
    till.tariff(same).await;
    assert_eq!(till.store.tariff_show("test1").await.unwrap().versions.len(), 1);
    let edit = TariffEdit {
        steps: Some(vec![step(10, 100_000)]),
        free_minutes: Some(2),
        ..TariffEdit::default()
    };
    till.tariff(edit).await;
    let after = till.store.tariff_show("test1").await.unwrap();
    assert_eq!(after.versions.len(), 2);
    assert_eq!(after.versions[1], before.versions[0], "the old one is as it was");
    assert_eq!(after.projects, ["test1"]);
    // 8 minutes at 1,99 € and 5 at 1,00 €, 19 % on that.
    assert_eq!(till.buy(15).await.price_cents, Some(2092 + 397));
    let mut raw = till.database.raw().await;
    for sql in [
        "UPDATE tariff_version SET price_per_minute_millicents = 0",
        "UPDATE tariff_step SET price_per_minute_millicents = 0",
        "DELETE FROM tariff_step",
    ] {
        assert!(sqlx::query(sql).execute(&mut raw).await.is_err(), "{sql}");
    }
    till.clean(1).await;
}

on_each_database!(several_projects_share_a_tariff);
async fn several_projects_share_a_tariff(on: Kind) {
    let till = till(on).await;
    let rules = TariffEdit {
        price_per_minute_millicents: Some(50_000),
        ..TariffEdit::default()
    };
    let store = &till.store;
    store.tariff_new(&act(0, None), "billig", &rules).await.unwrap();
    assert_eq!(
        refused(store.tariff_new(&act(0, None), "billig", &rules).await),
        "tariff_exists"
    );
    let take = ProjectEdit {
        tariff: Some("billig".to_owned()),
        ..ProjectEdit::default()
    };
    let row = store.project_edit(&act(0, None), "test1", &take).await.unwrap();
    assert_eq!(
        (row.tariff.name.as_str(), row.tariff.price_per_minute_millicents),
        ("billig", 50_000)
    );
    store.project_new(&act(0, None), "test2", &take).await.unwrap();
    let price = ProjectEdit {
        price_per_minute_millicents: Some(60_000),
        ..ProjectEdit::default()
    };
    assert_eq!(
        refused(store.project_edit(&act(0, None), "test1", &price).await),
        "tariff_shared"
    );
    let dearer = TariffEdit {
        price_per_minute_millicents: Some(70_000),
        ..TariffEdit::default()
    };
    store.tariff_edit(&act(0, None), "billig", &dearer).await.unwrap();
    for project in ["test1", "test2"] {
        let row = store.project_show(project).await.unwrap();
        assert_eq!(row.tariff.price_per_minute_millicents, 70_000, "{project}");
    }
    let own = store.tariff_show("test1").await.unwrap();
    assert!(own.projects.is_empty(), "the project's own tariff waits for it");
    let nobody = ProjectEdit {
        tariff: Some("gibtsnicht".to_owned()),
        ..ProjectEdit::default()
    };
    assert_eq!(
        refused(store.project_edit(&act(0, None), "test1", &nobody).await),
        "tariff_not_found"
    );
}

on_each_database!(a_tariff_is_refused_in_words);
async fn a_tariff_is_refused_in_words(on: Kind) {
    let till = till(on).await;
    let days = |days, accept_short_expiry| TariffEdit {
        expiry_days: Some(days),
        accept_short_expiry,
        ..TariffEdit::default()
    };
    let steps = |steps| TariffEdit {
        steps: Some(steps),
        ..TariffEdit::default()
    };
    for (what, edit, code) in [
        ("a year", days(365, false), "short_expiry"),
        ("a day less than the claim", days(1460, false), "short_expiry"),
        ("no days", days(0, true), "invalid_expiry_days"),
        (
            "years that end too early",
            TariffEdit {
                expiry_years: Some(2),
                ..TariffEdit::default()
            },
            "short_expiry",
        ),
        (
            "both",
            TariffEdit {
                expiry_years: Some(3),
                expiry_days: Some(2000),
                ..TariffEdit::default()
            },
            "invalid_expiry_days",
        ),
        (
            "falling steps",
            steps(vec![step(20, 1), step(10, 2)]),
            "invalid_steps",
        ),
        (
            "a step twice",
            steps(vec![step(20, 1), step(20, 2)]),
            "invalid_steps",
        ),
        ("a step at zero", steps(vec![step(0, 1)]), "invalid_after_minutes"),
        (
            "a negative price",
            steps(vec![step(1, -1)]),
            "invalid_price_per_minute_millicents",
        ),
    ] {
        let result = till.store.tariff_edit(&act(0, None), "test1", &edit).await;
        assert_eq!(refused(result), code, "{what}");
    }
    for (edit, short) in [(days(365, true), true), (days(1461, false), false)] {
        let sheet = till
            .store
            .tariff_edit(&act(0, None), "test1", &edit)
            .await
            .unwrap();
        assert_eq!(sheet.now.short_expiry, short);
    }
}

on_each_database!(a_call_is_charged_by_the_version_at_its_invite);
async fn a_call_is_charged_by_the_version_at_its_invite(on: Kind) {
    let till = till(on).await;
    let card = till.buy(10).await;
    till.call(0, 1, card.id, 600).await;
    let checkpoint = LedgerRequest::Checkpoint {
        call: CallKey::new(1),
        card: card.id,
        used: TalkTime::from_secs(7),
    };
    till.ask(1000, &checkpoint).await;
    let edit = TariffEdit {
        free_under_ms: Some(60_000),
        ..TariffEdit::default()
    };
    till.tariff(edit).await;
    // Seven seconds would be free by the new version.
    let now = Now {
        mono: Instant::from_nanos(0),
        wall: at(DAY_MS),
    };
    let ended = till.store.expire(now).await.unwrap();
    assert_eq!((ended.reservations, ended.billed_ms), (1, 7000));
    till.call(DAY_MS, 2, card.id, 60).await;
    let used = LedgerRequest::Checkpoint {
        call: CallKey::new(2),
        card: card.id,
        used: TalkTime::from_secs(7),
    };
    till.ask(DAY_MS + 1000, &used).await;
    let later = Now {
        wall: at(2 * DAY_MS),
        ..now
    };
    let ended = till.store.expire(later).await.unwrap();
    assert_eq!((ended.reservations, ended.billed_ms), (1, 0));
    let renew = LedgerRequest::Renew {
        op: OpId(99),
        call: CallKey::new(2),
        card: card.id,
        want: TalkTime::from_secs(1),
    };
    assert!(matches!(
        till.ask(2 * DAY_MS, &renew).await,
        LedgerReply::NotReserved(_)
    ));
}
