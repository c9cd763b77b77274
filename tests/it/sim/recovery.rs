//! What a new life of a node, or another node, does in the books for one that died: every
//! reservation ends at its last checkpoint, every CDR is closed (reliability.md R1, §4).

use cardline::call::cdr::{Cdr, EndCause};
use cardline::card::Settlement;
use cardline::card::ledger::Command;
use cardline::ids::{CallKey, CardId};
use cardline::media::LegStats;
use cardline::units::TalkTime;

use super::store::{Clerk, Row, Store};

/// Every tariff of a run has it so.
const FREE_UNDER_MS: i64 = 5000;

impl Store {
    /// Ends what the lives of `node` before now have left. A second time finds nothing.
    pub fn recover(&mut self, clerk: Clerk, node: usize) {
        let open = |(key, row): (&(CallKey, CardId), &Row)| {
            (row.node == node && row.settled.is_none()).then_some(*key)
        };
        let left: Vec<(CallKey, CardId)> = self.rows.iter().filter_map(open).collect();
        for key in left {
            self.end_at_checkpoint(key);
        }
        // The model knows of one node only: what others have open stays.
        let others = |(key, row): (&(CallKey, CardId), &Row)| row.settled.is_none().then_some(key.0);
        let restorable = self.rows.iter().filter_map(others).collect();
        self.tell_model(clerk, &Command::Recover { restorable });
        let left: Vec<CallKey> = (self.cdrs.iter())
            .filter(|(_, row)| row.node == node && row.closing.is_none() && row.opening.is_some())
            .map(|(call, _)| *call)
            .collect();
        for call in left {
            let cdr = self.what_is_known(clerk, call);
            if let Some(row) = self.cdrs.get_mut(&call) {
                row.closing = Some(cdr);
            }
        }
        self.check();
    }

    fn end_at_checkpoint(&mut self, key: (CallKey, CardId)) {
        let Some(row) = self.rows.get_mut(&key) else {
            return;
        };
        // Never past the checkpoint, not even by rounding; short talk stays free.
        let billed = if row.used < FREE_UNDER_MS { 0 } else { row.used };
        let settlement = Settlement {
            call: key.0,
            card: key.1,
            raw: TalkTime::from_ms(row.used),
            billed: TalkTime::from_ms(billed),
        };
        row.settled = Some(settlement);
        row.recovered = true;
        self.enter_usage(key, billed);
    }

    fn what_is_known(&self, clerk: Clerk, call: CallKey) -> Cdr {
        let rows = self.rows.iter().filter(|((key, _), _)| *key == call);
        let settled: Vec<&Settlement> = rows.filter_map(|(_, row)| row.settled.as_ref()).collect();
        let talked = settled.iter().any(|s| !s.raw.is_zero());
        Cdr {
            call,
            card: settled.last().map(|s| s.card),
            target: None,
            answered_at: None,
            ringing_at: None,
            advisor_answered_at: None,
            bridged_at: talked.then_some(clerk.wall),
            ended_at: clerk.wall,
            hold: TalkTime::ZERO,
            raw: TalkTime::from_ms(settled.iter().map(|s| s.raw.as_ms()).sum()),
            billed: TalkTime::from_ms(settled.iter().map(|s| s.billed.as_ms()).sum()),
            end_cause: EndCause::CrashRecovered,
            warnings_s: Vec::new(),
            codec: None,
            stats_a: LegStats::default(),
            stats_b: LegStats::default(),
            tariff_version: None,
            attempts: Vec::new(),
        }
    }
}
