"""The driver: load, faults, and the comparison at the end."""
import collections, random, subprocess, threading, time

import books
from daemons import PORTS, AdminAway, Daemon, Failure
from phones import House, Plan
from postgres import Cluster
from sip import Loop

TALK_S = (1.0, 15.0)
# A card with less than this is recharged before its next call: less starts no call.
LEAST_MS = 10_000
PIN_SHARE, BUSY_SHARE = 0.15, 0.03


class Chaos:
    def __init__(self, options, folder):
        self.options, self.dir, self.rng = options, folder, random.Random(options.seed)
        self.faults, self.done_faults, self.wrong = [], collections.Counter(), []
        self.given, self.cards, self.pins, self.lines = {}, [], {}, {}
        self.ready, self.idle, self.lock = collections.deque(), collections.deque(), threading.Lock()
        self.dialled, self.keys, self.feeding, self.begun = 0, 0, True, time.monotonic()
        self.settled_s = []
        self.feeder_fault = self.mounted = self.mourned = None

    # -- setting up
    def open(self):
        options, key = self.options, self.dir / "pin.key"
        if options.store == "postgres":
            self.cluster = Cluster(self.dir / "postgres")
            url, self.database = self.cluster.url, books.Postgres(self.cluster.psql)
        else:
            path = self.data_dir() / "cardline.db"
            url, self.database = f"sqlite://{path}", books.Sqlite(path)
        self.nodes = [Daemon(options.binary, self.dir / f"node{n}", url, key, f"node{n}", options.media_port + PORTS * n, options.checkpoint)
                      for n in range(options.nodes)]
        for node in self.nodes:
            node.start()
        self.loop = Loop()
        self.house = House(self.loop, options.seed, patience_s=20, silence_s=45 if options.pauses else 9)
        self.house.done = self.call_over
        for name, number, more in (("lines", "+493023100001", {}), ("pins", "+493023100002", {"max_lines": 0})):
            self.project(name, number, more)
        for n in range(options.cards):
            self.card(n)

    def data_dir(self):
        folder = self.dir / "data"
        folder.mkdir(exist_ok=True)
        if self.options.fills or self.options.store == "sqlite" and self.options.darks:
            # In the mount namespace that `run` has made for this process.
            self.mounted = folder
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "chaos", str(folder)], check=True)
        return folder

    def project(self, name, number, more):
        ask = self.nodes[0].insist
        rules = {"name": name, "show_caller": True, "free_under_ms": 0, "pin_length": 8}
        ask("POST", "/projects", rules | more)
        ask("POST", "/numbers", {"number": number, "project": name, "role": "both"})
        target = f"sip:advisor@127.0.0.1:{self.house.advisors.number}"
        ask("POST", "/targets", {"project": name, "address": target, "ring_s": 10})

    def card(self, n):
        with_pin = self.rng.random() < PIN_SHARE
        row = self.nodes[0].insist("POST", "/cards", {"project": "pins" if with_pin else "lines", "minutes": 1},
                                   self.key())
        serial = row["serial"]
        self.given[serial] = 60_000
        if with_pin:
            self.pins[serial] = row["pin"]
        else:
            self.lines[serial] = f"+4917100{n:05d}"
            self.nodes[0].insist("POST", f"/cards/{serial}/lines", {"number": self.lines[serial]})
        self.pay(self.nodes[0], serial, self.rng.randint(12, 45) * 1000 - 60_000, 60)
        self.idle.append((0.0, serial))

    def key(self):
        self.keys += 1
        return f"chaos-{self.options.seed}-{self.keys}"

    # -- the cards' owner: a thread that recharges idle cards and deals them out
    def feed(self):
        try:
            while self.feeding:
                self.feed_one()
        except Exception as fault:
            self.feeder_fault = fault

    def feed_one(self):
        now = time.monotonic()
        with self.lock:
            serial = self.idle.popleft()[1] if self.idle and self.idle[0][0] <= now else None
        if serial is None:
            time.sleep(0.02)
            return
        node = self.awake()
        try:
            row = node.ask("GET", f"/cards/{serial}", seconds=3)
            free = row["reserved_ms"] == 0
            if free and row["balance_ms"] < LEAST_MS:
                self.pay(node, serial, self.amount() - row["balance_ms"], 90)
            with self.lock:
                if free:
                    self.ready.append((serial, row["balance_ms"]))
                else:
                    self.idle.append((time.monotonic() + 0.5, serial))
        except AdminAway:
            with self.lock:
                self.idle.append((time.monotonic() + 0.2, serial))

    def amount(self):
        few = self.rng.random() < 0.5
        return self.rng.randint(10_000, 16_000) if few else self.rng.randint(16_000, 60_000)

    def pay(self, node, serial, delta_ms, seconds):
        """Under one key until it is acknowledged, by whichever node answers: an order counts once."""
        key, body = self.key(), {"delta_ms": delta_ms, "reason": "chaos"}
        limit = time.monotonic() + seconds
        while True:
            try:
                node.ask("POST", f"/cards/{serial}/correct", body, key)
                self.given[serial] += delta_ms
                return
            except AdminAway as away:
                if time.monotonic() > limit:
                    raise Failure(f"card {serial} was not recharged within {seconds} s: {away}") from None
                node = self.awake()
                time.sleep(0.05)

    def awake(self):
        return self.rng.choice([node for node in self.nodes if node is not self.mourned] or self.nodes)

    # -- the load, in the phones' thread
    def dial(self):
        if self.dialled >= self.options.calls and self.faults_done:
            return
        self.loop.after(self.house.rng.expovariate(self.options.rate), self.dial)
        with self.lock:
            dealt = self.ready.popleft() if self.ready else None
        if dealt:
            self.dialled += 1
            plan = self.plan(*dealt)
            self.house.dial(plan, ("127.0.0.1", self.nodes[plan.node].port))

    def plan(self, serial, balance_ms):
        rng, number = self.house.rng, self.dialled
        pin = self.pins.get(serial)
        line = self.lines.get(serial) or f"+4917200{number:05d}"
        ender, talk_s = rng.choice(("caller", "advisor")), rng.uniform(*TALK_S)
        if balance_ms <= 16_000 and rng.random() < 0.7:
            ender, talk_s = "zero", balance_ms / 1000 + 2
        alive = [n for n, node in enumerate(self.nodes) if node is not self.mourned or len(self.nodes) == 1]
        return Plan(number, rng.choice(alive), serial, line, "+493023100002" if pin else "+493023100001",
                    pin, ender, talk_s, rng.random() < BUSY_SHARE)

    def call_over(self, call):
        with self.lock:
            self.idle.append((time.monotonic() + 0.3, call.plan.card))

    # -- faults
    def run(self):
        self.faults_done = False
        self.loop.thread.start()
        feeder = threading.Thread(target=self.feed, daemon=True)
        feeder.start()
        self.loop.post(self.dial)
        for kind in self.schedule():
            self.live()
            self.fault(kind)
        self.faults_done = True
        while self.dialled < self.options.calls:
            self.live(1.0)
        self.close(feeder)

    def schedule(self):
        options = self.options
        kinds = (["kill"] * options.kills + ["outage"] * options.outages + ["freeze"] * options.freezes
                 + ["pause"] * options.pauses + ["death"] * options.deaths + ["fill"] * options.fills
                 + ["dark"] * options.darks)
        self.rng.shuffle(kinds)
        self.mean_s = options.life or max(1.2, options.calls / options.rate / max(1, len(kinds)))
        return kinds

    def live(self, seconds=None):
        """Some time without a fault; what must never end is looked after."""
        limit = time.monotonic() + (seconds or self.mean_s * self.rng.uniform(0.3, 1.7))
        while time.monotonic() < limit:
            time.sleep(0.02)
            self.watch()

    def watch(self):
        if self.loop.fault or self.feeder_fault:
            raise Failure(f"the test broke: {self.loop.fault or self.feeder_fault!r}")
        dead = [n for n, node in enumerate(self.nodes) if node is not self.mourned and not node.is_running()]
        if dead:
            raise Failure(f"node {dead} ended by itself:\n{self.nodes[dead[0]].log()[-3000:]}")

    def fault(self, kind):
        node, begun = self.rng.randrange(len(self.nodes)), time.monotonic()
        getattr(self, kind)(self.nodes[node])
        self.done_faults[kind] += 1
        self.faults.append((begun, time.monotonic(), node if kind in books.HITS else None, kind))
        if kind == "dark":
            self.faults.append((begun, time.monotonic(), None, "away"))
        if sum(self.done_faults.values()) % 25 == 0:
            self.say(f"{dict(self.done_faults)}, {self.dialled} calls")

    @staticmethod
    def kill(node):
        node.kill()
        node.start()

    def pause(self, node):
        """Beyond its lease: the others settle its calls, and it may not spend when it wakes."""
        node.pause()
        self.apart(node)
        node.resume()
        # A node that was fenced keeps away for 30 s, also from settling for others.
        node.fit_at = time.monotonic() + 35

    def death(self, node):
        """Killed and not started again for so long that the others settle its calls."""
        node.kill()
        self.apart(node)
        node.start()

    def apart(self, node):
        """21 to 25 s without a node. The others must have settled its calls after 20 s (R15)."""
        self.mourned, begun, settled = node, time.monotonic(), None
        limit = begun + self.rng.uniform(21, 25)
        while time.monotonic() < limit:
            self.live(0.2)
            if settled is None and self.database.rows(books.OPEN_OF.format(node.name))[0][0] == 0:
                settled = time.monotonic() - begun
        if any(other is not node and other.fit_at < begun for other in self.nodes):
            self.settled_s.append(settled or limit - begun)
            if settled is None or settled > 20.5:
                self.wrong.append(f"{node.name}: its calls are not settled 20 s after it was lost, but after {settled} s")
        self.mourned = None

    def outage(self, _node, killed=None):
        self.cluster.stop(self.rng.choice(("fast", "immediate")))
        self.away(killed, self.rng.uniform(1, self.options.longest_outage))
        self.cluster.start()

    def freeze(self, _node):
        self.cluster.freeze()
        self.live(self.rng.uniform(1, 8))
        self.cluster.thaw()

    def fill(self, _node, killed=None):
        """The database's disk is full to the last byte for a while."""
        ballast = self.dir / "data" / "ballast"
        with open(ballast, "wb", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(4096))
            except OSError:
                self.away(killed, self.rng.uniform(2, 8))
        ballast.unlink()

    def dark(self, node):
        """The store is away, and the daemon dies and is started again in the middle of it."""
        away = self.outage if self.options.store == "postgres" else self.fill
        away(None, node)
        node.start(60, again=True)

    def away(self, killed, seconds):
        self.live(seconds / 2)
        if killed:
            killed.kill()
            killed.launch()
            self.mourned = killed
        self.live(seconds / 2)
        self.mourned = None

    def say(self, words):
        if not self.options.json:
            print(f"  {time.monotonic() - self.begun:6.0f} s  {words}", flush=True)

    # -- the end
    def close(self, feeder):
        """No faults any more: every call ends, and the books close."""
        limit = time.monotonic() + 90
        while any(c.over is None for c in list(self.house.calls)):
            self.watch()
            if time.monotonic() > limit:
                self.wrong.append(f"{sum(c.over is None for c in self.house.calls)} phones are still in a call")
                break
            time.sleep(0.1)
        self.feeding = False
        feeder.join(100)
        limit = time.monotonic() + 90
        while (left := self.database.rows(books.OPEN)[0]) != (0, 0):
            self.watch()
            if time.monotonic() > limit:
                self.wrong.append(f"{left[0]} records and {left[1]} reservations are still open 90 s after the last call")
                break
            time.sleep(0.2)

    def judge(self):
        check = self.nodes[0].verb("ledger check")
        if check.returncode != 0:
            self.wrong.append(f"ledger check: exit {check.returncode}: {check.stdout[:2000]}{check.stderr[:500]}")
        for node in self.nodes:
            lines = [line for line in node.log().splitlines() if "panicked" in line]
            self.wrong += [f"node {node.dir.name}: {line[:300]}" for line in lines[:5]]
        judge = books.Judge(self.faults, self.options.checkpoint, noise_s=0.002)
        booked = books.booked(self.database)
        for call in self.house.calls:
            judge.call(call, booked.pop(call.sip_call_id, None))
        if booked:
            self.wrong.append(f"{len(booked)} calls in the books that no phone made")
        wrong, balances, entries, least = books.check_cards(self.database, self.given)
        self.wrong += wrong + judge.wrong
        if judge.tally["strangers"]:
            self.wrong.append(f"{judge.tally['strangers']} packets carried the voice of another call")
        return self.table(judge, balances, entries, least)

    def table(self, judge, balances, entries, least):
        most = lambda values: max(values, default=0)
        middle = lambda values: sorted(values)[len(values) // 2] if values else 0
        starts = sorted(s for node in self.nodes for s in node.starts)
        tally = judge.tally
        return {
            "store": self.options.store, "nodes": len(self.nodes), "seed": self.options.seed,
            "seconds": round(time.monotonic() - self.begun),
            "faults": dict(self.done_faults), "attempts": tally["attempts"], "talks": tally["talks"],
            "talks_hit_by_a_fault": tally["talks hit by a fault"],
            "faults_survived_by_a_talk": tally["faults survived by a talk"],
            "results": {k[7:]: n for k, n in sorted(tally.items()) if k.startswith("result ")},
            "sum_of_balances_ms": balances, "sum_of_entries_ms": entries, "least_balance_ms": least,
            "overbilled_ms_most": most(judge.over_ms), "unbilled_ms_most_untouched": most(judge.under_ms),
            "unbilled_ms_most_hit": most(judge.hit_under_ms),
            "unbilled_ms_sum_hit": sum(judge.hit_under_ms),
            "unbilled_ms_most_survived": most(judge.survived_under_ms),
            "raw_beyond_strictest_window_ms_most": most(judge.excess_ms),
            "gap_ms_median_survived": middle(judge.gaps_ms), "gap_ms_most_survived": most(judge.gaps_ms),
            "cut_late_ms_most": most(judge.cut_late_ms),
            "lost_node_settled_s_most": round(most(self.settled_s), 1),
            "voices_of_strangers": tally["strangers"],
            "restart_s_median": round(starts[len(starts) // 2], 2), "restart_s_most": round(starts[-1], 2),
            "phones_late_ms_most": round(self.loop.latest * 1000),
            "wrong": self.wrong,
        }

    def shut(self):
        for node in getattr(self, "nodes", []):
            node.stop()
        if getattr(self, "cluster", None):
            self.cluster.thaw()
            self.cluster.stop("immediate")
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.mounted)], check=True)
