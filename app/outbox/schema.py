"""The text of the SQL that makes an outbox, and the names in it. The code is pure."""

from pathlib import Path

#: The version of the tables that this program knows.
VERSION = 1
#: The channel of NOTIFY.
CHANNEL = "recado_outbox"
#: The first number of every advisory lock. The second is a lane of rooms, 0 to 63, or `SLEEP_LOCK`.
LOCKS = 1382376303
#: Held by the reader that waits for a NOTIFY.
SLEEP_LOCK = 64

_FILE = Path(__file__).with_name("install.sql")


def quoted(name: str) -> str:
    """The name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def install_sql(schema: str, sender: str, reader: str) -> str:
    """The statements that make the outbox in a schema, with the roles of its senders and of its reader."""
    words = {
        "__SCHEMA__": quoted(schema),
        "__SENDER__": quoted(sender),
        "__READER__": quoted(reader),
        "__SENDER_TEXT__": _literal(sender),
        "__READER_TEXT__": _literal(reader),
        "__LOCKS__": str(LOCKS),
    }
    text = _FILE.read_text()
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
