"""yaml-language-server, the real one from the npm registry, spoken to over stdio."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False, "url": ""}}

CAPABILITIES = {"textDocument": {"completion": {"completionItem": {"documentationFormat": ["markdown"]}}}}


def find_server() -> tuple[str, Path] | str:
    """Return node and the server's program, or why there is none."""
    node = shutil.which("node")
    folder = Path(os.environ.get("FEATPIPE_NODE_MODULES", ROOT.parent / "node_modules"))
    program = folder / "yaml-language-server" / "bin" / "yaml-language-server"
    if node is None:
        return "node is not installed"
    return (node, program) if program.exists() else f"no yaml-language-server in {folder} (FEATPIPE_NODE_MODULES)"


class LanguageServer:
    """The server, and one document a question: a text in which ``|`` is the cursor."""

    def __init__(self, folder: Path) -> None:
        found = find_server()
        assert not isinstance(found, str)
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen([*found, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self.ask("initialize", {"processId": os.getpid(), "rootUri": folder.as_uri(), "capabilities": CAPABILITIES})
        self.send(method="initialized", params={})
        self.send(method="workspace/didChangeConfiguration", params={"settings": {"yaml": SETTINGS}})

    def __enter__(self) -> LanguageServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert length, "the server has gone"
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        if "method" in message and "id" in message:  # a question of the server's own
            self.send(id=message["id"], result=None)
        return message

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self.number += 1
        asked = self.number
        self.send(id=asked, method=method, params=params)
        while (reply := self.read()).get("id") != asked or "method" in reply:
            pass
        return reply["result"]

    def open(self, text: str) -> tuple[dict[str, Any], list[str]]:
        """Open a document; return where its cursor is, and what is wrong with it."""
        before, _, after = text.partition("|")
        self.number += 1
        uri = (self.folder / f"{self.number}.yaml").as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": before + after}
        self.send(method="textDocument/didOpen", params={"textDocument": document})
        while (message := self.read()).get("method") != "textDocument/publishDiagnostics":
            pass
        position = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
        wrong = [one["message"] for one in message["params"]["diagnostics"]]
        return {"textDocument": {"uri": uri}, "position": position}, wrong

    def complete(self, text: str) -> dict[str, dict[str, Any]]:
        """Return what the server offers at the cursor, by label."""
        found = self.ask("textDocument/completion", self.open(text)[0])
        return {item["label"]: item for item in found["items"]}

    def hover(self, text: str) -> str:
        """Return the help for what the cursor is on."""
        found = self.ask("textDocument/hover", self.open(text)[0])
        return found["contents"]["value"] if found else ""

    def diagnose(self, text: str) -> list[str]:
        """Return what is wrong with a document."""
        return self.open(text)[1]
