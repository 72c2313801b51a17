"""The sidebar app as a package: what Zendesk asks of it, its languages, and its colours."""

import importlib.util
import json
import re
import zipfile
from pathlib import Path

import pytest

from tests.plugins.console.test_browser import compute_contrast

ROOT = Path(__file__).resolve().parents[3] / "deploy" / "zendesk-app"
ASSETS = ROOT / "assets"
SCOPES = {"header", "body", "url", "jwt_secret_key", "jwt_claim", "basic_auth_username", "basic_auth_password"}
"""Where Zendesk may put a secure setting; any other word is an error when the app is uploaded."""


@pytest.fixture(scope="module")
def package():
    spec = importlib.util.spec_from_file_location("zendesk_app_package", ROOT / "package.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_zip(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_package_holds_what_zendesk_needs_and_nothing_else(package, tmp_path, capsys):
    out = tmp_path / "made" / "app.zip"
    assert package.main(["--domain", "Bot.Example.com", "--out", str(out)]) == 0
    files = read_zip(out)
    assert {"manifest.json", "assets/iframe.html", "assets/logo.png", "assets/logo-small.png", "translations/en.json"} <= set(
        files
    )
    assert {name.partition("/")[0] for name in files} == {"manifest.json", "assets", "translations"}
    assert json.loads(files["manifest.json"])["domainWhitelist"] == ["bot.example.com"]
    assert "DOMAIN" not in capsys.readouterr().out


def test_same_files_make_the_same_package(package, tmp_path):
    for name in ("one.zip", "two.zip"):
        package.main(["--domain", "bot.example.com", "--out", str(tmp_path / name)])
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_package_without_a_host_says_whom_it_may_talk_to(package, tmp_path, capsys):
    assert package.main(["--out", str(tmp_path / "app.zip")]) == 0
    assert "understudy.example.com" in capsys.readouterr().out


@pytest.mark.parametrize("domain", ["https://bot.example.com", "bot.example.com/path", "bot", "bot..example.com", "a b.com"])
def test_host_that_is_none_is_refused(package, tmp_path, capsys, domain):
    assert package.main(["--domain", domain, "--out", str(tmp_path / "app.zip")]) == 2
    assert "host name" in capsys.readouterr().err
    assert not (tmp_path / "app.zip").exists()


def test_manifest_is_what_zendesk_validates():
    manifest = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["frameworkVersion"] == "2.0"
    assert manifest["author"].keys() == {"name", "email", "url"}
    assert (ROOT / "translations" / f"{manifest['defaultLocale']}.json").is_file()
    assert (ROOT / manifest["location"]["support"]["ticket_sidebar"]["url"]).is_file()
    secret = next(parameter for parameter in manifest["parameters"] if parameter["name"] == "shared_secret")
    assert (secret["secure"], secret["required"], "default" in secret) == (True, True, False)
    assert set(secret["scopes"]) <= SCOPES
    assert manifest["domainWhitelist"]


def test_every_setting_is_explained_in_every_language():
    manifest = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    names = {parameter["name"] for parameter in manifest["parameters"]}
    languages = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["app"] for path in (ROOT / "translations").glob("*.json")
    }
    assert {"en", "de"} <= set(languages)
    for app in languages.values():
        assert set(app) == {"name", "short_description", "long_description", "installation_instructions", "parameters"}
        assert {name: set(texts) for name, texts in app["parameters"].items()} == {name: {"label", "helpText"} for name in names}


def read_language(name):
    text = (ASSETS / "strings.js").read_text(encoding="utf-8")
    block = re.search(rf"const {name} = \{{\n(.*?)\n\}};", text, flags=re.DOTALL).group(1)
    return dict(re.findall(r"^  (\w+): (.*),$", block, flags=re.MULTILINE))


def test_languages_say_the_same_things_with_the_same_gaps():
    english, german = read_language("EN"), read_language("DE")
    assert set(english) == set(german)
    assert {key: re.findall(r"\{\w+\}", text) for key, text in english.items()} == {
        key: re.findall(r"\{\w+\}", text) for key, text in german.items()
    }


def test_everything_that_is_said_has_its_words_and_no_words_are_left_over():
    code = "".join(path.read_text(encoding="utf-8") for path in ASSETS.glob("*.js"))
    known = set(read_language("EN"))
    said = set(re.findall(r'\bsay\("(\w+)"', code))
    assert said - known == set()
    assert {
        key for key in known if f'"{key}"' not in code and f".{key}" not in code and not key.endswith(("_title", "_text"))
    } == set()


def test_page_loads_nothing_from_elsewhere_but_zendesks_own_sdk():
    page = (ASSETS / "iframe.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"';]+", page)) == {
        "https://static.zdassets.com",
        "https://static.zdassets.com/zendesk_app_framework_sdk/2.0/zaf_sdk.min.js",
    }
    for path in [*ASSETS.glob("*.js"), *ASSETS.glob("*.css")]:
        assert re.findall(r"https?://|@import|innerHTML|eval\(", path.read_text(encoding="utf-8")) == []


def read_tokens(scheme):
    css = (ASSETS / "app.css").read_text(encoding="utf-8")
    light, dark = re.findall(r':root(?:\[data-scheme="dark"\])? \{(.*?)\}', css, flags=re.DOTALL)[:2]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))


TEXT_PAIRS = [("text", "bg"), ("text", "sunken"), ("muted", "bg"), ("muted", "sunken"), ("muted", "tag-bg"), ("link", "bg")]
TEXT_PAIRS += [("link", "hover"), ("on-primary", "primary"), ("on-primary", "primary-hover"), ("tag", "tag-bg")]
TEXT_PAIRS += [(tone, f"{tone}-bg") for tone in ("good", "warn", "bad")]
TEXT_PAIRS += [(ink, f"{tone}-bg") for ink in ("text", "muted", "link") for tone in ("good", "warn", "bad")]
SHAPE_PAIRS = [("line-strong", "bg"), ("focus", "bg"), ("primary", "bg"), ("primary", "tag-bg")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT_PAIRS, 4.5), (SHAPE_PAIRS, 3.0)])
def test_colours_have_enough_contrast(scheme, pairs, least):
    tokens = read_tokens(scheme)
    contrasts = {pair: round(compute_contrast(tokens[pair[0]], tokens[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in contrasts.items() if value < least} == {}
