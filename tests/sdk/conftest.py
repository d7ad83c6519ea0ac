"""What the SDKs would reach for beyond the loopback address and the tests' own folders."""

from contextlib import suppress
from importlib import import_module
from tempfile import TemporaryDirectory

import pytest

# Huawei's SDK leaves a file in the home of whoever imports it.
with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch, suppress(ModuleNotFoundError):
    patch.setenv("HOME", home)
    import_module("huaweicloudsdkcore.http.user_agent")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no SDK ask a proxy for the loopback address."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
