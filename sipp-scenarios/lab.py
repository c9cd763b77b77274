"""The lab that the scenarios run in: a throw-away daemon, SIPp processes, captures, cases."""
import csv, json, math, pathlib, re, shlex, signal, socket, struct, subprocess, threading, time, tomllib

HERE = pathlib.Path(__file__).resolve().parent
ANY = r"SIP/2.0"

CONFIG = """
[sip]
listen = ["udp://127.0.0.1:{sip}"]
[media]
listen = "127.0.0.1"
ports = "{media}"
no_media_s = 4
rtp_lost_s = 5
[call]
first_digit_s = 2
next_digit_s = 2
pin_try_s = 8
offer_s = 3
other_pin_s = 5
no_ringing_s = 4
hunting_s = 30
[store]
url = "sqlite://{dir}/cardline.db"
[admin]
socket = "{dir}/admin.sock"
http = ""
[log]
level = "info,cardline=debug"
[[trunk]]
name = "carrier"
peers = ["127.0.0.1"]
[[trunk]]
name = "outbound-only"
peers = ["127.0.0.8"]
inbound = false
"""


class Failure(Exception):
    """A case went another way than its file says."""


class Daemon:
    def __init__(self, binary, folder):
        self.binary, self.dir = binary, folder
        self.port = free_port()
        config = CONFIG.format(sip=self.port, media="21000-24999", dir=folder)
        (folder / "cardline.toml").write_text(config)
        self.start()

    def start(self):
        self.log = open(self.dir / "daemon.log", "a")
        self.process = subprocess.Popen([self.binary, "serve", "--config", self.dir / "cardline.toml"],
                                        stdout=self.log, stderr=self.log)
        limit = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                raise Failure(f"the daemon ended at start:\n{(self.dir / 'daemon.log').read_text()[-2000:]}")
            if self.verb("status").returncode == 0:
                return
            if time.monotonic() > limit:
                raise Failure("the daemon is not ready after 30 s")
            time.sleep(0.1)

    def verb(self, text, *more):
        command = [self.binary, *shlex.split(text), *more, "--socket", self.dir / "admin.sock", "--json"]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)

    def json(self, text, *more):
        done = self.verb(text, *more)
        if done.returncode != 0:
            raise Failure(f"cardline {text}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout or "null")

    def kill(self):
        """kill -9 of our own process, then a new start on the same files."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait(10)
        return self.process.returncode


used_ports, ports_lock = set(), threading.Lock()


def free_port(count=1, step=2):
    """`count` free UDP ports in a row (even first), each handed out once."""
    with ports_lock:
        for base in range(26000, 32000, step):
            row = range(base, base + count)
            if used_ports.isdisjoint(row) and all(is_free(p) for p in row):
                used_ports.update(row)
                return base
    raise Failure("no free UDP port")


def is_free(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def talk_pcap(path, seconds, hz):
    """An A-law tone as a capture file that SIPp plays from the port named in its SDP."""
    def alaw(sample):
        sign, magnitude = (0x80, sample) if sample >= 0 else (0, -sample - 1)
        magnitude >>= 3
        exponent = max(0, magnitude.bit_length() - 5)
        code = (magnitude >> 1) & 15 if exponent == 0 else (magnitude >> exponent) & 15 | exponent << 4
        return (code | sign) ^ 0x55
    tone = bytes(alaw(int(4000 * math.sin(2 * math.pi * hz * n / 8000))) for n in range(8000))
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n in range(seconds * 50):
            at = n * 160 % 8000
            rtp = struct.pack("!BBHII", 0x80, 8, n & 0xFFFF, n * 160, 0x5EC0DE) + tone[at:at + 160]
            udp = struct.pack("!HHHH", 6000, 6000, 8 + len(rtp), 0) + rtp
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), n & 0xFFFF, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
            frame = b"\0" * 12 + b"\x08\0" + ip + udp
            out.write(struct.pack("<IIII", n // 50, n % 50 * 20000, len(frame), len(frame)) + frame)


def fill(name, values):
    """A scenario's XML with its parts and its @values@ put in."""
    text = (HERE / "lib" / name).read_text()
    text = re.sub(r"@@(\w+)@@\n", lambda m: (HERE / "lib" / f"{m[1]}.xml").read_text(), text)
    text = re.sub(r"^ *@extra@\n", "" if not values.get("extra") else f"      {values['extra']}\n", text, flags=re.M)
    def value(match):
        if match[1] not in values:
            raise Failure(f"{name} wants a value for @{match[1]}@")
        return str(values[match[1]])
    return re.sub(r"@(\w+)@", lambda m: value(m), text)


class Sipp:
    """One SIPp process that plays one side of one call."""
    def __init__(self, case, name, values, remote=None, local="127.0.0.1", port=None, echo=False,
                 more=("-m", "1")):
        self.name, case.count = f"{case.name}-{case.count}-{name}", case.count + 1
        self.dir = case.dir
        xml = case.dir / f"{self.name}.xml"
        xml.write_text(fill(f"{name}.xml", values))
        self.stat = case.dir / f"{self.name}.csv"
        command = ["sipp", "-sf", xml, "-i", local, "-p", str(port or free_port()), "-mp", str(free_port(4, 4)),
                   *more, "-nostdin", "-trace_stat", "-stf", self.stat, "-fd", "1",
                   "-trace_err", "-error_file", case.dir / f"{self.name}.err",
                   "-trace_msg", "-message_file", case.dir / f"{self.name}.msg",
                   "-timeout", f"{values['end_ms'] // 1000 + 60}s", "-timeout_error"]
        command += ["-rtp_echo"] if echo else []
        command += [f"127.0.0.1:{remote}"] if remote else []
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=case.dir)

    def wait(self, seconds):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(10)
            raise Failure(f"{self.name}: SIPp did not end within {seconds} s{self.words()}")
        done, failed = self.counts()
        if (done, failed) != (1, 0):
            raise Failure(f"{self.name}: {done} calls right and {failed} wrong, want 1 and 0{self.words()}")

    def counts(self):
        """Calls right and wrong, from SIPp's statistics: its exit code is 0 too often."""
        if not self.stat.exists():
            return 0, 0
        rows = list(csv.DictReader(open(self.stat), delimiter=";"))
        if not rows:
            return 0, 0
        return int(rows[-1]["SuccessfulCall(C)"]), int(rows[-1]["FailedCall(C)"])

    def words(self):
        errors = self.dir / f"{self.name}.err"
        return "\n" + errors.read_text()[-1500:] if errors.exists() else ""

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


