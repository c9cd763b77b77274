"""The comparison tried on books that are known to be wrong: each planted fault must be blamed."""
import sqlite3, tempfile, pathlib

import books
from phones import Call, Plan, Watch

KILL = (14.0, 14.3, 0, "kill")


def call(talk_s=8.0, heard_until=None):
    """Answered at 10 s, ended by the caller; the advisor's phone hears of it 50 ms later."""
    end = 10.0 + talk_s
    heard = heard_until or end
    one = Call(Plan(1, 0, "K1", "+491", "+492", None, "caller", talk_s), "id", 8.0)
    one.caller = Watch(answered=8.5, said=end, said_done=end + 0.001, first_heard=10.1, last_heard=heard)
    one.advisors = [Watch(answered=10.0, acked=10.01, got=end + 0.05, first_heard=10.1, last_heard=heard)]
    return one


def book(billed_ms, raw_ms=None, granted_ms=60_000, cause="caller_bye"):
    one = books.Booked()
    one.calls, one.causes, one.bridged = 1, [cause], True
    one.billed_ms, one.raw_ms, one.granted_ms = billed_ms, raw_ms or billed_ms, granted_ms
    return one


# What was booked, what the phones saw, the faults, and whether it is right.
CASES = [
    ("billed to the second", book(8000, 7995), call(7.995), [], True),
    ("a second too much", book(9000, 8000), call(7.9), [], False),
    ("a second too little", book(7000, 6990), call(7.995), [], False),
    ("more than was granted", book(8000, 7995, granted_ms=7000), call(7.995), [], False),
    ("nothing at all", None, call(), [], False),
    ("charged on after the end", book(10000, 9990), call(7.995), [], False),
    ("killed, to the checkpoint", book(0), call(8, heard_until=14.0), [KILL], True),
    ("killed, charged until the phones gave up", book(8000, 7995), call(8, heard_until=14.0), [KILL], False),
    ("killed while it was settled", book(0, cause="crash_recovered"), call(3.9), [KILL], True),
    ("the same, and no word of a crash", book(0), call(3.9), [KILL], False),
    ("survived a kill", book(8000, 7995), call(7.995), [KILL], True),
    ("killed late, more lost than a checkpoint", book(0), call(15, heard_until=24.9), [(24.9, 25.2, 0, "kill")], False),
    ("another node's kill excuses nothing", book(0), call(8), [(14.0, 14.3, 1, "kill")], False),
    ("a stopped database excuses nothing", book(0), call(8), [(12.0, 14.0, None, "outage")], False),
]


def run():
    wrong = []
    for name, booked, seen, faults, right in CASES:
        judge = books.Judge(faults, 10, 0.002)
        judge.call(seen, booked)
        if right != (not judge.wrong):
            wrong.append(f"selftest: {name}: want {'right' if right else 'blame'}, got {judge.wrong}")
    return wrong + cards()


def cards():
    """A database with one fault per card."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cardline-chaos-")) / "books.db"
    db = sqlite3.connect(path)
    db.executescript("""
        CREATE TABLE card (id INTEGER, serial TEXT, balance_ms INTEGER, reserved_ms INTEGER, open_calls INTEGER);
        CREATE TABLE ledger (card_id INTEGER, kind TEXT, delta_ms INTEGER, call TEXT);
        INSERT INTO card VALUES (1, 'right', 50, 0, 0), (2, 'sum', 50, 0, 0), (3, 'negative', -1, 0, 0),
            (4, 'reserved', 9, 9, 1), (5, 'twice', 80, 0, 0), (6, 'lost', 60, 0, 0);
        INSERT INTO ledger VALUES (1, 'purchase', 60, NULL), (1, 'usage', -10, 'a'), (2, 'purchase', 60, NULL),
            (3, 'correction', -1, NULL), (4, 'purchase', 9, NULL), (5, 'purchase', 100, NULL), (5, 'usage', -10, 'b'),
            (5, 'usage', -10, 'b'), (6, 'purchase', 60, NULL);""")
    db.commit()
    given = {"right": 60, "sum": 50, "negative": -1, "reserved": 9, "twice": 100, "lost": 120}
    found, *_ = books.check_cards(books.Sqlite(path), given)
    db.close()
    path.unlink()
    path.parent.rmdir()
    blamed = {name for name in given if any(f"card {name}" in line for line in found)}
    return [] if blamed == set(given) - {"right"} else [f"selftest: cards blamed: {sorted(blamed)}: {found}"]
