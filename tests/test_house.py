"""The rules of the house. Every check is also shown a tree that breaks its rule."""

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from worker import __version__

ROOT = Path(__file__).parents[1]
LONGEST = 400

IMPURE = {
    "aiohttp", "asyncio", "concurrent", "confluent_kafka", "httpx", "kafka", "logging", "multiprocessing",
    "os", "queue", "random", "requests", "sched", "secrets", "select", "selectors", "signal", "socket", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib.request",
    "worker.app", "worker.cli", "worker.runtime", "worker.sandbox", "worker.settings",
}  # fmt: skip
CLOCKS = {"now", "today", "utcnow"}
MACHINES = ("work", "farm", "root", "home", "Users", "tmp")
MACHINE_PATH = re.compile(rf"(?<![\w.\-/$}}])/({'|'.join(MACHINES)})/")

Check = Callable[[str, str], Iterator[str]]
"""Yields what is wrong with a file, given its path below the root and its text."""


# What is looked at: every file that .gitignore does not leave out.


IGNORED = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]


def ignored(path: Path) -> bool:
    """Return whether .gitignore names a folder or a file of this path."""
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in IGNORED)


def tree() -> dict[str, str]:
    """Return the text of every file of the project by its path below the root."""
    found = {}
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not ignored(Path(name))]
        for name in names:
            if not ignored(here / name):
                found[(here / name).as_posix()] = (ROOT / here / name).read_text("utf-8", "replace")
    return found


TREE = tree()


def broken(check: Check, files: dict[str, str]) -> list[str]:
    """Return what a check finds in some files."""
    return [f"{path}: {problem}" for path, text in sorted(files.items()) for problem in check(path, text)]


def python(path: str, *folders: str) -> bool:
    """Return whether a path is a Python module below one of some folders."""
    return path.endswith(".py") and path.startswith(tuple(f"{folder}/" for folder in folders))


@cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """Return everything in a Python text."""
    return tuple(ast.walk(ast.parse(text)))


def modules(text: str) -> Iterator[str]:
    """Yield the modules that a Python text imports, wherever the import stands."""
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(text: str) -> Iterator[tuple[str, int]]:
    """Yield the names that a Python text calls, dotted as they are written, and their lines."""
    for node in nodes(text):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


# The checks.


def short(path: str, text: str) -> Iterator[str]:
    """No module is longer than a person reads in one go."""
    length = len(text.splitlines())
    if python(path, "worker", "benchmarks") and length > LONGEST:
        yield f"{length} lines"


def pure(path: str, text: str) -> Iterator[str]:
    """Core and vendors do no I/O, read no clock and roll no dice."""
    if not python(path, "worker/core", "worker/vendors"):
        return
    for module in modules(text):
        parents = module.split(".")
        if any(".".join(parents[:n]) in IMPURE for n in range(1, len(parents) + 1)):
            yield f"imports {module}"
    for name, line in called(text):
        owner, _, attribute = name.rpartition(".")
        if name in {"open", "print", "input", "uuid.uuid4", "uuid4"} or (owner and attribute in CLOCKS):
            yield f"calls {name} in line {line}"


def one_http_client(path: str, text: str) -> Iterator[str]:
    """Httpx is imported by one module only; the sandbox is a world of its own."""
    if not python(path, "worker") or python(path, "worker/sandbox") or path == "worker/runtime/exchange.py":
        return
    if "httpx" in {name.split(".")[0] for name in modules(text)}:
        yield "imports httpx"


def one_reader_of_the_environment(path: str, text: str) -> Iterator[str]:
    """The environment is read by the settings only."""
    if python(path, "worker") and path != "worker/settings.py":
        names = {ast.unparse(node) for node in nodes(text) if isinstance(node, ast.Attribute)}
        names |= set(modules(text))
        for name in sorted(names & {"os.environ", "os.environb", "os.getenv", "os.getenvb"}):
            yield f"reads {name}"


def only_the_command_line_prints(path: str, text: str) -> Iterator[str]:
    """Everything else reports through results, logs and metrics."""
    if python(path, "worker") and not re.fullmatch(r"worker/(cli|commands/\w+)\.py", path):
        yield from (f"prints in line {line}" for name, line in called(text) if name == "print")


