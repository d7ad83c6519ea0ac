"""The stories that docs/tour.md shows: real ones, from the last run that wrote them.

``MW_TOUR=write python -m pytest tests/e2e/kafka/test_stories.py tests/e2e/kafka/test_operators.py`` writes
them anew. Without it a run compares: each story must still go as the page shows it, whatever the hour, the
lengths and the names of demands.
"""

import os
import re
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "tour.md"
WRITES = os.environ.get("MW_TOUR") == "write"


def shows(name: str, tell: Callable[[], str], config: Path, timeout_s: float = 30) -> None:
    """Check that the page shows this story under this name; or write it there.

    What is told between a question and its answer says so, and the questions go on: it is told again.
    """
    text = PAGE.read_text("utf-8")
    mark = f"<!-- story: {name} -->\n```text\n"
    assert text.count(mark) == 1, f"docs/tour.md has no place for the story {name}"
    begin = text.index(mark) + len(mark)
    end = text.index("\n```\n", begin)
    deadline = time.monotonic() + timeout_s
    while True:
        story = tell().replace(str(config), "config.yaml").rstrip()
        if WRITES:
            PAGE.write_text(f"{text[:begin]}{story}{text[end:]}", "utf-8")
            return
        shown, told = substance(text[begin:end]), substance(story)
        if shown == told or time.monotonic() > deadline:
            break
    assert shown == told, f"docs/tour.md shows this story otherwise; MW_TOUR=write writes it anew:\n{story}"


def substance(story: str) -> list[str]:
    """Return the lines of a story without what differs from run to run; a repeated line counts once."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?", "DATE"),
        (r"\d\d:\d\d:\d\d(\.\d+)? *", "TIME "),
        (r"\d+ ms", "MS"),
        (r"about \d+ \w+", "about A WHILE"),
        (r"c-[0-9a-f-]{36}", "COMMAND"),
        (r"(?<=--hold )\S+|(?<=release of )\S+|(?<=^  )\S+(?= at \w+: )", "HOLD"),
    ):
        story = re.sub(pattern, word, story, flags=re.MULTILINE)
    return [line for line, _ in groupby(line.strip() for line in story.splitlines())]
