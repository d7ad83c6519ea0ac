"""The vendors' own clients, driven as their users drive them: one function per vendor puts one call.

Nothing here knows how we ask: a call's names and its end become arguments of the
vendor's own methods. What a caller chooses (the size of a page, one kind of stream) is chosen as the
adapters do. The accounts are the simulators'.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from alibabacloud_live20161101 import models as aliyun_models
from alibabacloud_live20161101.client import Client as AliyunClient
from alibabacloud_tea_openapi.utils_models import Config
from darabonba.runtime import RuntimeOptions
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkiam import v3 as iam
from huaweicloudsdklive import v1 as huawei
from wangsu.common.auth.AkSkAuth import AkSkAuth
from wangsu.common.auth.AkSkConfig import AkSkConfig
from wangsu.common.util.HttpUtils import HttpUtils
from wangsu.streamforbid import models as wangsu_models

from worker.vendors.aliyun.api import BLOCKED_PAGE, ONLINE_PAGE, RULES_PAGE
from worker.vendors.huawei.api import PAGE_SIZE
from worker.words import Call

KEY, SECRET, PROJECT = "sandbox-key", "sandbox-secret", "sandbox-project"
TEMPORARY = "sandbox-security-token"
"""The token that temporary keys come with."""

WAYS: Mapping[str, tuple[str, ...]] = {
    "aliyun": ("keys", "temporary keys"),
    "cdnetworks": ("keys",),
    "huawei": ("keys", "temporary keys", "token"),
}
"""How an account may prove who it is, as far as an SDK can: CDNetworks' knows no API key."""


def _end(call: Call) -> datetime:
    assert call.until is not None
    return datetime.fromtimestamp(call.until // 1000, UTC)


def ask_huawei(url: str, call: Call, way: str = "keys", token: str = "") -> None:
    """Put one call with ``huaweicloudsdklive``. Beside a token it signs all the same."""
    credentials = BasicCredentials(KEY, SECRET, PROJECT)
    if way == "temporary keys":
        credentials.with_security_token(TEMPORARY)
    client = huawei.LiveClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
    target = call.target
    names = {"domain": target.push_domain, "app_name": target.app, "stream_name": target.stream}
    match call.operation:
        case "block_once":
            once = huawei.StreamForbiddenOnceSetting(**names)
            asking = client.create_stream_forbidden_once_invoker(
                huawei.CreateStreamForbiddenOnceRequest(once)
            )
        case "block":
            setting = huawei.StreamForbiddenSetting(**names, resume_time=_end(call))
            asking = client.create_stream_forbidden_invoker(huawei.CreateStreamForbiddenRequest(setting))
        case "update_block":
            setting = huawei.StreamForbiddenSetting(**names, resume_time=_end(call))
            asking = client.update_stream_forbidden_invoker(huawei.UpdateStreamForbiddenRequest(setting))
        case "unblock":
            asking = client.delete_stream_forbidden_invoker(huawei.DeleteStreamForbiddenRequest(**names))
        case "list_blocks":
            ask = huawei.ListStreamForbiddenRequest(**names, page=0, size=PAGE_SIZE)
            asking = client.list_stream_forbidden_invoker(ask)
        case "list_online":
            online = huawei.ListLiveStreamsOnlineRequest(
                target.push_domain, target.app, offset=0, limit=PAGE_SIZE, stream=target.stream
            )
            asking = client.list_live_streams_online_invoker(online)
        case other:
            raise AssertionError(f"no SDK method for {other}")
    if way == "token":
        asking.add_header("X-Auth-Token", token)
    asking.invoke()


def huawei_token(url: str, user: str, password: str, domain: str) -> str:
    """Fetch a token with ``huaweicloudsdkiam``, for the project; it signs that request too."""
    credentials = BasicCredentials(KEY, SECRET, PROJECT)
    client = iam.IamClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
    who = iam.PwdPasswordUser(domain=iam.PwdPasswordUserDomain(name=domain), name=user, password=password)
    identity = iam.PwdIdentity(methods=["password"], password=iam.PwdPassword(user=who))
    auth = iam.PwdAuth(identity=identity, scope=iam.AuthScope(project=iam.AuthScopeProject(id=PROJECT)))
    body = iam.KeystoneCreateUserTokenByPasswordRequestBody(auth=auth)
    asked = iam.KeystoneCreateUserTokenByPasswordRequest(body=body)
    return str(client.keystone_create_user_token_by_password(asked).x_subject_token)


@dataclass(frozen=True)
class _Action:
    """A method of the Alibaba client, which domain it is given, and what else."""

    name: str
    domain: str
    more: Callable[[Call], dict[str, Any]]
    names_stream: bool = True


def _page(size: int) -> Callable[[Call], dict[str, Any]]:
    return lambda _call: {"page_num": 1, "page_size": size}


def _forbid(call: Call) -> dict[str, Any]:
    if call.purpose == "cut":
        return {"live_stream_type": "publisher", "oneshot": "yes"}
    end = _end(call).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"live_stream_type": "publisher", "oneshot": "no", "resume_time": end}


