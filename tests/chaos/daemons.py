"""`cardline serve` on a configuration of its own, and its admin socket spoken to by hand."""
import http.client, json, os, pathlib, signal, socket, subprocess, time

CONFIG = """
[sip]
listen = ["udp://127.0.0.1:{sip}"]
[media]
listen = "127.0.0.1"
ports = "{media}"
stock = 16
threads = 1
[call]
no_ringing_s = 4
hunting_s = 30
other_pin_s = 5
end_prompt_s = 1
slice_s = {slice_s}
renew_lead_s = {renew_lead_s}
warnings_s = []
checkpoint_s = {checkpoint_s}
[store]
url = "{url}"
pin_key_file = "{key}"
{journal}
[admin]
socket = "{dir}/admin.sock"
http = ""
[log]
level = "info"
[[trunk]]
name = "carrier"
peers = ["127.0.0.1"]
{node}
"""
# Every key there is; a node's name and its journal's place are given as soon as it has them.
KEYS = (pathlib.Path(__file__).resolve().parents[2] / "config" / "example.toml").read_text()

# Media ports of one node.
PORTS = 800
used_ports = set()


class Failure(Exception):
    """The test itself cannot go on."""


class AdminAway(Exception):
    """Nobody answers at the admin socket, or it says that it cannot now: ask again."""


class AdminSocket(http.client.HTTPConnection):
    def __init__(self, path, seconds):
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Daemon:
    """One node."""
    def __init__(self, binary, folder, url, key, name, media, checkpoint_s=10, slice_s=12, renew_lead_s=6):
        self.binary, self.dir, self.name = binary, folder, name
        self.fit_at = 0.0
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port, self.process, self.starts = free_port(), None, []
        config = CONFIG.format(sip=self.port, media=f"{media}-{media + PORTS - 1}", dir=folder, url=url, key=key,
                               slice_s=slice_s, renew_lead_s=renew_lead_s, checkpoint_s=checkpoint_s,
                               journal=f'journal = "{folder}/cardline.journal"' if "journal =" in KEYS else "",
                               node=f'[node]\nname = "{name}"' if "#[node]" in KEYS else "")
        (folder / "cardline.toml").write_text(config)

    def start(self, seconds=30, again=False):
        """Starts it and waits until it answers; `again`: as a service manager, whenever it gives up at start."""
        begun = time.monotonic()
        if not self.is_running():
            self.launch()
        while True:
            if self.process.poll() is not None:
                if not again:
                    raise Failure(f"the daemon ended at start ({self.process.returncode}):\n{self.log()[-2000:]}")
                time.sleep(0.3)
                self.launch()
            try:
                self.ask("GET", "/health/ready", seconds=1)
                break
            except AdminAway:
                pass
            if time.monotonic() > begun + seconds:
                raise Failure(f"the daemon is not ready after {seconds} s:\n{self.log()[-2000:]}")
            time.sleep(0.02)
        if not again:
            self.starts.append(time.monotonic() - begun)

    def launch(self):
        with open(self.dir / "daemon.log", "ab") as log:
            command = [str(self.binary), "serve", "--config", str(self.dir / "cardline.toml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            for seconds in (5, 20):
                self.process.terminate()
                try:
                    self.process.wait(seconds)
                    return
                except subprocess.TimeoutExpired:
                    pass
            self.process.kill()
            self.process.wait(10)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        path = self.dir / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask(self, method, path, body=None, key=None, seconds=8):
        """One request to the admin socket: the answer, `AdminAway`, or `Failure` for a no."""
        connection = AdminSocket(self.dir / "admin.sock", seconds)
        headers = {"Content-Type": "application/json", "Accept-Language": "en"} | ({"Idempotency-Key": key} if key else {})
        where = path if path.startswith("/health") else f"/api/v1{path}"
        try:
            connection.request(method, where, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            status, data = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as away:
            raise AdminAway(str(away)) from None
        finally:
            connection.close()
        if status >= 500:
            raise AdminAway(data.decode(errors="replace"))
        if status >= 400:
            raise Failure(f"{method} {path}: {status} {data.decode(errors='replace')}")
        return json.loads(data or b"null")

    def insist(self, method, path, body=None, key=None, seconds=60):
        """The same until it is answered; only for what may be repeated."""
        limit = time.monotonic() + seconds
        while True:
            try:
                return self.ask(method, path, body, key)
            except AdminAway as away:
                if time.monotonic() > limit:
                    raise Failure(f"{method} {path}: no answer within {seconds} s: {away}") from None
                time.sleep(0.05)

    def verb(self, words):
        command = [str(self.binary), *words.split(), "--socket", str(self.dir / "admin.sock"), "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)


def free_port():
    """Below the ports that the system hands out: a killed daemon finds it free again."""
    first = os.getpid() * 97 % 2000
    for port in (18000 + (first + n) % 2000 for n in range(2000)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in used_ports:
            used_ports.add(port)
            return port
    raise Failure("no free UDP port")
