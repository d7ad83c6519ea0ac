"""``python -m worker.sandbox.simulators --vendor huawei --vendor aliyun=8080 --log calls.jsonl``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from worker.sandbox.process import serve_until_end
from worker.sandbox.simulators import SIMULATORS, Simulator


def _vendor(text: str) -> tuple[str, int]:
    name, _, port = text.partition("=")
    if name not in SIMULATORS:
        raise argparse.ArgumentTypeError(f"no simulator of {name}")
    return name, int(port or 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.sandbox.simulators", description="Serve simulated vendors.")
    parser.add_argument(
        "--vendor",
        action="append",
        type=_vendor,
        required=True,
        metavar="NAME[=PORT]",
        help=f"{', '.join(SIMULATORS)}; may be repeated; without a port any free one",
    )
    parser.add_argument("--port-file", type=Path, help="write {vendor: base URL} here once all are up")
    parser.add_argument("--log", type=Path, help="append one JSON line for each request")
    parser.add_argument("--script", type=Path, help="JSON list of fault rules; a rule may name its vendor")
    parser.add_argument("--config", type=Path, help="JSON: {vendor: {accounts, domains, quotas, …}}")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this one"
    )
    return parser.parse_args()


def _read(path: Path | None, default: Any) -> Any:
    return default if path is None else json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    """Serve until told to end; 2 for a mistake in the arguments or files."""
    arguments = _arguments()
    urls: dict[str, str] = {}
    running: list[Simulator] = []
    try:
        config, rules = _read(arguments.config, {}), _read(arguments.script, [])
        for name, port in arguments.vendor:
            script = [rule for rule in rules if rule.get("vendor", name) == name]
            simulator = SIMULATORS[name](script=script, log=arguments.log, **config.get(name, {}))
            urls[name] = simulator.start(port)
            running.append(simulator)
        serve_until_end(json.dumps(urls), arguments.port_file, watch_stdin=arguments.until_stdin_closes)
    except (OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    finally:
        for simulator in running:
            simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
