-- Cardline's schema, first version: the reader's first stop.
--
-- Conventions, in both databases alike:
--   * integers only: *_ms milliseconds of talk time, *_at milliseconds since 1970 UTC,
--     *_cents euro cents, *_bp basis points; truth is 0 or 1;
--   * rows are never deleted: removed_at ends them;
--   * a call is named by the 16 hex digits of its key, a write by the 32 hex digits of its op id;
--   * words of an enumeration stand in a CHECK; the German ones are the operator's own.

-- One value per name: pin_key_proof, audit_head.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- A process that serves calls. Each start raises its epoch, so that reservations and CDRs of an
-- earlier life are known as such. A later version adds a lease with an expiry here.
CREATE TABLE node (
    name       TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    started_at INTEGER NOT NULL
);

-- The tenant who sells cards. Every other row reaches exactly one of them (I15).
CREATE TABLE operator (
    id                 INTEGER PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    address            TEXT NOT NULL DEFAULT '',
    vat_id             TEXT NOT NULL DEFAULT '',
    -- Days end here (I14).
    time_zone          TEXT NOT NULL DEFAULT 'Europe/Berlin',
    -- Open invoice lines may reach this; null is no limit.
    credit_limit_cents INTEGER CHECK (credit_limit_cents >= 0),
    state              TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'closed')),
    created_at         INTEGER NOT NULL
);

CREATE TABLE tariff (
    id          INTEGER PRIMARY KEY,
    operator_id INTEGER NOT NULL REFERENCES operator (id),
    name        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
);

-- The rules and the price of one tariff from a moment on. Never changes (I18): an edit makes a row.
CREATE TABLE tariff_version (
    id                          INTEGER PRIMARY KEY,
    tariff_id                   INTEGER NOT NULL REFERENCES tariff (id),
    -- Net, thousandths of a cent; 0 is „kostenfrei".
    price_per_minute_millicents INTEGER NOT NULL CHECK (price_per_minute_millicents >= 0),
    vat_bp                      INTEGER NOT NULL CHECK (vat_bp BETWEEN 0 AND 10000),
    first_increment_ms          INTEGER NOT NULL CHECK (first_increment_ms > 0),
    next_increment_ms           INTEGER NOT NULL CHECK (next_increment_ms > 0),
    minimum_ms                  INTEGER NOT NULL CHECK (minimum_ms >= 0),
    free_under_ms               INTEGER NOT NULL CHECK (free_under_ms >= 0),
    connect_fee_ms              INTEGER NOT NULL CHECK (connect_fee_ms >= 0),
    -- A card expires on 31 December of this year after purchase, end of local day; 0 is never.
    expiry_years                INTEGER NOT NULL CHECK (expiry_years BETWEEN 0 AND 30),
    created_at                  INTEGER NOT NULL
);

CREATE TABLE project (
    id                INTEGER PRIMARY KEY,
    operator_id       INTEGER NOT NULL REFERENCES operator (id),
    name              TEXT NOT NULL,
    language          TEXT NOT NULL CHECK (language IN ('de', 'en')),
    prompt_set        TEXT NOT NULL,
    enabled           INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    tariff_id         INTEGER NOT NULL REFERENCES tariff (id),
    -- The version that is sold and charged now.
    tariff_version_id INTEGER NOT NULL REFERENCES tariff_version (id),
    -- Policy A3: lines a card remembers; 1 replaces, 0 remembers none.
    max_lines         INTEGER NOT NULL DEFAULT 3 CHECK (max_lines BETWEEN 0 AND 100),
    -- Null: 10, and 12 from 300 live cards on.
    pin_length        INTEGER CHECK (pin_length BETWEEN 8 AND 12),
    accept_key        INTEGER NOT NULL DEFAULT 0 CHECK (accept_key IN (0, 1)),
    -- Longest pause of the clock while the advisor holds; null lets it run.
    hold_pause_ms     INTEGER DEFAULT 600000 CHECK (hold_pause_ms > 0),
    show_caller       INTEGER NOT NULL DEFAULT 0 CHECK (show_caller IN (0, 1)),
    show_note         INTEGER NOT NULL DEFAULT 0 CHECK (show_note IN (0, 1)),
    -- Calls at a time on one new card.
    max_parallel      INTEGER NOT NULL DEFAULT 1 CHECK (max_parallel BETWEEN 1 AND 1000),
    created_at        INTEGER NOT NULL,
    UNIQUE (operator_id, name)
);

-- A number of ours that a trunk delivers.
CREATE TABLE number (
    id         INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id),
    e164       TEXT NOT NULL,
    trunk      TEXT,
    role       TEXT NOT NULL CHECK (role IN ('activation', 'consultation', 'both')),
    added_at   INTEGER NOT NULL,
    removed_at INTEGER
);
CREATE UNIQUE INDEX number_live ON number (e164) WHERE removed_at IS NULL;

