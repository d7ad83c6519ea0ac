"""All benchmarks, one after the other: ``python -m benchmarks [--quick]``."""

import subprocess
import sys

PROGRAMS = (
    "accept",
    "caller",
    "flood",
    "bad_deploy",
    "backlog",
    "reads",
    "outage",
    "memory",
    "steady",
    "latency",
    "soak",
)


def main() -> int:
    """Run them; 1 if one fails."""
    failed = []
    for name in PROGRAMS:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False)  # noqa: S603 - ours
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
