"""The bounds of conversations, in one place."""

#: The longest text, kind and id of a message by its client, in characters; the longest `data` in bytes of JSON.
MAX_TEXT_CHARACTERS = 16_384
MAX_KIND_CHARACTERS = 64
MAX_CLIENT_ID_CHARACTERS = 64
MAX_DATA_BYTES = 32_768
#: The longest id of a file.
MAX_FILE_CHARACTERS = 64
#: The longest name of a run of a load test.
MAX_RUN_CHARACTERS = 64
#: Ids of one `receipts`.
MAX_RECEIPT_IDS = 1_000
#: Messages of one answer of `history` and of `search`, and about so many bytes.
MAX_LISTED = 200
MAX_LISTED_BYTES = 1_000_000
#: The words of a message that a search finds, the longest one, and the words that one search may name.
MAX_WORDS = 10_000
MAX_WORD_CHARACTERS = 64
MAX_SEARCHED_WORDS = 16
MAX_SEARCH_CHARACTERS = 256
#: The bytes that one answer of `sync` may have at least and at most.
LEAST_SYNC_BYTES = 1_024
MAX_SYNC_BYTES = 4_194_304
#: Rooms whose messages one question of `sync` merges.
ROOMS_A_QUESTION = 50
#: The rooms of the core that one row of the outbox names.
MAX_ROOMS_OF_ROW = 100
