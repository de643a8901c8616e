"""E-mail addresses and secrets out of a text, before it is tokenised.

Secrets are told by the detectors of detect-secrets that know a service's own format (its detectors
of high entropy and of keywords also find hashes, colours and examples). Where they take ordinary
code for a secret the pattern is ours, and narrower. Nothing is asked of any service.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Iterator

EMAIL = "<EMAIL>"
SECRET = "<SECRET>"
RULE = "too_many_secrets"  # by which a document is dropped that is beyond these limits

# Ours. Each different secret is looked for in all of a text, and a text that was changed is looked
# through again: without an end a text of nothing else would take time with its square.
MAX_SECRETS = 256
MAX_ROUNDS = 16


class TooManySecretsError(Exception):
    """A text holds more secrets than are replaced: it is to be left out as a whole."""


# Patterns begin with what is rare, and look back from there: a search for it alone is fast.

# The domains of RFC 2606 are nobody's.
_NOBODY = r"(?!(?:[\w-]+\.){0,127}example\.(?:com|net|org)\b)"
# Of a host's name 127 labels at most, as DNS has it: each that is tried takes memory.
_AT_HOST = rf"@{_NOBODY}(?:[^\W_](?:[^\W_]|-){{0,62}}\.){{1,127}}[^\W\d_]{{2,24}}\b"
_ADDRESSED = re.compile(_AT_HOST.replace("@", r"@(?<=[\w.+-]@)", 1))
# `git@host` is an account of all, and what stands before the host of a URL (`user`) no address.
_EMAIL = re.compile(
    r"(?<=\w)(?P<user>://[\w.%+~-]{1,256}(?::[^\s/?#@\"'<>,;()]{0,256})?@)"
    rf"|(?<!\w)(?!git@)\w[\w.+-]{{0,63}}{_AT_HOST}"
)
# `scheme://user:password@host`; not the words and the marks that stand for a password in examples.
_BASIC_AUTH = re.compile(
    r"(://(?<=\w://)[\w.%+~-]{0,256}:)"
    r"(?!(?:pass|passwd|password|pw|pwd|secret|token|x+|\W?\w)@)"
    rf"[^\s:/?#\[\]@!$&'()*+,;=\"<>{{}}\\`]{{1,256}}(?=@{_NOBODY}[\w\[])",
    re.I,
)
_KEY_MARK = re.compile(
    r"-----(BEGIN|END) (?:[A-Z0-9]+ ){0,9}PRIVATE KEY(?: BLOCK)?-----"  # `RSA`, `OPENSSH`, ...
)
_KEY_CHARACTERS = 20_000  # between the marks
_DETECTORS = (
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "mailchimp.MailchimpDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "twilio.TwilioKeyDetector",
)


# Their patterns hold what stands around a secret; the secret is the first group.
_IN_CONTEXT = {"AWSKeyDetector"}
# Of these detect-secrets' own take time with the square or the cube of a run of spaces, or of a
# text that begins their token again and again. What ours find is the same, but that SoftLayer's own
# takes any `sl` for the name. Each is looked for only where a word stands, in lower case.
_GAP = r"(?: *+(?:=>|:=|::|=|:) *+| ++)"
_NAMED_KEYS = {
    "secret": re.compile(  # IBM Cloud Object Storage
        r"(?:(?<=\W)|^)\[?[\"']?(?:(?:ibm)?[-_]?cos[-_]?(?:hmac)?)?[-_]?"
        rf"secret[-_]?(?:access)?[-_]?key[\"']?\]?{_GAP}[\"']?([a-f0-9]{{48}}(?![a-f0-9]))",
        re.I,
    ),
    "softlayer": re.compile(
        r"(?:(?<=\W)|^)\[?[\"']?softlayer[-_]?(?:api)?[-_]?"
        rf"(?:key|pwd|password|pass|token)[\"']?\]?{_GAP}[\"']?([a-z0-9]{{64}})",
        re.I,
    ),
    "api.softlayer.com": re.compile(
        r"https?://api.softlayer.com/soap/v3(?:.1)?/([a-z0-9]{64})", re.I
    ),
}
# A JSON web token, and a key of OpenAI. A run in which there is none is passed over as a whole:
# what fails from its first beginning fails from every later one.
_WEB_TOKEN = re.compile(r"eyJ[\w=-]++(\.[\w=-]+\.?)?", re.A)
_OPENAI_RUN = re.compile(r"sk-[\w-]*+", re.A)
_OPENAI_MARK = "T3BlbkFJ"
_OPENAI_KEY = re.compile(rf"(?<=[A-Za-z0-9]{{20}}){_OPENAI_MARK}[A-Za-z0-9]{{20}}")
# Of npm detect-secrets' own takes minutes for a long line with many slashes; those of the others
# begin and end in the middle of a word. Discord's tokens begin with decimal digits in base64.
_NPM_LOGIN = re.compile(r"(:_authToken=)[A-Fa-f0-9-]{36}\b")
_TOKENS = tuple(
    re.compile(pattern, re.A)
    for pattern in (
        r"npm_(?<!\wnpm_)[A-Za-z0-9]{36}\b",
        r"AKCp(?<!\wAKCp)[A-Za-z0-9]{20,}\b",  # Artifactory
        r"[MNO][DTjz][AEIMQUYcgk][w-z0-5](?<!\w.{4})(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){4,5}"
        r"\w{0,3}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])",  # Discord
        r"A(?<=\d{8}:A)[\w-]{34}(?![\w-])",  # Telegram
    )
)


@functools.cache
def _detectors() -> tuple:
    import importlib

    found = []
    for name in _DETECTORS:
        module, _, kind = name.partition(".")
        found.append(getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), kind)())
    return tuple(found)


@functools.cache
def _web_tokens():
    from detect_secrets.plugins.jwt import JwtTokenDetector

    return JwtTokenDetector()


def _is_web_token(token: str) -> bool:
    """Whether its parts are JSON in base64."""
    try:
        return _web_tokens().is_formally_valid(token)
    except RecursionError:  # it is, as deep as nobody needs it
        return True


def _secrets(text: str) -> Iterator[str]:
    """What the detectors find, whole: their own `analyze_string` gives but a group's match."""
    for detector in _detectors():
        group = 1 if type(detector).__name__ in _IN_CONTEXT else 0
        for pattern in detector.denylist:
            yield from (match[group if pattern.groups else 0] for match in pattern.finditer(text))
    lower = text.lower()
    for word, pattern in _NAMED_KEYS.items():
        if word in lower:
            yield from (match[1] for match in pattern.finditer(text))
    for match in _WEB_TOKEN.finditer(text):
        if match[1] and _is_web_token(match[0]):
            yield match[0]
    if _OPENAI_MARK in text:
        for run in _OPENAI_RUN.finditer(text):
            if keys := [*_OPENAI_KEY.finditer(run[0])]:
                yield run[0][: keys[-1].end()]


