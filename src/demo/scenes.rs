//! The four scenes, each with its assertions (operator.md 7).

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::cdr::EndCause;
use crate::now::Instant;
use crate::switch::CallHappening;
use crate::units::TalkTime;

use super::phone::Behaviour;
use super::stage::{Flop, LINE, NUMBER, SOON, Stage, must};

/// What scene A measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutFigures {
    /// From the advisor's answer to the BYE at the advisor's phone, beyond the card's time.
    pub error_us: i64,
    pub raw: TalkTime,
    pub billed: TalkTime,
}

/// The card of all scenes.
#[derive(Debug)]
pub struct Card {
    pub serial: String,
    pin: String,
}

/// Opens the project, as the operator's guide does.
pub fn prelude(stage: &Stage, language: &str, advisor_port: u16) -> Result<(), Flop> {
    let project = json!({ "name": "demo", "language": language });
    stage.operate(
        &format!("project new demo --lang {language}"),
        "POST",
        "/api/v1/projects",
        Some(project),
    )?;
    let number = json!({ "number": NUMBER, "project": "demo", "role": "both" });
    let shown = format!("number add {NUMBER} --project demo --role both");
    stage.operate(&shown, "POST", "/api/v1/numbers", Some(number))?;
    let uri = format!("sip:advisor@127.0.0.1:{advisor_port}");
    let shown = format!("target add --project demo {uri}");
    let target = json!({ "project": "demo", "address": uri });
    stage.operate(&shown, "POST", "/api/v1/targets", Some(target))?;
    Ok(())
}

/// A: a new card, a wrong PIN, the right one, the bridge, the warning, the cut at the exact second.
pub fn a_new_card(stage: &mut Stage, talk: TalkTime) -> Result<(Card, CutFigures), Flop> {
    stage
        .screen
        .heading("A  new card: wrong PIN, right PIN, talk, warning, cut");
    let card = buy(stage, talk)?;
    stage.screen.columns();
    stage.advisor_will(Behaviour::AnswerAfter(Duration::from_millis(1500)));
    stage.dial(Some(LINE));
    stage.until_prompt("pin_enter")?;
    stage.talk(Duration::from_millis(1500))?;
    stage.press(&wrong(&card.pin));
    stage.until_prompt("pin_wrong")?;
    stage.talk(Duration::from_millis(2500))?;
    stage.press(&card.pin);
    let granted = stage.until_bridge(false)?;
    must(granted == talk, || {
        format!(
            "granted {} ms, the card holds {} ms",
            granted.as_ms(),
            talk.as_ms()
        )
    })?;
    let begun = stage.answered(&stage.advisor)?;
    stage
        .talks
        .push((begun + Duration::from_secs(2), begun + Duration::from_secs(4)));
    stage.screen.balance(stage.now(), talk, talk);
    countdown(stage, begun, talk)?;
    let (ended, causes) = stage.ended(&stage.advisor)?;
    let error = i64::try_from(ended.since(begun).as_micros()).unwrap_or(i64::MAX) - talk.as_ms() * 1000;
    must(causes == [16, 402], || {
        format!("the advisor's BYE names {causes:?}, want Q.850 16 and SIP 402")
    })?;
    stage.talk(Duration::from_secs(5))?;
    stage.hang_up();
    let ending = stage.until_ended(SOON)?;
    must(ending.raw == talk, || {
        format!("raw {} ms, want {} ms", ending.raw.as_ms(), talk.as_ms())
    })?;
    must(ending.billed == talk, || {
        format!("billed {} ms, want {} ms", ending.billed.as_ms(), talk.as_ms())
    })?;
    let shown = stage.card(&card.serial)?;
    must(shown["balance_ms"] == 0 && shown["state"] == "leer", || {
        format!("the card after the cut: {shown}")
    })?;
    must(shown["lines"][0]["e164"] == LINE, || {
        format!("the line is not remembered: {shown}")
    })?;
    stage.screen.balance(stage.now(), TalkTime::ZERO, talk);
    Ok((
        card,
        CutFigures {
            error_us: error,
            raw: ending.raw,
            billed: ending.billed,
        },
    ))
}

/// The bar each ten seconds, until the warning and the end prompt are through.
fn countdown(stage: &Stage, begun: Instant, talk: TalkTime) -> Result<(), Flop> {
    let mut warned = Vec::new();
    let mut shown = 0;
    stage.until("the cut", talk.to_duration() + SOON, |what| {
        let tens = stage.now().since(begun).as_secs() / 10;
        if tens > shown {
            shown = tens;
            let used = TalkTime::from_duration(stage.now().since(begun));
            stage.screen.balance(stage.now(), talk.saturating_sub(used), talk);
        }
        match what {
            CallHappening::Warned { seconds } => {
                warned.push(*seconds);
                None
            }
            CallHappening::Playing { prompts, .. } if prompts.starts_with("exhausted") => Some(()),
            CallHappening::Started
            | CallHappening::State(_)
            | CallHappening::Playing { .. }
            | CallHappening::Activated { .. }
            | CallHappening::Bridged { .. }
            | CallHappening::Extended { .. }
            | CallHappening::Ended { .. } => None,
        }
    })?;
    must(warned.first() == Some(&super::WARNING_S), || {
        format!("warned at {warned:?} s, want {} s", super::WARNING_S)
    })
}

