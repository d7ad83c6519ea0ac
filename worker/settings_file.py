"""The YAML file as a tree of entries, each of which knows its path: a mistake names place and expectation.

Scalars are read from the text that stands in the file, never from what YAML makes of it: ``010`` stays
``010`` and a date stays its text; only a boolean where a text is wanted is sent back (``NO``). A value
that came from ``${NAME}`` or ``${file:PATH}``, or stands where a secret belongs, is never shown.
"""

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import yaml

from worker.durations import parse_duration
from worker.words import Millis

T = TypeVar("T")
How = Callable[["Entry"], T]
"""Reads one entry, or raises Mistake."""

_TAG = "tag:yaml.org,2002:"
_KINDS = {"null": "nothing", "bool": "a boolean", "int": "a number", "float": "a number"}
_KINDS |= {"str": "a text", "timestamp": "a text", "seq": "a list", "map": "a mapping"}
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConfigError(Exception):
    """What is wrong with the configuration: every problem, each in one line with its path."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(_one_line(problem) for problem in dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


def _one_line(text: str) -> str:
    """Return a text that shows as one line, whatever stands in it."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class Mistake(Exception):  # noqa: N818 - the contract's word for it
    """One problem, with its path."""


@dataclass(frozen=True, slots=True)
class Source:
    """What all entries of a file share: the environment, and the problems found so far."""

    environ: Mapping[str, str] = field(repr=False)
    problems: list[str] = field(default_factory=list)

    def attempt(self, how: How[T], entry: "Entry", default: T) -> T:
        """Read an entry; where that fails, keep the problem and go on with the default."""
        try:
            return how(entry)
        except Mistake as mistake:
            self.problems.append(str(mistake))
            return default


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the file. ``hidden``: its value is never shown."""

    path: str
    node: yaml.Node = field(repr=False)
    source: Source = field(repr=False)
    hidden: bool = False

    def wrong(self, sentence: str) -> Mistake:
        """Return the mistake that names this place."""
        return Mistake(f"{self.path or 'the file'}: {sentence}")

    @property
    def kind(self) -> str:
        """What stands here, in words."""
        return _KINDS.get(str(self.node.tag).removeprefix(_TAG), "a value with a tag")

    def show(self) -> str:
        """Return the value for a message, unless it must not be shown."""
        if self.hidden or not isinstance(self.node, yaml.ScalarNode) or _REFERENCE.search(self.node.value):
            return "the value"
        return json.dumps(self.node.value[:60], ensure_ascii=False)

    def text(self) -> str:
        """Return the text that stands here, with its references filled in."""
        if self.kind == "a boolean":
            raise self.wrong(f'{self.node.value} means true or false here; quote it ("{self.node.value}")')
        if not isinstance(self.node, yaml.ScalarNode) or self.kind not in {"a text", "a number"}:
            raise self.wrong(f"expected a text, not {self.kind}")
        text = _REFERENCE.sub(self._fill, self.node.value)
        if not text:
            raise self.wrong(f"{self.node.value} is empty".strip())
        return text

    def _fill(self, reference: re.Match[str]) -> str:
        name = reference[1]
        if name.startswith("file:"):
            try:
                text = Path(name.removeprefix("file:")).read_text("utf-8")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8 text"
                raise self.wrong(f"{reference[0]} cannot be read ({why})") from None
            return text.removesuffix("\n").removesuffix("\r")
        if not _VARIABLE.fullmatch(name):
            raise self.wrong("between ${ and } a variable's name is expected, or file: and a path")
        if name not in self.source.environ:
            raise self.wrong(f"{reference[0]} is not set in the environment")
        return self.source.environ[name]

    def elements(self) -> list["Entry"]:
        """Return the elements of the list that stands here."""
        if not isinstance(self.node, yaml.SequenceNode) or self.kind != "a list":
            raise self.wrong(f"expected a list, not {self.kind}")
        return [
            replace(self, path=f"{self.path}[{index}]", node=node)
            for index, node in enumerate(self.node.value)
        ]

    def members(self) -> dict[str, "Entry"]:
        """Return the members of the mapping that stands here; those that are empty are left out."""
        if not isinstance(self.node, yaml.MappingNode) or self.kind != "a mapping":
            raise self.wrong(f"expected a mapping, not {self.kind}")
        found: dict[str, Entry] = {}
        lines: dict[str, int] = {}
        merged: list[Entry] = []
        for key, node in self.node.value:
            if key.tag == f"{_TAG}merge":
                entry = replace(self, node=node)
                merged += entry.elements() if isinstance(node, yaml.SequenceNode) else [entry]
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}null":
                raise self.wrong("a key is expected to be a text")
            entry = replace(self, path=_below(self.path, key.value), node=node)
            line = key.start_mark.line + 1
            if key.tag == f"{_TAG}bool":
                self.source.problems.append(
                    f'{entry.path}: means true or false here; quote it ("{key.value}")'
                )
            if key.value in lines:
                self.source.problems.append(
                    f"{entry.path}: given twice (lines {lines[key.value]} and {line})"
                )
            lines[key.value] = line
            found[key.value] = entry
        for entry in merged:
            found = replace(entry, path=self.path).members() | found
        return {key: entry for key, entry in found.items() if entry.kind != "nothing"}

    def section(self, *keys: str, required: Sequence[str] = ()) -> "Section":
        """Return the mapping that stands here as a section with these keys and no others."""
        members = self.members()
        for key in [key for key in members if key not in keys]:
            self.source.problems.append(f"{members[key].path}: unknown key ({hint(key, keys)})")
        for key in required:
            if key not in members:
                self.source.problems.append(f"{_below(self.path, key)}: is required")
        return Section(self, members)


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping whose keys are known."""

    entry: Entry
    members: Mapping[str, Entry]

    def read(self, key: str, how: How[T], default: T) -> T:
        """Read a member; where it is absent, or wrong, return the default."""
        entry = self.members.get(key)
        return default if entry is None else self.entry.source.attempt(how, entry, default)


