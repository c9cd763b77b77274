//! Group commit: many calls' requests in one database transaction give what each alone would give,
//! a bad one holds nobody back, and an answer that was lost after the commit changes nothing.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use cardline::card::ledger::{Book, Command, Outcome};
use cardline::card::{CdrOpening, LedgerReply, LedgerRequest, Settlement};
use cardline::ids::{CallKey, CardId, OpId, ProjectId};
use cardline::now::{IdSource, Instant, Now, UnixTime};
use cardline::store::{Act, Answered, NewCard, PinKey, ProjectEdit, Store, StoreOptions};
use cardline::units::TalkTime;

use crate::database::{Database, Kind, on_each_database};

const START_MS: i64 = 1_764_057_600_000;
const MINUTES: u32 = 9000;
/// Few enough to be refused now and then.
const PARALLEL: u32 = 8;

struct Desk {
    store: Store,
    book: Book,
    ids: IdSource,
    cards: Vec<(CardId, String)>,
    now_ms: i64,
    next_call: u64,
    /// Calls with an open reservation, and what they have used.
    open: Vec<(CallKey, CardId, TalkTime)>,
}

/// An open store with `cards` active cards, and the model of it.
async fn desk(url: &str, cards: usize) -> Desk {
    let options = StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    };
    let store = Store::open(options).await.unwrap();
    let mut desk = Desk {
        store,
        book: Book::default(),
        ids: IdSource::from_number(11),
        cards: Vec::new(),
        now_ms: START_MS,
        next_call: 1,
        open: Vec::new(),
    };
    let act = Act {
        now: UnixTime::from_ms(START_MS),
        actor: "uid:0".to_owned(),
        key: None,
    };
    let edit = ProjectEdit {
        max_parallel: Some(PARALLEL.into()),
        ..ProjectEdit::default()
    };
    desk.store.project_new(&act, "test1", &edit).await.unwrap();
    for _ in 0..cards {
        let new = NewCard {
            project: "test1".to_owned(),
            minutes: i64::from(MINUTES),
            note: None,
            quote: None,
        };
        let row = desk.store.card_buy(&act, &new).await.unwrap();
        let bind = LedgerRequest::Bind {
            op: desk.ids.op_id(),
            call: CallKey::new(0),
            card: row.id,
            line: None,
        };
        desk.store.ledger(desk.now(), &bind).await.unwrap();
        let bought = Command::Buy {
            card: row.id,
            amount: TalkTime::from_minutes(MINUTES),
            max_parallel: PARALLEL,
            expires_at: None,
        };
        let at = UnixTime::from_ms(START_MS);
        desk.book.apply(at, &bought);
        desk.book.apply(at, &Command::Activate { card: row.id });
        desk.cards.push((row.id, row.serial));
    }
    desk
}

impl Desk {
    fn now(&self) -> Now {
        Now {
            mono: Instant::from_nanos(0),
            wall: UnixTime::from_ms(self.now_ms),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.ids.below(bound as u64)).unwrap()
    }

    fn span(&mut self, most_ms: u64) -> TalkTime {
        TalkTime::from_ms(i64::try_from(self.ids.below(most_ms)).unwrap())
    }

    /// One step each of up to `most` different calls.
    fn commands(&mut self, most: usize) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut rest = std::mem::take(&mut self.open);
        for _ in 0..most {
            if rest.is_empty() || self.below(3) == 0 {
                let at = self.below(self.cards.len());
                let (call, card) = (CallKey::new(self.next_call), self.cards[at].0);
                self.next_call += 1;
                commands.push(Command::Reserve {
                    op: self.ids.op_id(),
                    call,
                    card,
                    want: self.span(150_000),
                    floor: TalkTime::from_secs(1),
                });
                continue;
            }
            let at = self.below(rest.len());
            let (call, card, used) = rest.swap_remove(at);
            let used = used.saturating_add(self.span(20_000));
            commands.push(match self.below(4) {
                0 => Command::Renew {
                    op: self.ids.op_id(),
                    call,
                    card,
                    want: self.span(120_000),
                },
                1 | 2 => Command::Checkpoint { call, card, used },
                _ => Command::Settle(Settlement {
                    call,
                    card,
                    raw: used,
                    billed: used,
                }),
            });
            if !matches!(commands.last(), Some(Command::Settle(_))) {
                self.open.push((call, card, used));
            }
        }
        self.open.append(&mut rest);
        commands
    }

    /// Every card and every entry is the model's; the books check themselves.
    async fn compare(&self) {
        for (card, serial) in &self.cards {
            let model = &self.book.cards[card];
            let row = self.store.card_show(self.now().wall, serial).await.unwrap();
            assert_eq!(
                (row.balance_ms, row.reserved_ms),
                (model.balance.as_ms(), model.reserved.as_ms()),
                "card {serial}"
            );
            let entries = self.store.card_entries(serial).await.unwrap();
            let found: Vec<i64> = entries.iter().map(|entry| entry.delta_ms).collect();
            let all = self.book.entries.iter().filter(|entry| entry.card == *card);
            let want: Vec<i64> = all.map(|entry| entry.delta.as_ms()).collect();
            assert_eq!(found, want, "card {serial}");
        }
        let report = self.store.check(UnixTime::from_ms(START_MS)).await.unwrap();
        assert!(report.clean, "{:#?}", report.offenders);
    }
}

