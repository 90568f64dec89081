"""Packets of Engine.IO and Socket.IO, right and wrong, for both transports."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.fuzz_inputs import Large, json_texts, mutated, texts

PLACEHOLDER = b'{"_placeholder":true,"num":0}'
PACKETS = [
    b"40",
    b"41",
    b"40/mail,",
    b"40/mail?a=b,",
    b"41/mail,",
    b'40/shop,{"token":"unknown"}',
    b"40/shop?token=unknown&deviceId=%ff,",
    b"41/shop,",
    b'42/mail,1["event",1]',
    b'42/mail,["identifier","u:k"]',
    b'42/mail,1["identifier",{"a":null}]',
    b"43/mail,1[]",
    b"43/mail,99999999999999999999999",
    b"44/mail,x",
    b"451-/mail,[" + PLACEHOLDER + b"]",
    b'451-/mail,["x",' + PLACEHOLDER + b"," + PLACEHOLDER + b"]",
    b'452-/mail,7["x",{"_placeholder":true,"num":1e0}]',
    b"461-/mail,7[" + PLACEHOLDER + b"]",
    b"45999-/nowhere,[]",
    b"bAAAA",
    b"b4AAAA",
    b"b4=",
    b"2",
    b"3",
    b"2probe",
    b"5",
    b"6",
    b"1",
    b"0{}",
    b"47",
    b"",
    b"4",
    b"4\xff",
]
LARGE = [
    b"40" + b"/" * 60_000,
    b"40/mail?" + b"&" * 60_000,
    b"40/mail?" + b"a=%ff&" * 9_000,
    b'42/mail,["x",[' + b"{}," * 30_000 + b"1]]",
    b'42/mail,["x",' + b"[" * 49_000 + b"]" * 49_000 + b"]",
    b'42/mail,["x",' + b"9" * 90_000 + b"]",
    b'451-/mail,["x",[' + (PLACEHOLDER + b",") * 3_000 + b"1]]",
    b"42/mail," + b"9" * 90_000 + b'["x"]',
    b"43/mail," + b"9" * 90_000,
    b"45" + b"9" * 90_000 + b"-[]",
    b"b" + b"!" * 90_000,
    b"b" + b"A" * 90_000,
    b"2" + b"x" * 90_000,
    b"4" * 90_000,
]

_kinds = st.sampled_from(
    [b"40/mail,", b"42/mail,", b"42/mail,7", b"43/mail,7", b"451-/mail,", b"461-/mail,7", b"42/shop,"]
)
_written = st.tuples(_kinds, json_texts).map(lambda pair: pair[0] + pair[1].encode())
_named = st.tuples(
    st.sampled_from(["40/", "42/", "41/", "43/", "4"]), texts, st.sampled_from([",", "?a,", ",[]", ""])
).map(lambda parts: "".join(parts).encode("utf-8", "replace"))
#: A text packet as bytes, which may not be UTF-8.
packets = st.one_of(st.sampled_from(PACKETS), mutated(PACKETS), _written, _named)
large_packets = st.sampled_from(LARGE).map(Large)
