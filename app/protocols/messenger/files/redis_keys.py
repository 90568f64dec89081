"""The keys of files in Redis.

| behind `recado:{site}:` | type | holds |
| --- | --- | --- |
| round:files | string | the node that has begun the last removal of unfinished uploads; it goes by itself |
"""

from app.store.keys import prefix


def files_round_key(site: str) -> str:
    """The node that has begun the last removal of unfinished uploads."""
    return f"{prefix(site)}round:files"