class Case:
    def __init__(self, path, daemon, folder, index):
        self.spec = tomllib.loads(path.read_text())
        self.name, self.daemon, self.index, self.count = path.stem, daemon, index, 0
        self.dir = folder / self.name
        self.dir.mkdir()
        self.called = f"+4930231{index:05d}"
        self.calls_seen = 0
        self.values = {"project": f"p{index}", "called": self.called, "caller": f"+4917100{index:05d}",
                       "other_caller": f"+4917200{index:05d}", "third_caller": f"+4917300{index:05d}", "talk": folder / "talk.pcap", "think_ms": 300,
                       "typing_ms": 4800, "try_ms": 4500, "talk_ms": 2000, "ring_ms": 500, "end_ms": 30000,
                       "reason": ANY, "advisor_reason": ANY, "wants": ANY, "formats": "8 0 96", "max_forwards": 70,
                       "status": 200, "pin": "1000000001", "pin2": "1000000002", "pin3": "1000000003", "extra": ""}
        self.advisor_ports = [free_port() for _ in range(self.spec.get("targets", 1))]

    def run(self):
        started = time.monotonic()
        try:
            self.prepare()
            for number, step in enumerate(self.spec["step"], 1):
                try:
                    self.step(step)
                except Failure as failure:
                    raise Failure(f"step {number} ({step.get('what', step)}): {failure}")
            verdict = None
        except Failure as failure:
            verdict = str(failure)
        except Exception as bug:
            verdict = f"{type(bug).__name__}: {bug}"
        return self.name, verdict, time.monotonic() - started, self.count

    def prepare(self):
        cli = self.daemon.json
        cli("project new", self.values["project"], "--lang", self.spec.get("lang", "de"))
        cli("number add", self.called, "--project", self.values["project"], "--role", self.spec.get("role", "both"))
        for order, port in enumerate(self.advisor_ports, 1):
            cli("target add", f"sip:advisor@127.0.0.1:{port}", "--project", self.values["project"], "--order",
                str(order), "--ring-s", str(self.spec.get("ring_s", 6)))

    def step(self, step):
        if "cli" in step:
            self.cli(step)
        else:
            self.call(step)
        for path, want in step.get("save", {}).items():
            self.values[path] = look(self.answer, want)

    def cli(self, step):
        done = self.daemon.verb(step["cli"].format(**self.values))
        want = step.get("exit", 0)
        if done.returncode != want:
            raise Failure(f"exit {done.returncode}, want {want}: {done.stdout}{done.stderr}")
        self.answer = json.loads(done.stdout) if done.stdout.strip() else None
        compare(self.answer, step.get("expect", {}))

    def call(self, step):
        values = self.values | {"from": f"From: <sip:{self.values['caller']}@127.0.0.1;user=phone>"}
        values |= {k: v.format(**values) if isinstance(v, str) else v for k, v in step.get("with", {}).items()}
        if "caller" in step.get("with", {}):
            values["from"] = f"From: <sip:{values['caller']}@127.0.0.1;user=phone>"
        if "from" in step.get("with", {}):
            values["from"] = "From: " + step["with"]["from"]
        capture = self.capture() if step.get("capture") else None
        advisors = [Sipp(self, name, values, port=self.advisor_ports[n], echo=step.get("echo", True))
                    for n, name in enumerate(step.get("advisors", []))]
        for advisor, port in zip(advisors, self.advisor_ports):
            wait_for_socket(port)
        local = step.get("local", "127.0.0.1")
        callers = [Sipp(self, name, values, remote=self.daemon.port, local=local) for name in step["callers"]]
        try:
            during = [(w["after_s"], w["cli"]) for w in step.get("during", [])]
            begun = time.monotonic()
            for after, verb in during:
                time.sleep(max(0, begun + after - time.monotonic()))
                self.daemon.json(verb.format(**values))
            if "second" in step:
                callers += self.second(step["second"], values, begun)
            if "hang_up_after_s" in step:
                time.sleep(max(0, begun + step["hang_up_after_s"] - time.monotonic()))
                self.daemon.json("call hangup", self.live_call())
            if "kill_after_s" in step:
                time.sleep(max(0, begun + step["kill_after_s"] - time.monotonic()))
                self.daemon.kill()
                self.daemon.start()
            else:
                for one in callers + advisors:
                    one.wait(values["end_ms"] / 1000 + 45)
        finally:
            for one in callers + advisors:
                one.end()
            packets = self.captured(capture) if capture else None
        self.answer = None
        if "record" in step:
            self.record(step["record"], len(callers) if step.get("recorded", True) else 0)
        if capture:
            self.check_capture(packets, step["capture"])

    def second(self, second, values, begun):
        """Another call beside the first one, on a line of its own."""
        time.sleep(max(0, begun + second["after_s"] - time.monotonic()))
        more = {k: v.format(**self.values) if isinstance(v, str) else v for k, v in second["with"].items()}
        more["from"] = f"From: <sip:{more['caller']}@127.0.0.1;user=phone>"
        return [Sipp(self, name, values | more, remote=self.daemon.port) for name in second["callers"]]

    def live_call(self):
        calls = rows(self.daemon.json("call list --live --project", self.values["project"]))
        if len(calls) != 1:
            raise Failure(f"{len(calls)} live calls, want one: {calls}")
        return calls[0]["id"]

    def record(self, expect, new):
        """The newest call's record, once it is closed."""
        limit = time.monotonic() + 15
        self.calls_seen += new
        while True:
            calls = rows(self.daemon.json("call list --project", self.values["project"]))
            if len(calls) >= self.calls_seen and all(c["ended_at"] for c in calls):
                break
            if time.monotonic() > limit:
                raise Failure(f"{len(calls)} records closed or not, want {self.calls_seen} closed: {calls}")
            time.sleep(0.2)
        self.answer = max(calls, key=lambda c: c["started_at"])
        compare(self.answer, expect)

    def capture(self):
        path = self.dir / f"capture-{self.count}.pcapng"
        process = subprocess.Popen(["tshark", "-q", "-i", "lo", "-f", "udp portrange 21000-32000", "-w", path],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "Capturing on" in line:
                break
        return process, path

    def captured(self, capture):
        process, path = capture
        process.send_signal(signal.SIGINT)
        process.wait(20)
        out = subprocess.run(["tshark", "-r", path, "-d", "udp.port==21000-24999,rtp", "-Y", "rtp", "-T", "fields", "-e",
                              "udp.srcport", "-e", "udp.dstport", "-e", "rtp.p_type", "-e", "rtp.ssrc", "-e", "rtp.seq",
                              "-e", "rtp.timestamp", "-e", "rtp.marker", "-e", "rtp.payload"], capture_output=True, text=True)
        return [line.split("\t") for line in out.stdout.splitlines() if line.count("\t") == 7]

    def check_capture(self, packets, want):
        """RTP both ways, one unbroken line per leg towards the peers, and the caller's tone at the advisor."""
        ours = {}
        for src, dst, ptype, ssrc, seq, ts, _marker, payload in packets:
            if 21000 <= int(src) <= 24999:
                ours.setdefault((src, dst), []).append((ptype, ssrc, int(seq), int(ts), payload))
        mine = [line for line in ours.values() if len(line) >= want["packets"]]
        if len(mine) < 2:
            sizes = {k: len(v) for k, v in ours.items()}
            raise Failure(f"want two RTP lines of {want['packets']} packets from us, captured {sizes}")
        for line in mine:
            if len({ssrc for _, ssrc, *_ in line}) != 1:
                raise Failure("a leg's SSRC changed")
            gaps = [(a, b) for (_, _, a, _, _), (_, _, b, _, _) in zip(line, line[1:]) if (b - a) & 0xFFFF != 1]
            if gaps:
                raise Failure(f"a leg's sequence is broken: {gaps[:5]}")


def rows(answer):
    """A listing, bare or under its noun."""
    return answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))


def look(answer, path):
    for part in path.split("."):
        answer = answer[int(part)] if part.isdigit() else answer[part]
    return answer


def compare(answer, expect):
    for path, want in expect.items():
        got = look(answer, path)
        fine = want[0] <= got <= want[1] if isinstance(want, list) else got == want
        if not fine:
            raise Failure(f"{path} is {got!r}, want {want!r} in {json.dumps(answer)}")


def wait_for_socket(port):
    limit = time.monotonic() + 10
    while is_free(port):
        if time.monotonic() > limit:
            raise Failure(f"SIPp does not listen on {port}")
        time.sleep(0.02)
