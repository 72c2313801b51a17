"""Keys, tokens, passwords, one-time codes, PINs and recovery phrases: formats of well-known issuers, and what people announce.

A cue alone is not enough where ordinary words follow it ("password is wrong"): `_looks_secret` decides.
"""

from typing import Final

import regex

from bot.masking.rules import Rule, has_digit

_ISSUER_KEYS: Final = (
    r"(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{16,64}"
    r"|xox[a-z](?:-[\w]{4,80}){1,6}|xapp-[\w-]{16,200}"
    r"|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,200}|whsec_[\w+/=]{16,100}"
    r"|AIza[\w-]{30,45}|ya29\.[\w-]{20,400}|GOCSPX-[\w-]{20,40}"
    r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|(?:SK|AC)[0-9a-f]{32}|key-[0-9a-z]{32}|ATATT[\w=\-]{20,300}|ATCTT[\w=\-]{20,300}"
    r"|dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9]{20,60}|glsa_\w{30,60}|secret_[A-Za-z0-9]{40,50}|ntn_[A-Za-z0-9]{30,60}|dapi[0-9a-f]{32}|"
    r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|HRKU-[\w-]{30,70}|xkeysib-[\w-]{40,100}|AGE-SECRET-KEY-1[A-Z0-9]{50,60}|fo1_[\w-]{40,50}|sl\.[\w-]{80,200}"
    r"|tk_\w{30,60}|figd_[\w-]{30,60}|CFPAT-[\w-]{40,60}|gsk_\w{40,60}|r8_\w{35,45}|pplx-\w{40,60}|v1\.0-[0-9a-f]{20,40}-[0-9a-f]{100,160}"
    r"|npm_[A-Za-z0-9]{30,50}|pypi-[\w-]{30,250}|hf_[A-Za-z0-9]{20,50}|sk-(?:ant-|proj-)?[\w-]{18,200}|dop_v1_[0-9a-f]{40,80}"
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|sq0[a-z]{3}-[\w-]{22,50}|EAA[A-Za-z0-9]{40,250}|lin_api_\w{30,60}|"
    r"dckr_pat_[\w-]{20,50}"
    r"|\d{8,10}:AA[\w-]{32,36}|[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}|PMAK-[0-9a-f-]{40,70}|NRAK-[A-Z0-9]{20,40}|"
    r"rnd_\w{20,60}|hv[sb]\.[\w-]{20,200}"
)
_JWT: Final = r"eyJ[\w-]{6,4000}\.[\w-]{6,8000}(?:\.[\w-]{0,2000})?"

# What may follow "password is" without being one.
_ORDINARY: Final = frozenset(
    """a about account again ago already also always an and any anymore app are as at be because been being blank blocked broken but by can cannot
    cant case change changed changes changing characters compromised correct correctly could couldn denied did didnt do does doesn doesnt doing don
    dont email empty enabled enough error even every expire expired expires expiring failed fails field file fine first for forgot forgotten form
    from gets getting give given gone good got had has hasn have having hers his hidden how i if in inactive incorrect instead invalid is isn isnt
    issue it its just keep keeps known last leaked link locked log login long longer lost mail many match matches may me missing more must my
    need needed needs never new no none not nothing now null of off ok old on once only or our out over page policy please portal prompt
    protected protection read recovery refused rejected request requested required requirements requires reset resets resetting right same saved
    says screen see send sensitive sent set settings short should since so some something sometimes somewhere soon still stolen stored strong such
    manager managers box boxes form forms generator button screen popup dialog rule rules strength length reminder hint hints option expiry history
    supposed sync synced tab temporary than that the their them then there they thing this to today token too two unchanged undefined under unknown
    unset until up update updated use used user using valid very via was wasn we weak were what when where which while who why will with within
    without won work worked working works worse would wrong yet yesterday you your""".split()
)
_MASKS: Final = regex.compile(
    r"[*•●xX._\-?]{2,}|\[?(?:redacted|hidden|removed|masked|filtered)\]?|\$?\{.*|<.*|%\w+%", regex.IGNORECASE
)


