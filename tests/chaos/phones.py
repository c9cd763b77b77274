"""Callers and advisors with stopwatches of their own. They know SIP and RTP, and nothing of Cardline."""
import random, re, socket, struct, time
from dataclasses import dataclass, field

from sip import GIVE_UP, Message, Port, Request, T1, T2, describe, host_port, text, token

TICK_S, STEP = 0.1, 800
EVENT = 96


@dataclass
class Plan:
    """What one call is going to do."""
    number: int
    node: int
    card: str
    line: str
    called: str
    # Typed once the call is answered; None for a line that its card remembers.
    pin: str | None
    # "caller", "advisor" or "zero": who ends it, after so many seconds of talk.
    ender: str
    talk_s: float
    busy: bool = False


@dataclass
class Watch:
    """One phone's stopwatch, on the monotonic clock; None: that never happened."""
    # Before the first 200 went out (advisor), or when the 200 came in (caller).
    answered: float | None = None
    acked: float | None = None
    # The first goodbye of either kind. `said_done`: after the BYE had left.
    said: float | None = None
    said_done: float | None = None
    got: float | None = None
    # What the BYE that this phone sent was answered with.
    bye_status: int | None = None
    # The other phone's voice, by the number in its audio.
    first_heard: float | None = None
    last_heard: float | None = None
    longest_gap: float = 0.0
    # The gap's end.
    gap_at: float | None = None
    strangers: int = 0

    def end(self):
        return min([t for t in (self.said, self.got) if t is not None], default=None)

    def end_late(self):
        return min([t for t in (self.said_done, self.got) if t is not None], default=None)


@dataclass
class Call:
    """One attempt, as the phones saw it."""
    plan: Plan
    sip_call_id: str
    invited: float
    caller: Watch = field(default_factory=Watch)
    advisors: list = field(default_factory=list)
    status: int | None = None
    over: float | None = None


class Audio:
    """One side's RTP: a packet each 100 ms that carries the call's number, and an ear for the other's."""
    def __init__(self, rng, side, number, watch):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # A host of its own, so that no orphan of an earlier call passes for this phone behind a translator.
        self.host = f"127.{1 if side == 'A' else 2}.{number >> 8 & 255}.{number & 255}"
        self.socket.bind((self.host, 0))
        self.socket.setblocking(False)
        self.port, self.watch, self.to = self.socket.getsockname()[1], watch, None
        self.ssrc, self.sequence, self.stamp = rng.getrandbits(32), rng.getrandbits(15), rng.getrandbits(31)
        self.voice = (f"<{number:08d}{side}>".encode() * 15)[:160].ljust(160, b"\xd5")
        self.awaited = f"<{number:08d}{'B' if side == 'A' else 'A'}>".encode()

    def packet(self, kind, payload, marker=0):
        self.sequence = (self.sequence + 1) & 0xFFFF
        head = struct.pack("!BBHII", 0x80, marker << 7 | kind, self.sequence, self.stamp & 0xFFFFFFFF, self.ssrc)
        if self.to and self.socket:
            try:
                self.socket.sendto(head + payload, self.to)
            except OSError:
                pass  # ICMP of a daemon that is away.

    def speak(self):
        self.stamp += STEP
        self.packet(8, self.voice)

    def listen(self):
        """Takes what has come. Gives whether there was anything."""
        came = False
        for _ in range(200):
            try:
                data = self.socket.recv(2048)
            except BlockingIOError:
                break
            except OSError:
                continue
            came = True
            if len(data) > 40 and data[1] & 0x7F == 8:
                self.note(data[12:])
        return came

    def note(self, payload):
        if payload.startswith(b"<") and payload[10:11] == b">":
            now = time.monotonic()
            if payload[:11] != self.awaited:
                self.watch.strangers += 1
                return
            if self.watch.first_heard is None:
                self.watch.first_heard = now
            elif now - self.watch.last_heard > self.watch.longest_gap:
                self.watch.longest_gap, self.watch.gap_at = now - self.watch.last_heard, now
            self.watch.last_heard = now

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None


