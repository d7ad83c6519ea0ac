"""Where our requests differ from those of the vendors' own SDKs, and why: all there is, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """``aspect``: what differs. ``operations``: at which ones, none named: at all. ``reason``: why it may."""

    aspect: str
    reason: str
    operations: tuple[str, ...] = ()


_CLIENT = "it names the client, and ours is another one"
_HTTP = (
    Difference("header connection", "HTTP/1.1 keeps connections without being asked to"),
    Difference(
        "header accept-encoding", "the caller takes answers as they are, so that their length is known"
    ),
    Difference("header user-agent", _CLIENT),
)
_END = ("block", "update_block")

DIFFERENCES: Mapping[str, tuple[Difference, ...]] = {
    "aliyun": (
        Difference("header user-agent", _CLIENT),
        Difference("header x-acs-credentials-provider", "it tells the vendor where the SDK found its key"),
        Difference(
            "header authorization",
            "the SDK signs accept, user-agent and the provider too, which the vendor does not ask for",
        ),
    ),
    "cdnetworks": (
        *_HTTP,
        Difference(
            "spelling of the body",
            "ours has no spaces within and white space behind: a signature counts once, in whole seconds",
        ),
        Difference("header authorization", "it signs the body as it is spelt"),
    ),
    "huawei": (
        *_HTTP,
        Difference("header accept", "the SDK's HTTP library asks for anything; without it that is so too"),
        Difference(
            "header content-type",
            "the SDK names the charset, which JSON has none of; our body is ASCII",
            ("block_once", *_END),
        ),
        Difference(
            "field resume_time",
            "the SDK writes UTC as +00:00, the vendor's page as Z, which is what we send",
            _END,
        ),
        Difference("header authorization", "the SDK signs its user-agent, and what else differs"),
    ),
}

WAYS: Mapping[tuple[str, str], tuple[Difference, ...]] = {
    ("aliyun", "temporary keys"): (
        Difference("header x-acs-accesskey-id", "it stands in authorization too, and no page asks for it"),
    ),
    ("huawei", "token"): (
        Difference("header authorization", "a token takes its place; the SDK has no way not to sign"),
        Difference("header x-sdk-date", "it dates a signature"),
        Difference("header x-project-id", "it belongs to a signature; the token is the project's already"),
    ),
}
"""What differs besides, where an account proves in another way who it is."""

ENCODED: Mapping[tuple[str, str], str] = {
    ("aliyun", "a space"): "the SDK sends + for a space but signs %20; we send what is signed",
}
"""Names whose query is encoded in another way than by the SDK, with the same meaning."""


def expected(vendor: str, operation: str, way: str = "keys") -> set[str]:
    """Return the aspects in which the requests of an operation differ."""
    listed = (*DIFFERENCES[vendor], *WAYS.get((vendor, way), ()))
    return {one.aspect for one in listed if not one.operations or operation in one.operations}