/// B: the same line again: no PIN, the remaining time, the advisor is busy; nothing is charged.
pub fn b_known_line(stage: &mut Stage, card: &Card) -> Result<(), Flop> {
    stage
        .screen
        .heading("B  recharged; the same line again: no PIN, remaining time, advisor busy");
    let before = stage.recharge(&card.serial, 10)?;
    must(before["balance_ms"] == 600_000, || {
        format!("after the recharge: {before}")
    })?;
    stage.screen.columns();
    stage.advisor_will(Behaviour::Busy);
    stage.dial(Some(LINE));
    stage.until_prompt("rest_010")?;
    stage.until_prompt("adv_busy")?;
    let ending = stage.until_ended(SOON)?;
    must(ending.cause == EndCause::Busy && ending.billed.is_zero(), || {
        format!("ended as {ending:?}")
    })?;
    let after = stage.card(&card.serial)?;
    must(
        after["balance_ms"] == 600_000 && after["reserved_ms"] == 0,
        || format!("a busy advisor cost: {after}"),
    )
}

/// C: a withheld caller is asked again, and is not remembered.
pub fn c_withheld(stage: &mut Stage, card: &Card) -> Result<(), Flop> {
    stage.screen.heading("C  a withheld number: the PIN again");
    stage.screen.columns();
    stage.advisor_will(Behaviour::AnswerAfter(Duration::from_millis(800)));
    stage.dial(None);
    stage.until_prompt("pin_enter")?;
    stage.press(&card.pin);
    stage.until_bridge(false)?;
    let begun = stage.answered(&stage.advisor)?;
    stage.talk(Duration::from_secs(6))?;
    stage
        .talks
        .push((begun + Duration::from_secs(2), begun + Duration::from_secs(4)));
    stage.hang_up();
    let ending = stage.until_ended(SOON)?;
    must(ending.cause == EndCause::CallerBye, || {
        format!("ended as {ending:?}")
    })?;
    let shown = stage.card(&card.serial)?;
    let lines = shown["lines"].as_array().map_or(0, Vec::len);
    must(lines == 1, || format!("a withheld line was remembered: {shown}"))?;
    let balance = 600_000 - ending.billed.as_ms();
    must(shown["balance_ms"] == balance, || {
        format!("balance must be {balance} ms: {shown}")
    })
}

/// D: a short card, direct connection, warning; recharged while the caller talks: the call goes on.
pub fn d_recharge(stage: &mut Stage, card: &Card) -> Result<(), Flop> {
    stage
        .screen
        .heading("D  connected directly; recharged during the call");
    let short = TalkTime::from_secs(super::WARNING_S + 5);
    let balance = stage.card(&card.serial)?["balance_ms"].as_i64().unwrap_or(0);
    correct(stage, &card.serial, short.as_ms() - balance)?;
    stage.screen.columns();
    stage.dial(Some(LINE));
    let granted = stage.until_bridge(true)?;
    must(granted == short, || {
        format!("granted {} ms, want {} ms", granted.as_ms(), short.as_ms())
    })?;
    let begun = stage.answered(&stage.advisor)?;
    stage.until("the warning", SOON, |what| {
        matches!(what, CallHappening::Warned { .. }).then_some(())
    })?;
    stage.recharge(&card.serial, 5)?;
    stage.until("the new limit", SOON, |what| {
        matches!(what, CallHappening::Extended { .. }).then_some(())
    })?;
    let rest = (begun + short.to_duration()).since(stage.now());
    stage.talk(rest + Duration::from_secs(2))?;
    stage.hang_up();
    let ending = stage.until_ended(SOON)?;
    must(ending.cause == EndCause::CallerBye, || {
        format!("ended as {ending:?}")
    })?;
    must(ending.raw > short, || {
        format!(
            "raw {} ms: the call did not outlive the old limit",
            ending.raw.as_ms()
        )
    })?;
    let shown = stage.card(&card.serial)?;
    let want = short.as_ms() + 300_000 - ending.billed.as_ms();
    must(shown["balance_ms"] == want, || {
        format!("balance must be {want} ms: {shown}")
    })
}

fn buy(stage: &Stage, talk: TalkTime) -> Result<Card, Flop> {
    let body = json!({ "project": "demo", "minutes": 1, "note": "Erika Musterfrau" });
    let shown = "card buy --project demo --minutes 1 --note \"Erika Musterfrau\"";
    let bought = stage.operate(shown, "POST", "/api/v1/cards", Some(body))?;
    let word = |key: &str| bought[key].as_str().unwrap_or_default().to_owned();
    let card = Card {
        serial: word("serial"),
        pin: word("pin"),
    };
    must(!card.serial.is_empty() && card.pin.len() >= 8, || {
        "the answer to buy lacks serial or PIN".into()
    })?;
    correct(stage, &card.serial, talk.as_ms() - 60_000)?;
    Ok(card)
}

/// A demo has no minute to wait for: the operator corrects the balance by a booked entry.
fn correct(stage: &Stage, serial: &str, delta_ms: i64) -> Result<Value, Flop> {
    if delta_ms == 0 {
        return Ok(Value::Null);
    }
    let shown = format!("card correct {serial} --seconds {}", delta_ms / 1000);
    let body = json!({ "delta_ms": delta_ms, "reason": "demo" });
    stage.operate(
        &shown,
        "POST",
        &format!("/api/v1/cards/{serial}/correct"),
        Some(body),
    )
}

/// A PIN of the same length that is not this one.
fn wrong(pin: &str) -> String {
    pin.bytes().map(|b| if b == b'9' { '1' } else { '9' }).collect()
}
