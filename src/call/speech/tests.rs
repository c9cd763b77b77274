//! The grammar tables of `prompts/`, over all values, against sentences that are built here in
//! another way: as text, language by language, which the code under test must not know.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const DE: &str = include_str!("../../../prompts/de/grammar.toml");
const EN: &str = include_str!("../../../prompts/en/grammar.toml");
const HOURS: (&str, &str) = ("# hours_from = 121", "hours_from = 121");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    prompts: BTreeMap<String, String>,
    #[serde(rename = "say")]
    _say: BTreeMap<String, String>,
}

fn texts(language: &str) -> BTreeMap<String, String> {
    let text = match language {
        "de" => include_str!("../../../prompts/de/catalogue.toml"),
        _ => include_str!("../../../prompts/en/catalogue.toml"),
    };
    toml::from_str::<Catalogue>(text).unwrap().prompts
}

fn grammars() -> [Grammar; 2] {
    [DE, EN].map(|text| Grammar::parse(text).unwrap())
}

fn read(texts: &BTreeMap<String, String>, prompts: &[PromptId]) -> String {
    let words: Vec<&str> = prompts.iter().map(|id| texts[id.as_str()].as_str()).collect();
    words.join(" ")
}

const DE_UNITS: [&str; 20] = [
    "null",
    "ein",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
];
const DE_TENS: [&str; 8] = [
    "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig",
];
const EN_UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const EN_TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// In one word, as German writes it before a noun.
fn german(n: usize) -> String {
    match n {
        0..20 => DE_UNITS[n].to_owned(),
        20..100 if n.is_multiple_of(10) => DE_TENS[n / 10 - 2].to_owned(),
        20..100 => format!("{}und{}", DE_UNITS[n % 10], DE_TENS[n / 10 - 2]),
        100..1000 if n.is_multiple_of(100) => format!("{}hundert", DE_UNITS[n / 100]),
        100..1000 => format!("{}hundert{}", DE_UNITS[n / 100], german(n % 100)),
        _ if n.is_multiple_of(1000) => format!("{}tausend", DE_UNITS[n / 1000]),
        _ => format!("{}tausend{}", DE_UNITS[n / 1000], german(n % 1000)),
    }
}

fn english(n: usize) -> String {
    match n {
        0..20 => EN_UNITS[n].to_owned(),
        20..100 if n.is_multiple_of(10) => EN_TENS[n / 10 - 2].to_owned(),
        20..100 => format!("{}-{}", EN_TENS[n / 10 - 2], EN_UNITS[n % 10]),
        100..1000 if n.is_multiple_of(100) => format!("{} hundred", EN_UNITS[n / 100]),
        100..1000 => format!("{} hundred and {}", EN_UNITS[n / 100], english(n % 100)),
        _ if n.is_multiple_of(1000) => format!("{} thousand", EN_UNITS[n / 1000]),
        _ if n % 1000 < 100 => format!("{} thousand and {}", EN_UNITS[n / 1000], english(n % 1000)),
        _ => format!("{} thousand {}", EN_UNITS[n / 1000], english(n % 1000)),
    }
}

/// The sentence for this many hours, minutes and seconds; zero parts are left out.
fn expected(language: &str, parts: [usize; 3]) -> String {
    let de = language == "de";
    let nouns = if de {
        [
            ("Stunde", "Stunden"),
            ("Minute", "Minuten"),
            ("Sekunde", "Sekunden"),
        ]
    } else {
        [("hour", "hours"), ("minute", "minutes"), ("second", "seconds")]
    };
    let said: Vec<String> = (parts.iter().zip(nouns))
        .filter(|(n, _)| **n > 0)
        .map(|(n, (one, many))| match (*n, de) {
            (1, true) => format!("eine {one}"),
            (1, false) => format!("one {one}"),
            (n, true) => format!("{} {many}", german(n)),
            (n, false) => format!("{} {many}", english(n)),
        })
        .collect();
    let and = if de { " und " } else { " and " };
    let said = match said.as_slice() {
        [hours, minutes, seconds] => format!("{hours} {minutes}{and}{seconds}"),
        few => few.join(and),
    };
    match de {
        true => format!("Sie haben noch {said} Gesprächszeit."),
        false => format!("You have {said} of talk time left."),
    }
}

/// German numbers are one word on paper and several recordings in the ear.
fn as_compared(language: &str, text: &str) -> String {
    match language {
        "de" => text.replace(' ', ""),
        _ => text.to_owned(),
    }
}

fn assert_reads(grammar: &Grammar, secs: u32, parts: [usize; 3]) {
    let language = grammar.language().to_owned();
    let texts = texts_once(&language);
    let got = read(texts, &grammar.remaining_time(TalkTime::from_secs(secs)));
    assert_eq!(
        as_compared(&language, &got),
        as_compared(&language, &expected(&language, parts)),
        "{secs} s, {language}"
    );
    for wrong in [
        "eins",
        "eine Minuten",
        "noch ein ",
        "have one minutes",
        "null",
        "zero",
        "  ",
    ] {
        assert!(!got.contains(wrong), "{wrong:?} in {got:?}");
    }
}

