"""`python -m automation_lab.probe URL`: exit code 0 if it answers 200. For container health checks; standard library only."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request


def main(url: str) -> int:
    # localhost is always among the accepted host names, the container's own name may not be.
    request = urllib.request.Request(url, headers={"Host": "localhost"})  # noqa: S310 - the caller's own address
    try:
        with urllib.request.urlopen(request, timeout=4) as response:  # noqa: S310
            return 0 if response.status == 200 else 1
    except (OSError, urllib.error.HTTPError) as exc:
        print(f"{url}: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
