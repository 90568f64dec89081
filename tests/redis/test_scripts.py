"""The Lua scripts in the form that Redis gets."""

from __future__ import annotations

import hashlib

from app.redis.scripts import load_scripts, packed_scripts


def test_scripts_carry_their_digest() -> None:
    """The digest of a script is the SHA-1 of its text; scripts of a site contain the shared part."""
    scripts = load_scripts()
    assert set(scripts) >= {"send", "connect", "ack", "disconnect", "replay", "settle", "expire", "bury", "beat"}
    assert "_shared" not in scripts
    for script in scripts.values():
        assert script.digest == hashlib.sha1(script.text.encode()).hexdigest()
    assert "local function tell" in scripts["send"].text
    assert "local function tell" not in scripts["beat"].text


def test_a_cluster_has_scripts_of_its_own() -> None:
    """In a Cluster a site's scripts publish on its shard: their texts and digests differ."""
    one, many = load_scripts(), load_scripts(is_sharded=True)
    assert one.keys() == many.keys()
    assert one["send"].digest != many["send"].digest
    assert one["beat"] == many["beat"]
    assert "IS_SHARDED = true" in many["send"].text


def test_every_script_can_be_loaded_again() -> None:
    """The commands for a Redis that has forgotten the scripts load all of them."""
    packed = b"".join(packed_scripts(False))
    assert packed.count(b"SCRIPT") == len(load_scripts())
    assert all(script.text.encode() in packed for script in load_scripts().values())
