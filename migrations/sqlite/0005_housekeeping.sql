-- Housekeeping finds what is past its time without reading the tables, and a purchase by its quote.
CREATE INDEX idempotency_by_time ON idempotency (at);
CREATE INDEX quote_by_end ON quote (valid_until);
CREATE INDEX pin_attempt_by_time ON pin_attempt (at);
CREATE INDEX purchase_by_quote ON purchase (quote_id) WHERE quote_id IS NOT NULL;

-- The sweeper (every 30 s) and a start look at open reservations only, however many have ended.
CREATE INDEX reservation_open_until ON reservation (valid_until) WHERE state = 'open';
CREATE INDEX reservation_open_of ON reservation (node, epoch) WHERE state = 'open';