-- A dialable address of an advisor, as it was typed.
CREATE TABLE target (
    id         INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id),
    address    TEXT NOT NULL,
    position   INTEGER NOT NULL,
    ring_ms    INTEGER NOT NULL CHECK (ring_ms BETWEEN 5000 AND 180000),
    added_at   INTEGER NOT NULL,
    removed_at INTEGER
);
CREATE INDEX target_by_project ON target (project_id, position);

-- The prepaid product. balance_ms is the sum of its ledger entries (I1), reserved_ms that of its
-- open reservations, open_calls the number of calls that have one: all three move only in the
-- transaction that writes the entry or the reservation. `leer` is derived, never stored.
CREATE TABLE card (
    id            INTEGER PRIMARY KEY,
    project_id    INTEGER NOT NULL REFERENCES project (id),
    serial        TEXT NOT NULL UNIQUE,
    note          TEXT NOT NULL DEFAULT '',
    -- HMAC-SHA256 under a key outside the database, for look-up; XChaCha20-Poly1305 to show it again.
    pin_hash      TEXT NOT NULL,
    pin_sealed    TEXT NOT NULL,
    pin_length    INTEGER NOT NULL CHECK (pin_length BETWEEN 8 AND 12),
    state         TEXT NOT NULL
        CHECK (state IN ('neu', 'freigeschaltet', 'abgelaufen', 'gesperrt', 'storniert')),
    -- What an unblock goes back to.
    state_before  TEXT CHECK (state_before IN ('neu', 'freigeschaltet', 'abgelaufen')),
    balance_ms    INTEGER NOT NULL DEFAULT 0,
    reserved_ms   INTEGER NOT NULL DEFAULT 0 CHECK (reserved_ms >= 0),
    open_calls    INTEGER NOT NULL DEFAULT 0 CHECK (open_calls >= 0),
    -- Amount of the newest slice: lets one UPDATE both decide it and tell it.
    last_grant_ms INTEGER NOT NULL DEFAULT 0 CHECK (last_grant_ms >= 0),
    max_parallel  INTEGER NOT NULL CHECK (max_parallel >= 1),
    -- Of the newest ledger entry, from which the next one's chain goes on.
    last_seq      INTEGER NOT NULL DEFAULT 0,
    last_hash     TEXT NOT NULL DEFAULT '',
    expires_at    INTEGER,
    created_at    INTEGER NOT NULL,
    activated_at  INTEGER,
    last_use_at   INTEGER,
    -- Never below zero, and never less than what calls may still use (I2).
    CHECK (balance_ms >= reserved_ms)
);
-- A PIN alone identifies a card (A11, I6).
CREATE UNIQUE INDEX card_pin ON card (pin_hash) WHERE state <> 'storniert';
CREATE INDEX card_by_project ON card (project_id, id);

-- A remembered line. At most one active per line and project (I7).
CREATE TABLE line_binding (
    id           INTEGER PRIMARY KEY,
    card_id      INTEGER NOT NULL REFERENCES card (id),
    project_id   INTEGER NOT NULL REFERENCES project (id),
    e164         TEXT NOT NULL,
    source       TEXT NOT NULL CHECK (source IN ('pin', 'operator', 'import')),
    bound_at     INTEGER NOT NULL,
    first_use_at INTEGER,
    last_use_at  INTEGER,
    removed_at   INTEGER,
    removed_by   TEXT
);
CREATE UNIQUE INDEX line_binding_live ON line_binding (project_id, e164) WHERE removed_at IS NULL;
CREATE INDEX line_binding_by_card ON line_binding (card_id);

-- Tries of a PIN, without any digit: the line and the guess are keyed hashes.
CREATE TABLE pin_attempt (
    id         INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id),
    call       TEXT NOT NULL,
    -- Null: withheld.
    line_hash  TEXT,
    -- A repeated question about the same try counts once.
    guess_hash TEXT NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('right', 'wrong', 'locked')),
    at         INTEGER NOT NULL,
    UNIQUE (call, guess_hash)
);
CREATE INDEX pin_attempt_by_line ON pin_attempt (line_hash, at);
CREATE INDEX pin_attempt_by_project ON pin_attempt (project_id, at);

-- A price that stays for 15 minutes.
CREATE TABLE quote (
    id                TEXT PRIMARY KEY,
    project_id        INTEGER NOT NULL REFERENCES project (id),
    tariff_version_id INTEGER NOT NULL REFERENCES tariff_version (id),
    minutes           INTEGER NOT NULL CHECK (minutes BETWEEN 1 AND 9999),
    net_cents         INTEGER NOT NULL CHECK (net_cents >= 0),
    vat_cents         INTEGER NOT NULL CHECK (vat_cents >= 0),
    created_at        INTEGER NOT NULL,
    valid_until       INTEGER NOT NULL
);

