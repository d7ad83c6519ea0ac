"""The five topics are made right, and what is wrong with them is said."""

from dataclasses import replace

import pytest

from tests.kafka.apache import Broker
from tests.kafka.member import settings_for
from worker.runtime import topics
from worker.runtime.topics import Topic
from worker.settings import KafkaSettings

SETTINGS = settings_for(["nowhere:1"])
NAMES = SETTINGS.topics


def described(**partitions: int) -> dict[str, Topic]:
    """Return five good topics, with other numbers of partitions for some."""
    compact = {"cleanup.policy": "compact"}
    made = {}
    for word in ("verdicts", "results", "state", "dead_letters", "control"):
        name = getattr(NAMES, word)
        made[name] = Topic(name, partitions.get(word, 4), 1, compact)
    return made


def test_good_topics_have_no_problems() -> None:
    assert topics.problems(SETTINGS, described(control=1, dead_letters=2)) == []


def test_a_missing_topic_is_named_with_what_to_do() -> None:
    present = described()
    del present[NAMES.results]
    assert topics.problems(SETTINGS, present) == [
        f"topic {NAMES.results} is missing: make it with `moderation-worker topics create`"
    ]


def test_a_verdict_topic_that_has_grown_names_the_command_that_moves_the_states() -> None:
    found = topics.problems(SETTINGS, described(verdicts=6))
    assert len(found) == 2
    assert all("the verdict topic has grown; run `moderation-worker topics grow`" in text for text in found)


def test_a_state_topic_that_is_too_large_is_refused_too() -> None:
    (sentence,) = topics.problems(SETTINGS, described(state=6))
    assert "their numbers must be equal" in sentence


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_state_topic_that_forgets_is_refused(policy: str) -> None:
    present = described()
    present[NAMES.state] = replace(present[NAMES.state], config={"cleanup.policy": policy})
    (sentence,) = topics.problems(SETTINGS, present)
    assert f"cleanup.policy={policy}" in sentence


def test_what_a_broker_cannot_be_asked_is_not_held_against_it() -> None:
    present = {name: replace(topic, config=None) for name, topic in described().items()}
    assert topics.problems(SETTINGS, present) == []


@pytest.mark.kafka
def test_topics_are_made_once_and_right(broker: Broker) -> None:
    settings = replace(settings_for([broker.plain], partitions=3))
    assert set(topics.create(settings).values()) == {True}
    assert set(topics.create(settings).values()) == {False}
    assert topics.check(settings) == []
    made, names = topics.describe(settings), settings.topics
    assert {name: topic.partitions for name, topic in made.items()} == {
        names.verdicts: 3,
        names.results: 3,
        names.state: 3,
        names.dead_letters: 3,
        names.control: 1,
    }
    configs = {name: topic.config or {} for name, topic in made.items()}
    assert configs[names.state]["cleanup.policy"] == "compact"
    assert configs[names.control]["cleanup.policy"] == "compact"
    assert configs[names.verdicts]["cleanup.policy"] == "delete"
    room = int(configs[names.dead_letters]["max.message.bytes"]) - int(
        configs[names.verdicts]["max.message.bytes"]
    )
    assert room == 64 * 1024


@pytest.mark.kafka
def test_beside_an_existing_verdict_topic_the_others_get_its_number_of_partitions(
    settings: KafkaSettings,
) -> None:
    other = replace(
        settings, partitions=9, topics=replace(settings.topics, state="other.state-" + settings.group_id)
    )
    made = topics.create(other)
    assert [name for name, new in made.items() if new] == [other.topics.state]
    assert topics.check(other) == []
