"""The SQL that makes an outbox."""

from __future__ import annotations

from app.outbox.schema import LOCKS, VERSION, install_sql


def test_names_are_quoted() -> None:
    """Schema and roles stand in the SQL as identifiers and as texts, whatever characters they hold."""
    text = install_sql('a"b', "o'c", "d")
    assert '"a""b".recado_outbox' in text
    assert 'TO "o\'c", "d"' in text
    assert "ARRAY['o''c', 'd']" in text
    assert "__" not in text


def test_the_figures_are_those_of_the_program() -> None:
    """The version and the locks of the SQL are those that the reader knows."""
    text = install_sql("public", "s", "r")
    assert f"SELECT {VERSION}, gen_random_uuid()" in text
    assert f"SET version = {VERSION} WHERE version <> {VERSION}" in text
    assert f"pg_advisory_xact_lock({LOCKS}, lane)" in text
