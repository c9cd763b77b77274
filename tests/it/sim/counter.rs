//! What the operator does at the counter: sells, recharges, blocks.

use cardline::card::CardState;
use cardline::card::ledger::Command;
use cardline::ids::CardId;
use cardline::units::TalkTime;

use super::store::{Card, Store};

impl Store {
    pub fn recharge(&mut self, card: CardId, delta: i64) {
        let row = self.cards.get_mut(&card).expect("cards are never removed");
        row.entries.push((None, delta));
        row.balance += delta;
        let amount = TalkTime::from_ms(delta);
        self.model.apply(self.now, &Command::Recharge { card, amount });
    }

    pub fn sell(&mut self, id: CardId, mut card: Card) {
        if card.balance == 0 {
            // Nothing was bought yet, so nothing was activated.
            card.before_block = CardState::New;
            card.state = CardState::New;
        }
        let amount = TalkTime::from_ms(card.balance);
        let (max_parallel, expires_at) = (card.max_parallel, card.expires_at);
        let buy = Command::Buy {
            card: id,
            amount,
            max_parallel,
            expires_at,
        };
        self.model.apply(self.now, &buy);
        if card.state != CardState::New {
            self.model.apply(self.now, &Command::Activate { card: id });
        }
        if card.state == CardState::Blocked {
            self.model.apply(self.now, &Command::Block { card: id });
        }
        self.cards.insert(id, card);
    }

    pub fn block(&mut self, id: CardId) {
        let card = self.cards.get_mut(&id).expect("cards are never removed");
        if matches!(card.state, CardState::New | CardState::Active) {
            card.before_block = card.state;
            card.state = CardState::Blocked;
        }
        self.model.apply(self.now, &Command::Block { card: id });
    }

    pub fn unblock(&mut self, id: CardId) {
        let card = self.cards.get_mut(&id).expect("cards are never removed");
        if card.state == CardState::Blocked {
            card.state = card.before_block;
        }
        self.model.apply(self.now, &Command::Unblock { card: id });
    }
}
