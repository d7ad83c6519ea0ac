"""The two operations: what is sent for each, and what an answer means.

https://docs.ovenmediaengine.com/rest-api/v1/virtualhost/application/stream
"""

from base64 import b64encode
from typing import Any, ClassVar

from worker.core.outcome import Done, Facts, NotThere, Observed, Outcome, Unknown, Wire
from worker.vendors.base import Account, Request, Response, VendorSpec
from worker.vendors.reading import by_status, json_object, percent, token, utc_millis
from worker.words import Call, Millis

_METHODS = {"delete_stream": "DELETE", "get_stream": "GET"}


class OvenMedia:
    """The adapter for one server. Raises ValueError where its account has no endpoint."""

    code: ClassVar[str] = "ovenmedia"

    def __init__(self, spec: VendorSpec, account: Account) -> None:
        self._endpoint = spec.endpoint_for(account)
        self._vhost = account.text("vhost") or "default"
        login = b64encode(account.text("access_token").encode()).decode()
        self._headers = {"authorization": f"Basic {login}", "accept": "application/json"}

    def request(self, call: Call, now: Millis, nonce: str) -> Request:  # noqa: ARG002 - nothing is signed
        """Return the request for a call. Raises ValueError for a stream without an application or a name.

        Such a path would name the whole application, or all of them.
        """
        names = (self._vhost, call.target.app, call.target.stream)
        if any(name in {"", ".", ".."} for name in names):
            raise ValueError(f"{call.operation} acts on one stream: a name is empty or made of dots")
        vhost, app, stream = map(percent, names)
        url = f"{self._endpoint}/v1/vhosts/{vhost}/apps/{app}/streams/{stream}"
        return Request(_METHODS[call.operation], url, self._headers)

    def read(self, call: Call, response: Response, now: Millis) -> Outcome:
        """Return what an answer means.

        The server answers in JSON, and repeats the status there as ``statusCode``: a 404 without it is of
        something else that stands in between, and no proof that the stream is gone. With it, it says that
        that the stream *or the application* is not there: a wrong ``vhost`` looks like a stream that ended.
        """
        body = json_object(response) or {}
        wire = Wire(response.status, token(body.get("statusCode")), None)
        found = {200: True, 404: False}.get(response.status)
        if found is not None and body.get("statusCode") == response.status:
            if call.operation == "get_stream":
                return Observed(Facts(live=found, live_since=_created(body)), wire)
            return Done(wire) if found else NotThere(wire, "no such stream is live")
        if response.status < 400:  # noqa: PLR2004 - the HTTP error classes
            return Unknown(wire, "the answer is not what the documentation describes")
        return by_status(response, wire, now)

    def shared(self, call: Call) -> str | None:  # noqa: ARG002 - the same for each
        """Return None: every request is about one stream."""
        return None


def _created(body: dict[str, Any]) -> Millis | None:
    """Return since when the stream is there, or None where the answer does not say."""
    try:
        return utc_millis(body["response"]["input"]["createdTime"])
    except (KeyError, TypeError):
        return None
