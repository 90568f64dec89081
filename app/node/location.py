"""The Redis of a server that runs on this machine, for commands that stand beside the server."""

from pathlib import Path

from app.config.settings import Config
from app.errors import RecadoError
from app.redis.address import Address, Location, read_redis_url


def running_redis(config: Config) -> Location:
    """The Redis of these settings; an embedded Valkey must run already. Raises RecadoError, ConfigError."""
    if config.redis_url:
        return read_redis_url(config.redis_url)
    path = Path(config.data_dir).resolve() / "valkey.sock"
    if not path.exists():
        raise RecadoError(f"{path}: no server runs there: start it, or name a Redis in REDIS_URL")
    return Address(path=str(path))
