import pytest

from bot.settings import Settings, SettingsError, get_env_names, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_defaults_need_nothing_set():
    settings = load_settings()
    assert settings.resolved_database_url.startswith("sqlite:///")
    assert settings.plugins == ("console", "auto")


def test_nested_settings_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_MODEL_SUMMARY", "/models/small.gguf")
    monkeypatch.setenv("UNDERSTUDY_PLUGINS", "console, slack")
    monkeypatch.setenv("UNDERSTUDY_TRAINING_MIN_EXAMPLES", "77")
    settings = load_settings()
    assert settings.model.summary == "/models/small.gguf"
    assert settings.plugins == ("console", "slack")
    assert settings.training.min_examples == 77


def test_an_unknown_variable_is_refused_with_the_nearest_known_one(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_DATABASE_URI", "sqlite:///x.db")
    with pytest.raises(SettingsError, match=r"UNDERSTUDY_DATABASE_URI is not a setting.*did you mean UNDERSTUDY_DATABASE_URL"):
        load_settings()


def test_a_plugins_own_variable_is_known_when_the_plugin_is_installed(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CONSOLE_ACTOR", "ana")
    with pytest.raises(SettingsError):
        load_settings()
    assert load_settings(plugin_names=frozenset({"UNDERSTUDY_CONSOLE_ACTOR"}))


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    (tmp_path / "understudy.toml").write_text('port = 9000\nhost = "127.0.0.2"\n[model]\nallow_unapproved = true\n')
    monkeypatch.setenv("UNDERSTUDY_PORT", "9001")
    settings = load_settings()
    assert (settings.port, settings.host, settings.model.allow_unapproved) == (9001, "127.0.0.2", True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prot = 9000", "'prot' is not a setting"),
        ("port = 'high'", "'port'.*UNDERSTUDY_PORT.*wrong value"),
        ("port = ", "not valid TOML"),
        ("[model]\nfoo = 1", "'model.foo' is not a setting"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, content, said):
    (tmp_path / "understudy.toml").write_text(content)
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_named_file_that_is_absent_is_refused(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CONFIG", "absent.toml")
    with pytest.raises(SettingsError, match=r"absent\.toml, which does not exist"):
        load_settings()


def test_secrets_do_not_show(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_DATABASE_URL", "postgresql://user:hunter2@host/db")
    monkeypatch.setenv("UNDERSTUDY_VAULT_KEY", "topsecretkey")
    assert "hunter2" not in repr(load_settings())
    assert "topsecretkey" not in str(load_settings())


def test_every_setting_has_a_description():
    assert {name for name in get_env_names() if name.startswith("UNDERSTUDY_")}
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_settings_file_that_is_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "understudy.toml").mkdir()
    with pytest.raises(SettingsError, match=r"cannot read the settings file understudy\.toml: Is a directory"):
        load_settings()


def test_a_home_folder_that_is_a_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("UNDERSTUDY_HOME", "home")
    with pytest.raises(SettingsError, match="home is a file: set UNDERSTUDY_HOME"):
        load_settings()