fn texts_once(language: &str) -> &'static BTreeMap<String, String> {
    use std::sync::LazyLock;
    static BOTH: LazyLock<[BTreeMap<String, String>; 2]> = LazyLock::new(|| ["de", "en"].map(texts));
    &BOTH[usize::from(language != "de")]
}

#[test]
fn every_minute_to_9999_reads_as_the_language_has_it() {
    for grammar in grammars() {
        for minutes in 1..=9999_u32 {
            assert_reads(&grammar, minutes * 60, [0, minutes as usize, 0]);
        }
    }
}

#[test]
fn seconds_are_spoken_under_a_minute_and_their_tens_under_ten() {
    for grammar in grammars() {
        for secs in 1..60_u32 {
            assert_reads(&grammar, secs, [0, 0, secs as usize]);
        }
        for secs in 60..600_u32 {
            let (minutes, tens) = (secs as usize / 60, secs as usize % 60 / 10 * 10);
            assert_reads(&grammar, secs, [0, minutes, tens]);
        }
        for secs in [600, 659, 660, 7_259, 7_319] {
            assert_reads(&grammar, secs, [0, secs as usize / 60, 0]);
        }
    }
}

#[test]
fn hours_are_spoken_from_121_minutes_where_a_table_says_so() {
    for text in [DE, EN] {
        assert!(text.contains(HOURS.0));
        let grammar = Grammar::parse(&text.replace(HOURS.0, HOURS.1)).unwrap();
        assert_reads(&grammar, 120 * 60, [0, 120, 0]);
        for minutes in 121..=9999_u32 {
            let (hours, left) = (minutes as usize / 60, minutes as usize % 60);
            assert_reads(&grammar, minutes * 60, [hours, left, 0]);
        }
    }
}

#[test]
fn nothing_left_gives_nothing_to_say() {
    for grammar in grammars() {
        for ms in [i64::MIN, -60_000, -1, 0, 1, 999] {
            assert!(
                grammar.remaining_time(TalkTime::from_ms(ms)).is_empty(),
                "{ms} ms"
            );
        }
    }
}

#[test]
fn more_than_9999_minutes_is_spoken_as_9999() {
    for grammar in grammars() {
        let most = grammar.remaining_time(TalkTime::from_minutes(MOST_MINUTES));
        for ms in [MOST_MINUTES as i64 * 60_000 + 59_999, 600_000_000, i64::MAX] {
            assert_eq!(grammar.remaining_time(TalkTime::from_ms(ms)), most);
        }
    }
}

#[test]
fn a_table_without_seconds_says_less_than_a_minute() {
    let grammar = Grammar::parse(&DE.replace("seconds = true", "seconds = false")).unwrap();
    for (ms, id) in [(1_000, "rest_000"), (59_999, "rest_000"), (119_999, "rest_001")] {
        let got = grammar.remaining_time(TalkTime::from_ms(ms));
        assert_eq!(got, [PromptId::named(id.to_owned())]);
    }
    assert!(grammar.remaining_time(TalkTime::from_ms(999)).is_empty());
}

