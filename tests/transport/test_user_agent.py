"""User agents: cut, and shared."""

from app.transport.user_agent import MAX_AGENT_BYTES, user_agent_of


def test_the_user_agent() -> None:
    """It is cut, equal ones are one object, and there may be none."""
    assert user_agent_of([(b"host", b"x")]) == ""
    header = b"Mozilla/5.0 " + b"\xe9" * 500
    first = user_agent_of([(b"user-agent", header)])
    assert len(first) == MAX_AGENT_BYTES
    assert user_agent_of([(b"user-agent", bytes(bytearray(header)))]) is first
