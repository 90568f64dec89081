"""The wheel's build: fetches the browser clients that the server offers, unless they are there. Called by hatchling."""

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ClientBundles(BuildHookInterface[Any]):
    """Lives for one build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run scripts/fetch-clients. A wheel without the bundles is built all the same: the server tells of them."""
        script = Path(self.root, "scripts", "fetch-clients")
        if version == "standard" and (not script.exists() or subprocess.run([script]).returncode):
            self.app.display_warning("The wheel has no browser clients: /socket.io/socket.io.js will answer 404.")
