"""Whether the stage of this container is well: its own /health says so. Ends with 0 or 1."""

import sys
from http.client import HTTPConnection

PORTS = range(9100, 9110)


def main() -> int:
    answers = {port: status for port in PORTS if (status := _ask(port)) is not None}
    if not answers:
        print("no stage answers on ports 9100 to 9109")
    return 0 if answers and all(status == 200 for status in answers.values()) else 1


def _ask(port: int) -> int | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        print(answer.read(2000).decode(errors="replace"))
        return answer.status
    except OSError:
        return None
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