#[test]
fn picked_values_give_these_prompts() {
    let mut lines = String::new();
    for grammar in grammars() {
        for secs in [1, 59, 60, 61, 70, 119, 600, 1_260, 7_200, 7_260, 60_060, 599_940] {
            let prompts = grammar.remaining_time(TalkTime::from_secs(secs));
            let ids: Vec<&str> = prompts.iter().map(PromptId::as_str).collect();
            let line = format!("{} {secs}: {}\n", grammar.language(), ids.join(" "));
            lines.push_str(&line);
        }
    }
    expect![[r#"
        de 1: rest_pre number_1_feminine second_one rest_post
        de 59: rest_pre number_59 second_other rest_post
        de 60: rest_001
        de 61: rest_001
        de 70: rest_pre number_1_feminine minute_one and number_10 second_other rest_post
        de 119: rest_pre number_1_feminine minute_one and number_50 second_other rest_post
        de 600: rest_010
        de 1260: rest_021
        de 7200: rest_120
        de 7260: rest_pre hundred_1 number_21 minute_other rest_post
        de 60060: rest_pre thousand_1 number_1_ending minute_other rest_post
        de 599940: rest_pre thousand_9 hundred_9 number_99 minute_other rest_post
        en 1: rest_pre number_1 second_one rest_post
        en 59: rest_pre number_59 second_other rest_post
        en 60: rest_001
        en 61: rest_001
        en 70: rest_pre number_1 minute_one and number_10 second_other rest_post
        en 119: rest_pre number_1 minute_one and number_50 second_other rest_post
        en 600: rest_010
        en 1260: rest_021
        en 7200: rest_120
        en 7260: rest_pre hundred_1 and number_21 minute_other rest_post
        en 60060: rest_pre thousand_1 and number_1 minute_other rest_post
        en 599940: rest_pre thousand_9 hundred_9 and number_99 minute_other rest_post
    "#]]
    .assert_eq(&lines);
}

#[test]
fn the_catalogues_have_every_required_prompt_and_no_other() {
    for grammar in grammars() {
        let required: BTreeSet<_> = grammar
            .required()
            .iter()
            .map(|id| id.as_str().to_owned())
            .collect();
        let written: BTreeSet<_> = texts(grammar.language()).into_keys().collect();
        assert_eq!(required, written, "{}", grammar.language());
    }
}

#[test]
fn telephone_numbers_are_read_as_dialled_from_home() {
    for (number, want) in [
        ("+493023125101", "03023125101"),
        ("+4989123", "089123"),
        ("+43199", "0043199"),
        ("+123456789012345", "00123456789012345"),
    ] {
        for grammar in grammars() {
            let got = grammar.telephone(&E164::parse(number).unwrap());
            assert_eq!(got, grammar.digits(want), "{number}");
            let ids: String = got.iter().map(|id| id.as_str().replace("digit_", "")).collect();
            assert_eq!(ids, want);
        }
    }
}

#[test]
fn what_is_no_digit_is_passed_over_and_the_list_is_bounded() {
    let [grammar, _] = grammars();
    assert_eq!(grammar.digits("0 30/23-5x").len(), 6);
    assert!(grammar.digits("abc").is_empty());
    assert_eq!(grammar.digits(&"7".repeat(1000)).len(), MOST_DIGITS);
}

#[test]
fn plural_classes_of_other_languages_are_data() {
    let text = DE
        .replace("exactly = [1]\n", "ends = [1]\nnot_ending = [11]\n[[plural]]\nclass = \"few\"\nends = [2, 3, 4]\nnot_ending = [12, 13, 14]\n")
        .replace("other = \"minute_other\"", "few = \"minute_few\", other = \"minute_other\"")
        .replace("other = \"hour_other\"", "few = \"hour_few\", other = \"hour_other\"")
        .replace("other = \"second_other\"", "few = \"second_few\", other = \"second_other\"");
    let grammar = Grammar::parse(&text).unwrap();
    for (minutes, noun) in [
        (221, "minute_one"),
        (211, "minute_other"),
        (222, "minute_few"),
        (212, "minute_other"),
        (225, "minute_other"),
    ] {
        let prompts = grammar.remaining_time(TalkTime::from_minutes(minutes));
        assert_eq!(prompts[prompts.len() - 2].as_str(), noun, "{minutes}");
    }
    assert!(grammar.required().contains(&PromptId::fixed("minute_few")));
}

#[test]
fn a_faulty_table_is_refused_by_the_name_of_its_key() {
    for (from, to, want) in [
        ("language = ", "langauge = ", "unknown field"),
        ("up_to = 120", "up_to = 1000", "whole.up_to"),
        ("up_to = 120", "up_to = -1", "grammar.toml"),
        (
            "\"hour\", \"minute\", \"second\"",
            "\"hour\", \"minute\"",
            "time.order",
        ),
        ("\"hour\", \"minute\"", "\"hour\", \"hour\"", "time.order"),
        ("[[plural]]\n", "[[plural]]\nfoo = 1\n", "unknown field"),
        ("class = \"one\"", "class = \"two\"", "plural class \"two\""),
        ("gender = \"feminine\"", "gender = \"masculine\"", "\"masculine\""),
        ("before = \"rest_pre\"", "before = \"../rest\"", "carrier.before"),
        ("id = \"number_1_ending\"", "id = \"\"", "gender"),
        (
            "trunk_prefix = \"0\"",
            "trunk_prefix = \"x\"",
            "telephone.trunk_prefix",
        ),
        (HOURS.0, "hours_from = 60", "time.hours_from"),
        ("seconds = true", "", "seconds"),
    ] {
        assert!(DE.contains(from), "{from}");
        let fault = Grammar::parse(&DE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(fault.contains(want), "{to:?} gave: {fault}");
    }
}

proptest! {
    #[test]
    fn any_balance_is_spoken_with_required_prompts_only(ms: i64, hours: bool) {
        for text in [DE, EN] {
            let text = if hours { text.replace(HOURS.0, HOURS.1) } else { text.to_owned() };
            let grammar = Grammar::parse(&text).unwrap();
            let required = grammar.required();
            // Also balances that cards have: `ms` itself is mostly beyond 9999 minutes.
            for ms in [ms, ms % 600_000_000, ms % 600_000] {
                let prompts = grammar.remaining_time(TalkTime::from_ms(ms));
                prop_assert!(prompts.len() <= 16);
                prop_assert!(prompts.iter().all(|id| required.contains(id)));
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", at in 0..DE.len()) {
        drop(Grammar::parse(&text));
        if let Some((head, tail)) = DE.split_at_checked(at) {
            drop(Grammar::parse(&format!("{head}{text}{tail}")));
        }
    }
}