def _region_block(call: Call) -> dict[str, Any]:
    end = _end(call).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"block_type": "blacklist", "location_list": ",".join(call.regions), "release_time": end}


_ACTIONS: Mapping[str, _Action] = {
    "forbid": _Action("ForbidLiveStream", "push", _forbid),
    "resume": _Action("ResumeLiveStream", "push", lambda _call: {"live_stream_type": "publisher"}),
    "set_region_block": _Action("SetLiveStreamBlock", "play", _region_block),
    "delete_region_block": _Action("DeleteLiveStreamBlock", "play", lambda _call: {}),
    "describe_region_block": _Action(
        "DescribeStreamLocationBlock",
        "play",
        lambda call: {"block_type": "blacklist", **_page(RULES_PAGE)(call)},
    ),
    "list_blocked": _Action("DescribeLiveStreamsBlockList", "play", _page(BLOCKED_PAGE), names_stream=False),
    "list_online": _Action(
        "DescribeLiveStreamsOnlineList",
        "play",
        lambda call: {"query_type": "strict", **_page(ONLINE_PAGE)(call)},
    ),
    "stream_state": _Action("DescribeLiveStreamState", "push", lambda _call: {}),
}


def ask_aliyun(url: str, call: Call, way: str = "keys", _token: str = "") -> None:
    """Put one call with ``alibabacloud_live20161101``."""
    protocol, _, host = url.partition("://")
    sts = {"security_token": TEMPORARY} if way == "temporary keys" else {}
    config = Config(access_key_id=KEY, access_key_secret=SECRET, endpoint=host, protocol=protocol, **sts)
    action, target = _ACTIONS[call.operation], call.target
    domain = target.push_domain if action.domain == "push" else target.play_domain
    stream = {"app_name": target.app, "stream_name": target.stream} if action.names_stream else {}
    ask = getattr(aliyun_models, f"{action.name}Request")(domain_name=domain, **stream, **action.more(call))
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in action.name)[1:]
    getattr(AliyunClient(config), f"{snake}_with_options")(ask, RuntimeOptions(autoretry=False))


def ask_cdnetworks(url: str, call: Call, _way: str = "keys", _token: str = "") -> None:
    """Put one call with ``wangsu-sdk-python``, as its samples do: a model, its map as JSON, ``AkSkAuth``.

    The client itself only speaks https, so its steps are taken one by one and the address is ours.
    """
    live_url = f"rtmp://{call.target.push_domain}/{call.target.app}/{call.target.stream}"
    match call.operation:
        case "forbid":
            assert call.until is not None
            end = str(call.until // 1000)
            path, model = (
                "/api/live/forbid",
                wangsu_models.ForbidLivestreamingRequest(live_url, abstime_end=end, type="publish"),
            )
        case "stop":
            path, model = "/api/live/stop", wangsu_models.StopLivestreamingRequest(live_url, "publish")
        case "resume":
            path, model = "/api/live/resume", wangsu_models.ResumeLivestreamingRequest(live_url, "publish")
        case "forbid_query":
            model = wangsu_models.QueryForbidLivestreamRecordRequest(call.target.push_domain)
            path = "/cm/stream/forbidQuery"
        case other:
            raise AssertionError(f"no SDK model for {other}")
    config = AkSkConfig()
    config.access_key, config.secret_key, config.method = KEY, SECRET, "POST"
    config.uri, config.end_point = path, url.partition("://")[2]
    message = AkSkAuth.transfer_http_request_msg(config, None)
    message.set_json_body(model.to_map())
    AkSkAuth.get_auth_and_set_headers(message, KEY, SECRET, {})
    message.url = f"{url}{path}"
    HttpUtils.call(message)


class Ask(Protocol):
    """Puts one call at an address; ``way`` as in ``WAYS``, ``token`` for the way of that name."""

    def __call__(self, url: str, call: Call, way: str = "keys", token: str = "", /) -> None: ...


ASK: Mapping[str, Ask] = {
    "aliyun": ask_aliyun,
    "cdnetworks": ask_cdnetworks,
    "huawei": ask_huawei,
}
