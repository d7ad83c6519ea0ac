"""Simulated vendors: signatures verified, quotas enforced, state kept, faults by script.

Written from the vendors' documentation alone and without a look at the adapters, so that the two
prove each other. ``python -m worker.sandbox.simulators --vendor huawei`` serves them; a test may say
``with HuaweiSimulator() as simulator: … simulator.url``.
"""

from collections.abc import Mapping

from worker.sandbox.simulators.aliyun import AliyunSimulator
from worker.sandbox.simulators.cdnetworks import CdnetworksSimulator
from worker.sandbox.simulators.common import Simulator
from worker.sandbox.simulators.huawei import HuaweiSimulator

SIMULATORS: Mapping[str, type[Simulator]] = {
    "huawei": HuaweiSimulator,
    "aliyun": AliyunSimulator,
    "cdnetworks": CdnetworksSimulator,
}

__all__ = ["SIMULATORS", "AliyunSimulator", "CdnetworksSimulator", "HuaweiSimulator", "Simulator", "start"]


def start(simulator: Simulator, port: int = 0) -> str:
    """Serve a simulator from a thread and return its base URL; ``simulator.stop()`` ends it."""
    return simulator.start(port)