def _looks_secret(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """The value without closing punctuation, unless it is an ordinary word or already starred out."""
    kept = value.rstrip(".,;:)]}\"'")
    if kept and kept[-1] in "!?" and kept[:-1].isalpha() and kept[:-1].casefold() in _ORDINARY:
        return None
    word = kept.casefold().replace("'", "").replace("n't", "n")
    if len(kept) < 3 or word in _ORDINARY or word.split("-")[0] in _ORDINARY or _MASKS.fullmatch(kept):
        return None
    return 0, len(kept)


def _field_value(value: str, before: str, after: str) -> tuple[int, int] | None:
    """Like `_looks_secret`, but "max_tokens: 512" counts tokens and "password: required" names a rule."""
    is_count = value.strip("\"' ").isdigit() and regex.search(
        r"(?:tokens|passwords|secrets|credentials)\W{1,4}\Z", before, regex.IGNORECASE
    )
    return None if is_count else _looks_secret(value, before, after)


def _strong(value: str, before: str, after: str) -> tuple[int, int] | None:
    """Like `_looks_secret`, for weak cues: there must be a digit or a sign inside, or upper case after lower case."""
    part = _looks_secret(value, before, after)
    kept = value[: part[1]] if part else ""
    is_mixed = regex.search(r"\d|[^\w'\-]|_|[a-z][A-Z]", kept) is not None
    return part if is_mixed and not regex.fullmatch(r"\d{1,2}[a-z]{0,2}|\d+(?:\.\d+)+|https?:.*", kept) else None


def _random_looking(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    kinds = sum(regex.search(kind, value) is not None for kind in ("[a-z]", "[A-Z]", r"\d"))
    return (0, len(value)) if kinds >= 2 and regex.search(r"\d", value) and len(set(value)) > 8 else None


_PW_CUE: Final = (  # the words for a password, in several languages
    r"(?:pass(?:word|wd|code|phrase|wort|wörter)|kennwort|pwd?|pw|contrase[ñn]a|"
    r"clave|mot de passe|senha|wachtwoord|hasło|lösenord|credentials?|creds)"
)
_KEY: Final = (
    r"(?:[\w.\-]{0,30}(?:pass(?:word|wd|code|phrase)?|pwd|secret|token|api[_-]?key|apikey|access[_-]?key|accountkey|"
    r"private[_-]?key|secret[_-]?key|"
    r"encryption[_-]?key|sharedaccesskey|signature|credential|session[_-]?id|sessionid|sid|jsessionid|phpsessid|csrf\w*|"
    r"bearer|otp|passcode)s?)"
)
_KEY_NEEDS: Final = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "signature",
    "credential",
    "session",
    "sid",
    "csrf",
    "bearer",
    "otp",
)
_PW_NEEDS: Final = ("pass", "pw", "kennwort", "contrase", "clave", "mot de", "senha", "wachtwoord", "has", "lösen", "cred")
_CODE_CUE: Final = (
    r"(?:(?:verification|security|confirmation|one[- ]?time|login|log-?in|sign[- ]?in|access|activation|auth(?:entication|"
    r"orization|enticator)?|2fa|mfa|"
    r"two[- ]factor|sms|texted|backup|recovery|reset|unlock|otp)[ -](?:pass ?code|code|password|pin|otp|key)s?|otp|2fa|mfa|"
    r"passcode|tan|totp)"
)
_IS: Final = r"(?:[ \t]{0,2}(?:is|was|ist|are|es|est|for \w+ is|i got is|:|=|-|\()){0,3}[ \t]{0,3}[\"'`#(]{0,2}"

RULES: Final = (
    Rule("SECRET", rf"(?<![A-Za-z0-9])(?P<pii>{_ISSUER_KEYS})(?![A-Za-z0-9])", 1.0, ignore_case=False),
    Rule("SECRET", rf"(?<![\w])(?P<pii>{_JWT})", 1.0, ("eyj",), ignore_case=False),
    Rule(
        "SECRET",
        r"(?P<pii>-----BEGIN[A-Z ]{0,30} PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,6000}?(?:-----END[A-Z ]{0,30} PRIVATE KEY(?: BLOCK)?-----|\Z))",
        1.0,
        ("-----begin",),
    ),
    Rule("SECRET", r"discord(?:app)?\.com/api/webhooks/(?P<pii>\d{10,25}/[\w\-]{10,100})", 1.0, ("/api/webhooks/",)),
    Rule("SECRET", r"webhook\.office\.com/(?P<pii>[\w@/\-]{20,300})", 1.0, ("webhook.office",)),
    Rule("SECRET", r"hooks\.slack\.com/(?:services|workflows)/(?P<pii>[\w/\-]{10,120})", 1.0, ("hooks.slack",)),
    Rule("SECRET", r"://(?P<pii>[^\s/:@\"'<>]{0,100}:[^\s/@\"'<>]{1,200})@(?=[\w.\-\[])", 1.0, ("://",)),
    # key=value and key: value, in code, logs, URLs and JSON.
    Rule(
        "SECRET",
        rf"(?<![A-Za-z]){_KEY}[\"']?[ ]?(?:=>|:=|=)[ ]?(?P<pii>\"[^\"\n]{{3,200}}\"|'[^'\n]{{3,200}}'|[^\s\"',;&<>|]{{3,400}})",
        0.95,
        _KEY_NEEDS,
        _field_value,
    ),
    Rule(
        "SECRET",
        rf"(?<![A-Za-z]){_KEY}[\"']?:[ \t]{{0,3}}(?P<pii>\"[^\"\n]{{3,200}}\"|'[^'\n]{{3,200}}'|[^\s\"',;<>|]{{3,400}})",
        0.9,
        _KEY_NEEDS,
        _field_value,
    ),
    Rule(
        "SECRET",
        r"[?&;](?:token|key|sig|signature|code|auth|access_token|id_token|refresh_token|reset|session|sid|ticket|otp|secret|"
        r"hash|state|nonce|invite)=(?P<pii>[^&\s#\"'<>]{6,2000})",
        0.9,
        ("=",),
    ),
    Rule(
        "SECRET",
        r"\bauthorization\"?:[ \t]{0,3}\"?(?:basic|bearer|token|digest|apikey|negotiate)?[ ]{0,2}(?P<pii>[^\s\"',]{6,4000})",
        1.0,
        ("authorization",),
    ),
    Rule("SECRET", r"\b(?:bearer|basic)[ ](?P<pii>[\w\-.=+/~]{16,4000})", 0.95, ("bearer", "basic"), _random_looking),
    Rule("SECRET", r"\b(?:set-)?cookie2?:[ \t]{0,3}(?P<pii>[^\r\n]{4,4000})", 0.95, ("cookie:",)),
    Rule(
        "SECRET",
        r"\b(?:key|token|secret|credential|signature|webhook)s?\b[^\n]{0,30}?(?<![\w/+\-])"
        r"(?P<pii>[\w+/\-]{24,400}={0,2})(?![\w/+\-])",
        0.85,
        ("key", "token", "secret", "credential", "signature", "webhook"),
        _random_looking,
    ),
    Rule(
        "SECRET",
        r"(?<![\w/+])(?P<pii>[A-Za-z0-9+/]{40})(?![\w/+=])",
        0.8,
        ("aws", "secret", "key"),
        _random_looking,
        ignore_case=False,
    ),
    # Passwords in sentences.
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}\b[\"']?[ \t]{{0,2}}(?::|=|->|=>)[ \t\n]{{0,3}}(?P<pii>\"[^\"\n]{{3,100}}\"|'[^'\n]{{3,100}}'|"
        rf"[^\s]{{3,100}})",
        0.95,
        _PW_NEEDS,
        refine=_looks_secret,
    ),
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}(?:[ ](?:for|to|of|on)(?:[ ][\w.@\-]{{1,30}}){{1,4}}?)?[ ](?:is|was|ist|war|es|est|é|jest|är|"
        rf"should be|used to be|will be|changed to|set to|reset to)[ ](?:now[ ]|still[ ]|just[ ]|"
        rf"currently[ ])?(?P<pii>\"[^\"\n]{{3,100}}\"|'[^'\n]{{3,100}}'|`[^`\n]{{3,100}}`|[^\s]{{3,100}})",
        0.9,
        _PW_NEEDS,
        refine=_looks_secret,
    ),
    # The wifi password at the front desk is X; my password (you sent it) was X
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}\b[^\n.!?:=]{{1,60}}?(?:[ ](?:is|was|ist|war|es|est)|[ ]?[:=])[ \t]{{1,2}}"
        rf"(?P<pii>\"[^\"\n]{{3,100}}\"|'[^'\n]{{3,100}}'|`[^`\n]{{3,100}}`|[^\s]{{5,100}})",
        0.85,
        _PW_NEEDS,
        refine=_strong,
    ),
    # I set it to X (the password); X is my password
    Rule(
        "SECRET",
        rf"(?<!\S)(?P<pii>[^\s]{{6,60}})[ ](?:[^\n.!?]{{0,30}}[ ])?(?:\(the {_PW_CUE}\)|(?:is|as) (?:my|the|our|your) (?:\w+ )?{_PW_CUE}\b)",
        0.85,
        _PW_NEEDS,
        refine=_strong,
    ),
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}[ ](?:it )?(?:to|as|with|using|of)[ ](?P<pii>\"[^\"\n]{{3,100}}\"|'[^'\n]{{3,100}}'|[^\s]{{4,100}})",
        0.85,
        _PW_NEEDS,
        refine=_strong,
    ),
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}[ ](?P<pii>\"[^\"\n]{{3,100}}\"|'[^'\n]{{3,100}}'|`[^`\n]{{3,100}}`|[^\s]{{5,100}})",
        0.8,
        _PW_NEEDS,
        refine=_strong,
    ),
    # "password carrotcake doesnt work"
    Rule(
        "SECRET",
        rf"\b{_PW_CUE}[ ](?P<pii>[^\s\"'().,;:]{{4,60}})[ ](?:doesn'?t|does not|isn'?t|won'?t|no longer|not|never|stopped) "
        r"(?:work\w*|accepted|recogni[sz]ed|valid|match\w*|go|let)",
        0.8,
        ("work", "accept", "recogni", "valid", "match", " go", " let"),
        _looks_secret,
    ),
    # Creds are name:X
    Rule(
        "SECRET",
        r"\b(?:credentials?|creds|log-?ins?)\b[^\n/]{0,40}?[\s(][\w.@\-]{2,40}:(?P<pii>[^\s/:]{5,60})",
        0.85,
        (":",),
        _strong,
    ),
    Rule(
        "SECRET",
        r"\b(?:changed|reset|set|update[d]?) (?:it|my password|the password|your password|password) (?:to|"
        r"as) (?P<pii>\"[^\"\n]{3,100}\"|'[^'\n]{3,100}'|[^\s]{5,100})",
        0.85,
        ("it to", "password", "it as"),
        _strong,
    ),
    Rule(
        "SECRET",
        r"\b(?:user(?:name)?|login|log ?in|sign in|credentials?|"
        r"creds)\b[^\n/]{0,40}?[\w.@\-]{2,40}[ ]?/[ ](?P<pii>[^\s/]{4,60})",
        0.85,
        (" / ", "/ "),
        _strong,
    ),
    # One-time codes and PINs.
    Rule(
        "SECRET",
        rf"\b{_CODE_CUE}{_IS}(?P<pii>(?:G-)?\d{{3}}[ -]?\d{{3}}|\d\d[ -]\d\d[ -]\d\d|\d{{4,8}}|[A-Z0-9]{{2,5}}(?:-[A-Z0-9]{{2,5}}){{1,5}})(?![\w-])",
        0.9,
        ("code", "otp", "2fa", "mfa", "tan", "pass", "pin", "key"),
        has_digit,
    ),
    Rule(
        "SECRET",
        r"(?<!error )(?<!status )(?<!zip )(?<!post )(?<!country )(?<!area )(?<!exit )(?<!product )"
        r"(?<!order )(?<!promo )\bcode (?:is|was|i (?:got|received) (?:is|was))[: ]{1,2}[\"']?(?P<pii>\d{3}[ -]?\d{3}|"
        r"\d{4,8})(?![\w-])",
        0.8,
        ("code ",),
    ),
    Rule(
        "SECRET",
        r"(?P<pii>(?<!\d)\d{3}[ -]?\d{3}|\d{4,8})(?!\d)[ ](?:is|as) (?:your|my|the) [\w -]{0,40}?\b(?:code|otp|passcode|pin)\b",
        0.9,
        (" code", "otp", "pin"),
    ),
    Rule(
        "SECRET",
        r"\b(?:entered|enter|typed|use|used|got|received|texted|sent)(?: me| the| this| us)*(?: code| otp|"
        r" pin) (?P<pii>\d{3}[ -]?\d{3}|\d{4,8})(?!\d)",
        0.85,
        ("code ", "otp ", "pin "),
    ),
    Rule("SECRET", rf"\bpin(?:[ -]?(?:code|number|no\.?))?{_IS}(?P<pii>\d{{4,8}})(?!\d|[./-]\d)", 0.9, ("pin",)),
    Rule(
        "SECRET",
        r"\b(?:puk|geheimzahl|memorable word|secret answer|security answer|safe word)(?:[ ](?:is|was|ist|"
        r"code))?[ :=]{1,3}(?P<pii>[^\s,;]{3,40})",
        0.85,
        ("puk", "geheim", "memorable", "answer", "safe word"),
        _looks_secret,
    ),
    Rule(
        "SECRET",
        r"\b(?:seed|recovery|mnemonic|backup|secret)[ ](?:phrase|words?)\W{1,6}(?:(?:is|are|was|reads|"
        r"goes)\W{1,4})?(?P<pii>(?:[a-z]{3,8}[\s,;]{1,3}){11,23}[a-z]{3,8})\b",
        0.95,
        ("phrase", "words"),
    ),
    Rule(
        "SECRET",
        r"\b(?:recovery|backup|scratch)[ ]codes?(?:[ ](?:is|"
        r"are))?[: \n]{1,4}(?P<pii>[a-z0-9]{4,6}(?:-[a-z0-9]{4,6}){0,4}(?:[\s,;]{1,3}(?=[a-z]*\d)"
        r"[a-z0-9]{4,6}(?:-[a-z0-9]{4,6}){0,4}){0,15})",
        0.9,
        ("recovery code", "backup code", "scratch code"),
        has_digit,
    ),
)
