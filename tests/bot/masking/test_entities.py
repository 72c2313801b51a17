"""One table of hits and non-hits per entity type, through the whole masker."""

import pytest

EMAIL = [
    ("write to ann.lee+bills@example.co.uk please", "ann.lee+bills@example.co.uk"),
    ("alerts go to ops@build.internal now", "ops@build.internal"),
    ("m.novak [at] seznam [dot] cz", "m.novak [at] seznam [dot] cz"),
    ("my mail is jo dot hart at mailbox dot org ok", "jo dot hart at mailbox dot org"),
    ("x.y @ outlook . com is right", "x.y @ outlook . com"),
    ("kim(at)web.de", "kim(at)web.de"),
    ("sue&#64;pond.org fails", "sue&#64;pond.org"),
    ("quoted =3D sue=40pond.org", "sue=40pond.org"),
    ("a zero\u200bwidth: su\u200be@pond.org", "su\u200be@pond.org"),
    ("full width ｓｕｅ＠pond.org", "ｓｕｅ＠pond.org"),
    ("Email : gottlie...@yahoo.com", "gottlie...@yahoo.com"),
    ("open /unsubscribe/sue@pond.org/now", "sue@pond.org"),
    ("dorota (dot) mazur (at) wp (dot) pl", "dorota (dot) mazur (at) wp (dot) pl"),
    ("my mail is ines_ferro at sapo.pt ok", "ines_ferro at sapo.pt"),
]
CARD = [
    ("card 4111 1111 1111 1111 please", "4111 1111 1111 1111"),
    ("4111.1111.1111.1111 twice", "4111.1111.1111.1111"),
    ("2 x 4111111111111111", "4111111111111111"),
    ("visa 4111-1111-1111-1112 has a typo", "4111-1111-1111-1112"),
    ("_5555555555554444_ in markdown", "5555555555554444"),
    ("amex 378282246310005", "378282246310005"),
    ("new series 2223003122003222", "2223003122003222"),
    ("no-break 4111\u00a01111\u00a01111\u00a01111", "4111\u00a01111\u00a01111\u00a01111"),
    ("４１１１１１１１１１１１１１１１ wide", "４１１１１１１１１１１１１１１１"),
    ("maestro card 675984103431", "675984103431"),
    ("4 5 3 9 1 4 8 8 0 3 4 3 6 4 6 7 is mine", "4 5 3 9 1 4 8 8 0 3 4 3 6 4 6 7"),
]
IBAN = [
    ("IBAN DE89 3704 0044 0532 0130 00 thanks", "DE89 3704 0044 0532 0130 00"),
    ("iban: gb29nwbk60161331926819", "gb29nwbk60161331926819"),
    ("pay to NL91-ABNA-0417-1643-00.", "NL91-ABNA-0417-1643-00"),
    ("my iban DE89 3704 0044 0532 0130 01 is refused", "DE89 3704 0044 0532 0130 01"),
]
BANK = [
    ("bank account number 000123456789", "000123456789"),
    ("routing number 021000021", "021000021"),
    ("sort code 20-00-00", "20-00-00"),
    ("paid twice from account 40118822", "40118822"),
]
SECRET = [
    ("password: hunter2", "hunter2"),
    ("my password is Sunny-Day9 and fails", "Sunny-Day9"),
    ("pwd=letmein;host=x", "letmein"),
    ("AKIAIOSFODNN7EXAMPLE was leaked", "AKIAIOSFODNN7EXAMPLE"),
    ("ghp_" + "a1B2c3D4e5" * 4 + " in the log", "ghp_" + "a1B2c3D4e5" * 4),
    ("xoxb-123456789012-abcdefABCDEF in env", "xoxb-123456789012-abcdefABCDEF"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("https://bob:pa55@host.example/x", "bob:pa55"),
    ("link https://x.example/r?token=abc123def456", "abc123def456"),
    ("the verification code is 482 913", "482 913"),
    ("OTP: 731902", "731902"),
    ("pin 4711 does not work", "4711"),
    ("glpat-Zx81mQpLr4TtVw2NbYc7 in the log", "glpat-Zx81mQpLr4TtVw2NbYc7"),
    ("the wifi password at the desk is Maple!Syrup42", "Maple!Syrup42"),
    ("i set it to BlueHeron_88 yesterday (the password)", "BlueHeron_88"),
    ("password carrotcake doesnt work", "carrotcake"),
    ("creds are qa-user:N0tF0rProd!", "N0tF0rProd!"),
    ("rediss://:p4ssw0rdhere@cache.example.net:6380/0", "p4ssw0rdhere"),
    ("https://discord.com/api/webhooks/1122334455667788990/aZbYcXdWeVfU", "1122334455667788990/aZbYcXdWeVfU"),
    ("passcode is 55 09 31", "55 09 31"),
]
USERNAME = [
    ("C:\\Users\\hmeier\\Desktop", "hmeier"),
    ("cd /home/wchen2/logs", "wchen2"),
    ("Failed password for kbrandt from there", "kbrandt"),
    ("CORP\\tlopez cannot print", "tlopez"),
    ("see https://forum.example.com/users/zoe_k/posts", "zoe_k"),
    ("my username is blue.fox77", "blue.fox77"),
    ("ssh from there as deployer7 is refused", "deployer7"),
    ("the user is office.graz", "office.graz"),
]
IDENTITY = [
    ("SSN 536-22-8726", "536-22-8726"),
    ("social security number 536228726", "536228726"),
    ("NI number QQ 12 34 56 C", "QQ 12 34 56 C"),
    ("pesel 44051401359", "44051401359"),
    ("codice RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("CPF 111.444.777-35", "111.444.777-35"),
    ("passport no. C01X00T47", "C01X00T47"),
    ("driver's license D1234-56789", "D1234-56789"),
    ("DOB 14/03/1987", "14/03/1987"),
    ("born on March 3rd, 1979", "March 3rd, 1979"),
    ("licence number MORGA657054SM9IJ", "MORGA657054SM9IJ"),
    ("insurance no. A123456780", "A123456780"),
]
NETWORK = [
    ("from 203.0.113.77 port 22", "203.0.113.77"),
    ("ip 2001:db8::8a2e:370:7334", "2001:db8::8a2e:370:7334"),
    ("MAC 00:1B:44:11:3A:B7", "00:1B:44:11:3A:B7"),
    ("0x52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE7"),
]
PHONE = [
    ("call +44 20 7946 0958", "+44 20 7946 0958"),
    ("(415) 555-0132 is mine", "(415) 555-0132"),
    ("phone 2025550143", "2025550143"),
    ("five five five oh one four two nine", "five five five oh one four two nine"),
    ("They are not answering at 9747 6578", "9747 6578"),
    ("You can call 469 34 883", "469 34 883"),
    ("042 078 6381-office", "042 078 6381"),
    ("Appelez-moi au 06 12 34 56 78", "06 12 34 56 78"),
    ("Mein Handy: 0171/2345678", "0171/2345678"),
    ("電話 03-1234-5678", "03-1234-5678"),
    ("Phone:0412 345 678", "0412 345 678"),
]
PLACE = [
    ("send it to 4821 Willow Creek Drive, Apt 12, Boise, ID 83704", "4821 Willow Creek Drive, Apt 12, Boise, ID 83704"),
    ("Lange Straße 12\n10115 Berlin", "Lange Straße 12\n10115 Berlin"),
    ("12 rue de la Paix, 75002 Paris", "12 rue de la Paix, 75002 Paris"),
    ("ul. Długa 5/7, Warszawa", "ul. Długa 5/7"),
    ("PO Box 1187", "PO Box 1187"),
    ("city=Ibadan", "Ibadan"),
    ("London NW1 6XE", "NW1 6XE"),
    ("Am Stadtpark 7a, 50674 Köln", "Am Stadtpark 7a, 50674 Köln"),
    ("PSC 3294, Box 9168, APO AA 61487", "PSC 3294, Box 9168, APO AA 61487"),
    ("07 Rua Forno 76\nSuite 12\nPorto", "07 Rua Forno 76\nSuite 12\nPorto"),
    ("House 12, 5 Acacia Avenue, Kampala", "5 Acacia Avenue, Kampala"),
    ("Av. Paulista 1578, apto 42, São Paulo - SP, 01310-200", "Av. Paulista 1578, apto 42, São Paulo - SP, 01310-200"),
    ("Hauptstr. 113, 79104 Freiburg im Breisgau", "Hauptstr. 113, 79104 Freiburg im Breisgau"),
]
NAME = [
    ("Hi Sarah,\nthe page is blank.", "Sarah"),
    ("hello rajesh, any news?", "rajesh"),
    ("It works now.\n\nKind regards,\nOluwaseun Bakare", "Oluwaseun Bakare"),
    ("Viele Grüße\nJürgen Müller", "Jürgen Müller"),
    ("my name is aaliyah brooks and i cannot log in", "aaliyah brooks"),
    ("Dear Mr. O'Sullivan, thanks", "O'Sullivan"),
    ("From: Yusuf Demir <y@x.org>", "Yusuf Demir"),
    ('{"first_name": "Ngozi"}', "Ngozi"),
    ("On Tuesday Deborah Kowalczyk wrote:\n> ok", "Deborah Kowalczyk"),
    ("I spoke with Carmen yesterday.", "Carmen"),
    ("it was closed by Vikram without a reply", "Vikram"),
    ("@Marta can you look?", "Marta"),
    ("cc Stijn/Lotte", "Stijn/Lotte"),
    ("mr. ferreira has the keys", "ferreira"),
    ("UPDATE t SET owner='Saoirse Brennan'", "Saoirse Brennan"),
]
HITS = EMAIL + CARD + IBAN + BANK + SECRET + USERNAME + IDENTITY + NETWORK + PHONE + PLACE + NAME

NON_HITS = [
    "order number 4815162342 is late",
    "tracking 4111111111111111 shows nothing",
    "react@18.2.0 breaks the build",
    "meet at the office at 5",
    "firmware 10.0.0.1 and version 4.2.1.9",
    "std::vector and fe::add do not compile",
    "card ending 4242",
    "the password is wrong, password reset does not work",
    "Password: ********",
    "error code 500123, zip file damaged",
    "the API key is missing and the token has expired",
    "released on 12/03/2024 at 14:35",
    "uuid 550e8400-e29b-41d4-a716-446655440000",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "5 orders, 30 minutes, 250 licences",
    "C:\\Program Files\\App\\app.exe in HKLM\\Software",
    "Hi team,\nthe Export button is gone.\n\nThanks",
    "Slack, Jira and Zendesk notifications arrive twice",
    "user is unable to log in, account: locked",
    "serial number SN-48151623-4210",
    "I use it because it's been free so far",
    "Please upgrade me from a Gold account",
    "please resend it and SENDGRID is down",
    "Upgrade us from 6.4.0.11 to 6.5.0.2 next week",
    "the 10.2.0.4 firmware on node-17",
    "EAN 5901234123457 and ISBN 978-3-16-148410-0",
    "token_limit=4096 and max_tokens: 512",
    "the password manager does not work, password: required",
    "im Anhang 3 steht das nicht",
    "(order number 481516) and (ticket number 12)",
    "Das Kennwort wird abgelehnt",
    "Palestinian, Israeli and Spanish pages",
]


@pytest.mark.parametrize(("text", "entity"), HITS)
def test_entity_is_masked_whole_and_its_surroundings_stay(masker, text, entity):
    masked = masker.mask(text)
    start = text.index(entity)
    hidden = {i for span in masked.spans for i in range(span.start, span.end)}
    assert {i for i in range(start, start + len(entity)) if text[i].isalnum()} <= hidden


@pytest.mark.parametrize(
    ("rows", "types"),
    [
        (EMAIL, {"EMAIL_ADDRESS"}),
        (CARD, {"CREDIT_CARD"}),
        (IBAN, {"IBAN_CODE"}),
        (BANK, {"BANK_ACCOUNT"}),
        (SECRET, {"SECRET"}),
        (USERNAME, {"USERNAME"}),
        (IDENTITY, {"US_SSN", "NATIONAL_ID", "PASSPORT", "DRIVER_LICENSE", "DATE_OF_BIRTH"}),
        (NETWORK, {"IP_ADDRESS", "MAC_ADDRESS", "CRYPTO"}),
        (PHONE, {"PHONE_NUMBER"}),
        (PLACE, {"LOCATION"}),
        (NAME, {"PERSON"}),
    ],
    ids=lambda value: "/".join(sorted(value)) if isinstance(value, set) else "",
)
def test_entity_gets_its_type(masker, rows, types):
    for text, entity in rows:
        start = text.index(entity)
        found = {span.type for span in masker.mask(text).spans if span.start < start + len(entity) and start < span.end}
        assert found & types, (entity, found)


@pytest.mark.parametrize("text", NON_HITS)
def test_text_without_personal_data_is_left_alone(masker, text):
    assert masker.mask(text).text == text