-- Minutes sold, with a copy of the price. In one transaction with its ledger entry and its invoice
-- line (I10).
CREATE TABLE purchase (
    id                INTEGER PRIMARY KEY,
    card_id           INTEGER NOT NULL REFERENCES card (id),
    quote_id          TEXT REFERENCES quote (id),
    tariff_version_id INTEGER NOT NULL REFERENCES tariff_version (id),
    kind              TEXT NOT NULL CHECK (kind IN ('purchase', 'topup')),
    minutes           INTEGER NOT NULL CHECK (minutes BETWEEN 1 AND 9999),
    net_cents         INTEGER NOT NULL CHECK (net_cents >= 0),
    vat_cents         INTEGER NOT NULL CHECK (vat_cents >= 0),
    vat_bp            INTEGER NOT NULL,
    actor             TEXT NOT NULL,
    at                INTEGER NOT NULL
);
CREATE INDEX purchase_by_card ON purchase (card_id);

-- Collected per operator and month; gets its gap-free number when it is issued.
CREATE TABLE invoice (
    id          INTEGER PRIMARY KEY,
    operator_id INTEGER NOT NULL REFERENCES operator (id),
    -- Local month, such as 2025-11.
    period      TEXT NOT NULL,
    number      TEXT UNIQUE,
    state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'issued', 'cancelled')),
    created_at  INTEGER NOT NULL,
    issued_at   INTEGER
);
CREATE UNIQUE INDEX invoice_open ON invoice (operator_id, period) WHERE state = 'open';

CREATE TABLE invoice_line (
    id          INTEGER PRIMARY KEY,
    invoice_id  INTEGER NOT NULL REFERENCES invoice (id),
    purchase_id INTEGER UNIQUE REFERENCES purchase (id),
    -- A storno names the line that it reverses.
    reverses_id INTEGER UNIQUE REFERENCES invoice_line (id),
    text        TEXT NOT NULL,
    minutes     INTEGER NOT NULL,
    net_cents   INTEGER NOT NULL,
    vat_cents   INTEGER NOT NULL,
    vat_bp      INTEGER NOT NULL,
    at          INTEGER NOT NULL
);

-- The CDR: one row per admitted INVITE (I11), written at the INVITE and completed at the end.
CREATE TABLE call (
    id                  TEXT PRIMARY KEY,
    project_id          INTEGER REFERENCES project (id),
    number_id           INTEGER REFERENCES number (id),
    card_id             INTEGER REFERENCES card (id),
    target_id           INTEGER REFERENCES target (id),
    node                TEXT NOT NULL,
    epoch               INTEGER NOT NULL,
    trunk               TEXT NOT NULL,
    called              TEXT,
    -- Null: withheld.
    caller              TEXT,
    sip_call_id         TEXT NOT NULL,
    invited_at          INTEGER NOT NULL,
    answered_at         INTEGER,
    ringing_at          INTEGER,
    advisor_answered_at INTEGER,
    bridged_at          INTEGER,
    ended_at            INTEGER,
    hold_ms             INTEGER NOT NULL DEFAULT 0 CHECK (hold_ms >= 0),
    raw_ms              INTEGER NOT NULL DEFAULT 0 CHECK (raw_ms >= 0),
    billed_ms           INTEGER NOT NULL DEFAULT 0 CHECK (billed_ms >= 0),
    end_cause           TEXT,
    -- Thresholds in seconds that were played, by commas.
    warnings            TEXT NOT NULL DEFAULT '',
    codec               TEXT,
    -- JSON per leg: packets received, lost, sent, foreign, jitter.
    stats_a             TEXT,
    stats_b             TEXT,
    tariff_version_id   INTEGER REFERENCES tariff_version (id),
    CHECK ((ended_at IS NULL) = (end_cause IS NULL)),
    -- No charge without a bridge (I12).
    CHECK (bridged_at IS NOT NULL OR billed_ms = 0)
);
CREATE INDEX call_by_project ON call (project_id, invited_at);
CREATE INDEX call_by_card ON call (card_id, invited_at);
CREATE INDEX call_open ON call (node, epoch) WHERE ended_at IS NULL;

-- One row per B target that was tried.
CREATE TABLE call_attempt (
    call       TEXT NOT NULL REFERENCES call (id),
    n          INTEGER NOT NULL,
    target_id  INTEGER NOT NULL REFERENCES target (id),
    dialled_at INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    PRIMARY KEY (call, n)
);

