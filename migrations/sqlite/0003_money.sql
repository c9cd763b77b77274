-- Money: price steps, free minutes and shorter expiries of a tariff version, quotes and stornos of
-- parts, paid talk time that moves between cards, and batches of cards.

-- From here on a minute of a purchase costs something else; fixed like its version (I18).
CREATE TABLE tariff_step (
    tariff_version_id           INTEGER NOT NULL REFERENCES tariff_version (id),
    after_minutes               INTEGER NOT NULL CHECK (after_minutes BETWEEN 1 AND 9998),
    price_per_minute_millicents INTEGER NOT NULL CHECK (price_per_minute_millicents >= 0),
    PRIMARY KEY (tariff_version_id, after_minutes)
);

-- The first minutes of each purchase that cost nothing.
ALTER TABLE tariff_version ADD COLUMN free_minutes INTEGER NOT NULL DEFAULT 0
    CHECK (free_minutes BETWEEN 0 AND 9999);
-- Instead of expiry_years: a card expires at the end of this local day after its purchase.
ALTER TABLE tariff_version ADD COLUMN expiry_days INTEGER CHECK (expiry_days BETWEEN 1 AND 10957);

-- Cards that were made together.
CREATE TABLE batch (
    id         INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES project (id),
    source     TEXT NOT NULL CHECK (source IN ('batch', 'import')),
    note       TEXT NOT NULL DEFAULT '',
    cards      INTEGER NOT NULL CHECK (cards > 0),
    actor      TEXT NOT NULL,
    at         INTEGER NOT NULL
);
ALTER TABLE card ADD COLUMN batch_id INTEGER REFERENCES batch (id);
-- The job that books out what expired looks here.
CREATE INDEX card_by_expiry ON card (expires_at);
CREATE INDEX card_by_batch ON card (batch_id) WHERE batch_id IS NOT NULL;

-- Paid talk time that left or reached a card otherwise than by its own purchase and by use.
CREATE TABLE paid_move (
    id          INTEGER PRIMARY KEY,
    card_id     INTEGER NOT NULL REFERENCES card (id),
    purchase_id INTEGER NOT NULL REFERENCES purchase (id),
    kind        TEXT NOT NULL CHECK (kind IN ('storno', 'transfer_in', 'transfer_out')),
    delta_ms    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    CHECK ((kind = 'transfer_in') = (delta_ms > 0) AND delta_ms <> 0)
);
CREATE INDEX paid_move_by_card ON paid_move (card_id);
CREATE INDEX paid_move_by_purchase ON paid_move (purchase_id);

-- A line may be reversed in parts, so several stornos may name it; talk_ms is exact, minutes whole.
CREATE TABLE invoice_line_new (
    id          INTEGER PRIMARY KEY,
    invoice_id  INTEGER NOT NULL REFERENCES invoice (id),
    purchase_id INTEGER UNIQUE REFERENCES purchase (id),
    -- A storno names the line that it reverses, wholly or in part.
    reverses_id INTEGER REFERENCES invoice_line_new (id),
    text        TEXT NOT NULL,
    minutes     INTEGER NOT NULL,
    net_cents   INTEGER NOT NULL,
    vat_cents   INTEGER NOT NULL,
    vat_bp      INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    talk_ms     INTEGER NOT NULL,
    CHECK (purchase_id IS NULL OR reverses_id IS NULL),
    CHECK (reverses_id IS NULL OR (talk_ms < 0 AND net_cents <= 0 AND vat_cents <= 0))
);
INSERT INTO invoice_line_new (id, invoice_id, purchase_id, reverses_id, text, minutes, net_cents, vat_cents, vat_bp,
        at, talk_ms)
    SELECT id, invoice_id, purchase_id, reverses_id, text, minutes, net_cents, vat_cents, vat_bp, at, minutes * 60000
    FROM invoice_line;
DROP TABLE invoice_line;
ALTER TABLE invoice_line_new RENAME TO invoice_line;
CREATE INDEX invoice_line_by_invoice ON invoice_line (invoice_id);
CREATE INDEX invoice_line_reversing ON invoice_line (reverses_id) WHERE reverses_id IS NOT NULL;

CREATE TRIGGER tariff_step_no_update BEFORE UPDATE ON tariff_step BEGIN
    SELECT RAISE(ABORT, 'tariff_step is append-only');
END;
CREATE TRIGGER tariff_step_no_delete BEFORE DELETE ON tariff_step BEGIN
    SELECT RAISE(ABORT, 'tariff_step is append-only');
END;
CREATE TRIGGER paid_move_no_update BEFORE UPDATE ON paid_move BEGIN
    SELECT RAISE(ABORT, 'paid_move is append-only');
END;
CREATE TRIGGER paid_move_no_delete BEFORE DELETE ON paid_move BEGIN
    SELECT RAISE(ABORT, 'paid_move is append-only');
END;