def no_loose_ends(path: str, text: str) -> Iterator[str]:
    """Nothing is left for later, and whatever a linter is told to overlook has its rule and its reason."""
    if not path.endswith(".py") or path == "tests/test_house.py":
        return
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|pragma: no cover", line):
            yield f"something is left for later in line {number}"
        if re.search(r"# noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - \w)", line):
            yield f"a noqa without its rule or its reason in line {number}"
        if re.search(r"# type: ignore(?!\[[a-z-]+(, ?[a-z-]+)*\]  ?(# |- )\w)", line):
            yield f"a type: ignore without its rule or its reason in line {number}"


def no_skipping(path: str, text: str) -> Iterator[str]:
    """Only tests/conftest.py decides what is skipped."""
    if python(path, "tests") and path not in {"tests/conftest.py", "tests/test_house.py"}:
        for found in re.findall(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b", text):
            yield f"uses {found}"


def known_markers(path: str, text: str) -> Iterator[str]:
    """A marker is pytest's own or stands in pyproject.toml."""
    if not python(path, "tests"):
        return
    known = declared_markers() | {"parametrize", "usefixtures", "timeout", "skip", "filterwarnings"}
    for node in nodes(text):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark":
            yield from {f"uses the marker {node.attr}"} if node.attr not in known else ()


def no_machine(path: str, text: str) -> Iterator[str]:
    """Nothing names a folder of the machine it was written on."""
    for number, line in enumerate(text.splitlines(), 1):
        if MACHINE_PATH.search(line) and path != "tests/test_house.py":
            yield f"a machine's path in line {number}"


def no_registry(_path: str, text: str) -> Iterator[str]:
    """Nothing names the host of a package registry, whichever this machine uses."""
    for host in registry_hosts():
        if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", text):
            yield "the host of a package registry"


def addressless(path: str, text: str) -> Iterator[str]:
    """A pin is a name, a version, and perhaps where it applies."""
    if path == "constraints.txt":
        for line in text.splitlines():
            if not re.fullmatch(r"#.*|[a-z0-9-]+==[\w.!+]+( ; [\w .'\"=<>!()]+)?", line) or "/" in line:
                yield f"not a pin: {line}"


# What the checks compare with.


@cache
def declared_markers() -> frozenset[str]:
    """Return the markers that pyproject.toml declares: the tiers of tests."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return frozenset(marker.split(":")[0] for marker in options["markers"])


@cache
def registry_hosts() -> frozenset[str]:
    """Return the hosts from which the package clients of this machine fetch, as they say themselves."""
    index = import_module("pip._internal.models.index").PyPI
    said = [index.url, f"https://{index.file_storage_domain}/"]
    for command in ("pip config list", "npm config get registry", "go env GOPROXY"):
        words = [sys.executable, "-m", *command.split()] if command.startswith("pip") else command.split()
        if shutil.which(words[0]):
            answer = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
            said.append(answer.stdout)
    apt = Path("/etc/apt")
    files = (apt / "sources.list", *apt.glob("sources.list.d/*"), Path.home() / ".m2" / "settings.xml")
    said += [file.read_text() for file in files if file.is_file()]
    return frozenset(hosts_of("\n".join(said)))


def hosts_of(said: str) -> set[str]:
    """Return the hosts of the addresses in a text."""
    found = {address.rpartition("@")[2] for address in re.findall(r"https?://([^/\s'\",|]+)", said)}
    return {host.split(":")[0] for host in found if "." in host}


# The tree keeps every rule, and each rule can be broken.

CHECKS: dict[Check, list[tuple[str, str]]] = {
    short: [("worker/long.py", "x = 1\n" * (LONGEST + 1))],
    pure: [
        ("worker/core/a.py", "import time"),
        ("worker/core/a.py", "from os import path"),
        ("worker/core/a.py", "def f():\n    import kafka.errors"),
        ("worker/vendors/a/api.py", "import asyncio as x"),
        ("worker/vendors/a/api.py", "from urllib import request"),
        ("worker/vendors/a/api.py", "from worker.runtime import caller"),
        ("worker/vendors/a/api.py", "from datetime import datetime, UTC\nat = datetime.now(UTC)"),
        ("worker/core/a.py", "import datetime\nat = datetime.date.today()"),
        ("worker/core/a.py", "text = open('a').read()"),
    ],
    one_http_client: [
        ("worker/app.py", "import httpx"),
        ("worker/runtime/ops.py", "from httpx import Client"),
        ("worker/vendors/a/api.py", "def f():\n    from httpx._client import Client"),
    ],
    one_reader_of_the_environment: [
        ("worker/cli.py", "import os\nx = os.environ['A']"),
        ("worker/cli.py", "from os import environ"),
        ("worker/runtime/clock.py", "import os\nx = os.getenv('A')"),
    ],
    only_the_command_line_prints: [
        ("worker/app.py", "print('x')"),
        ("worker/commands/parts/tables.py", "print('x')"),
        ("worker/sandbox/demo.py", "def f():\n    print()"),
    ],
    no_loose_ends: [
        ("worker/app.py", "x = 1  # TODO later"),
        ("worker/app.py", "raise NotImplementedError"),
        ("worker/app.py", "x = 1  # noqa"),
        ("worker/app.py", "x = 1  # noqa: S101"),
        ("tests/test_a.py", "x = 1  # type: ignore"),
        ("tests/test_a.py", "x = 1  # type: ignore[misc]"),
    ],
    no_skipping: [
        ("tests/test_a.py", "pytest.skip('x')"),
        ("tests/test_a.py", "@pytest.mark.xfail\ndef test_a(): ..."),
        ("tests/test_a.py", "x = pytest.importorskip('x')"),
    ],
    known_markers: [("tests/test_a.py", "@pytest.mark.kafak\ndef test_a(): ...")],
    no_machine: [
        ("docs/a.md", f"see /{MACHINES[0]}/main/README.md"),
        ("worker/a.py", f"x = '/{MACHINES[-1]}/x'"),
    ],
    no_registry: [],
    addressless: [
        ("constraints.txt", "--index-url https://registry.example/simple"),
        ("constraints.txt", "a @ https://registry.example/a.whl"),
        ("constraints.txt", "a>=1"),
        ("constraints.txt", "a==1 --hash=sha256:00"),
        ("constraints.txt", "# from /a/folder"),
    ],
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_tree_keeps_the_rule(check: Check) -> None:
    assert broken(check, TREE) == []


@pytest.mark.parametrize(
    ("check", "path", "text"), [(check, *bad) for check, samples in CHECKS.items() for bad in samples]
)
def test_the_rule_can_be_broken(check: Check, path: str, text: str) -> None:
    assert broken(check, {path: text})


def test_a_registry_would_be_noticed() -> None:
    for host in registry_hosts():
        assert broken(no_registry, {"README.md": f"fetch it from https://{host}/simple"})
    assert len(registry_hosts()) >= 2
    assert hosts_of("a='https://user:pw@one.example:8443/x' http://two.example,direct https://local/") == {
        "one.example", "two.example"
    }  # fmt: skip


def test_the_whole_tree_is_looked_at() -> None:
    for path in ("Makefile", ".ci/run", "worker/words.py", "worker/core/outcome.py", "tests/conftest.py",
                 "helm/moderation-worker/values.yaml"):  # fmt: skip
        assert path in TREE
    assert not any(path.startswith((".venv/", ".git/", ".mypy_cache/")) for path in TREE)


def test_every_tier_is_gated_by_its_tools() -> None:
    conftest = ast.parse((ROOT / "tests" / "conftest.py").read_text())
    (gates,) = (
        node.value for node in conftest.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MISSING"
    )  # fmt: skip
    assert isinstance(gates, ast.Dict)
    assert {ast.literal_eval(key) for key in gates.keys if key} == declared_markers()


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[(.+?)\] - (Unreleased|\d{4}-\d\d-\d\d)$", TREE["CHANGELOG.md"], re.MULTILINE)
    assert newest
    assert newest[1] == __version__


def test_every_pin_of_the_project_is_there() -> None:
    project = tomllib.loads(TREE["pyproject.toml"])
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += project["dependency-groups"].values()
    wanted = [name for group in groups for name in group if isinstance(name, str)]
    names = {re.split(r"[\[<>=~!; ]", name)[0].lower().replace("_", "-") for name in wanted}
    pinned = {line.split("==")[0] for line in TREE["constraints.txt"].splitlines() if "==" in line}
    assert names - pinned == set()
