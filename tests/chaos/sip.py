"""SIP as the chaos test's phones speak it: text, transactions' timers, and nothing of Cardline's code."""
import heapq, itertools, random, re, selectors, socket, struct, threading, time

T1, T2 = 0.5, 4.0
GIVE_UP = 64 * T1
COMPACT = {"i": "call-id", "f": "from", "t": "to", "v": "via", "m": "contact", "l": "content-length", "c": "content-type"}
SO_TIMESTAMPNS = 35


class Message:
    """One request or response; header names in lower case, in their order."""
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
        self.start, self.headers = lines[0], []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.headers.append((COMPACT.get(name, name), value.strip()))
        first = self.start.split(" ", 2)
        self.status = int(first[1]) if first[0] == "SIP/2.0" else None
        self.method = self.get("cseq").split()[1] if self.status else first[0]

    def get(self, name):
        return next((v for n, v in self.headers if n == name), "")

    def all(self, name):
        return [v for n, v in self.headers if n == name]

    def branch(self):
        found = re.search(r";\s*branch=([^;,\s]+)", self.get("via"))
        return found[1] if found else ""

    def tag(self, name):
        found = re.search(r";\s*tag=([^;>\s]+)", self.get(name).rpartition(">")[2])
        return found[1] if found else ""

    def uri(self, name):
        found = re.search(r"<([^>]+)>", self.get(name))
        return found[1] if found else self.get(name).split(";")[0].strip()

    def cseq(self):
        return int(self.get("cseq").split()[0])

    def media(self):
        """Where the peer wants RTP, by its description."""
        text = self.body.decode("utf-8", "replace")
        host, port = re.search(r"^c=IN IP4 ([\d.]+)", text, re.M), re.search(r"^m=audio (\d+)", text, re.M)
        return (host[1], int(port[1])) if host and port and int(port[1]) else None


def host_port(uri):
    found = re.search(r"@?\[?([\d.]+)\]?(?::(\d+))?(?:;|$|>)", uri.split("@")[-1])
    return (found[1], int(found[2] or 5060))


def describe(audio, event, version):
    return (f"v=0\r\no=- 1 {version} IN IP4 {audio.host}\r\ns=-\r\nc=IN IP4 {audio.host}\r\nt=0 0\r\n"
            f"m=audio {audio.port} RTP/AVP 8 {event}\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:{event} telephone-event/8000\r\n"
            f"a=fmtp:{event} 0-15\r\na=ptime:20\r\na=sendrecv\r\n")


def text(start, headers, body=""):
    lines = [start, *(f"{n}: {v}" for n, v in headers)]
    if body:
        lines.append("Content-Type: application/sdp")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


class Loop:
    """One thread: sockets and timers. Everything that a phone does happens in it."""
    def __init__(self):
        self.selector, self.timers, self.order = selectors.DefaultSelector(), [], itertools.count()
        self.jobs, self.lock, self.running = [], threading.Lock(), True
        self.latest = 0.0
        self.thread = threading.Thread(target=self.run, name="phones", daemon=True)
        self.fault = None

    def at(self, when, what, *args):
        timer = [when, next(self.order), what, args]
        heapq.heappush(self.timers, timer)
        return timer

    def after(self, seconds, what, *args):
        return self.at(time.monotonic() + seconds, what, *args)

    @staticmethod
    def cancel(timer):
        if timer:
            timer[2] = None

    def post(self, what, *args):
        """From another thread."""
        with self.lock:
            self.jobs.append((what, args))

    def run(self):
        try:
            while self.running:
                self.turn()
        except BaseException as fault:
            self.fault = fault
            raise

    def turn(self):
        wait = self.timers[0][0] - time.monotonic() if self.timers else 0.02
        for key, _ in self.selector.select(max(0.0, min(wait, 0.02))):
            key.data(key.fileobj)
        with self.lock:
            jobs, self.jobs = self.jobs, []
        for what, args in jobs:
            what(*args)
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            when, _, what, args = heapq.heappop(self.timers)
            if what:
                # How late this thread runs: the noise of the phones' own timers.
                self.latest = max(self.latest, now - when)
                what(*args)


class Port:
    """A UDP socket for SIP. Arrival times are the kernel's, so a busy Python blurs no stopwatch."""
    def __init__(self, loop, take):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.number, self.take = self.socket.getsockname()[1], take
        loop.selector.register(self.socket, selectors.EVENT_READ, self.read)

    def read(self, _socket):
        for _ in range(64):
            try:
                data, extra, _flags, source = self.socket.recvmsg(65535, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            arrived = time.monotonic()
            for level, kind, value in extra:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanos = struct.unpack("qq", value[:16])
                    arrived -= max(0.0, time.time() - seconds - nanos / 1e9)
            if data.strip():
                self.take(Message(data), source, arrived)

    def send(self, data, to):
        try:
            self.socket.sendto(data, to)
        except OSError:
            pass  # Nobody listens there for the moment; the timers send it again.


class Request:
    """A client transaction: sends until it is answered (RFC 3261 17.1, timers A/B and E/F)."""
    def __init__(self, port, loop, data, to, invite, lost):
        self.port, self.loop, self.data, self.to, self.invite, self.lost = port, loop, data, to, invite, lost
        self.until, self.wait, self.timer = time.monotonic() + GIVE_UP, T1, None
        self.send()

    def send(self):
        if time.monotonic() >= self.until:
            self.lost()
            return
        self.port.send(self.data, self.to)
        self.timer = self.loop.after(self.wait, self.send)
        self.wait = self.wait * 2 if self.invite else min(self.wait * 2, T2)

    def provisional(self):
        if self.invite:
            self.stop()

    def stop(self):
        self.loop.cancel(self.timer)


def token(rng, size=10):
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(size))
