"""Accounts, a stream and answers, for the tests of this vendor."""

from worker.vendors import load_spec, make
from worker.vendors.base import Account, Response, Vendor
from worker.words import Call, Millis, Purpose, Target

NOW: Millis = 1_795_341_900_000
"""2026-11-22T10:05:00Z."""
SETTINGS = {"control_url": "http://127.0.0.1:8080/control", "stat_url": "http://127.0.0.1:8080/stat"}
PURPOSES: dict[str, Purpose] = {"drop": "cut", "stat": "read_live"}


def vendor(endpoint: str | None = None, **settings: str) -> Vendor:
    account = Account("edge", "nginx_rtmp", SETTINGS | settings, endpoint)
    return make(load_spec("nginx_rtmp"), account)


def call(operation: str, *, app: str = "live", stream: str = "room42", cursor: str | None = None) -> Call:
    return Call("call-1", PURPOSES[operation], operation, Target("edge", app, stream), cursor=cursor)


def answer(body: str | bytes, status: int = 200) -> Response:
    return Response(status, {}, body.encode() if isinstance(body, str) else body)


def page(*streams: str, app: str = "live", pid: int = 7, before: str = "") -> str:
    """A stat page as nginx writes it; ``before`` are its other servers."""
    live = f"<live>\r\n{''.join(streams)}<nclients>1</nclients>\r\n</live>"
    server = f"<server>\r\n<application>\r\n<name>{app}</name>\r\n{live}\r\n</application>\r\n</server>"
    head = '<?xml version="1.0" encoding="utf-8" ?>\r\n'
    return f"{head}<rtmp>\r\n<pid>{pid}</pid>\r\n<uptime>12</uptime>\r\n{before}{server}\r\n</rtmp>\r\n"


def stream(name: str = "room42", *clients: str, published: bool = True) -> str:
    end = "<publishing/>\r\n" if published else ""
    return f"<stream>\r\n<name>{name}</name>\r\n<time>90000</time>{''.join(clients)}{end}</stream>\r\n"


def client(time: str, *, publishing: bool = False) -> str:
    return f"<client><id>1</id><time>{time}</time>{'<publishing/>' if publishing else ''}</client>"
