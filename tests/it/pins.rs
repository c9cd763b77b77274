//! Guessers of PINs against the store: how often they may try, on several nodes and under clocks that
//! are set, and who is served all the same.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use cardline::call::directory::Role;
use cardline::card::{LedgerReply, LedgerRequest, LineVerdict, PinVerdict, pin};
use cardline::ids::{CallKey, NumberId, ProjectId};
use cardline::now::{Instant, Now, UnixTime};
use cardline::secret::Pin;
use cardline::store::{Act, NewCard, NewNumber, PinKey, ProjectEdit, Store, StoreOptions};
use cardline::units::E164;

use crate::database::{Database, Kind, on_each_database};

/// 2025-11-25T08:00:00Z, and a machine that has been up for some days.
const START_MS: i64 = 1_764_057_600_000;
const UP_MS: u64 = 1_000_000_000;
const NUMBER: &str = "+493023125101";
const BOUND: &str = "+493045678901";

fn act() -> Act {
    Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: None,
    }
}

/// `set_by_ms`: how far somebody has set the wall clock.
fn at(after_ms: u64, set_by_ms: i64) -> Now {
    Now {
        mono: Instant::from_nanos((UP_MS + after_ms) * 1_000_000),
        wall: UnixTime::from_ms(START_MS + i64::try_from(after_ms).unwrap() + set_by_ms),
    }
}

async fn node(url: &str) -> Store {
    Store::open(StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    })
    .await
    .unwrap()
}

/// A project whose one card is bound to [`BOUND`]; gives the card's PIN.
async fn project(store: &Store) -> Pin {
    store
        .project_new(&act(), "test1", &ProjectEdit::default())
        .await
        .unwrap();
    let number = NewNumber {
        e164: E164::parse(NUMBER).unwrap(),
        project: "test1".to_owned(),
        role: Role::Both,
    };
    store.number_add(&act(), &number).await.unwrap();
    let new = NewCard {
        project: "test1".to_owned(),
        minutes: 5,
        note: None,
        quote: None,
    };
    let card = store.card_buy(&act(), &new).await.unwrap();
    let line = E164::parse(BOUND).unwrap();
    store.card_bind(&act(), &card.serial, &line, false).await.unwrap();
    Pin::parse(&card.pin.unwrap()).unwrap()
}

