"""The signature against the vendor's published example and against its own SDK's signer."""

from hashlib import sha256

import pytest

from worker.vendors import load_spec, make
from worker.vendors.base import Account
from worker.vendors.huawei.sign import Draft, Keys, canonical_request, sign
from worker.words import Call, Purpose, Target

PUBLISHED = Draft(
    "GET",
    "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
    "limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
)
PUBLISHED_HEADERS = {"content-type": "application/json", "host": "service.region.example.com"}
PUBLISHED_AT = 1_573_789_015_000  # 20191115T033655Z

ODD_NAME = '房间 42/é+*~%25&=?#"\\'
NOW, UNTIL = 1_795_342_500_000, 1_795_348_800_000  # 2026-11-22T10:15:00Z, 12:00:00Z

# Signatures of requests whose method, path, query and body were compared with those that
# huaweicloudsdklive 3.1.219 sent to a local server, and which were then signed, header for header, by
# the signer of huaweicloudsdkcore 3.1.219 with the date fixed.
SDK_VECTORS: list[tuple[Purpose, str, str, str, str]] = [
    ("cut", "block_once", "room42", "", "89398748266f263a1f79715cd652e9f0c220b8dbb006ea243da5cbc6c644fc61"),
    ("forbid", "block", "room42", "", "48920416f1b587cb09d6c52eabe98e557d4e4f752d1c7bdd90c3930061a53f2c"),
    (
        "move_end",
        "update_block",
        "room42",
        "",
        "5bcdcd7cd257145fdf3fea8c0bc3f034e5914220b0f33cf467bb91712e8b327e",
    ),
    ("lift", "unblock", "room42", "", "808ad2ce2ef436faaed92b0a8095c8a4f746e9e4943f23d6245004c655cef734"),
    (
        "read_forbid",
        "list_blocks",
        "room42",
        "",
        "913adf17e87fe51e3f66f00ba876a6a12c25568b606edd2edd6ce51027e98e7d",
    ),
    (
        "read_live",
        "list_online",
        "room42",
        "",
        "57178a1bc2ac45387efe114794c0264624192b555e28868953a5bcbe6c737005",
    ),
    ("cut", "block_once", ODD_NAME, "", "3f47e84de8b04b92e453387e14ed08a644ee3ed512301ed8feff009c7551d755"),
    ("forbid", "block", ODD_NAME, "", "db0affd084de5a536b918603f5da439f566f282f3b28f63fb1c673879f47d23b"),
    (
        "move_end",
        "update_block",
        ODD_NAME,
        "",
        "3bca332117934eae5a089f3f5671db5711277fbe5862b683e0e9adfdb51ca143",
    ),
    ("lift", "unblock", ODD_NAME, "", "b8adad87cc2fd5783fff18ec2cdd5e274e96a0d583ca9edb50e8ea378caf0619"),
    (
        "read_forbid",
        "list_blocks",
        ODD_NAME,
        "",
        "c8bd2657397f3c340165930b304bcd30d18c2e14972bd96ea96b3ade0652a8d1",
    ),
    (
        "read_live",
        "list_online",
        ODD_NAME,
        "",
        "b7c94b1552fd107fbb4ae72198f03191cf56fd4754f01bad61fc842add5b862c",
    ),
    (
        "cut",
        "block_once",
        "room42",
        "tok/en+==abc",
        "c6649a7c4318bc0140ba55dbe946a65c7d74673c8dd107d57c12b6aa4bc23e35",
    ),
    (
        "forbid",
        "block",
        ODD_NAME,
        "tok/en+==abc",
        "7cf08a82b4d90821ce4f74de4d7c4142bb759d845bec6c455faa7d12cd1dd26e",
    ),
    (
        "lift",
        "unblock",
        ODD_NAME,
        "tok/en+==abc",
        "b817371144c51145d75a2adc0ec35bd48e51da2a2f8922398b6359e1fd2624ee",
    ),
    (
        "read_live",
        "list_online",
        "room42",
        "tok/en+==abc",
        "b17fdbbaab86f07b9b4683cfcd0d39b1722bec1e746846e9e09194f31b43747d",
    ),
]


def test_the_canonical_request_of_the_published_example() -> None:
    headers = PUBLISHED_HEADERS | {"x-sdk-date": "20191115T033655Z"}
    text = canonical_request(PUBLISHED, headers)
    assert text == (
        "GET\n"
        "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs/\n"
        "limit=2&marker=13551d6b-755d-4757-b956-536f674975c0\n"
        "content-type:application/json\n"
        "host:service.region.example.com\n"
        "x-sdk-date:20191115T033655Z\n"
        "\n"
        "content-type;host;x-sdk-date\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    digest = "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
    assert sha256(text.encode()).hexdigest() == digest


def test_the_signature_of_the_published_example() -> None:
    """The keys stand in the vendor's own pages as an example and open nothing."""
    keys = Keys("QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc")
    assert sign(PUBLISHED, PUBLISHED_HEADERS, keys, PUBLISHED_AT) == PUBLISHED_HEADERS | {
        "x-sdk-date": "20191115T033655Z",
        "authorization": "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, "
        "SignedHeaders=content-type;host;x-sdk-date, "
        "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe",
    }


@pytest.mark.parametrize(("purpose", "operation", "stream", "token", "signature"), SDK_VECTORS)
def test_signatures_equal_those_of_the_vendors_sdk(
    purpose: Purpose, operation: str, stream: str, token: str, signature: str
) -> None:
    settings = {
        "project_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "access_key": "HWAKEXAMPLE0001",
        "secret_key": "exampleSecretKey0001exampleSecretKey0001",
        "security_token": token,
        "region": "cn-north-4",
    }
    vendor = make(load_spec("huawei"), Account("hw", "huawei", settings))
    call = Call("c", purpose, operation, Target("hw", "live", stream, "push.acme.example"), until=UNTIL)
    headers = vendor.request(call, NOW, "nonce").headers
    names = "content-type;host;x-project-id;x-sdk-date"
    if token:
        names += ";x-security-token"
        assert headers["x-security-token"] == token
    assert headers["authorization"] == (
        f"SDK-HMAC-SHA256 Access=HWAKEXAMPLE0001, SignedHeaders={names}, Signature={signature}"
    )


def test_the_date_is_cut_to_the_second_and_in_utc() -> None:
    keys = Keys("a", "s")
    assert sign(PUBLISHED, PUBLISHED_HEADERS, keys, PUBLISHED_AT + 999)["x-sdk-date"] == "20191115T033655Z"


def test_a_path_is_encoded_once_and_ends_in_a_slash_only_where_it_is_signed() -> None:
    text = canonical_request(Draft("GET", "/v1/a%20b/ü~*"), {"host": "h"})
    assert text.split("\n")[1] == "/v1/a%20b/%C3%BC~%2A/"
    assert canonical_request(Draft("GET", "/"), {"host": "h"}).split("\n")[1] == "/"


def test_keys_and_drafts_show_nothing() -> None:
    assert repr(Keys("AK-visible", "SK-visible", "TOKEN-visible")) == "Keys()"
    assert repr(Draft("GET", "/p/room42", "stream_name=room42", b"room42")) == "Draft(method='GET')"