def _below(path: str, key: str) -> str:
    # A blank forgotten behind a colon makes a value part of its key: only what looks like a name is shown.
    name = re.match(r"[\w.-]{0,80}", key)
    shown = key if name is None or name[0] == key else f"{name[0]}…"
    return f"{path}.{shown}" if path else shown


def parse(path: str, environ: Mapping[str, str]) -> Entry:
    """Return the root of a YAML file. Raises ConfigError where it cannot be read, is empty or is no YAML."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})"]) from None
    except ValueError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        # What is quoted in YAML's own words may be part of a secret (an alias, a tag).
        problem = re.sub(r"'(?!<)[^']{3,}'", "'…'", error.problem or "not YAML")
        raise ConfigError([f"{path}: {where}: {problem}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{path}: holds a character that YAML does not allow"]) from None
    if root is None:
        raise ConfigError([f"{path}: is empty"])
    return Entry("", root, Source(environ))


def text(entry: Entry) -> str:
    """Read a text."""
    return entry.text()


def name(entry: Entry) -> str:
    """Read a text of at most 200 characters."""
    value = entry.text()
    if len(value) > 200:  # noqa: PLR2004 - as an id in an event
        raise entry.wrong("is longer than 200 characters")
    return value


def boolean(entry: Entry) -> bool:
    """Read true or false, also from the text of a variable."""
    value = entry.node.value if entry.kind == "a boolean" else entry.text()
    if value.lower() in {"true", "yes", "on"}:
        return True
    if value.lower() in {"false", "no", "off"}:
        return False
    raise entry.wrong(f"{entry.show()} is not true or false")


def is_off(entry: Entry) -> bool:
    """Return whether ``off``, ``false`` or ``"off"`` stands here."""
    return isinstance(entry.node, yaml.ScalarNode) and entry.node.value.lower() in {"off", "false", "no"}


def whole(least: int, most: int) -> How[int]:
    """Return a reader of a whole number within bounds."""

    def read(entry: Entry) -> int:
        value = entry.text()
        if not re.fullmatch(r"-?[0-9]{1,15}", value) or not least <= int(value) <= most:
            raise entry.wrong(f"{entry.show()} is not a whole number from {least} to {most}")
        return int(value)

    return read


def number(least: float, most: float) -> How[float]:
    """Return a reader of a number within bounds."""

    def read(entry: Entry) -> float:
        value = entry.text()
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value) or not least <= float(value) <= most:
            raise entry.wrong(f"{entry.show()} is not a number from {least:g} to {most:g}")
        return float(value)

    return read


def share(entry: Entry) -> float:
    """Read a part of something in per cent, below all of it; 0.05 is ``5%``."""
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", entry.text())
    if match is None:
        raise entry.wrong(f"{entry.show()} is not a share (5%)")
    return float(match[1]) / 100


def length(least: Millis) -> How[Millis]:
    """Return a reader of a length of time, in milliseconds, that is not below ``least``."""

    def read(entry: Entry) -> Millis:
        try:
            found = parse_duration(entry.text())
        except ValueError:
            found = -1
        if found < least:
            raise entry.wrong(f"{entry.show()} is not a duration (10m, 7d)")
        return found

    return read


duration = length(1)
"""Reads a length of time above zero."""


def one_of(what: str, words: tuple[T, ...]) -> How[T]:
    """Return a reader of one of some words; ``what`` they are goes into the message."""

    def read(entry: Entry) -> T:
        value = entry.text()
        for word in words:
            if word == value:
                return word
        raise entry.wrong(f"{entry.show()} is not {what} ({', '.join(map(str, words))})")

    return read


def each(how: How[T], *, empty: bool = False) -> How[tuple[T, ...]]:
    """Return a reader of a list, each element of which is read in one way. ``empty``: it may be empty."""

    def read(entry: Entry) -> tuple[T, ...]:
        elements = entry.elements()
        if not elements and not empty:
            raise entry.wrong("is an empty list")
        found: list[T] = []
        for element in elements:
            entry.source.attempt(lambda one: found.append(how(one)), element, None)
        return tuple(found)

    return read


def one_or_each(how: How[T], *, empty: bool = False) -> How[tuple[T, ...]]:
    """Return a reader of one value or a list of them."""

    def read(entry: Entry) -> tuple[T, ...]:
        single = isinstance(entry.node, yaml.ScalarNode)
        return (how(entry),) if single else each(how, empty=empty)(entry)

    return read


def hint(word: str, known: Collection[str]) -> str:
    """Return the end of a sentence about a word that is unknown: what was meant, or what there is."""
    meant = difflib.get_close_matches(word, known, 1)
    return f"did you mean {meant[0]}?" if meant else f"known are {', '.join(known)}"
