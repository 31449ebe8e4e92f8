"""As much of a W&B server as `wandb.init` and `wandb sync` ask for, on this machine."""

import gzip
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Server(ThreadingHTTPServer):
    """Keeps the history of each run as lines of JSON, which clients write from an offset on.

    Attributes:
        requests: paths of all requests.
        histories: the lines of each run.
        views: what was asked for to be saved as views.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests, self.histories, self.views = [], {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def history(self, run):
        return [json.loads(line) for line in self.histories[run]]

    def write(self, run, files):
        if history := files.get("wandb-history.jsonl"):
            self.histories[run][history["offset"] :] = history["content"]

    def answer(self, operation, asked):
        project = {
            "id": "p",
            "name": asked.get("project"),
            "entity": {"id": "e", "name": "someone"},
        }
        run = asked.get("name")
        lines = self.histories.get(run)
        bucket = {"id": run, "name": run, "displayName": run, "historyLineCount": len(lines or [])}
        if operation == "UpsertBucket":
            self.histories.setdefault(run, [])
            bucket |= {"config": "{}", "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": lines is None}}
        if operation == "RunResumeStatus":
            tail = json.dumps((lines or [])[-1:])
            bucket |= dict.fromkeys(("eventsLineCount", "logLineCount"), 0) | {"tags": []}
            bucket |= dict.fromkeys(("config", "wandbConfig", "summaryMetrics"), "{}")
            bucket |= {"historyTail": tail, "eventsTail": "[]"}
            return {"model": project | {"bucket": None if lines is None else bucket}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in asked["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "Viewer":
            return {
                "viewer": {"id": "u", "username": "someone", "entity": "someone", "flags": "{}"}
            }
        if operation == "UpsertView2":
            self.views.append(asked)
            return {"upsertView": {"view": {"id": "v", "name": asked["name"]}, "inserted": True}}
        return {}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._reply({})

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        if self.path == "/graphql":
            asked = json.loads(data)
            operation = re.match(r"\s*(?:query|mutation)\s+(\w+)", asked["query"]).group(1)
            self._reply({"data": self.server.answer(operation, asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            self.server.write(self.path.split("/")[-2], json.loads(data).get("files") or {})
        self._reply({})

    do_PUT = do_POST

    def _reply(self, content):
        self.server.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *arguments):
        pass


@contextmanager
def wandb_server():
    """A server that runs until the block ends."""
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
