"""A client that behaves, in a process of its own: a call every 20 ms, a line for each.

`python -m tests.abuse.neighbour URL`, with a token on standard input; it ends when its standard input does.
Each line is how long a call took, in seconds, and what went wrong, if anything.
"""

from __future__ import annotations

import select
import sys
import time
from typing import Final

import httpx

PATH: Final = "/v1/datasets/SIM/quotes:latest?symbols=ALFA"
_EVERY_S: Final = 0.02


def main(url: str) -> None:
    """Call until standard input ends."""
    headers = {"authorization": f"Bearer {sys.stdin.readline().strip()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as http:
        while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
            began = time.perf_counter()
            wrong = _call(http)
            sys.stdout.write(f"{time.perf_counter() - began:.6f} {wrong}\n")
            sys.stdout.flush()


def _call(http: httpx.Client) -> str:
    try:
        answer = http.get(PATH)
    except httpx.HTTPError as error:
        return repr(error)
    return "" if answer.status_code == httpx.codes.OK else f"{answer.status_code} {answer.text!r}"


if __name__ == "__main__":
    main(sys.argv[1])
