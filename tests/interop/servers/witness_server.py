"""A witness written from C2SP tlog-witness, with nothing of ours: it works like one, or lies.

usage: witness_server.py PORT LOG LOG_KEY.pem KEY_OUT.pem NAME MODE     prints `ready` when it listens
MODE: honest, bad-signature, old-time (a good signature of last year), replay (its first cosignature, for ever), slow (never answers)
"""

import base64
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from witness_notes import NoteFault, cosign, open_note, roots, split_note  # noqa: E402

PORT, LOG, LOG_KEY, KEY_OUT, NAME, MODE = sys.argv[1:]
LOG_KEY = load_pem_public_key(Path(LOG_KEY).read_bytes())
KEY = ed25519.Ed25519PrivateKey.generate()
Path(KEY_OUT).write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
LOCK = threading.Lock()
LAST = {"size": 0, "root": None, "line": None}


def answer(body):
    """Status, type and text."""
    head, note = body.split("\n\n", 1)
    old, *path = head.split("\n")
    old, path = int(old.removeprefix("old ")), [base64.b64decode(step, validate=True) for step in path]
    if note.split("\n")[0] != LOG:
        return 404, "text/plain", ""
    try:
        size, root = open_note(note, LOG, LOG_KEY)
    except NoteFault:
        return 403, "text/plain", ""
    with LOCK:
        if old > size:
            return 400, "text/plain", ""
        if old != LAST["size"]:
            return 409, "text/x.tlog.size", f"{LAST['size']}\n"
        if old == 0 and path or old > 0 and roots(old, size, LAST["root"], path) != (LAST["root"], root):
            return 422, "text/plain", ""
        LAST.update(size=size, root=root)
        text, _ = split_note(note)
        now = int(time.time()) - (365 * 86_400 if MODE == "old-time" else 0)
        line = cosign(text if MODE != "bad-signature" else text + "x", NAME, KEY, now)
        LAST["line"] = LAST["line"] or line
        return 200, "text/plain", LAST["line"] if MODE == "replay" else line


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if MODE == "slow":
            time.sleep(3_600)
        status, kind, text = answer(body)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", int(PORT)), Handler)
print("ready", flush=True)
server.serve_forever()
