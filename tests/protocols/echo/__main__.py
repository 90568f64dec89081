"""A server that speaks every listed protocol and `echo`, on the configuration in the working directory."""

import os
import sys

from app.config.load import load_config
from app.errors import ConfigError
from app.node.run import run
from app.observe.log import configure_logging
from app.protocols.listed import PROTOCOLS
from tests.protocols.echo.protocol import ECHO

configure_logging("info", "json")
#: The one entry.
SPECS = (*PROTOCOLS, ECHO)
try:
    run(load_config(None, None, os.environ, SPECS), SPECS)
except ConfigError as error:
    sys.exit(str(error))
