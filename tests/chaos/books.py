"""What was billed, straight from the database, against what the phones' stopwatches say."""
import collections, csv, io, math, sqlite3, subprocess

CALLS = """SELECT c.id, c.sip_call_id, c.node, COALESCE(c.end_cause, ''), c.raw_ms, c.billed_ms,
    CASE WHEN c.bridged_at IS NULL THEN 0 ELSE 1 END FROM call c"""
USAGE = "SELECT l.call, k.serial, -l.delta_ms FROM ledger l JOIN card k ON k.id = l.card_id WHERE l.kind = 'usage'"
RESERVED = "SELECT r.call, r.state, r.amount_ms, r.used_ms, COALESCE(r.raw_ms, 0), COALESCE(r.billed_ms, 0) FROM reservation r"
CARDS = """SELECT k.serial, k.balance_ms, k.reserved_ms, k.open_calls,
    COALESCE((SELECT SUM(l.delta_ms) FROM ledger l WHERE l.card_id = k.id), 0) FROM card k"""
OPEN = """SELECT (SELECT COUNT(*) FROM call WHERE ended_at IS NULL),
    (SELECT COUNT(*) FROM reservation WHERE state = 'open')"""
OPEN_OF = "SELECT COUNT(*) FROM reservation WHERE state = 'open' AND node = '{}'"
# Faults of one node's process; the others are the store's.
HITS = ("kill", "pause", "death", "dark")
# A settlement's longest way into the books on a busy machine.
SETTLING_S = 10
# From Cardline's own end of a talk to its BYE at a phone, and from a phone's BYE to the clock's stop.
WIRE_S = 1.0


class Sqlite:
    def __init__(self, path):
        self.path = path

    def rows(self, query):
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