fn request(command: &Command) -> LedgerRequest {
    match command.clone() {
        Command::Reserve {
            op,
            call,
            card,
            want,
            floor,
        } => LedgerRequest::Reserve {
            op,
            call,
            card,
            want,
            floor,
        },
        Command::Renew { op, call, card, want } => LedgerRequest::Renew { op, call, card, want },
        Command::Checkpoint { call, card, used } => LedgerRequest::Checkpoint { call, card, used },
        Command::Settle(settlement) => LedgerRequest::Settle(settlement),
        other => panic!("{other:?} is no call's"),
    }
}

fn opening(call: CallKey, project: i64) -> LedgerRequest {
    LedgerRequest::OpenCdr(Box::new(CdrOpening {
        call,
        project: Some(ProjectId::new(project)),
        number: None,
        trunk: "carrier".to_owned(),
        called: None,
        caller: None,
        sip_call_id: "x".to_owned(),
        invited_at: UnixTime::from_ms(START_MS),
    }))
}

/// The record that a call opens before it reserves.
fn first_of_its_call(command: &Command) -> Option<LedgerRequest> {
    match command {
        Command::Reserve { call, .. } => Some(opening(*call, 1)),
        _ => None,
    }
}

fn outcome(answer: Answered) -> Outcome {
    match answer.unwrap() {
        LedgerReply::Reserved(reservation) => {
            let (total, last) = (reservation.total(), reservation.is_last());
            reservation.release();
            Outcome::Granted { total, last }
        }
        LedgerReply::Renewed { granted, last } => Outcome::Granted { total: granted, last },
        LedgerReply::NotReserved(why) => Outcome::NotReserved(why),
        LedgerReply::Settled { balance } => Outcome::Settled { balance },
        LedgerReply::Done => Outcome::Done,
        other => panic!("{other:?}"),
    }
}

/// Batches of random steps; of every `lossy`th (0: none) the answers are lost after the commit, and
/// it is given again.
async fn run(url: &str, steps: usize, lossy: usize) {
    let mut desk = desk(url, 12).await;
    let (mut done, mut batches, mut granted) = (0, 0, 0);
    while done < steps {
        desk.now_ms += 1000;
        let size = 1 + desk.below(24);
        let commands = desk.commands(size);
        let openings: Vec<LedgerRequest> = commands.iter().filter_map(first_of_its_call).collect();
        for opened in desk.store.ledger_all(desk.now(), &openings).await {
            assert_eq!(outcome(opened), Outcome::Done);
        }
        let requests: Vec<LedgerRequest> = commands.iter().map(request).collect();
        batches += 1;
        if lossy > 0 && batches % lossy == 0 {
            for (command, lost) in commands
                .iter()
                .zip(desk.store.ledger_all(desk.now(), &requests).await)
            {
                lost.unwrap().forgo();
                desk.book.apply(UnixTime::from_ms(desk.now_ms), command);
            }
        }
        let answers = desk.store.ledger_all(desk.now(), &requests).await;
        assert_eq!(answers.len(), commands.len());
        for (command, answer) in commands.iter().zip(answers) {
            let want = desk.book.apply(UnixTime::from_ms(desk.now_ms), command);
            assert_eq!(outcome(answer), want, "batch {batches}: {command:?}");
            if let (Outcome::Granted { .. }, Command::Reserve { call, card, .. }) = (want, command) {
                desk.open.push((*call, *card, TalkTime::ZERO));
                granted += 1;
            }
        }
        done += commands.len();
    }
    assert!(granted * 8 > done, "{granted} of {done}");
    desk.compare().await;
    desk.store.close().await;
}

on_each_database!(a_batch_gives_what_each_request_alone_would_give);
async fn a_batch_gives_what_each_request_alone_would_give(on: Kind) {
    let database = Database::new(on).await;
    run(&database.url, 1500, 0).await;
}

on_each_database!(answers_lost_after_the_commit_charge_nobody_twice_and_lose_nothing);
async fn answers_lost_after_the_commit_charge_nobody_twice_and_lose_nothing(on: Kind) {
    let database = Database::new(on).await;
    run(&database.url, 10_000, 3).await;
}

on_each_database!(one_bad_request_does_not_hold_back_the_others_of_its_batch);
async fn one_bad_request_does_not_hold_back_the_others_of_its_batch(on: Kind) {
    let database = Database::new(on).await;
    let desk = desk(&database.url, 1).await;
    let card = desk.cards[0].0;
    let opening = |call, project| opening(CallKey::new(call), project);
    let reserve = LedgerRequest::Reserve {
        op: OpId(7),
        call: CallKey::new(1),
        card,
        want: TalkTime::from_secs(60),
        floor: TalkTime::from_secs(1),
    };
    // There is no project 999: the row of the second call cannot be written.
    let batch = [reserve, opening(2, 999), opening(3, 1)];
    let mut answers = desk.store.ledger_all(desk.now(), &batch).await.into_iter();
    let granted = Outcome::Granted {
        total: TalkTime::from_secs(60),
        last: false,
    };
    assert_eq!(answers.next().map(outcome), Some(granted));
    let fault = answers.next().unwrap().unwrap_err();
    assert!(!fault.is_away(), "{fault}");
    assert_eq!(answers.next().map(outcome), Some(Outcome::Done));
    let row = desk
        .store
        .card_show(desk.now().wall, &desk.cards[0].1)
        .await
        .unwrap();
    assert_eq!(row.reserved_ms, 60_000, "granted once");
}
