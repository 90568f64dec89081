"""The rows of a table are read from dumps as MariaDB's and phpMyAdmin's programs write them."""

from __future__ import annotations

import time

import pytest

from app.errors import ConfigError
from app.protocols.topics.sql_dump import rows_of

DUMP = r"""
-- MariaDB dump 10.19  Distrib 10.6.12-MariaDB
/*!40101 SET NAMES utf8mb4 */;
DROP TABLE IF EXISTS `other`;
CREATE TABLE `other` (`a` int(11) DEFAULT 0);
INSERT INTO `other` VALUES (1),(2);
CREATE TABLE IF NOT EXISTS `things` (
  `id` int(10) unsigned NOT NULL AUTO_INCREMENT COMMENT 'a, (b) `c`',
  `name` varchar(255) NOT NULL DEFAULT '',
  `size` decimal(5,2),
  PRIMARY KEY (`id`),
  UNIQUE KEY `name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
LOCK TABLES `things` WRITE;
/*!40000 ALTER TABLE `things` DISABLE KEYS */;
INSERT INTO `things` VALUES (1,'it''s; \'x\' -- no\n\\',-1.50),
(2,_utf8mb4 'é',NULL);
# the end
"""


def test_dump_of_mariadb() -> None:
    """Columns come from CREATE TABLE; quotes, escapes, comments and other tables are understood."""
    assert rows_of(DUMP, "things", 10) == [
        {"id": "1", "name": "it's; 'x' -- no\n\\", "size": "-1.50"},
        {"id": "2", "name": "é", "size": None},
    ]


def test_columns_of_the_insert() -> None:
    """Columns may stand in the INSERT, as phpMyAdmin writes them, behind the name of a database."""
    dump = 'insert ignore into `db`.`things` (`name`, size) values ("a\\"b""c", 0x6162), (X\'61\', 1);'
    assert rows_of(dump, "things", 10) == [{"name": 'a"b"c', "size": "ab"}, {"name": "a", "size": "1"}]


@pytest.mark.parametrize(
    ("dump", "reason"),
    [
        ("", "expected INSERT"),
        ("INSERT INTO other VALUES (1);", "expected INSERT"),
        ("INSERT INTO things VALUES (1);", "the names of its columns"),
        ("INSERT INTO things (a) VALUES (1,2);", "expected 1 values, got 2"),
        ("INSERT INTO things (a) VALUES (now());", "plain values"),
        ("INSERT INTO things (a) SELECT 1;", "expected VALUES"),
        ("INSERT INTO things (a) VALUES (1),(2),(3);", "at most 2 rows"),
        ("INSERT INTO things (a) VALUES ('x", "has no end"),
        ("INSERT INTO things (a) VALUES (1", "plain values"),
        ("/* x", "has no end"),
        ("INSERT INTO things (a) VALUES", "expected ("),
    ],
)
def test_what_cannot_be_read(dump: str, reason: str) -> None:
    """Anything else is refused with the reason."""
    with pytest.raises(ConfigError) as refused:
        rows_of(dump, "things", 2)
    assert reason in str(refused.value)


@pytest.mark.parametrize("piece", ["'", "\\'", "/*", "/", "`", "(", "-- ", "'a''"])
def test_odd_dumps_cost_little(piece: str) -> None:
    """No text takes more than its length."""
    begun = time.monotonic()
    with pytest.raises(ConfigError):
        rows_of("INSERT INTO things (a) VALUES ('" + piece * 100_000, "things", 2)
    with pytest.raises(ConfigError):
        rows_of(piece * 100_001, "things", 2)
    assert time.monotonic() - begun < 10
