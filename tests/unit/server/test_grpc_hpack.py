"""Header blocks as RFC 7541 shows them (appendix C), and what is none."""

from __future__ import annotations

from collections import Counter

import pytest

from model_gateway.server.grpc.http2.hpack import MOST_FIELDS, BadBlock, Decoder, Fields, TooLarge, literal, unfolded

ASKED: list[tuple[str, Fields]] = [  # C.4
    (
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        {":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com"},
    ),
    (
        "828684be5886a8eb10649cbf",
        {
            ":method": "GET",
            ":scheme": "http",
            ":path": "/",
            ":authority": "www.example.com",
            "cache-control": "no-cache",
        },
    ),
    (
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        {
            ":method": "GET",
            ":scheme": "https",
            ":path": "/index.html",
            ":authority": "www.example.com",
            "custom-key": "custom-value",
        },
    ),
]
FIRST = {
    ":status": "302",
    "cache-control": "private",
    "date": "Mon, 21 Oct 2013 20:13:21 GMT",
    "location": "https://www.example.com",
}
ANSWERED: list[tuple[str, Fields]] = [  # C.6: a table of 256 bytes, from which fields are pushed out
    (
        "3fe101" + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9"
        "ae82ae43d3",
        FIRST,
    ),
    ("4883640effc1c0bf", {**FIRST, ":status": "307"}),
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f"
        "3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        {
            ":status": "200",
            "cache-control": "private",
            "date": "Mon, 21 Oct 2013 20:13:22 GMT",
            "location": "https://www.example.com",
            "content-encoding": "gzip",
            "set-cookie": "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        },
    ),
]


@pytest.mark.parametrize("blocks", [ASKED, ANSWERED])
def test_the_rfcs_examples(blocks: list[tuple[str, Fields]]) -> None:
    decoder = Decoder(10_000)
    for block, fields in blocks:
        assert decoder.decode(bytes.fromhex(block)) == fields


def test_a_block_that_is_known_is_read_anew_when_a_table_has_changed() -> None:
    decoder = Decoder(10_000)
    decoder.decode(b"\x40" + literal(b"a", b"1")[1:])
    assert decoder.decode(b"\xbe") == decoder.decode(b"\xbe") == {"a": "1"}
    decoder.decode(b"\x40" + literal(b"b", b"2")[1:])
    assert decoder.decode(b"\xbe") == {"b": "2"}
    assert decoder.decode(b"\xbf") == {"a": "1"}
    decoder.decode(b"\x20")  # the table is emptied
    with pytest.raises(BadBlock):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    "block",
    [
        "80",
        "be",
        "ff",
        "ffffffffffff7f",
        "40",
        "4001",
        "400161",
        "40016105",
        "00016183ffffff",
        "8220",
        "3fe21f",
        "0081ff",
    ],
)
def test_what_is_no_block(block: str) -> None:
    with pytest.raises(BadBlock):
        Decoder(10_000).decode(bytes.fromhex(block))


def test_fields_beyond_the_limit_leave_the_table_right() -> None:
    decoder = Decoder(100)
    with pytest.raises(TooLarge):
        decoder.decode(b"\x40" + literal(b"a", b"1")[1:] + literal(b"large", b"x" * 200))
    assert decoder.decode(b"\xbe") == {"a": "1"}


def test_small_blocks_that_unfold_to_much_are_bounded() -> None:
    decoder = Decoder(32_768)
    decoder.decode(b"\x40" + literal(b"a", b"x" * 4_000)[1:])
    with pytest.raises(TooLarge):
        decoder.decode(b"\xbe" * 16_000)


def test_blocks_that_never_come_again_are_forgotten() -> None:
    fields = [literal(b"%d" % n, b"x") for n in range(80)]
    decoder, kept = Decoder(32_768), Counter[int]()
    found = [decoder.decode(literal(b"a", b"%d" % n) + b"".join(fields)) for n in range(200)]
    for n, known in enumerate(found):
        kept[decoder.decode(literal(b"a", b"%d" % n) + b"".join(fields)) is known] += 1
    assert kept[True] < 10  # each is of 3 KB: few are kept at once
    again = literal(b"a", b"b")
    assert decoder.decode(again) is decoder.decode(again)


def test_a_block_has_a_hundred_fields_and_not_many_more() -> None:
    decoder = Decoder(32_768)
    assert len(decoder.decode(b"".join([literal(b"%d" % n, b"") for n in range(MOST_FIELDS)]))) == MOST_FIELDS
    with pytest.raises(TooLarge):
        decoder.decode(b"".join([literal(b"%d" % n, b"") for n in range(MOST_FIELDS + 1)]))


@pytest.mark.parametrize("text", [b"", b"no-cache", bytes(range(256))])
def test_literals_come_back(text: bytes) -> None:
    assert Decoder(10_000).decode(literal(b"x", text)) == {"x": text.decode("latin-1")}


@pytest.mark.parametrize("folded", ["ffffffff", "00"])
def test_texts_that_are_not_filled_up_rightly(folded: str) -> None:
    with pytest.raises(BadBlock):
        unfolded(bytes.fromhex(folded))