async fn try_pin(store: &Store, now: Now, call: u64, pin: &Pin, line: Option<&str>) -> PinVerdict {
    let request = LedgerRequest::CheckPin {
        call: CallKey::new(call),
        project: ProjectId::new(1),
        number: NumberId::new(1),
        pin: pin.clone(),
        line: line.map(|line| E164::parse(line).unwrap()),
    };
    match store.ledger(now, &request).await.unwrap() {
        LedgerReply::Pin(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

/// The n-th guess, never a right one: no PIN begins with zero.
fn guess(n: u64) -> Pin {
    Pin::parse(&format!("0{n:09}")).unwrap()
}

async fn line_is_locked(store: &Store, now: Now, line: &str) -> bool {
    let find = LedgerRequest::FindLine {
        project: ProjectId::new(1),
        line: E164::parse(line).unwrap(),
    };
    match store.ledger(now, &find).await.unwrap() {
        LedgerReply::Line(verdict) => verdict == LineVerdict::Locked,
        other => panic!("{other:?}"),
    }
}

on_each_database!(a_lock_lasts_its_hour_whatever_the_wall_clock_says);
async fn a_lock_lasts_its_hour_whatever_the_wall_clock_says(on: Kind) {
    const HOUR: u64 = 3_600_000;
    const MONTH: i64 = 30 * 86_400_000;
    let database = Database::new(on).await;
    let store = node(&database.url).await;
    project(&store).await;
    let line = "+491701234567";
    for n in 0..6 {
        try_pin(&store, at(n * 1_000, 0), n, &guess(n), Some(line)).await;
    }
    for (after, set_by, locked) in [
        (10_000, 0, true),
        (11_000, MONTH, true),
        (12_000, -MONTH, true),
        (HOUR, -3_600_000, true),
        (5_000 + HOUR - 1, MONTH, true),
        (5_000 + HOUR, -MONTH, false),
        (5_000 + HOUR, 0, false),
    ] {
        assert_eq!(
            line_is_locked(&store, at(after, set_by), line).await,
            locked,
            "{after} {set_by}"
        );
    }
    if on == Kind::Sqlite {
        // The same boot of the machine: another process goes on with the same time.
        store.close().await;
        let again = node(&database.url).await;
        assert!(line_is_locked(&again, at(20_000, MONTH), line).await);
    }
}

/// What an hour of attack came to.
#[derive(Debug, Default)]
struct Tally {
    tries: u64,
    looked_at: u64,
    bound_refused: u64,
}

/// Two nodes, three strangers' tries per second by fresh lines and withheld ones in turn; the bound
/// line calls every minute, and types its PIN.
async fn attack(nodes: [&Store; 2], right: &Pin, span_ms: u64, every_ms: u64) -> Tally {
    let mut tally = Tally::default();
    for n in 0..span_ms / every_ms {
        let now = at(n * every_ms, 0);
        let line = format!("+4917{:08}", n % 90_000_000);
        let line = (n % 3 != 0).then_some(line.as_str());
        let node = nodes[usize::try_from(n % 2).unwrap()];
        tally.tries += 1;
        if try_pin(node, now, n, &guess(n), line).await == PinVerdict::Wrong {
            tally.looked_at += 1;
        }
        if n * every_ms % 60_000 < every_ms {
            let served = try_pin(node, now, 1_000_000 + n, right, Some(BOUND)).await;
            let known = !line_is_locked(node, now, BOUND).await;
            tally.bound_refused += u64::from(!known || !matches!(served, PinVerdict::Right(_)));
        }
    }
    tally
}

on_each_database!(strangers_share_a_tenth_of_a_try_per_second_and_the_bound_line_is_served);
async fn strangers_share_a_tenth_of_a_try_per_second_and_the_bound_line_is_served(on: Kind) {
    const SPAN: u64 = 900_000;
    let database = Database::new(on).await;
    let (one, two) = (node(&database.url).await, node(&database.url).await);
    let right = project(&one).await;
    // Both have begun to count the time before the attack.
    for store in [&one, &two] {
        assert!(!line_is_locked(store, at(0, 0), BOUND).await);
    }
    let tally = attack([&one, &two], &right, SPAN, 1_000).await;
    let most = u64::try_from(pin::ALARM_FROM).unwrap() + SPAN / u64::try_from(pin::TURN_MS).unwrap() + 1;
    assert!(tally.looked_at <= most, "{tally:?}, at most {most}");
    assert!(
        tally.looked_at > 60,
        "the cap slows down and shuts nobody out: {tally:?}"
    );
    assert_eq!(tally.bound_refused, 0, "{tally:?}");
    let attacks = two.pin_attacks().await.unwrap();
    assert_eq!(attacks.len(), 1);
    assert_eq!(attacks[0].project, "test1");
    // It ends by itself, ten minutes after the last of them.
    assert_eq!(
        one.watch_pins(at(SPAN + 60_000, 0)).await.unwrap().attacked.len(),
        1
    );
    let over = one.watch_pins(at(SPAN + 660_000, 0)).await.unwrap();
    assert_eq!((over.attacked.len(), over.ended), (0, vec!["test1".to_owned()]));
    let later = at(SPAN + 661_000, 0);
    assert_eq!(
        try_pin(&two, later, 9_000_000, &guess(9_000_000), None).await,
        PinVerdict::Wrong
    );
}

/// A day of an attacker who tries three times a second, by the rules alone: the tries that are looked
/// at bound the hits.
#[test]
fn a_day_of_attack_hits_once_in_ten_years() {
    const DAY: i64 = 86_400_000;
    let mut wrong = std::collections::VecDeque::new();
    let (mut turn, mut looked_at) = (UnixTime::from_ms(0), 0_u64);
    for now in (0..DAY).step_by(333) {
        while wrong.front().is_some_and(|at| at + pin::ALARM_WINDOW_MS <= now) {
            wrong.pop_front();
        }
        let alarm = pin::alarm(i64::try_from(wrong.len()).unwrap());
        if alarm && now < turn.as_ms() {
            continue;
        }
        if alarm || wrong.len() + 1 == pin::ALARM_FROM {
            turn = pin::next_turn(UnixTime::from_ms(now));
        }
        looked_at += 1;
        wrong.push_back(now);
    }
    assert!(looked_at <= 60 + 8_640, "{looked_at}");
    // A year of such days against 299 cards of ten digits, the most before twelve are drawn.
    let guesses_per_hit = 9_000_000_000_u64 / 299;
    assert!(guesses_per_hit / (looked_at * 365) >= 9, "{looked_at}");
    assert_eq!(pin::years_per_hit(299, 10), 9);
}

#[tokio::test]
async fn no_actor_is_shown_more_than_sixty_pins_an_hour() {
    let database = Database::new(Kind::Sqlite).await;
    let store = node(&database.url).await;
    project(&store).await;
    let cards = store
        .card_list(
            UnixTime::from_ms(START_MS),
            &cardline::store::CardFilter::default(),
        )
        .await
        .unwrap();
    let serial = &cards[0].serial;
    for _ in 0..60 {
        store.card_pin(&act(), serial).await.unwrap();
    }
    let why = store.card_pin(&act(), serial).await.unwrap_err().to_string();
    assert!(why.contains("60"), "{why}");
    let other = Act {
        actor: "uid:1".to_owned(),
        ..act()
    };
    store.card_pin(&other, serial).await.unwrap();
    let later = Act {
        now: UnixTime::from_ms(START_MS + 3_600_001),
        ..act()
    };
    store.card_pin(&later, serial).await.unwrap();
}
