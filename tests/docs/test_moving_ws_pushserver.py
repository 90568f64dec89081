"""Each step of docs/moving/ws-pushserver.md is run, with a subscriber and a publisher of the old server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.channels import Subscription
from tests.support.examples import examples_of, text_of
from tests.support.ports import free_port
from tests.support.server import Server, clean_environment

PAGE = "docs/moving/ws-pushserver.md"
EXAMPLES = {str(one).removeprefix(f"{PAGE} "): one for one in examples_of(PAGE)}
#: The numbers of the page: the old server's ports, and Recado's own.
HTTP, WS, OWN = "5223", "5222", "1337"
#: Stand-ins for programs that a test does not have or does not want: Docker, and a curl that fails with its server.
COMMANDS = {
    "curl": '#!/bin/sh\nexec {curl} -sS --fail-with-body --max-time 10 "$@"\n',
    "docker": '#!/bin/sh\necho "$@" >> {folder}/docker.log\n',
    "recado": '#!/bin/sh\nexec {python} -m app "$@"\n',
}


class MovingDeployment:
    """The folder of a deployment that moves over, with the page's ports replaced by free ones. Lives for the module."""

    def __init__(self, folder: Path) -> None:
        """Write the programs that the steps call."""
        self.folder = folder
        self.ports = {port: str(free_port()) for port in (HTTP, WS, OWN)}
        self.environment = clean_environment(PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        (folder / "bin").mkdir()
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.write_text(text.format(curl=shutil.which("curl"), python=sys.executable, folder=folder))
            file.chmod(0o755)

    def text_of(self, example: str) -> str:
        """An example of the page, such as "sh 1", with this deployment's ports."""
        text = EXAMPLES[example].text
        for port, here in self.ports.items():
            text = text.replace(port, here)
        return text

    def write(self, example: str) -> Any:
        """Write an example into the file that its first line names."""
        text = self.text_of(example)
        lines = text.splitlines()
        file = self.folder / lines[0].strip().removeprefix("# ")
        file.write_text("\n".join(lines))
        content = yaml.safe_load(file.read_text())
        assert content, example
        return content

    def run(self, text: str) -> str:
        """Run commands in the folder; they have to succeed."""
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def subscriber(self) -> Subscription:
        """A client of the old server, at the URL that it has always had."""
        return Subscription(f"http://127.0.0.1:{self.ports[WS]}", None)


@pytest.fixture
def deployment(tmp_path: Path) -> MovingDeployment:
    """A deployment before its move."""
    return MovingDeployment(tmp_path)


def test_the_steps(deployment: MovingDeployment, served: Callable[[str], Server]) -> None:
    """The steps in their order. Publishers and subscribers of the old server work on both of its ports, before and
    after the key is asked for; the way back is the start of the old server."""
    assert sorted(EXAMPLES) == ["sh 1", "sh 2", "sh 3", "sh 4", "sh 5", "sh 6", "yaml 1", "yaml 2"]
    # 1, 2, 3: the files.
    sites = deployment.write("yaml 1")
    deployment.write("yaml 2")
    assert "shop" in deployment.run(deployment.text_of("sh 1"))
    # 4: the change of servers.
    stop, serve = deployment.text_of("sh 2").strip().splitlines()
    deployment.run(stop)
    server = served(serve.strip())
    # 5: a publisher creates its channel without a key, at the old URL.
    created = json.loads(deployment.run(deployment.text_of("sh 3")))
    assert (created["message"], created["data"]["channel"]) == ("Created", "news")
    first = created["data"]["channelToken"]
    with deployment.subscriber() as subscriber:
        subscriber.subscribe("news")
        assert push(deployment, first, "hello")["message"] == "Sent"
        assert subscriber.pushed() == [("news", "hello")]
        # 6: the operator's view.
        data = json.loads(deployment.run(deployment.text_of("sh 4")))["data"]
        assert data == {"channels": ["news"], "channelsAmount": 1, "clientsAmount": 1}
        # 7: a publisher starts again.
        again = subprocess.run(
            ["sh", "-c", deployment.text_of("sh 3")],
            cwd=deployment.folder,
            env=deployment.environment,
            capture_output=True,
            text=True,
        )
        assert json.loads(again.stdout)["message"] == "Conflict"
        second = json.loads(deployment.run(deployment.text_of("sh 5")))["data"]["channelToken"]
        assert second != first
        push(deployment, second, "still here")
        assert subscriber.pushed() == [("news", "still here")]
    # 8: from now on the key is asked for; the channel and its token are still there.
    sites["shop"]["channels"].pop("open_create")
    (deployment.folder / "sites.yml").write_text(yaml.safe_dump(sites))
    server.end()
    served(serve.strip())
    without_key = deployment.text_of("sh 3").replace("news", "other")
    with pytest.raises(AssertionError, match="Unauthorized"):
        deployment.run(without_key)
    assert push(deployment, second, "after the restart")["message"] == "Sent"
    assert json.loads(deployment.run(deployment.text_of("sh 5")))["message"] == "Created"
    # The way back.
    deployment.run(deployment.text_of("sh 6"))
    assert (deployment.folder / "docker.log").read_text().split("\n")[:2] == [
        "compose stop pushserver",
        "compose start pushserver",
    ]


def push(deployment: MovingDeployment, token: str, message: str) -> dict[str, Any]:
    """Push as a publisher of the old server does."""
    data = {"channel": "news", "channelToken": token, "recipients": [], "message": message}
    body = json.dumps({"messageType": "SERVER_ACTION", "action": "PUSH_MESSAGE", "data": data})
    url = f"http://localhost:{deployment.ports[HTTP]}/push"
    answer: dict[str, Any] = json.loads(deployment.run(f"curl -X POST {url} -d '{body}'"))
    return answer


def test_the_sections() -> None:
    """The page has the steps, what stays, what differs, and the way back."""
    headings = [line for line in text_of(PAGE).splitlines() if line.startswith("## ")]
    assert headings == ["## Steps", "## What stays", "## What differs", "## How to go back"]
