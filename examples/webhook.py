"""Receives alerts and believes only signed ones: webhook.py [PORT], secret in WEBHOOK_SECRET (whsec_…)"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE_S = 300
seen: set[str] = set()  # keep it where a restart does not lose it


def signed(id: str, timestamp: str, body: bytes, signatures: str) -> bool:
    """Whether one of the signatures is that of this message, and the message is new."""
    digest = hmac.new(SECRET, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    fresh = timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= TOLERANCE_S
    return fresh and any(hmac.compare_digest(expected, each.encode()) for each in signatures.split())


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("content-length") or 0), 1 << 20))
        id = self.headers.get("webhook-id", "")
        timestamp, signatures = (
            self.headers.get(f"webhook-{part}", "") for part in ("timestamp", "signature")
        )
        good = signed(id, timestamp, body, signatures)
        if good and id not in seen:
            seen.add(id)
            alert = json.loads(body)["data"]
            print(alert["title"], alert["text"], sep="\n", flush=True)
        self.send_response(204 if good else 401)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver).serve_forever()
