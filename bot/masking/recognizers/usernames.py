"""User names in file paths, URLs, log lines and introductions."""

from typing import Final

import regex

from bot.masking.rules import Rule

_GENERIC: Final = frozenset(
    """public default all admin administrator root user users username guest system shared ubuntu debian ec2-user runner app apps www-data nobody
    node python jenkins docker git postgres mysql oracle vagrant pi deploy build ci test demo example me self settings edit new list search login
    logout signup register profile account accounts home index password password-reset reset invite id name names unknown anonymous null none
    interface agent experience group groups role roles error is has was can cannot does not with from and or the a an your my this that to in
    management permissions access data service local current other password: limit count mode friendly s""".split()
)
_NAME: Final = r"[a-z_][\w.\-]{1,30}[\w]"


def _not_generic(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    return None if value.casefold() in _GENERIC or value.isdigit() else (0, len(value))


def _log_name(value: str, before: str, after: str) -> tuple[int, int] | None:
    """A log field's value, unless it is an ordinary word of a sentence."""
    ordinary = {
        "unable",
        "please",
        "still",
        "already",
        "locked",
        "correct",
        "incorrect",
        "invalid",
        "wrong",
        "missing",
        "required",
        "blocked",
    }
    is_full_name = value.istitle() and regex.match(r"[ ]\p{Lu}", after)
    return None if value.casefold() in ordinary or is_full_name else _not_generic(value, before, after)


def _domain_account(value: str, before: str, after: str) -> tuple[int, int] | None:
    """The part after DOMAIN\\, unless it is a file."""
    return None if value.endswith((".exe", ".dll", ".sys", ".ini")) else _not_generic(value, before, after)


RULES: Final = (
    Rule(
        "USERNAME",
        r"\b[a-z]:[\\/]{1,2}(?:users|documents and settings)[\\/]{1,2}(?P<pii>[\w.\-]{2,32})(?=[\\/\s\"'<>)]|$)",
        0.9,
        ("users", "documents and"),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        r"(?<![\w.])/(?:home|users|export/home|var/home|mnt/home)/(?P<pii>[\w.\-]{2,32})(?=[/\s\"':,;)<>]|$)",
        0.85,
        ("/home/", "/users/"),
        _not_generic,
    ),
    Rule("USERNAME", r"/~(?P<pii>[\w.\-]{2,32})(?=[/\s\"']|$)", 0.85, ("/~",), _not_generic),
    Rule(
        "USERNAME",
        r"\\\\[\w.\-]{1,40}\\(?:users|home|profiles)\$?\\(?P<pii>[\w.\-]{2,32})",
        0.85,
        ("\\users", "\\home", "\\profiles"),
        _not_generic,
    ),
    # DOMAIN\jdoe, not a registry key or a file path.
    Rule(
        "USERNAME",
        r"(?<![\w\\:.])(?!HK|C\\)[A-Z][A-Z0-9\-]{1,14}\\{1,2}(?P<pii>[a-z][a-z0-9._\-]{1,30})(?![\w\\])",
        0.8,
        ("\\",),
        _domain_account,
        ignore_case=False,
    ),
    Rule(
        "USERNAME",
        r"\b(?:https?://)?(?:www\.)?[\w.\-]{2,60}\.[a-z]{2,10}(?::\d+)?(?:/[\w.\-]{1,30}){0,3}/(?:users?|profiles?|members?|"
        r"people|u|author)/@?(?P<pii>[\w.\-]{2,40})",
        0.8,
        ("/user", "/profile", "/member", "/people/", "/u/", "/author/"),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        r"\b(?:linkedin\.com/in|facebook\.com|instagram\.com|twitter\.com|x\.com|t\.me|tiktok\.com|"
        r"mastodon\.social)/@?(?P<pii>[\w.\-]{3,40})(?![\w/])",
        0.8,
        (".com/", "t.me/", ".social/"),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        rf"\b(?:user(?:[ _-]?name|[ _-]?id)?|login(?:[ _-]?name|[ _-]?id)?|uname|uid|userid|sam ?account ?name|logon|"
        rf"benutzername|owner|account)"
        rf"[\"']?[ ]?[=:][ ]?[\"']?(?P<pii>{_NAME})(?=[\s,;&\"'<>)\]|/]|\.?$)",
        0.75,
        ("user", "login", "uname", "uid", "logon", "benutzer", "owner", "account"),
        _log_name,
    ),
    Rule(
        "USERNAME",
        rf"\b(?:failed password for|accepted \w+ for|authentication failure for|session (?:opened|closed) for|"
        rf"login (?:failed|succeeded) for|logged in as|log in as|"
        rf"signed in as|sign in as|sudo:|su:|ssh|for|as) (?:invalid user |user )(?P<pii>{_NAME})\b",
        0.85,
        ("user ",),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        rf"\b(?:failed password for|accepted \w+ for|session (?:opened|closed) for|login (?:failed|succeeded) for|"
        rf"logged in as|log in as|signed in as|sign in as) (?P<pii>{_NAME})\b",
        0.7,
        ("password for", "accepted", "session", "login", "log", "sign"),
        _log_name,
    ),
    Rule(
        "USERNAME",
        rf"\b(?:user|account|login|username|member)[ ]?[\"'`](?P<pii>{_NAME})[\"'`]",
        0.8,
        ("user", "account", "login", "member"),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        rf"\b(?:user ?name|user ?id|login(?: name| id)?|handle|nick ?name|screen ?name|gamertag|benutzername|"
        rf"logon name)[ ](?:is|was|=|:)[ ]?[\"'`]?(?P<pii>@?{_NAME})",
        0.8,
        ("name", "id", "login", "handle", "gamertag"),
        _log_name,
    ),
    Rule(
        "USERNAME",
        r"\b(?:ssh|sftp|ftp|rdp|log(?:ged|ging)?[ -]?(?:in|on)?|connect\w*|sign(?:ed|ing)?[ -]?in|authenticat\w+)\b[^\n]{0,60}?\bas "
        r"(?P<pii>(?=[a-z]+[\d._\-])[a-z][\w.\-]{2,30}\w)\b",
        0.75,
        (" as ",),
        _not_generic,
    ),
    Rule(
        "USERNAME",
        r"\b(?:the |my |our )?(?:user|login|account|username) (?:is|was) [\"'`]?"
        r"(?P<pii>[a-z][\w\-]{1,30}[._\-][\w.\-]{1,30}\w|[a-z]{2,20}\d{1,6})\b(?![.@]\w)",
        0.75,
        ("user", "login", "account"),
        _log_name,
    ),
    Rule(
        "USERNAME",
        r"\buser (?P<pii>(?=[a-z_.\-]*\d)[a-z][\w.\-]{2,30}\w|[a-z]{1,20}[._][a-z]{2,20})\b",
        0.7,
        ("user ",),
        _not_generic,
    ),
)
