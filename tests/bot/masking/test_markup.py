"""HTML mail, MIME parts and escapes: what they hide is found, and masking leaves the markup itself as it was."""

import base64

import pytest

from bot.masking import restore
from bot.masking.normalize import normalize

HIDDEN = [
    ('<a href="mailto:agnieszka.r@onet.pl">mail me</a>', ["agnieszka.r@onet.pl"]),
    ('<td title="Benoît Charpentier" class="c">BC</td>', ["Benoît Charpentier"]),
    ('<img alt="Photo of Zanele Khumalo" src="/img/77.png">', ["Zanele Khumalo"]),
    ('<a href="tel:+15035550142">Call</a>', ["+15035550142"]),
    ("<a href='https://x.example/u?email=kev.m%40mail.example'>x</a>", ["kev.m%40mail.example"]),
    ('<input type="hidden" name="customer" value="Emeka Obi">', ["Emeka Obi"]),
    ('<span data-owner="Priscilla Nwosu">open</span>', ["Priscilla Nwosu"]),
    ('<p style="font-family:Georgia, Verdana">Regards,</p><p class="x">Siobhan Gallagher</p>', ["Siobhan Gallagher"]),
    ("Hello<b>Dmitri</b>,your case", ["Dmitri"]),
    ("jo<b></b>e.doe@exa<wbr>mple.com", ["jo<b></b>e.doe@exa<wbr>mple.com"]),
    ("<address john.smith@example.com>", ["john.smith@example.com"]),
    ("<font John Millerton color=red>", ["John Millerton"]),
    ("From: =?utf-8?B?SsO8cmdlbiBNw7xsbGVy?= <jm@posteo.de>", ["SsO8cmdlbiBNw7xsbGVy", "jm@posteo.de"]),
    ("Reply-To: =?UTF-8?Q?J=C3=B8rgen_Dahl?= <jdahl@fjord.no>", ["J=C3=B8rgen_Dahl", "jdahl@fjord.no"]),
    (
        "Content-Transfer-Encoding: quoted-printable\n\nDear Mr. M=FCller, k.m=FCller=40web.de",
        ["M=FCller", "k.m=FCller=40web.de"],
    ),
    ('{"name": "Zo\\u00eb Br\\u00fcning"}', ["Zo\\u00eb Br\\u00fcning"]),
]


@pytest.mark.parametrize(("text", "hidden"), HIDDEN, ids=lambda value: value[:20] if isinstance(value, str) else "")
def test_value_behind_markup_is_masked(masker, text, hidden):
    masked = masker.mask(text)
    assert restore(masked) == text
    for value in hidden:
        assert value not in masked.text


def test_encoded_part_of_a_mail_is_masked_whole_where_it_holds_a_name(masker):
    body = base64.encodebytes(b"Hi Sarah Miller,\nplease call +44 20 7946 0958.\nThanks, Tomasz Wieczorek").decode()
    text = f"MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n{body}\n--b--"
    masked = masker.mask(text)
    assert body.split("\n")[0] not in masked.text
    assert restore(masked) == text


def test_encoded_part_without_personal_data_and_a_picture_stay(masker):
    plain = base64.encodebytes(b"The export button is missing in the dashboard since the update.").decode()
    picture = base64.encodebytes(bytes(range(256))).decode()
    for body in (plain, picture):
        text = f"Content-Transfer-Encoding: base64\n\n{body}"
        assert masker.mask(text).text == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<p class='x'>a</p>", "\na\n"),
        ('<a href="b">c</a>', "\nb\nc"),
        ('<input name="customer" value="Ann">', "\ncustomer: Ann\n"),
        ('<i data-agent="Ann">', "\nagent: Ann\n"),
        ('<td style="font: Arial">x', "\nx"),
        ("a<b>c</b>", "ac"),
        ("so<b>Ann</b>", "so Ann"),
        ("if a <b and c> d", "if a \n and c\n d"),
        ("List<String> x", "List<String> x"),
        ("<jane@x.org>", "<jane@x.org>"),
        ("<PERSON_1>", "<PERSON_1>"),
        ("=?x?Q?=FF?=", "=?x?Q?=FF?="),
        ("caf\\u00e9 \\ud83d\\ude00 \\ud83d", "café 😀 \\ud83d"),
    ],
)
def test_markup_reads_as_the_text_around_it(text, plain):
    assert normalize(text).text == plain


def test_markup_of_a_ticket_is_unchanged_but_for_the_values(masker):
    text = (
        '<div class="mail"><p>Hi <b>Sarah Miller</b>,</p><a href="mailto:ann@example.com" title="Write">ann@example.com</a></div>'
    )
    assert masker.mask(text).text == (
        '<div class="mail"><p>Hi <b><PERSON_1></b>,</p><a href="mailto:<EMAIL_ADDRESS_1>" title="Write"><EMAIL_ADDRESS_1></a></div>'
    )


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        '<a href="',
        "<td title='x' ",
        "<p>",
        "=?UTF-8?Q?a?= ",
        "=3D",
        "\\u0041",
        "Content-Transfer-Encoding: base64\n\nQUJDRA==\n",
        "e" + "\u0301" * 20,
    ],
)
def test_hostile_markup_is_read_in_linear_time(piece):
    # Quadratic reading of 300 kB would take minutes.
    text = piece * (300_000 // len(piece))
    plain = normalize(text)
    assert len(plain.starts) == len(plain.text)