class Leg:
    """What caller and advisor have in common: a dialog, audio, goodbye."""
    def __init__(self, house, port, call, watch, side):
        self.house, self.loop, self.port, self.call, self.watch = house, house.loop, port, call, watch
        self.audio = Audio(house.rng, side, call.plan.number, watch)
        self.tag, self.remote, self.target, self.to = token(house.rng), "", "", None
        self.sequence, self.answers, self.requests = 1, {}, {}
        self.over, self.packet_at = False, time.monotonic()

    # -- audio
    def start_audio(self, to):
        if self.audio.to is None and to and not self.over:
            self.audio.to, self.packet_at = to, time.monotonic()
            self.loop.after(self.house.rng.uniform(0, TICK_S), self.tick)
        elif to:
            self.audio.to = to

    def tick(self):
        if self.over:
            return
        now = time.monotonic()
        if self.audio.listen():
            self.packet_at = now
        elif now - self.packet_at > self.house.silence_s:
            self.hang_up()
            return
        self.audio.speak()
        self.heard()
        self.loop.after(TICK_S, self.tick)

    def heard(self):
        pass

    # -- requests of ours
    def request(self, method, sequence, lost, branch=None):
        branch = branch or "z9hG4bK" + token(self.house.rng)
        headers = [("Via", f"SIP/2.0/UDP 127.0.0.1:{self.port.number};branch={branch};rport"), ("Max-Forwards", "70"),
                   *self.dialog(), ("Call-ID", self.call_id), ("CSeq", f"{sequence} {method}")]
        data = text(f"{method} {self.target} SIP/2.0", headers)
        if method == "ACK":
            self.port.send(data, self.to)
            return
        self.requests[branch] = (method, Request(self.port, self.loop, data, self.to, False, lost))

    def hang_up(self):
        if self.over:
            return
        self.sequence += 1
        if self.watch.said is None:
            self.watch.said = time.monotonic()
        self.request("BYE", self.sequence, self.gone)
        self.watch.said_done = self.watch.said_done or time.monotonic()
        self.ended()

    def ended(self):
        """No talk any more; late messages are still answered."""
        self.over = True
        self.audio.close()
        self.loop.after(GIVE_UP + 1, self.gone)
        self.house.leg_ended(self)

    def gone(self):
        for _, request in self.requests.values():
            request.stop()
        self.house.forget(self)

    # -- what comes in
    def take(self, message, source, arrived):
        if message.status:
            self.take_response(message, arrived)
        elif message.method != "ACK":
            self.take_request(message, source, arrived)
        else:
            self.take_ack(message, arrived)

    def take_response(self, message, arrived):
        method, request = self.requests.get(message.branch(), (None, None))
        if request and message.status >= 200:
            request.stop()
            if method == "BYE":
                self.watch.bye_status = self.watch.bye_status or message.status

    def take_request(self, message, source, arrived):
        key = (message.method, message.cseq(), message.branch())
        if key in self.answers:
            self.port.send(self.answers[key], source)
            return
        body = ""
        if message.method == "BYE":
            self.watch.got = self.watch.got or arrived
        if message.method == "INVITE":
            body = describe(self.audio, EVENT, 2)
            self.start_audio(message.media())
        known = ("BYE", "OPTIONS", "INVITE", "UPDATE", "INFO", "CANCEL")
        self.answer(message, source, 200 if message.method in known else 501, body, key)
        if message.method == "BYE" and not self.over:
            self.ended()

    def take_ack(self, message, arrived):
        pass

    def answer(self, message, source, status, body="", key=None):
        to = message.get("to") + ("" if message.tag("to") or status == 100 else f";tag={self.tag}")
        headers = [*(("Via", v) for v in message.all("via")), *(("Record-Route", v) for v in message.all("record-route")),
                   ("From", message.get("from")), ("To", to), ("Call-ID", message.get("call-id")),
                   ("CSeq", message.get("cseq")), ("Contact", f"<sip:phone@127.0.0.1:{self.port.number}>"),
                   ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE")]
        words = {100: "Trying", 180: "Ringing", 200: "OK", 486: "Busy Here", 487: "Request Terminated", 501: "No"}
        data = text(f"SIP/2.0 {status} {words[status]}", headers, body)
        if key:
            self.answers[key] = data
        self.port.send(data, source)
        return data


class Caller(Leg):
    """Dials, types its PIN or skips the announcement, talks, hangs up."""
    def __init__(self, house, plan, to):
        self.call_id = token(house.rng, 20) + f"-{plan.number}@127.0.0.1"
        call = Call(plan, self.call_id, time.monotonic())
        super().__init__(house, house.callers, call, call.caller, "A")
        self.to = self.peer = to
        self.target = f"sip:{plan.called}@127.0.0.1:{to[1]}"
        self.state, self.tried = "calling", False
        self.branch = "z9hG4bK" + token(house.rng)
        headers = [("Via", f"SIP/2.0/UDP 127.0.0.1:{self.port.number};branch={self.branch};rport"),
                   ("Max-Forwards", "70"), *self.dialog(), ("Call-ID", self.call_id), ("CSeq", "1 INVITE"),
                   ("Contact", f"<sip:phone@127.0.0.1:{self.port.number}>")]
        data = text(f"INVITE {self.target} SIP/2.0", headers, describe(self.audio, EVENT, 1))
        self.invite = Request(self.port, self.loop, data, to, True, self.unanswered)
        self.loop.after(house.patience_s, self.impatient)

    def dialog(self):
        to = f"<sip:{self.call.plan.called}@127.0.0.1>" + (f";tag={self.remote}" if self.remote else "")
        return [("From", f"<sip:{self.call.plan.line}@127.0.0.1;user=phone>;tag={self.tag}"), ("To", to)]

    def take_response(self, message, arrived):
        if message.method != "INVITE":
            super().take_response(message, arrived)
        elif message.status < 200:
            self.invite.provisional()
        elif message.status >= 300:
            self.refused(message)
        else:
            self.answered(message, arrived)

    def refused(self, message):
        self.invite.stop()
        if self.state == "calling":
            self.remote, self.state = message.tag("to"), "refused"
            self.request("ACK", 1, None, branch=self.branch)
            self.call.status = message.status
            self.watch.got = time.monotonic()
            self.ended()
        elif message.tag("to") == self.remote:
            self.request("ACK", 1, None, branch=self.branch)

    def answered(self, message, arrived):
        self.invite.stop()
        if self.state == "calling":
            self.state, self.remote = "up", message.tag("to")
            self.target = message.uri("contact") or self.target
            self.to = host_port(self.target)
            self.call.status, self.watch.answered = 200, arrived
            self.request("ACK", 1, None)
            if self.watch.said is not None:
                self.hang_up()
                return
            self.start_audio(message.media())
            self.loop.after(0.3, self.type_digits)
        elif message.tag("to") == self.remote:
            self.request("ACK", 1, None)
        else:
            self.end_fork(message)

    def end_fork(self, message):
        """Another life of the daemon answered the same INVITE: a dialog that nobody wants."""
        mine = (self.remote, self.target)
        self.remote, self.target = message.tag("to"), message.uri("contact")
        self.request("ACK", 1, None)
        self.request("BYE", 9, lambda: None)
        self.remote, self.target = mine

    def type_digits(self):
        wait = 0.0
        for digit in self.call.plan.pin or "":
            self.loop.after(wait, self.press, int(digit))
            wait += 0.16
        for n in range(5):
            self.loop.after(wait + 0.6 * n + (0.6 if wait else 0), self.press_to_skip)

    def press_to_skip(self):
        if self.watch.first_heard is None:
            self.press(1)

    def press(self, digit):
        if self.over:
            return
        self.audio.stamp += STEP
        for n, (end, units) in enumerate([(0, 160), (0, 400), (0, 640), (1, 800), (1, 800), (1, 800)]):
            self.loop.after(0.02 * n, self.event, self.audio.stamp, digit, end, units, n == 0)

    def event(self, stamp, digit, end, units, first):
        later, self.audio.stamp = self.audio.stamp, stamp
        if not self.over:
            self.audio.packet(EVENT, struct.pack("!BBH", digit, end << 7 | 10, units), int(first))
        self.audio.stamp = later

    def heard(self):
        """The advisor's voice starts the caller's patience with the talk."""
        if self.watch.first_heard is not None and not self.tried:
            self.tried = True
            wait = self.call.plan.talk_s + (0 if self.call.plan.ender == "caller" else 6)
            self.loop.after(wait, self.hang_up)

    def impatient(self):
        if self.over or self.watch.first_heard is not None:
            return
        if self.state == "up":
            self.hang_up()
        else:
            self.watch.said = self.watch.said_done = time.monotonic()
            self.cancel()

    def cancel(self):
        headers = [("Via", f"SIP/2.0/UDP 127.0.0.1:{self.port.number};branch={self.branch};rport"),
                   ("Max-Forwards", "70"), *self.dialog(), ("Call-ID", self.call_id), ("CSeq", "1 CANCEL")]
        data = text(f"CANCEL {self.target} SIP/2.0", headers)
        self.requests[self.branch] = ("CANCEL", Request(self.port, self.loop, data, self.to, False, self.unanswered))
        # A daemon that died knows nothing of the INVITE: no final answer will come.
        self.loop.after(5, self.unanswered)

    def unanswered(self):
        if not self.over and self.state == "calling":
            self.watch.said = self.watch.said_done = self.watch.said or time.monotonic()
            self.ended()


class Advisor(Leg):
    """Rings, answers, talks, hangs up."""
    def __init__(self, house, call, invite, source):
        watch = Watch()
        call.advisors.append(watch)
        super().__init__(house, house.advisors, call, watch, "B")
        self.call_id, self.invite, self.source = invite.get("call-id"), invite, source
        self.remote, self.target, self.to = invite.tag("from"), invite.uri("contact"), source
        self.state, self.key = "ringing", ("INVITE", invite.cseq(), invite.branch())
        self.media = invite.media()
        found = re.search(rb"a=rtpmap:(\d+) telephone-event", invite.body)
        self.event = int(found[1]) if found else EVENT
        if call.plan.busy:
            self.final(486)
            return
        self.answer(invite, source, 180, key=self.key)
        self.loop.after(house.rng.uniform(0.05, 0.6), self.lift)

    def dialog(self):
        return [("From", f"{self.invite.get('to')};tag={self.tag}"), ("To", self.invite.get("from"))]

    def lift(self):
        if self.state != "ringing":
            return
        self.state, self.watch.answered = "lifted", time.monotonic()
        body = describe(self.audio, self.event, 1)
        self.ok = self.answer(self.invite, self.source, 200, body, self.key)
        self.start_audio(self.media)
        self.wait, self.until = T1, time.monotonic() + GIVE_UP
        self.loop.after(self.wait, self.repeat)

    def repeat(self):
        """A 200 is repeated until its ACK (RFC 3261 13.3.1.4)."""
        if self.state != "lifted" or self.over:
            return
        if time.monotonic() > self.until:
            self.hang_up()
            return
        self.port.send(self.ok, self.source)
        self.wait = min(self.wait * 2, T2)
        self.loop.after(self.wait, self.repeat)

    def take_ack(self, message, arrived):
        if self.state == "lifted":
            self.state, self.watch.acked = "up", arrived
            self.target = self.target or message.uri("contact")
            self.to = host_port(self.target)
            if self.call.plan.ender == "advisor":
                self.loop.after(self.call.plan.talk_s, self.hang_up)

    def take_request(self, message, source, arrived):
        if message.method == "CANCEL":
            self.answer(message, source, 200)
            if self.state == "ringing":
                self.final(487)
            return
        super().take_request(message, source, arrived)

    def final(self, status):
        self.state = "refused"
        self.watch.got = time.monotonic()
        self.answer(self.invite, self.source, status, key=self.key)
        self.ended()


class House:
    """All phones: two SIP sockets, one for the callers' carrier and one for the advisors."""
    def __init__(self, loop, seed, patience_s, silence_s):
        self.loop, self.rng = loop, random.Random(seed)
        self.patience_s, self.silence_s = patience_s, silence_s
        self.callers, self.advisors = Port(loop, self.at_callers), Port(loop, self.at_advisors)
        self.legs, self.by_line, self.calls, self.strays = {}, {}, [], 0
        self.done = lambda call: None

    def dial(self, plan, to):
        leg = Caller(self, plan, to)
        self.legs[leg.call_id], self.by_line[plan.line] = leg, leg
        self.calls.append(leg.call)

    def at_callers(self, message, source, arrived):
        leg = self.legs.get(message.get("call-id"))
        if leg:
            leg.take(message, source, arrived)
        else:
            self.stranger(self.callers, message, source)

    def at_advisors(self, message, source, arrived):
        leg = self.legs.get(message.get("call-id"))
        if leg:
            leg.take(message, source, arrived)
            return
        line = re.search(r"sip:(\+?\d+)@", message.get("from"))
        caller = self.by_line.get(line[1]) if line else None
        if message.method != "INVITE" or message.status or message.tag("to") or not caller:
            self.stranger(self.advisors, message, source)
            return
        self.legs[message.get("call-id")] = Advisor(self, caller.call, message, source)

    def stranger(self, port, message, source):
        """No call of ours (any more): 481, as a phone that has hung up answers."""
        self.strays += 1
        if not message.status and message.method != "ACK":
            headers = [*(("Via", v) for v in message.all("via")), ("From", message.get("from")),
                       ("To", message.get("to") + ("" if message.tag("to") else ";tag=none")),
                       ("Call-ID", message.get("call-id")), ("CSeq", message.get("cseq"))]
            port.send(text("SIP/2.0 481 Call Does Not Exist", headers), source)

    def leg_ended(self, leg):
        """A call is over when its caller and every advisor that lifted are."""
        call = leg.call
        if call.over is None and call.caller.end() and all(w.end() for w in call.advisors):
            call.over = time.monotonic()
            self.done(call)

    def forget(self, leg):
        self.legs.pop(leg.call_id, None)
        if self.by_line.get(leg.call.plan.line) is leg:
            del self.by_line[leg.call.plan.line]