def _without_keys(text: str) -> tuple[str, int]:
    """The text without private keys in PEM, and how many they were.

    A key goes from the first mark that is near enough to its end.
    """
    parts: list[str] = []
    begins: collections.deque[re.Match] = collections.deque()
    done = 0
    for mark in _KEY_MARK.finditer(text):
        if mark[1] == "BEGIN":
            begins.append(mark)
            continue
        while begins and mark.start() - begins[0].end() > _KEY_CHARACTERS:
            begins.popleft()
        if begins:
            parts += (text[done : begins[0].start()], SECRET)
            done = mark.end()
        begins.clear()
    return "".join([*parts, text[done:]]), len(parts) // 2


def patterns() -> dict[str, re.Pattern]:
    """Every pattern that a text is searched for, by a name for people."""
    ours = {name.strip("_").lower(): value for name, value in globals().items()}
    found = {name: value for name, value in ours.items() if isinstance(value, re.Pattern)}
    found |= {f"token {number}": pattern for number, pattern in enumerate(_TOKENS)}
    found |= {f"key of {word}": pattern for word, pattern in _NAMED_KEYS.items()}
    for detector in _detectors():
        for number, pattern in enumerate(detector.denylist):
            found[f"{type(detector).__name__} {number}"] = pattern
    return found


def redact(text: str) -> tuple[str, collections.Counter[str]]:
    """The text without them, and how many of each kind ('email', 'secret') were replaced.

    Of a text that is redacted already nothing is replaced. It takes time in proportion to the text.

    Raises TooManySecretsError beyond `MAX_SECRETS` different ones, or `MAX_ROUNDS` of looking.
    """
    counts: collections.Counter[str] = collections.Counter()
    different: set[str] = set()
    for _ in range(MAX_ROUNDS):  # where one went, another may be told from what stood beside it
        text, found = _redact_once(text, different)
        if not found:
            return text, counts
        counts += found
    raise TooManySecretsError(f"secrets behind secrets, {MAX_ROUNDS} deep")


def _redact_once(text: str, different: set[str]) -> tuple[str, collections.Counter[str]]:
    """As `redact`, looking once; adds what the detectors find to `different`."""
    counts: collections.Counter[str] = collections.Counter()

    def replace(placeholder: str, pattern: re.Pattern, text: str) -> str:
        text, number = pattern.subn(placeholder, text)
        counts["secret"] += number
        return text

    def address(match: re.Match) -> str:
        if match["user"]:
            return match[0]
        counts["email"] += 1
        return EMAIL

    if "PRIVATE KEY" in text:
        text, counts["secret"] = _without_keys(text)
    for pattern in _TOKENS:
        text = replace(SECRET, pattern, text)
    for pattern in (_NPM_LOGIN, _BASIC_AUTH):
        text = replace(rf"\1{SECRET}", pattern, text)
    found = set()
    for secret in _secrets(text):
        found.add(secret)
        different.add(secret)
        if len(different) > MAX_SECRETS:
            raise TooManySecretsError(f"more than {MAX_SECRETS:,} different secrets")
    # Wherever they stand. The longest first: one may be part of another.
    for secret in sorted(found, key=lambda secret: (-len(secret), secret)):
        counts["secret"] += text.count(secret)
        text = text.replace(secret, SECRET)
    if _ADDRESSED.search(text):
        text = _EMAIL.sub(address, text)
    return text, +counts
