"""`python -m kvss_gevent.loadtest.start_locust`: Locust under the name of `kvss load`, without tracebacks at its start.

Locust comes first of all: nothing that it patches may be imported before it.
"""

import sys


def main() -> None:
    """Run Locust. Ctrl-C before Locust listens to it is exit code 130; a port that is taken is two lines and code 2."""
    sys.argv[0] = "kvss load run"
    try:
        from locust.exception import RPCError
        from locust.main import main as locust

        try:
            locust()  # type: ignore[no-untyped-call]
        except RPCError as error:
            print(f"kvss load: {error}", file=sys.stderr)
            print("  end what uses this port, or give another with --master-bind-port", file=sys.stderr)
            sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
