"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

import sys

from tests.bench import checks, configuration

if __name__ == "__main__":
    print("configuration: 100 services with 20 servers each")
    configuration.main()
    print("checks: 1,000 a second")
    sys.exit(checks.main())
