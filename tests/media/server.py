"""A real media server and real encoders: nginx with its rtmp module, and ffmpeg, from Debian's packages."""

import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree as ET

from tests.kafka.apache import free_port
from tests.kafka.member import wait_for

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")

CONFIG = """
load_module {module};
{user}
daemon off;
worker_processes {processes};
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{rtmp};
        application live {{
            live on;
            on_publish {gate};
            {update}
        }}
    }}
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{http} reuseport;
        location /stat {{ rtmp_stat all; }}
        location /control {{ {control} }}
    }}
}}
"""


@dataclass(frozen=True)
class Publisher:
    """Who publishes a stream: its connection, and how many bytes have come in."""

    client: int
    received: int


class Nginx:
    """The server, as a child of the test, all its files in a folder of the test's."""

    def __init__(
        self, folder: Path, gate: str, *, processes: int = 1, control: bool = True, update_s: int = 0
    ) -> None:
        folder.mkdir()
        self.rtmp, self.http = free_port(), free_port()
        self.processes = processes
        self._log = folder / "error.log"
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                module=MODULE,
                user="user root;" if os.geteuid() == 0 else "",
                processes=processes,
                folder=folder,
                rtmp=self.rtmp,
                http=self.http,
                gate=gate,
                update=f"on_update {gate}; notify_update_timeout {update_s}s;" if update_s else "",
                control="rtmp_control drop;" if control else "deny all;",
            )
        )
        command = ["nginx", "-e", str(self._log), "-p", str(folder), "-c", str(config)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own words

    def __enter__(self) -> Self:
        wait_for(self._answers, what="nginx answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            self._page()
        except urllib.error.URLError:
            return False
        return True

    def account(self) -> dict[str, object]:
        """Return the account of a configuration that stands for this server."""
        here = f"http://127.0.0.1:{self.http}"
        return {
            "vendor": "nginx_rtmp",
            "control_url": f"{here}/control",
            "stat_url": f"{here}/stat",
            "workers": str(self.processes),
            "allow_insecure": True,
        }

    def _page(self) -> tuple[str, dict[str, Publisher]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/stat", timeout=10) as answer:
            root = ET.fromstring(answer.read())  # noqa: S314 - our own server
        found = {}
        for stream in root.iterfind("server/application/live/stream"):
            for client in stream.iterfind("client"):
                if client.find("publishing") is not None:
                    number, received = client.findtext("id", ""), stream.findtext("bytes_in", "0")
                    found[stream.findtext("name", "")] = Publisher(int(number), int(received))
        return root.findtext("pid", ""), found

    def publishers(self) -> dict[str, Publisher]:
        """Return who publishes, by the stream's name, as every process says."""
        pages: dict[str, dict[str, Publisher]] = {}
        while len(pages) < self.processes:
            pid, found = self._page()
            pages[pid] = found
        return {name: publisher for page in pages.values() for name, publisher in page.items()}

    def published(self, name: str) -> bool:
        """Return whether somebody publishes a stream."""
        return name in self.publishers()


class Encoder:
    """An encoder that publishes a stream, and begins anew at once whenever it is thrown out.

    ``again`` False: it gives up then. ``refused`` counts the attempts that were over before anything was
    published; ``came_in`` those that got in.
    """

    def __init__(self, server: Nginx, name: str, *, arguments: str = "", again: bool = True) -> None:
        self._server, self.name, self._again = server, name, again
        self._url = f"rtmp://127.0.0.1:{server.rtmp}/live/{name}{arguments}"
        self.refused = self.came_in = 0
        self.ended = threading.Event()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=f"encoder {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._process is not None:
            self._process.kill()
        self._thread.join(30)

    def live(self) -> Self:
        """Wait until it is published."""
        wait_for(lambda: self._server.published(self.name), what=f"{self.name} is published")
        return self

    def _run(self) -> None:
        while not self._stopping:
            self._publish()
            if not self._again:
                break
        self.ended.set()

    def _publish(self) -> None:
        source = ["-re", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=5", "-t", "300"]
        codec = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
        command = [
            "ffmpeg",
            "-nostdin",
            "-loglevel",
            "error",
            "-stats",
            "-stats_period",
            "0.1",
            *source,
            *codec,
        ]
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [*command, "-threads", "1", "-g", "10", "-f", "flv", self._url],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if self._stopping:  # it was told to end before there was a process to kill
            self._process.kill()
        _, said = self._process.communicate()
        if re.search(rb"frame= *[1-9]", said):
            self.came_in += 1
        else:
            self.refused += 1
            time.sleep(0.05)  # an encoder's own, so that it does not use up the machine
