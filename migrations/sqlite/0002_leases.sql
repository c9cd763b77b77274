-- Several nodes on one database: a node may write for calls as long as its lease lives. All times of a
-- lease are by the database's clock, so that the clocks of the nodes do not matter.

-- Milliseconds since 1970 by the database's clock; 0: given back, or taken by another.
ALTER TABLE node ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
-- Whoever holds the file with this secret is the machine that the node runs on: a restart there need
-- not wait for the lease of the dead process.
ALTER TABLE node ADD COLUMN instance TEXT NOT NULL DEFAULT '';

-- The epoch is part of a key: a grant's key lock lets a renewal pass and holds a takeover back.
CREATE UNIQUE INDEX node_epoch ON node (name, epoch);
-- What a dead node has left open.
CREATE INDEX reservation_of_node ON reservation (node, epoch) WHERE state = 'open';
