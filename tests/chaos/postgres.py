"""A PostgreSQL cluster of our own: made, stopped, frozen and started again. initdb refuses root, so root lends
it another user."""
import os, pathlib, pwd, shutil, signal, socket, subprocess, time

from daemons import Failure


class Cluster:
    def __init__(self, folder):
        self.bin = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda p: int(p.parent.name))
        if self.bin is None or not (self.bin / "initdb").exists():
            raise Failure("PostgreSQL is not installed (Debian: postgresql)")
        self.dir, self.data = folder, folder / "data"
        folder.mkdir(parents=True)
        self.user = []
        if os.geteuid() == 0:
            name = next(n for n in ("postgres", "nobody") if self.known(n))
            self.user = ["runuser", "-u", name, "--"]
            shutil.chown(folder, name)
            # mkdtemp's folders are closed to others; the cluster lies in one.
            for parent in folder.parents:
                if parent.stat().st_uid == 0 and parent != parent.parent and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.run("initdb", "-D", self.data, "-U", "cardline", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"\nport = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n"
                       "max_connections = 60\nshared_buffers = 32MB\n")
        self.start()
        self.psql = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "cardline", "-d", "cards"]
        self.command(["createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "cardline", "cards"])
        self.url = f"postgres://cardline@127.0.0.1:{self.port}/cards"

    @staticmethod
    def known(name):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None

    def command(self, command):
        done = subprocess.run([*self.user, *map(str, command)], capture_output=True, text=True, timeout=90, cwd="/")
        if done.returncode != 0:
            raise Failure(f"{command}: {done.stdout}{done.stderr}")

    def run(self, tool, *more):
        self.command([self.bin / tool, *more])

    def start(self):
        # pg_ctl leaves its server the log alone, so no pipe of ours stays open.
        self.run("pg_ctl", "-D", self.data, "-l", self.dir / "postgres.log", "-w", "-t", "60", "start")

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop")

    def processes(self):
        master = int((self.data / "postmaster.pid").read_text().split()[0])
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [master, *map(int, children)]

    def signal(self, which):
        for pid in self.processes():
            try:
                os.kill(pid, which)
            except ProcessLookupError:
                pass

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)
