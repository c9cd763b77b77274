//! The store against the reference model of `card::ledger`: random operations, the same answers,
//! the same entries, the same balances, on real databases.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other answer fails the test and is printed"
)]

use cardline::card::ledger::{Adopted, Book, Command, EntryKind, Outcome, Terms};
use cardline::card::{CardFacts, CdrOpening, LedgerReply, LedgerRequest, Settlement};
use cardline::ids::{CallKey, CardId, OpId, ProjectId};
use cardline::now::{IdSource, Instant, Now, UnixTime};
use cardline::store::{Act, AdminError, CardRow, NewCard, PinKey, ProjectEdit, Store, StoreOptions};
use cardline::units::TalkTime;

use crate::database::{Database, Kind, on_each_database};

const START_MS: i64 = 1_764_057_600_000;
const CARDS: usize = 8;

struct Pair {
    store: Store,
    book: Book,
    ids: IdSource,
    serials: Vec<(CardId, String)>,
    now_ms: i64,
    /// Call keys of this life of the node begin here.
    life: u64,
    /// Calls of an earlier life that went on.
    living: Vec<CallKey>,
    used_ops: Vec<OpId>,
}

async fn pair(seed: u64, url: &str) -> Pair {
    let store = Store::open(StoreOptions {
        durable: false,
        ..StoreOptions::new(url, PinKey::from_bytes([7; 32]))
    })
    .await
    .unwrap();
    let edit = ProjectEdit {
        max_parallel: Some(2),
        ..ProjectEdit::default()
    };
    let pair = Pair {
        store,
        book: Book::default(),
        ids: IdSource::from_number(seed),
        serials: Vec::new(),
        now_ms: START_MS,
        life: 0,
        living: Vec::new(),
        used_ops: Vec::new(),
    };
    let act = pair.act();
    pair.store.project_new(&act, "test1", &edit).await.unwrap();
    pair
}

impl Pair {
    fn act(&self) -> Act {
        Act {
            now: UnixTime::from_ms(self.now_ms),
            actor: "uid:0".to_owned(),
            key: None,
        }
    }

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

    /// Mostly fresh; now and then one that was used before, as after an unknown result.
    fn op(&mut self) -> OpId {
        if !self.used_ops.is_empty() && self.below(8) == 0 {
            let at = self.below(self.used_ops.len());
            return self.used_ops[at];
        }
        let op = self.ids.op_id();
        self.used_ops.push(op);
        op
    }

    fn call(&mut self) -> CallKey {
        if !self.living.is_empty() && self.below(4) == 0 {
            let at = self.below(self.living.len());
            return self.living[at];
        }
        CallKey::new(self.life + self.ids.below(8))
    }

    fn command(&mut self) -> Command {
        let what = self.below(100);
        if self.serials.len() < CARDS && what < 60 {
            return Command::Buy {
                card: CardId::new(0),
                amount: TalkTime::from_minutes(u32::try_from(1 + self.below(6)).unwrap()),
                max_parallel: 2,
                expires_at: None,
            };
        }
        // Calls come and go; most keep to one card, as real ones do.
        self.life += u64::from(self.below(3) == 0);
        let call = self.call();
        let at = match self.below(8) {
            0 => self.below(self.serials.len() + 1),
            _ => usize::try_from(call.get()).unwrap() % self.serials.len().max(1),
        };
        let card = self.serials.get(at).map_or(CardId::new(999), |(card, _)| *card);
        match what {
            0..8 => Command::Recharge {
                card,
                amount: TalkTime::from_minutes(u32::try_from(1 + self.below(3)).unwrap()),
            },
            8..14 => Command::Activate { card },
            14 => Command::Block { card },
            15..19 => Command::Unblock { card },
            19 if self.below(4) == 0 => Command::Cancel { card },
            19..40 => Command::Reserve {
                op: self.op(),
                call,
                card,
                want: self.span(150_000),
                floor: self.span(20_000),
            },
            40..58 => Command::Renew {
                op: self.op(),
                call,
                card,
                want: self.span(150_000),
            },
            58..76 => Command::Checkpoint {
                call,
                card,
                used: self.span(200_000),
            },
            76..96 => Command::Settle(Settlement {
                call,
                card,
                raw: self.span(90_000),
                billed: TalkTime::from_ms(self.span(90_000).as_ms() - 10_000),
            }),
            96..99 => Command::Expire,
            _ => Command::Recover {
                restorable: (0..4)
                    .map(|_| CallKey::new(self.life + self.ids.below(8)))
                    .collect(),
            },
        }
    }

