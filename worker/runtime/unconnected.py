"""Why there was no connection, in a sentence that a result can carry."""

import asyncio
import socket
import ssl

from worker.runtime.logs import chain
from worker.words import Millis


def why_not_connected(error: BaseException, timeout: Millis) -> str:
    """Return why there was no connection, from the first known cause down the chain."""
    for cause in chain(error):
        match cause:
            case TimeoutError():
                return f"no connection within {timeout} ms"
            case asyncio.CancelledError():
                return "no connection before the worker shut down"
            case ssl.SSLCertVerificationError():
                return f"the vendor's certificate was not accepted: {cause.verify_message}"
            case ssl.SSLError():
                return "the TLS handshake failed"
            case socket.gaierror():
                return "the endpoint's name was not found"
            case ConnectionRefusedError():
                return "the connection was refused"
    return "no connection could be made"