class Postgres:
    def __init__(self, psql):
        self.psql = psql

    def rows(self, query):
        done = subprocess.run([*self.psql, "--csv", "-tc", query], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise OSError(done.stderr)
        number = lambda text: int(text) if text.lstrip("-").isdigit() else text
        return [tuple(number(v) for v in row) for row in csv.reader(io.StringIO(done.stdout))]


class Booked:
    """Everything booked for one attempt of the phones: a retransmitted INVITE that met another life of the
    daemon may have made two calls of it."""
    def __init__(self):
        self.calls, self.causes, self.raw_ms, self.billed_ms, self.granted_ms, self.bridged = 0, [], 0, 0, 0, False


def booked(database):
    calls, by_call = collections.defaultdict(Booked), {}
    for call, sip_id, _node, cause, raw, _billed, bridged in database.rows(CALLS):
        one = by_call[call] = calls[sip_id]
        one.calls += 1
        one.causes.append(cause)
        one.raw_ms += raw
        one.bridged |= bool(bridged)
    for call, _state, amount, _used, _raw, _billed in database.rows(RESERVED):
        by_call[call].granted_ms += amount
    for call, _serial, charged in database.rows(USAGE):
        by_call[call].billed_ms += charged
    return calls


def ceil_s(seconds):
    """Whole seconds, rounded up, in milliseconds: the tariff's step."""
    return math.ceil(seconds) * 1000


class Judge:
    """Compares every attempt. The bill may not exceed the longest of both phones' windows (from before the
    advisor's 200 was sent to the later goodbye), rounded up to the tariff's second: no tolerance. It may be
    less than the shortest window (from the ACK's arrival to the earlier goodbye) only where a fault hit the
    talk, and then by the checkpoint interval at most (and the time that the store took no checkpoint). A goodbye that came from Cardline itself was sent when its
    clock had stopped already: up to 1 s on the wire (R6)."""
    def __init__(self, faults, checkpoint_s, noise_s):
        """A fault: its span, its node (None: all), its kind."""
        self.faults = [f for f in faults if f[3] in HITS]
        self.store_faults = [f for f in faults if f[3] not in HITS]
        self.checkpoint_s, self.noise_s = checkpoint_s, noise_s
        self.wrong, self.over_ms, self.under_ms, self.hit_under_ms, self.excess_ms, self.cut_late_ms = [], [], [], [], [], []
        self.gaps_ms, self.survived_under_ms = [], []
        self.tally = collections.Counter()

    def call(self, call, book):
        self.tally["attempts"] += 1
        talks = [w for w in call.advisors if w.answered is not None]
        self.tally["strangers"] += call.caller.strangers + sum(w.strangers for w in call.advisors)
        most = sum(ceil_s(self.longest(call, w)) for w in talks)
        billed = book.billed_ms if book else 0
        for cause in book.causes if book else ["no record"]:
            self.tally[f"result {cause}"] += 1
        if billed > most:
            self.blame(call, book, f"billed {billed} ms, the phones talked {most} ms at most")
        self.over_ms.append(max(0, billed - most))
        if book and billed > book.granted_ms:
            self.blame(call, book, f"billed {billed} ms of {book.granted_ms} ms granted")
        if talks:
            self.talk(call, book, talks, billed)

    def longest(self, call, advisor):
        ends = [t for t in (call.caller.end_late(), advisor.end_late()) if t is not None]
        return max(ends) - advisor.answered

    def talk(self, call, book, talks, billed):
        self.tally["talks"] += 1
        start, end, _ = self.spans(call, talks)
        # A kill soon after the goodbyes may still have met a settlement on its way: the record says so.
        late_s = SETTLING_S if book and "crash_recovered" in book.causes else 0
        faults = [f for f in self.faults if f[0] < end + late_s and f[1] > start and f[2] in (None, call.plan.node)]
        self.tally["talks hit by a fault"] += bool(faults)
        survived = [f for f in faults if self.lived_on(call, talks, f)]
        self.tally["faults survived by a talk"] += len(survived)
        if survived:
            self.gaps_ms.append(round(1000 * max(call.caller.longest_gap, talks[-1].longest_gap)))
        talked, at_least = self.shortest(call, talks, faults)
        if book and "credit_end" in book.causes:
            self.cut_late_ms.append(round((at_least + WIRE_S) * 1000) - book.granted_ms)
        least_ms = int((at_least - self.noise_s) * 1000)
        if book:
            least_ms = min(least_ms, book.granted_ms)
        short = max(0, least_ms - billed)
        if not faults:
            self.under_ms.append(short)
            if short > 0:
                self.blame(call, book, f"billed {billed} ms, the phones talked {at_least * 1000:.0f} ms at least")
        else:
            (self.hit_under_ms if len(survived) < len(faults) else self.survived_under_ms).append(short)
            if short > self.checkpoint_s * 1000 + self.without_store_ms(start, end):
                self.blame(call, book, f"billed {billed} ms of {at_least * 1000:.0f} ms that were talked at least")
        if book and book.raw_ms:
            excess = round(book.raw_ms - talked * 1000)
            self.excess_ms.append(excess)
            if excess > WIRE_S * 1000:
                self.blame(call, book, f"measured {book.raw_ms} ms, the phones talked {talked * 1000:.0f} ms until the first goodbye")

    def without_store_ms(self, start, end):
        """How long the store took no checkpoint of this talk."""
        return 1000 * sum(max(0.0, min(end, f[1]) - max(start, f[0])) for f in self.store_faults)

    def spans(self, call, talks):
        start = min(w.answered for w in talks)
        end = max(self.longest(call, w) + w.answered for w in talks)
        return start, end, talks

    def lived_on(self, call, talks, fault):
        """Both phones heard one another again after the fault."""
        watches = [call.caller, talks[-1]]
        return all(w.last_heard is not None and w.last_heard > fault[1] + 0.3 for w in watches)

    def shortest(self, call, talks, faults):
        """Talk by the strictest reading: (upper, lower) seconds from the ACK to the first goodbye; where a fault
        silenced the call for good, to the last voice that was heard."""
        upper = lower = 0.0
        for watch in talks:
            ends = [t for t in (call.caller.end(), watch.end()) if t is not None]
            ends_late = [t for t in (call.caller.end_late(), watch.end_late()) if t is not None]
            end, end_late = min(ends), min(ends_late)
            if faults and not self.lived_on(call, talks, faults[-1]):
                voices = [w.last_heard for w in (call.caller, watch) if w.last_heard is not None]
                end = min(end, min(voices)) if len(voices) == 2 else watch.acked or watch.answered
                end_late = min(end_late, max(voices) if voices else end_late)
            upper += max(0.0, end_late - watch.answered)
            if end in (call.caller.got, watch.got):
                end -= WIRE_S
            if watch.acked is not None:
                lower += max(0.0, end - watch.acked)
        return upper, lower

    def blame(self, call, book, words):
        plan = call.plan
        causes = ",".join(book.causes) if book else "-"
        self.wrong.append(f"call {plan.number} (card {plan.card}, node {plan.node}, ends by {plan.ender}, {causes}): {words}")


def check_cards(database, given):
    """Sum of entries = balance, none negative, nothing reserved, and the sum is what we paid in less what was used."""
    wrong, used = [], collections.Counter()
    for call, serial, charged in database.rows(USAGE):
        used[serial] += charged
    rows = database.rows(CARDS)
    for serial, balance, reserved, open_calls, entries in rows:
        if balance != entries:
            wrong.append(f"card {serial}: balance {balance} ms, entries {entries} ms")
        if balance < 0:
            wrong.append(f"card {serial}: balance {balance} ms")
        if reserved or open_calls:
            wrong.append(f"card {serial}: {reserved} ms reserved by {open_calls} calls after the last one ended")
        if serial in given and given[serial] - used[serial] != balance:
            wrong.append(f"card {serial}: {given[serial]} ms paid in, {used[serial]} ms used, balance {balance} ms")
    twice = collections.Counter((call, serial) for call, serial, _ in database.rows(USAGE))
    wrong += [f"call {call}: {n} usage entries on card {serial}" for (call, serial), n in twice.items() if n > 1]
    return wrong, sum(r[1] for r in rows), sum(r[4] for r in rows), min((r[1] for r in rows), default=0)
