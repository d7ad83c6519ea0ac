"""The configuration file -> Settings, or every mistake in it at once."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.core.policy import Guard, Rule, Then, When
from worker.core.routes import Route, TargetTemplate
from worker.events.regions import EU
from worker.settings import KafkaSettings, Settings, default_path, load
from worker.settings_file import ConfigError
from worker.settings_ports import GateSettings
from worker.words import Quota

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
CANARY = "c4n4ry"
ENVIRON = {
    "HOSTNAME": "worker-3",
    "HW_PROJECT_ID": "0123",
    "HW_ACCESS_KEY": CANARY,
    "ALI_ACCESS_KEY_ID": "id",
    "ALI_ACCESS_KEY_SECRET": CANARY,
    "CDN_USERNAME": "user",
    "CDN_API_KEY": CANARY,
    "EMPTY": "",
    "PORT": "9999",
    "LENGTH": "soon",
}

SMALLEST = {
    "kafka": {"bootstrap_servers": ["127.0.0.1:9092"]},
    "accounts": {"dry": {"vendor": "memory"}},
    "policy": {"rules": []},
}


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    return load(str(path), ENVIRON)


def with_section(section: str, text: str) -> str:
    """Return the smallest configuration with one section replaced by some YAML."""
    rest = {key: value for key, value in SMALLEST.items() if key != section}
    return f"{yaml.safe_dump(rest)}\n{section}:\n{textwrap.indent(textwrap.dedent(text).strip(), '  ')}\n"


def with_rule(text: str) -> str:
    return with_section("policy", f"rules:\n  - name: r\n{textwrap.indent(textwrap.dedent(text), '    ')}")


def with_account(text: str) -> str:
    return with_section("accounts", f"a:\n{textwrap.indent(textwrap.dedent(text), '  ')}")


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def problems_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    """Return what is wrong, if anything is; whatever else is raised comes through."""
    try:
        read(tmp_path, text)
    except ConfigError as error:
        return error.problems
    return ()


def test_the_smallest_file_has_every_default(tmp_path: Path) -> None:
    found = read(tmp_path, yaml.safe_dump(SMALLEST))

    assert found.kafka == KafkaSettings(("127.0.0.1:9092",), "moderation-worker", "worker-3")
    assert (found.ops.host, found.ops.port) == ("0.0.0.0", 9464)  # noqa: S104 - the contract's default
    assert found.gate == GateSettings("0.0.0.0", 9465, "closed", 30_000)  # noqa: S104 - as above
    assert found.routes == ()
    assert found.accounts["dry"].account.settings == {"assume_live": False}
    assert (found.accounts["dry"].timeout, found.accounts["dry"].reserve) == (10_000, 0.05)
    assert found.policy.version


def test_a_policy_without_a_version_is_named_after_its_content(tmp_path: Path) -> None:
    plain = read(tmp_path, yaml.safe_dump(SMALLEST)).policy
    again = read(tmp_path, yaml.safe_dump(SMALLEST)).policy
    other = read(tmp_path, with_rule("then: {action: cut}")).policy

    assert plain.version == again.version != other.version


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    text = (HERE / "contract.yaml").read_text("utf-8").replace("/run/secrets", str(tmp_path))
    (tmp_path / "hw_secret_key").write_text(f"{CANARY}\n", "utf-8")
    found = read(tmp_path, text)

    assert found.kafka == KafkaSettings(
        ("127.0.0.1:9092",), "moderation-worker", "worker-3", client={"security_protocol": "PLAINTEXT"}
    )
    assert found.accounts["hw"].account.settings == {
        "region": "cn-north-4",
        "project_id": "0123",
        "access_key": CANARY,
        "secret_key": CANARY,
    }
    assert found.accounts["hw"].quotas["block_once"] == (Quota(300, 60_000),)
    assert found.accounts["edge"].account.text("stat_url") == "http://127.0.0.1:8080/stat"
    assert found.accounts["cdn"].quotas["writes"] == (Quota(500, 86_400_000),)
    assert found.routes == (
        Route(
            (TargetTemplate("hw", "live", "{stream.name}", "push.acme.example", "play.acme.example"),),
            ("acme/*",),
            "acme",
        ),
    )
    policy = found.policy
    assert policy.rules == (
        Rule(
            "minors",
            When(category=("csam", "minors")),
            Then("forbid", "permanent", regions="verdict", priority="critical"),
        ),
        Rule(
            "nudity-high",
            When(category=("nudity",), severity=("high", "critical"), min_confidence=0.9),
            Then("forbid", 600_000, regions="verdict", priority="high"),
        ),
        Rule(
            "gambling-geo",
            When(category=("gambling",)),
            Then("block_regions", 604_800_000, regions="verdict"),
        ),
        Rule("spam", When(category=("spam",)), Then("cut", regions="verdict")),
        Rule("rest", When(), Then("none", regions="verdict")),
    )
    assert policy.guards == (
        Guard("blast", 50, 600_000, "account", ("forbid", "cut", "block_regions"), ("critical",)),
    )
    assert (policy.version, policy.max_age, policy.verify_after) == (
        "2026-11-01",
        600_000,
        (5_000, 30_000, 120_000),
    )
    assert (policy.recut_limit, policy.recut_within, policy.reconcile) == (3, 600_000, 600_000)


def test_our_own_example_is_read() -> None:
    environ = dict(
        line.split("=", 1)
        for line in (EXAMPLES / "config.env").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )

    found = load(str(EXAMPLES / "config.yaml"), environ)

    assert set(found.accounts) == {"hw", "ali", "cdn", "dry"}


def test_our_own_example_shows_the_defaults(tmp_path: Path) -> None:
    text = (EXAMPLES / "config.yaml").read_text("utf-8")
    text = text.replace("${HW_SECRET_KEY}", "x")
    shown, usual = read(tmp_path, text), read(tmp_path, yaml.safe_dump(SMALLEST))

    assert shown.kafka == KafkaSettings(
        **{
            field: getattr(usual.kafka, field)
            for field in KafkaSettings.__dataclass_fields__
            if field != "client"
        },
        client={"security_protocol": "PLAINTEXT"},
    )
    assert shown.ops == usual.ops
    for field in (
        "max_age",
        "verify_after",
        "recut_limit",
        "recut_within",
        "release_cooloff",
        "absorb_slack",
    ):
        assert getattr(shown.policy, field) == getattr(usual.policy, field)
    assert shown.policy.reconcile == usual.policy.reconcile
    hw, dry = shown.accounts["hw"], usual.accounts["dry"]
    assert (hw.timeout, hw.concurrency, hw.reserve) == (dry.timeout, dry.concurrency, dry.reserve)


def test_references_are_filled_in_inside_longer_texts_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"first\r\n")
    text = with_account(f"""
        vendor: cdnetworks
        username: "${{CDN_USERNAME}}@x-${{file:{tmp_path}/secret}}"
        api_key: ${{CDN_API_KEY}}
    """)

    found = read(tmp_path, text + "ops: {port: '${PORT}'}\n")

    assert found.accounts["a"].account.settings["username"] == "user@x-first"
    assert found.ops.port == 9999


@pytest.mark.parametrize(
    ("content", "value"), [("a\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("a b\r\n", "a b")]
)
def test_one_trailing_newline_of_a_mounted_secret_is_dropped(
    tmp_path: Path, content: str, value: str
) -> None:
    (tmp_path / "secret").write_bytes(content.encode())

    found = read(tmp_path, with_section("policy", f"{{version: '${{file:{tmp_path}/secret}}', rules: []}}"))

    assert found.policy.version == value


def test_keys_may_stand_in_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    text = with_account(f"""
        vendor: huawei
        region: cn-north-4
        project_id: p
        iam: {{user: bot, password: "${{file:{tmp_path}/secret}}", domain: acme}}
    """)

    found = read(tmp_path, text).accounts["a"].account

    assert found.settings == {
        "region": "cn-north-4",
        "project_id": "p",
        "iam.user": "bot",
        "iam.password": CANARY,
        "iam.domain": "acme",
        "iam.endpoint": "https://iam.{region}.myhuaweicloud.com",
    }
    assert CANARY not in repr(found)


def test_numbers_and_dates_stay_the_text_they_are(tmp_path: Path) -> None:
    text = with_account("""
        vendor: huawei
        region: cn-north-4
        project_id: 0123
        access_key: 1e5
        secret_key: 2026-11-01
    """)

    found = read(tmp_path, text).accounts["a"].account.settings

    assert found == {
        "region": "cn-north-4",
        "project_id": "0123",
        "access_key": "1e5",
        "secret_key": "2026-11-01",
    }


@pytest.mark.parametrize("off", ["off", "false", '"off"', "no", "OFF"])
def test_off_may_be_written_in_many_ways(tmp_path: Path, off: str) -> None:
    policy = read(tmp_path, with_section("policy", f"{{rules: [], verify: {off}, reconcile: {off}}}")).policy
    rule = read(tmp_path, with_rule(f"then: {{action: cut, verify: {off}, approval: {off}}}")).policy.rules[0]

    assert (policy.verify_after, policy.reconcile) == ((), None)
    assert (rule.then.verify, rule.then.approval) == (False, False)


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    text = with_section(
        "accounts",
        """
        a: &base {vendor: cdnetworks, username: u, api_key: k, concurrency: 3}
        b: {<<: *base, username: v}
        """,
    )

    found = read(tmp_path, text).accounts

    assert found["b"].account.settings == {"username": "v", "api_key": "k"}
    assert found["b"].concurrency == 3


def test_everything_a_rule_can_say(tmp_path: Path) -> None:
    text = with_rule("""
        when: {category: "n*", severity: high, origin: [human, order], tenant: t, regions: [DE, "NO"],
               labels: {model: [a, b], lang: de}, key: x/*, min_confidence: 0.5}
        then: {action: forbid, for: requested, max: 1h, priority: low, scope: session, approval: required,
               mode: shadow, verify: off, otherwise: block_regions, regions: [DE, "NO"]}
    """)

    assert read(tmp_path, text).policy.rules == (
        Rule(
            "r",
            When(
                category=("n*",),
                severity=("high",),
                origin=("human", "order"),
                tenant=("t",),
                regions=("DE", "NO"),
                key=("x/*",),
                min_confidence=0.5,
                labels=(("model", ("a", "b")), ("lang", ("de",))),
            ),
            Then(
                "forbid",
                "requested",
                max_length=3_600_000,
                regions=("DE", "NO"),
                priority="low",
                scope="session",
                approval=True,
                mode="shadow",
                verify=False,
                otherwise="block_regions",
            ),
        ),
    )


def test_eu_stands_for_its_members(tmp_path: Path) -> None:
    text = with_rule("""
        when: {regions: [EU, "U*"]}
        then: {action: block_regions, for: 1h, regions: [CH, EU]}
    """)
    (rule,) = read(tmp_path, text).policy.rules
    assert rule.when.regions == (*sorted(EU), "U*")
    assert rule.then.regions == ("CH", *sorted(EU))


def test_client_options_keep_their_types(tmp_path: Path) -> None:
    text = with_section(
        "kafka",
        """
        bootstrap_servers: "a:1, b:2"
        client: {api_version: [2, 3], ssl_check_hostname: false, request_timeout_ms: 100,
                 sasl_plain_password: "${CDN_API_KEY}", sasl_plain_username: 007x}
        """,
    )

    found = read(tmp_path, text).kafka

    assert found.bootstrap_servers == ("a:1", "b:2")
    assert found.client == {
        "api_version": [2, 3],
        "ssl_check_hostname": False,
        "request_timeout_ms": 100,
        "sasl_plain_password": CANARY,
        "sasl_plain_username": "007x",
    }
    assert CANARY not in repr(found)


HUAWEIS_LOGINS = "access_key + secret_key; iam.user + iam.password + iam.domain"
MISTAKES: list[tuple[str, list[str]]] = [
    # the file as a whole
    ("[]", ["the file: expected a mapping, not a list"]),
    ("a", ["the file: expected a mapping, not a text"]),
    (
        "{}",
        ["kafka: is required", "accounts: is required", "policy: is required"],
    ),
    (
        yaml.safe_dump(SMALLEST) + "polcy: {}\n",
        ["polcy: unknown key (did you mean policy?)"],
    ),
    (
        yaml.safe_dump(SMALLEST) + "quota_store: {url: redis://h}\n",
        [
            (
                "quota_store: this version has no shared store of quotas; leave it out, "
                "and each replica takes the share of the partitions it holds"
            )
        ],
    ),
    (yaml.safe_dump(SMALLEST) + "ops: 5\n", ["ops: expected a mapping, not a number"]),
    (
        yaml.safe_dump(SMALLEST) + "ops: {port: 65536, host: ''}\n",
        ["ops.host: is empty", 'ops.port: "65536" is not a whole number from 0 to 65535'],
    ),
    (
        with_section("gate", "port: -1\nfail: shut\naway: soon\nhots: a"),
        [
            "gate.hots: unknown key (did you mean host?)",
            'gate.port: "-1" is not a whole number from 0 to 65535',
            'gate.fail: "shut" is not a way to fail (closed, open)',
            'gate.away: "soon" is not a duration (10m, 7d)',
        ],
    ),
    (with_section("gate", "away: 1s"), ['gate.away: "1s" is expected to be 2s or more']),
    (yaml.safe_dump(SMALLEST) + "ops:\n  port: 1\n  port: 2\n", ["ops.port: given twice (lines 10 and 11)"]),
    (
        yaml.safe_dump(SMALLEST) + "ops: {? [a] : b}\n",
        ["ops: a key is expected to be a text"],
    ),
    (
        yaml.safe_dump(SMALLEST) + "ops: {port: !env PORT}\n",
        ["ops.port: expected a text, not a value with a tag"],
    ),
    # kafka
    (
        with_section("kafka", "group_id: ${EMPTY}\ngrup_id: x"),
        [
            "kafka.grup_id: unknown key (did you mean group_id?)",
            "kafka.bootstrap_servers: is required",
            "kafka.group_id: ${EMPTY} is empty",
        ],
    ),
    (
        with_section(
            "kafka",
            """
            bootstrap_servers: [localhost]
            delivery: at_most_once
            partitioner: md5
            session_timeout: 10
            max_invalid_in_a_row: -1
            topic_defaults: {partitions: many}
            create_topics: maybe
            topics: {verdicts: a b, results: moderation.results}
            client: {nonsense: 1}
            """,
        ),
        [
            'kafka.topic_defaults.partitions: "many" is not a whole number from 1 to 1000000',
            "kafka.bootstrap_servers: expected HOST:PORT, or a list of them",
            'kafka.delivery: "at_most_once" is not a delivery (exactly_once, at_least_once)',
            'kafka.partitioner: "md5" is not a partitioner (murmur2, crc32, fnv1a)',
            'kafka.session_timeout: "10" is not a duration (10m, 7d)',
            'kafka.max_invalid_in_a_row: "-1" is not a whole number from 1 to 1000000',
            'kafka.create_topics: "maybe" is not true or false',
            'kafka.topics.verdicts: "a b" is not a topic\'s name (letters, digits, dots, _ and -)',
            "kafka.client.nonsense: is not an option of kafka-python, or not one that a file may set",
        ],
    ),
    (
        with_section("kafka", "bootstrap_servers: [a:1]\ntopics: {verdicts: x, results: x}"),
        ["kafka.topics: the five topics are expected to be five"],
    ),
    (
        with_section("kafka", "bootstrap_servers: [a:1]\ntopics: {verdict: x}"),
        ["kafka.topics.verdict: unknown key (did you mean verdicts?)"],
    ),
    # accounts
    (with_section("accounts", "{}"), ["accounts: names no account"]),
    (
        with_account("endpoint: https://x"),
        ["accounts.a.vendor: is required (aliyun, cdnetworks, huawei, memory, nginx_rtmp)"],
    ),
    (
        with_account("vendor: huwei"),
        ['accounts.a.vendor: "huwei" is not a vendor (aliyun, cdnetworks, huawei, memory, nginx_rtmp)'],
    ),
    (
        with_account("{vendor: huawei, access_key: x, secret_kee: x}"),
        [
            "accounts.a.secret_kee: unknown key (did you mean secret_key?)",
            "accounts.a.project_id: is required",
        ],
    ),
    (
        with_account("{vendor: huawei, region: r, project_id: p, access_key: x}"),
        [f"accounts.a: expected exactly one of: {HUAWEIS_LOGINS}"],
    ),
    (
        with_account("{vendor: huawei, region: r, project_id: p, access_key: x, iam: {user: u}}"),
        ["accounts.a.iam.password: is required", "accounts.a.iam.domain: is required"],
    ),
    (
        with_account(
            "{vendor: huawei, region: r, project_id: p, access_key: x, secret_key: y, "
            "iam: {user: u, password: v, domain: d}}"
        ),
        [f"accounts.a: expected exactly one of: {HUAWEIS_LOGINS}"],
    ),
    (
        with_account(
            "{vendor: huawei, region: r, project_id: p, security_token: t, "
            "iam: {user: u, password: v, domain: d}}"
        ),
        ["accounts.a.security_token: belongs to access_key and secret_key, not to iam"],
    ),
    (
        with_account("{vendor: huawei, region: r, project_id: p, iam: u}"),
        ["accounts.a.iam: expected a mapping, not a text"],
    ),
    (
        with_account(
            "{vendor: huawei, region: r, project_id: p, iam: {user: u, pasword: v, domain: d, endpoint: e}}"
        ),
        [
            "accounts.a.iam.pasword: unknown key (did you mean password?)",
            "accounts.a.iam.password: is required",
        ],
    ),
    (
        with_account(
            "{vendor: huawei, region: r, project_id: p, iam: {user: u, password: v, domain: d, endpoint: e}}"
        ),
        ["accounts.a.iam.endpoint: expected https://HOST or https://HOST:PORT, without a path"],
    ),
    (
        with_account(
            "{vendor: huawei, region: r, project_id: p, "
            'iam: {user: u, password: v, domain: d, endpoint: "http://iam.example"}}'
        ),
        ["accounts.a.iam.endpoint: http:// is refused unless allow_insecure: true stands beside it"],
    ),
    (
        with_account(
            '{vendor: huawei, endpoint: "https://x.example", project_id: p, '
            "iam: {user: u, password: v, domain: d}}"
        ),
        ["accounts.a.region: expected lower-case letters, digits and hyphens, or an iam.endpoint"],
    ),
    (
        with_account("{vendor: cdnetworks, username: u, secret_key: k}"),
        ["accounts.a: expected exactly one of: username + api_key; access_key + secret_key"],
    ),
    (
        with_account("{vendor: huawei, project_id: p, access_key: x, secret_key: x}"),
        ["accounts.a.region: expected lower-case letters, digits and hyphens, or an endpoint"],
    ),
    (
        with_account("{vendor: memory, assume_live: perhaps}"),
        ['accounts.a.assume_live: "perhaps" is not true or false'],
    ),
    (
        with_account("{vendor: cdnetworks, username: u, api_key: k, endpoint: HTTP://127.0.0.1:1}"),
        ["accounts.a.endpoint: http:// is refused unless allow_insecure: true stands beside it"],
    ),
    (
        with_account("{vendor: cdnetworks, username: u, api_key: k, endpoint: https://h/path}"),
        ["accounts.a.endpoint: expected https://HOST or https://HOST:PORT, without a path"],
    ),
    (
        with_account("""
            vendor: cdnetworks
            username: u
            api_key: k
            quotas: {forbid_quer: 1/1s, writes: "many", all: []}
            reserve: 100%
            timeout_s: 0
            concurrency: 1.5
        """),
        [
            "accounts.a.quotas.forbid_quer: is not an operation of cdnetworks (did you mean forbid_query?)",
            'accounts.a.quotas.writes: "many" is not a quota (300/60s, 500/1d)',
            "accounts.a.quotas.all: is an empty list",
            'accounts.a.timeout_s: "0" is not a number from 0.1 to 600',
            'accounts.a.concurrency: "1.5" is not a whole number from 1 to 1000',
            'accounts.a.reserve: "100%" is not a share (5%)',
        ],
    ),
    (
        with_account("{vendor: memory, reserve: 5}"),
        ['accounts.a.reserve: "5" is not a share (5%)'],
    ),
    (
        with_account("{vendor: cdnetworks, username: NO, api_key: ${NOPE}}".replace("${NOPE}", '"${NOPE}"')),
        [
            'accounts.a.username: NO means true or false here; quote it ("NO")',
            "accounts.a.api_key: ${NOPE} is not set in the environment",
        ],
    ),
    (
        with_account('{vendor: cdnetworks, username: "${file:missing-file}", api_key: "${a b}"}'),
        [
            "accounts.a.username: ${file:missing-file} cannot be read (No such file or directory)",
            "accounts.a.api_key: between ${ and } a variable's name is expected, or file: and a path",
        ],
    ),
    (
        with_section("accounts", "NO: {vendor: memory}"),
        ['accounts.NO: means true or false here; quote it ("NO")'],
    ),
    # routes
    (
        yaml.safe_dump(SMALLEST)
        + textwrap.dedent("""
            routes:
              - match: {key: []}
                targets: [{account: dri, app: live, stream: "{stream.nme}"}]
              - targets: []
              - match: {stream: x}
            """),
        [
            "routes[0].match.key: is an empty list",
            'routes[0].targets[0].account: "dri" is not an account (did you mean dry?)',
            (
                'routes[0].targets[0].stream: "{stream.nme}" names an unknown field; '
                "known are {stream.name} and {stream.key}"
            ),
            "routes[1].targets: is an empty list",
            "routes[2].targets: is required",
            "routes[2].match.stream: unknown key (known are key, tenant)",
        ],
    ),
    (
        with_account("{vendor: cdnetworks, username: u, api_key: k}")
        + "routes: [{targets: [{account: a, app: live, stream: s, play_domain: p}]}]\n",
        ["routes[0].targets[0].push_domain: is required by a"],
    ),
    # policy
    (
        with_section(
            "policy",
            """
            max_age: 0s
            verify: {after: [30s, 5s]}
            recut: {limit: 3}
            reconcile: daily
            guards:
              - {name: g, max: 50, per: stream, actions: [ban], except: [urgent]}
              - {name: h, max: 1/1s}
              - {name: h, max: 1/1s}
              - {name: i, share: 5%}
              - {name: j, share: 0.001%, min: 0, max: 1/1s, per: account}
              - {name: k, share: 100%, min: 5}
              - {name: l, max: 1/1s, min: 5}
            """,
        ),
        [
            "policy.rules: is required",
            "policy.recut.within: is required",
            'policy.max_age: "0s" is not a duration (10m, 7d)',
            "policy.verify: after: each check is expected to come later than the one before",
            'policy.reconcile: "daily" is not a duration (10m, 7d)',
            'policy.guards[0].max: "50" is not a quota (300/60s, 500/1d)',
            'policy.guards[0].per: "stream" is not a way to count (account, tenant, rule)',
            'policy.guards[0].actions[0]: "ban" is not an action (cut, forbid, block_regions, query, none)',
            'policy.guards[0].except[0]: "urgent" is not a priority (critical, high, normal, low)',
            "policy.guards[3].min: is required",
            "policy.guards[4].max: leave it out: share and min say how much",
            'policy.guards[4].min: "0" is not a whole number from 1 to 1000000',
            'policy.guards[4].per: "account" is not a way to count (tenant)',
            'policy.guards[4].share: "0.001%" is less than a guard can count (0.01%)',
            'policy.guards[5].share: "100%" is not a share (5%)',
            "policy.guards[6].min: only goes with share",
            "policy.guards[2].name: guards[1] has this name too",
        ],
    ),
    (
        with_section(
            "policy",
            """
            rules:
              - {name: a, then: {action: cut}}
              - {name: a, then: {action: forbid, for: soon}}
              - {then: {action: cut}}
              - {name: b}
              - b
            """,
        ),
        [
            'policy.rules[1].then.for: "soon" is not a duration (10m, 7d, permanent)',
            "policy.rules[2].name: is required",
            "policy.rules[3].then: is required",
            "policy.rules[4]: expected a mapping, not a text",
            "policy.rules[1].name: rules[0] has this name too",
        ],
    ),
    (
        with_rule('then: {action: forbid, for: "${LENGTH}"}'),
        ["policy.rules[0].then.for: the value is not a duration (10m, 7d, permanent)"],
    ),
    (
        with_rule("then: {action: block}"),
        ['policy.rules[0].then.action: "block" is not an action (cut, forbid, block_regions, query, none)'],
    ),
    (
        with_rule("then: {action: forbid}"),
        ["policy.rules[0].then.for: is required for forbid (10m, 7d, permanent, requested)"],
    ),
    (
        with_rule("then: {action: block_regions, otherwise: forbid}"),
        [
            (
                "policy.rules[0].then.for: is required for forbid and block_regions "
                "(10m, 7d, permanent, requested)"
            )
        ],
    ),
    (
        with_rule("then: {action: cut, for: 10m, max: 1h, regions: [DE]}"),
        [
            "policy.rules[0].then.for: cut has no length; leave it out",
            "policy.rules[0].then.max: only goes with for: requested",
            "policy.rules[0].then.regions: only goes with block_regions",
        ],
    ),
    (
        with_rule("then: {action: block_regions, for: 1h, regions: [NO, XX, de]}"),
        [
            'policy.rules[0].then.regions[0]: NO means true or false here; quote it ("NO")',
            'policy.rules[0].then.regions[1]: "XX" is not a region (verdict, or codes of ISO 3166-1: DE, EU)',
            'policy.rules[0].then.regions[2]: "de" is not a region (verdict, or codes of ISO 3166-1: DE, EU)',
        ],
    ),
    (
        with_rule(
            "then: {action: cut, priority: urgent, scope: all, approval: yes, mode: dry, verify: often, "
            "otherwise: nothing}"
        ),
        [
            'policy.rules[0].then.priority: "urgent" is not a priority (critical, high, normal, low)',
            'policy.rules[0].then.scope: "all" is not a scope (stream, session)',
            'policy.rules[0].then.approval: yes means true or false here; quote it ("yes")',
            'policy.rules[0].then.mode: "dry" is not a mode (live, shadow)',
            'policy.rules[0].then.verify: "often" is not true or false',
            (
                'policy.rules[0].then.otherwise: "nothing" is not an action '
                "(cut, forbid, block_regions, query, none)"
            ),
        ],
    ),
    (
        with_rule("""
            when: {categry: x, severity: [hihg], origin: robot, min_confidence: 2, regions: X*Y, labels: [a]}
            then: {action: cut}
        """),
        [
            "policy.rules[0].when.categry: unknown key (did you mean category?)",
            'policy.rules[0].when.severity[0]: "hihg" is not a severity (low, medium, high, critical)',
            'policy.rules[0].when.origin: "robot" is not an origin (machine, human, order)',
            'policy.rules[0].when.regions: "X*Y" is not a region (codes of ISO 3166-1: DE, EU)',
            'policy.rules[0].when.min_confidence: "2" is not a number from 0 to 1',
            "policy.rules[0].when.labels: expected a mapping, not a list",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_every_mistake_is_named_with_its_path(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert mistakes(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"a: \xff", "is not UTF-8 text"),
        (b"a: \x01", "holds a character that YAML does not allow"),
        (b"kafka: {\nops: [1, 2\n", "line 3, column 1: "),
        (b"a: b: c", "line 1, column 5: "),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: "),
        (b"[" * 5000, ": "),
        (b"a: &a {<<: *a}\nkafka: *a\n", "is nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_place(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(raw)

    with pytest.raises(ConfigError) as caught:
        load(str(path), ENVIRON)

    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: ")
    assert problem in caught.value.problems[0]


def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(str(path), ENVIRON)
        assert caught.value.problems == (f"{path}: cannot be read ({why})",)


@pytest.mark.parametrize(
    "text",
    [
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key: [{CANARY}]}}"),
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key:{CANARY}}}"),
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key {CANARY}: 1}}"),
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key: *{CANARY}}}"),
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key: !{CANARY} x}}"),
        with_account(f"{{vendor: huawei, project_id: p, access_key: x, secret_key: !{CANARY}!x y}}"),
        with_account(f"{{vendor: huawei, region: R, project_id: p, access_key: x, secret_key: {CANARY}}}"),
        with_account(f"{{vendor: huawei, project_id: p, iam: {{user: u, password: [{CANARY}]}}}}"),
        with_account(f"{{vendor: huawei, project_id: p, iam: {{user: u, password: !{CANARY} x}}}}"),
        with_account(f"{{vendor: huawei, project_id: p, iam: {{user: u, password: {CANARY}}}}}"),
        with_account(
            f'{{vendor: huawei, region: r, project_id: p, access_key: x, secret_key: "{CANARY}\\n"}}'
        ),
        with_account(f'{{vendor: huawei, project_id: p, access_key: x, secret_key: "{CANARY}${{NOPE}}"}}'),
        with_account(f'{{vendor: huawei, project_id: p, access_key: x, secret_key: "${{{CANARY} x}}"}}'),
        with_account('{vendor: memory, reserve: "${CDN_API_KEY}", quotas: {cut: "${CDN_API_KEY}"}}'),
        with_account('{vendor: memory, endpoint: "https://user:${CDN_API_KEY}@host/${CDN_API_KEY}"}').replace(
            "memory,", "cdnetworks, username: u, api_key: k,"
        ),
        with_account(f"vendor: huawei\nproject_id: p\naccess_key: x\nsecret_key: {CANARY}: {CANARY}"),
        with_section("kafka", f"bootstrap_servers: [a:1]\nclient: {{sasl_plain_password: {{a: {CANARY}}}}}"),
        with_section("kafka", f"bootstrap_servers: [a:1]\nclient: {CANARY}"),
        with_section("accounts", CANARY),
        with_section("accounts", f"a: {CANARY}"),
        yaml.safe_dump(SMALLEST) + f"quota_store: redis://:{CANARY}@host\n",
    ],
)
def test_no_message_ever_shows_a_secret(tmp_path: Path, text: str) -> None:
    found = mistakes(tmp_path, text)

    assert found
    assert not [line for line in found if CANARY in line]


def test_a_settings_repr_shows_no_secret(tmp_path: Path) -> None:
    found = read(tmp_path, with_account("{vendor: cdnetworks, username: u, api_key: " + CANARY + "}"))

    assert found.accounts["a"].account.settings["api_key"] == CANARY
    assert CANARY not in repr(found)


def test_the_environment_may_name_the_file() -> None:
    assert default_path({"MODERATION_WORKER_CONFIG": "x.yaml"}) == "x.yaml"
    assert default_path({"MODERATION_WORKER_CONFIG": ""}) is None
    assert default_path({}) is None


KEYS = st.sampled_from(
    [
        "kafka",
        "ops",
        "gate",
        "accounts",
        "routes",
        "policy",
        "rules",
        "when",
        "then",
        "name",
        "vendor",
        "for",
        "action",
        "regions",
        "bootstrap_servers",
        "client",
        "guards",
        "max",
        "targets",
        "match",
        "key",
        "labels",
        "quotas",
        "verify",
        "after",
        "topics",
        "port",
        "huawei",
        "memory",
        "<<",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=8)
    | st.sampled_from(
        ["forbid", "10m", "memory", "huawei", "${HOSTNAME}", "${file:x}", "{stream.name}", "5%"]
    )
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "kafka": TREES,
        "ops": TREES,
        "gate": TREES,
        "routes": TREES,
        "accounts": st.dictionaries(st.text(max_size=3), TREES, max_size=3),
        "policy": st.fixed_dictionaries(
            {"rules": st.lists(st.dictionaries(KEYS, TREES, max_size=4), max_size=3)},
            optional={"guards": TREES},
        ),
    },
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=TREES | NEAR)
def test_no_tree_raises_anything_but_a_config_error(tmp_path: Path, document: Any) -> None:
    problems = problems_of(tmp_path, yaml.safe_dump(document, allow_unicode=True))

    assert all(": " in problem and problem.isprintable() for problem in problems)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="abkfops:{}[]-,&*!|>'\"#%@` \n\t0159.<${}~?", max_size=60))
def test_no_text_raises_anything_but_a_config_error(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text)