-- Talk time set aside for one call on one card: all its slices together. Ends exactly once (I5):
-- settled (charged), released (nothing charged), expired (ended by the sweeper at its checkpoint).
CREATE TABLE reservation (
    id            INTEGER PRIMARY KEY,
    call          TEXT NOT NULL,
    card_id       INTEGER NOT NULL REFERENCES card (id),
    amount_ms     INTEGER NOT NULL CHECK (amount_ms >= 0),
    -- Usage at the last checkpoint; never falls.
    used_ms       INTEGER NOT NULL DEFAULT 0,
    checkpoint_at INTEGER,
    raw_ms        INTEGER,
    billed_ms     INTEGER,
    node          TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('open', 'settled', 'released', 'expired')),
    opened_at     INTEGER NOT NULL,
    valid_until   INTEGER NOT NULL,
    ended_at      INTEGER,
    UNIQUE (call, card_id),
    CHECK (used_ms BETWEEN 0 AND amount_ms),
    -- Settled usage never exceeds the grants (I4).
    CHECK (billed_ms BETWEEN 0 AND amount_ms),
    CHECK ((state = 'open') = (ended_at IS NULL)),
    CHECK ((state = 'open') = (billed_ms IS NULL))
);
CREATE INDEX reservation_open ON reservation (card_id) WHERE state = 'open';

-- One grant, under the op id that was made before the first try; keeps the answer for a repeat.
CREATE TABLE slice (
    op_id          TEXT PRIMARY KEY,
    reservation_id INTEGER NOT NULL REFERENCES reservation (id),
    amount_ms      INTEGER NOT NULL CHECK (amount_ms >= 0),
    -- All slices of the reservation up to this one.
    total_ms       INTEGER NOT NULL CHECK (total_ms >= amount_ms),
    -- Whether nothing was available beyond it.
    last           INTEGER NOT NULL CHECK (last IN (0, 1)),
    at             INTEGER NOT NULL
);
CREATE INDEX slice_by_reservation ON slice (reservation_id);

-- The entries; append-only, chained by SHA-256 per card. Corrections are entries too.
CREATE TABLE ledger (
    id          INTEGER PRIMARY KEY,
    card_id     INTEGER NOT NULL REFERENCES card (id),
    -- 1, 2, 3 ... per card.
    seq         INTEGER NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('purchase', 'topup', 'usage', 'storno', 'goodwill',
        'transfer_in', 'transfer_out', 'expiry', 'correction')),
    delta_ms    INTEGER NOT NULL CHECK (delta_ms <> 0),
    call        TEXT,
    purchase_id INTEGER UNIQUE REFERENCES purchase (id),
    -- Idempotency key; unique over all kinds.
    op_key      TEXT NOT NULL UNIQUE,
    actor       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    prev_hash   TEXT NOT NULL,
    row_hash    TEXT NOT NULL,
    UNIQUE (card_id, seq),
    CHECK ((kind = 'usage') <= (delta_ms < 0)),
    CHECK ((kind IN ('purchase', 'topup')) = (purchase_id IS NOT NULL))
);
-- A call is charged once per card (I3).
CREATE UNIQUE INDEX ledger_usage ON ledger (call, card_id) WHERE kind = 'usage';

-- Who did what: every write of an operator, every reveal of a PIN, every activation (I16).
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    operator_id INTEGER NOT NULL REFERENCES operator (id),
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    -- Serial, number, project name or call id.
    subject     TEXT NOT NULL,
    -- JSON, never with a PIN.
    before      TEXT,
    after       TEXT,
    -- The op id of a call's order; a repeat finds its answer in `after`.
    op_key      TEXT UNIQUE,
    prev_hash   TEXT NOT NULL,
    row_hash    TEXT NOT NULL
);

-- An operator's idempotency keys and the first answer to each, never with a PIN.
CREATE TABLE idempotency (
    key          TEXT PRIMARY KEY,
    verb         TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    answer       TEXT NOT NULL,
    at           INTEGER NOT NULL
);

-- A single operator until the tenants' own version.
INSERT INTO operator (id, name, created_at) VALUES (1, 'default', 0);
INSERT INTO meta (key, value) VALUES ('audit_head', '');

-- What was written stays: no UPDATE, no DELETE.
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN
    SELECT RAISE(ABORT, 'ledger is append-only');
END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN
    SELECT RAISE(ABORT, 'ledger is append-only');
END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;
CREATE TRIGGER tariff_version_no_update BEFORE UPDATE ON tariff_version BEGIN
    SELECT RAISE(ABORT, 'tariff_version is append-only');
END;
CREATE TRIGGER tariff_version_no_delete BEFORE DELETE ON tariff_version BEGIN
    SELECT RAISE(ABORT, 'tariff_version is append-only');
END;
