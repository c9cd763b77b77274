-- The check of the books, and the defence of PINs over all nodes.

-- One run of the check. The newest tells `status` whether the books are right; its anchor is looked
-- at again by the runs after it.
CREATE TABLE book_check (
    id            INTEGER PRIMARY KEY,
    node          TEXT NOT NULL,
    -- nightly, or the operator's actor.
    actor         TEXT NOT NULL,
    started_at    INTEGER NOT NULL,
    took_ms       INTEGER NOT NULL CHECK (took_ms >= 0),
    clean         INTEGER NOT NULL CHECK (clean IN (0, 1)),
    offenders     INTEGER NOT NULL CHECK (offenders >= 0),
    -- The first offence in words; null if there is none.
    first_offence TEXT,
    cards         INTEGER NOT NULL,
    entries       INTEGER NOT NULL,
    calls         INTEGER NOT NULL,
    -- SHA-256 over the newest entry of every card, of the ledger's rows up to this one.
    anchor_upto   INTEGER NOT NULL,
    anchor        TEXT NOT NULL,
    CHECK ((clean = 1) = (offenders = 0))
);

-- The check asks for a card's audit rows.
CREATE INDEX audit_by_subject ON audit (subject, action);

-- Wrong PINs of a project, over all nodes. Its times are those of pin_attempt: they never step.
CREATE TABLE pin_guard (
    project_id  INTEGER PRIMARY KEY REFERENCES project (id),
    -- Since when somebody seems to be guessing; null if nobody does.
    alarm_since INTEGER,
    -- Under alarm: when the next try from a line without a binding may be answered.
    next_try_at INTEGER NOT NULL DEFAULT 0
);
-- When a PIN was asked for the last time, to slow down those who ask for many.
CREATE INDEX audit_by_action ON audit (action, at);
