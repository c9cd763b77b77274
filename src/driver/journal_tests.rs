use super::*;
use crate::card::Settlement;
use crate::ids::{CallKey, CardId};
use crate::units::TalkTime;

const NOW: UnixTime = UnixTime::from_ms(1_764_057_600_000);
const LIMIT: u64 = 4 << 20;

fn settle(call: u64) -> LedgerRequest {
    LedgerRequest::Settle(Settlement {
        call: CallKey::new(call),
        card: CardId::new(3),
        raw: TalkTime::from_secs(61),
        billed: TalkTime::from_secs(61),
    })
}

fn calls(pages: &Pages) -> Vec<u64> {
    let orders = pages.waiting.values().filter_map(|line| line.what.order());
    orders
        .map(|order| {
            let LedgerRequest::Settle(settlement) = order else {
                panic!("{order:?}");
            };
            settlement.call.get()
        })
        .collect()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cardline.db.journal");
    (dir, path)
}

/// What a killed process leaves: the file as it is, the lock free.
fn killed(pages: Pages) {
    drop(pages);
}

#[test]
fn what_was_written_is_there_after_a_kill_in_its_order() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    let ids = pages.append(NOW, 4, &[settle(1), settle(2)]).unwrap();
    pages.append(NOW, 4, &[settle(3)]).unwrap();
    pages.done(ids[0]).unwrap();
    killed(pages);
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    assert_eq!(calls(&pages), [2, 3]);
    assert!(
        pages
            .waiting
            .values()
            .all(|line| (line.epoch, line.at) == (4, NOW.as_ms()))
    );
    let fresh = pages.append(NOW, 5, &[settle(9)]).unwrap();
    assert!(fresh[0] > ids[1], "an id is not given twice: {fresh:?}");
}

#[test]
fn a_journal_whose_last_order_is_done_is_empty_and_keeps_its_room() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    for round in 0..3 {
        let ids = pages
            .append(NOW, 1, &[settle(round), settle(round + 10)])
            .unwrap();
        for id in ids {
            pages.done(id).unwrap();
        }
        assert_eq!(pages.end, 0);
    }
    killed(pages);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(bytes.len() as u64, ROOM);
    assert!(Pages::open(&path, LIMIT).unwrap().waiting.is_empty());
}

#[test]
fn a_line_torn_anywhere_costs_only_itself() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    pages.append(NOW, 1, &[settle(1)]).unwrap();
    let first = usize::try_from(pages.end).unwrap();
    pages.append(NOW, 1, &[settle(2)]).unwrap();
    let end = usize::try_from(pages.end).unwrap();
    killed(pages);
    let whole = std::fs::read(&path).unwrap();
    for cut in first..end {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        std::fs::write(&path, &torn).unwrap();
        let mut pages = Pages::open(&path, LIMIT).unwrap();
        assert_eq!((calls(&pages), pages.rejected), (vec![1], 0), "cut at {cut}");
        // The place of the torn line is used again.
        pages.append(NOW, 1, &[settle(3)]).unwrap();
        killed(pages);
        assert_eq!(calls(&Pages::open(&path, LIMIT).unwrap()), [1, 3], "cut at {cut}");
    }
}

#[test]
fn a_damaged_line_is_kept_as_evidence_and_the_others_go_on() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    pages.append(NOW, 1, &[settle(1), settle(2), settle(3)]).unwrap();
    killed(pages);
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 40;
    bytes[second] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let pages = Pages::open(&path, LIMIT).unwrap();
    assert_eq!((calls(&pages), pages.rejected), (vec![1, 3], 1));
    let evidence = std::fs::read_to_string(beside(&path, ".rejected")).unwrap();
    assert!(evidence.contains("damaged"), "{evidence}");
}

#[test]
fn a_rejected_order_leaves_the_journal_and_is_found_beside_it() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    let ids = pages.append(NOW, 1, &[settle(1), settle(2)]).unwrap();
    pages.reject(ids[0], NOW, "it is expired already").unwrap();
    killed(pages);
    let pages = Pages::open(&path, LIMIT).unwrap();
    assert_eq!((calls(&pages), pages.rejected), (vec![2], 1));
    let evidence = std::fs::read_to_string(beside(&path, ".rejected")).unwrap();
    assert!(evidence.contains("it is expired already"), "{evidence}");
    assert!(evidence.contains("61000"), "{evidence}");
}

#[test]
fn a_full_journal_refuses_in_words_and_takes_orders_again_when_some_are_done() {
    let (_dir, path) = place();
    let mut pages = Pages::open(&path, 1000).unwrap();
    let mut taken = Vec::new();
    let refusal = loop {
        match pages.append(NOW, 1, &[settle(taken.len() as u64)]) {
            Ok(ids) => taken.extend(ids),
            Err(refusal) => break refusal.to_string(),
        }
        assert!(taken.len() < 100, "a limit of 1000 bytes is never reached");
    };
    assert!(refusal.contains("is full (1000 bytes)"), "{refusal}");
    let kept = taken.split_off(taken.len() - 1);
    for id in taken {
        pages.done(id).unwrap();
    }
    pages.append(NOW, 1, &[settle(77)]).unwrap();
    killed(pages);
    let pages = Pages::open(&path, 1000).unwrap();
    assert_eq!(pages.waiting.keys().next(), kept.first());
    assert_eq!(calls(&pages).last(), Some(&77));
    assert_eq!(calls(&pages).len(), 2);
}

#[test]
fn nobody_else_reads_it_or_has_it_at_the_same_time() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, path) = place();
    let mut pages = Pages::open(&path, LIMIT).unwrap();
    let ids = pages.append(NOW, 1, &[settle(1)]).unwrap();
    pages.reject(ids[0], NOW, "why").unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let refusal = Pages::open(&path, LIMIT).unwrap_err().to_string();
    assert!(refusal.contains("another cardline"), "{refusal}");
    killed(pages);
    Pages::open(&path, LIMIT).unwrap();
}

#[tokio::test]
async fn many_hands_write_and_each_gets_its_own_ids() {
    let (_dir, path) = place();
    let journal = Journal::open(&path, LIMIT).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for call in 0..50 {
        let journal = journal.clone();
        tasks.spawn(async move {
            let ids = journal
                .append(NOW, 1, vec![settle(call), settle(call + 100)])
                .await;
            (call, ids.unwrap())
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (call, ids) = done.unwrap();
        assert_eq!(ids.len(), 2, "call {call}");
        all.extend(ids);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<u64>>());
    assert_eq!(journal.counts().entries, 100);
    for id in all {
        journal.done(id);
    }
    journal.close();
    assert_eq!(journal.counts(), Counts::default());
    assert!(Journal::open(&path, LIMIT).unwrap().take_left().is_empty());
    let refused = Journal::without_file().append(NOW, 1, vec![settle(1)]).await;
    assert!(matches!(refused, Err(JournalFault::None)), "{refused:?}");
}