    fn serial(&self, card: CardId) -> String {
        let found = self.serials.iter().find(|(id, _)| *id == card);
        found.map_or("K-none".to_owned(), |(_, serial)| serial.clone())
    }

    /// Puts the command to the store; its answer in the model's words.
    async fn ask_store(&mut self, command: &mut Command) -> Outcome {
        let (act, now) = (self.act(), self.now());
        match command {
            Command::Buy {
                card,
                amount,
                expires_at,
                ..
            } => {
                let new = NewCard {
                    project: "test1".to_owned(),
                    minutes: amount.as_ms() / 60_000,
                    note: None,
                    quote: None,
                };
                let row = self.store.card_buy(&act, &new).await.unwrap();
                *card = row.id;
                *expires_at = self.facts(row.id).await.expires_at;
                self.serials.push((row.id, row.serial));
                Outcome::Done
            }
            Command::Recharge { card, amount } => {
                let minutes = amount.as_ms() / 60_000;
                told(self.store.card_topup(&act, &self.serial(*card), minutes).await)
            }
            Command::Block { card } => told(self.store.card_block(&act, &self.serial(*card)).await),
            Command::Unblock { card } => told(self.store.card_unblock(&act, &self.serial(*card)).await),
            Command::Cancel { card } => told(self.store.card_cancel(&act, &self.serial(*card)).await),
            Command::Expire => {
                self.store.expire(now).await.unwrap();
                Outcome::Done
            }
            Command::Recover { restorable } => {
                let found = self.store.recover(now, restorable).await.unwrap();
                let terms = terms(found.adopted);
                self.living = terms.iter().map(|kept| kept.call).collect();
                self.life += 1000;
                Outcome::Adopted(terms)
            }
            Command::Activate { .. }
            | Command::Reserve { .. }
            | Command::Renew { .. }
            | Command::Checkpoint { .. }
            | Command::Settle(_) => self.ask_ledger(command).await,
        }
    }

    /// The part of the commands that calls give.
    async fn ask_ledger(&mut self, command: &Command) -> Outcome {
        if let Command::Reserve { call, .. } = command {
            self.open(*call).await;
        }
        let request = request(command, self.ids.op_id(), CallKey::new(self.life));
        match self.store.ledger(self.now(), &request).await.unwrap() {
            LedgerReply::Reserved(reservation) => {
                let (total, last) = (reservation.total(), reservation.is_last());
                reservation.release();
                Outcome::Granted { total, last }
            }
            LedgerReply::Renewed { granted, last } => Outcome::Granted { total: granted, last },
            LedgerReply::NotReserved(why) => Outcome::NotReserved(why),
            LedgerReply::Settled { balance } => Outcome::Settled { balance },
            LedgerReply::Bound(_) if self.serial_is_unknown(command) => Outcome::NoCard,
            LedgerReply::Done | LedgerReply::Bound(_) => Outcome::Done,
            other => panic!("{other:?}"),
        }
    }

    fn serial_is_unknown(&self, command: &Command) -> bool {
        matches!(command, Command::Activate { card } if self.serial(*card) == "K-none")
    }

    async fn open(&self, call: CallKey) {
        let opening = CdrOpening {
            call,
            project: Some(ProjectId::new(1)),
            number: None,
            trunk: "carrier".to_owned(),
            called: None,
            caller: None,
            sip_call_id: "x".to_owned(),
            invited_at: UnixTime::from_ms(self.now_ms),
        };
        let request = LedgerRequest::OpenCdr(Box::new(opening));
        self.store.ledger(self.now(), &request).await.unwrap();
    }

