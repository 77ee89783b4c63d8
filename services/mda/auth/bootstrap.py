"""`python -m mda.auth.bootstrap [NAME]`: makes an admin and prints its API key, where nobody has one yet.

It takes the settings of the auth service, and goes to the database itself.
"""

from __future__ import annotations

import argparse
import sys

from mda.auth.admin import create_admin
from mda.auth.errors import StoreUnavailableError
from mda.auth.opening import open_store
from mda.auth.settings import AuthSettings
from mda.market.errors import MarketDataError


def main(arguments: list[str] | None = None) -> None:
    """Make an admin; the key alone is on stdout, so that it can be put where it belongs without being seen."""
    parser = argparse.ArgumentParser(prog="python -m mda.auth.bootstrap", description=__doc__)
    parser.add_argument("name", nargs="?", default="admin", help="What people call it; admin where not given.")
    name: str = parser.parse_args(arguments).name
    store = open_store(AuthSettings())
    try:
        sys.stdout.write(f"{create_admin(store, name).text}\n")
    except (MarketDataError, StoreUnavailableError, ValueError) as error:
        sys.exit(f"error: {error}")
    finally:
        store.close()


if __name__ == "__main__":
    main()
