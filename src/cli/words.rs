//! The labels of the text output in English; German is what the code says.

use super::args::Lang;

/// The German label, or its English.
pub fn word(lang: Lang, german: &'static str) -> &'static str {
    match lang {
        Lang::De => german,
        Lang::En => ENGLISH
            .iter()
            .find(|(de, _)| *de == german)
            .map_or(german, |(_, en)| en),
    }
}

/// `1 Karte`, `2 Karten`.
pub fn counted(count: usize, one: &'static str, many: &'static str, lang: Lang) -> String {
    let name = if count == 1 { one } else { many };
    format!("{count} {}", word(lang, name))
}

/// A card's states as the API spells them.
pub const CARD_STATES: [&str; 6] = [
    "neu",
    "freigeschaltet",
    "leer",
    "abgelaufen",
    "gesperrt",
    "storniert",
];

const ENGLISH: [(&str, &str); 95] = [
    ("Angebot", "Quote"),
    ("Angriffsjahre je Treffer", "Years of attack per hit"),
    ("Anker", "Anchor"),
    ("Anruf", "Call"),
    ("Anrufe", "Calls"),
    ("Anrufer werden angenommen", "Callers are let in"),
    ("Anrufer", "Caller"),
    ("Anrufer: keiner freigeschaltet", "Caller: none activated"),
    ("Anschlüsse je Karte", "Lines per card"),
    ("Art", "Kind"),
    ("Beginn", "Start"),
    ("Berater nimmt mit 1 an", "Advisor presses 1"),
    ("Brutto", "Gross"),
    ("Buchung", "entry"),
    ("Buchungen", "entries"),
    ("Bücher geprüft", "Books checked"),
    ("Datenbank", "Database"),
    ("Ende", "End"),
    ("Freischalten und Beratung", "Activation and consultation"),
    ("Gespräch", "Talk"),
    ("Gespräche je Karte zugleich", "Calls per card at a time"),
    ("Grund", "Cause"),
    ("Halten pausiert (s)", "Hold pauses (s)"),
    ("Hinweis", "Note"),
    ("Karte", "Card"),
    ("Karten", "Cards"),
    ("Minuten", "Minutes"),
    ("Minutenpreis netto", "Net price per minute"),
    ("Netto", "Net"),
    ("Nr.", "No."),
    ("Nummer für die Beratung", "Number for consultation"),
    ("Nummer zum Freischalten", "Number to activate"),
    ("Nummer", "Number"),
    ("Nummern", "Numbers"),
    ("PIN-Länge", "PIN length"),
    ("Preis", "Price"),
    ("Projekt", "Project"),
    ("Reihenfolge", "Order"),
    ("Rest", "Rest"),
    ("Restzeit", "Talk time left"),
    ("Rolle", "Role"),
    ("SIP-Legs", "SIP legs"),
    ("SIP-Transaktionen", "SIP transactions"),
    ("Sprache", "Language"),
    ("Status", "State"),
    ("Takt (ms)", "Increments (ms)"),
    ("Tarifversion", "Tariff version"),
    ("USt", "VAT"),
    ("Version", "Version"),
    ("Zeit", "Time"),
    ("Ziel", "Target"),
    ("Zustand", "State"),
    ("angelegt", "created"),
    ("angenommen", "answered"),
    ("aus dem Ausland", "from abroad"),
    ("belastet", "charged"),
    ("davon im Gespräch", "of these talking"),
    ("durch", "by"),
    ("erstmals", "first"),
    ("frei unter (ms)", "free under (ms)"),
    ("freie Portpaare", "free port pairs"),
    ("freigeschaltet", "active"),
    ("neu", "new"),
    ("leer", "empty"),
    ("abgelaufen", "expired"),
    ("gesperrt", "blocked"),
    ("storniert", "cancelled"),
    ("aktiviert am", "activated"),
    ("gehalten", "held"),
    ("gekauft", "bought"),
    ("gemessen", "measured"),
    ("gewählt", "dialled"),
    ("gültig bis einschließlich", "valid to the end of"),
    ("gültig bis", "valid until"),
    ("im Inland", "in Germany"),
    ("klingelt (s)", "rings (s)"),
    ("kostenfrei", "free of charge"),
    ("längste Restzeit", "longest time left"),
    ("läuft seit", "running since"),
    ("nachher", "after"),
    ("nimmt keine Anrufe mehr", "takes no more calls"),
    ("noch nie", "never yet"),
    ("PIN-Angriff", "PIN attack"),
    ("offen", "open"),
    ("reserviert", "reserved"),
    ("sauber", "clean"),
    ("verbraucht", "used"),
    ("verbunden", "bridged"),
    ("vorher", "before"),
    ("was", "what"),
    ("wer", "who"),
    ("woran", "on what"),
    ("zuletzt benutzt", "last used"),
    ("zuletzt", "last"),
    ("Änderung", "Change"),
];