    async fn facts(&self, card: CardId) -> CardFacts {
        let read = LedgerRequest::ReadCard {
            call: CallKey::new(0),
            card,
        };
        match self.store.ledger(self.now(), &read).await.unwrap() {
            LedgerReply::Card(facts) => *facts,
            other => panic!("{other:?}"),
        }
    }

    /// The cached columns of every card, and all entries, are the model's.
    async fn compare_cards(&self) {
        for (card, serial) in &self.serials {
            let facts = self.facts(*card).await;
            let model = &self.book.cards[card];
            assert_eq!(
                (facts.state, facts.balance, facts.reserved, facts.open_calls),
                (model.state, model.balance, model.reserved, model.open_calls),
                "card {serial}"
            );
            let entries = self.store.card_entries(serial).await.unwrap();
            let found: Vec<(&str, i64, Option<String>)> = entries
                .iter()
                .map(|e| (e.kind.as_str(), e.delta_ms, e.call.clone()))
                .collect();
            let want: Vec<(&str, i64, Option<String>)> = self
                .book
                .entries
                .iter()
                .filter(|entry| entry.card == *card)
                .map(|entry| {
                    (
                        word(entry.kind),
                        entry.delta.as_ms(),
                        entry.call.map(|c| c.to_string()),
                    )
                })
                .collect();
            assert_eq!(found, want, "card {serial}");
        }
    }
}

/// By (call, card), as the model gives them.
fn terms(adopted: Vec<Adopted>) -> Vec<Terms> {
    let mut terms = Vec::new();
    for one in adopted {
        terms.push(Terms {
            call: one.reservation.call(),
            card: one.reservation.card(),
            total: one.reservation.total(),
            used: one.used,
            last: one.reservation.is_last(),
        });
        one.reservation.release();
    }
    terms.sort_unstable();
    terms
}

/// A call's command as a request; `op` and `call` are for an activation.
fn request(command: &Command, op: OpId, call: CallKey) -> LedgerRequest {
    match command.clone() {
        Command::Activate { card } => LedgerRequest::Bind {
            op,
            call,
            card,
            line: None,
        },
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
        other => panic!("{other:?} is the operator's"),
    }
}

fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Purchase => "purchase",
        EntryKind::Recharge => "topup",
        EntryKind::Usage => "usage",
        EntryKind::Storno => "storno",
    }
}

fn told(result: Result<CardRow, AdminError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(AdminError::Refused(refusal)) => match refusal.code().as_str() {
            "card_state" => Outcome::WrongState,
            "card_in_use" => Outcome::InUse,
            "card_not_found" => Outcome::NoCard,
            other => panic!("{other}"),
        },
        Err(AdminError::Fault(fault)) => panic!("{fault}"),
    }
}

/// Runs `count` random operations from `seed`; gives how many grants there were.
async fn check(url: &str, seed: u64, count: u32) -> u32 {
    let mut pair = pair(seed, url).await;
    let mut grants = 0;
    for n in 0..count {
        pair.now_ms += i64::try_from(pair.ids.below(12_000)).unwrap();
        let mut command = pair.command();
        let found = pair.ask_store(&mut command).await;
        let want = pair.book.apply(UnixTime::from_ms(pair.now_ms), &command);
        assert_eq!(found, want, "seed {seed}, operation {n}: {command:?}");
        grants += u32::from(matches!(want, Outcome::Granted { .. }));
        if n % 50 == 0 {
            pair.compare_cards().await;
        }
    }
    pair.compare_cards().await;
    let report = pair
        .store
        .check(UnixTime::from_ms(pair.now_ms - 1_000_000))
        .await
        .unwrap();
    assert!(report.clean, "seed {seed}: {:#?}", report.offenders);
    pair.store.close().await;
    grants
}

on_each_database!(the_store_agrees_with_the_model_over_random_operations);
async fn the_store_agrees_with_the_model_over_random_operations(on: Kind) {
    let mut grants = 0;
    for seed in 1..=6 {
        let database = Database::new(on).await;
        grants += check(&database.url, seed, 400).await;
    }
    assert!(
        grants > 150,
        "the run is no test if almost nothing is granted: {grants}"
    );
}
