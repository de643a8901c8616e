"""Replace e-mail addresses and secrets in a text before it is tokenised.

Secrets are found by those detectors of detect-secrets that know the format of a service (its
detectors of high entropy and of keywords also find hashes, colours and examples). Where one of them
takes ordinary code for a secret, a narrower pattern of our own replaces it. No service is
contacted.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Iterator

EMAIL = "<EMAIL>"
SECRET = "<SECRET>"
RULE = "too_many_secrets"  # drops a document beyond these limits

# Ours. Each distinct secret is searched for in all of a text, and a text that was changed is
# searched again: without limits, a text full of secrets would take quadratic time.
MAX_SECRETS = 256
MAX_ROUNDS = 16


class TooManySecretsError(Exception):
    """A text holds too many secrets to replace and should be dropped as a whole."""


# Patterns begin with a rare character and look back from it, which makes the search fast.

# The domains of RFC 2606 belong to nobody.
_NOT_EXAMPLE = r"(?!(?:[\w-]+\.){0,127}example\.(?:com|net|org)\b)"
# A host name has at most 127 labels, as in DNS; the limit bounds memory, which every label takes.
_AT_HOST = rf"@{_NOT_EXAMPLE}(?:[^\W_](?:[^\W_]|-){{0,62}}\.){{1,127}}[^\W\d_]{{2,24}}\b"
_ADDRESSED = re.compile(_AT_HOST.replace("@", r"@(?<=[\w.+-]@)", 1))
# `git@host` is a shared account, and the user in a URL (group `user`) is not an address.
_EMAIL = re.compile(
    r"(?<=\w)(?P<user>://[\w.%+~-]{1,256}(?::[^\s/?#@\"'<>,;()]{0,256})?@)"
    rf"|(?<!\w)(?!git@)\w[\w.+-]{{0,63}}{_AT_HOST}"
)
# `scheme://user:password@host`, but not the words and marks that stand for passwords in examples.
_BASIC_AUTH = re.compile(
    r"(://(?<=\w://)[\w.%+~-]{0,256}:)"
    r"(?!(?:pass|passwd|password|pw|pwd|secret|token|x+|\W?\w)@)"
    rf"[^\s:/?#\[\]@!$&'()*+,;=\"<>{{}}\\`]{{1,256}}(?=@{_NOT_EXAMPLE}[\w\[])",
    re.I,
)
_KEY_MARK = re.compile(
    r"-----(BEGIN|END) (?:[A-Z0-9]+ ){0,9}PRIVATE KEY(?: BLOCK)?-----"  # `RSA`, `OPENSSH`, ...
)
_MAX_KEY_CHARACTERS = 20_000  # between the marks
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
# The patterns of these detectors also match text around the secret, which is their first group.
_WITH_CONTEXT = {"AWSKeyDetector"}
# The patterns of detect-secrets for these take time quadratic or cubic in a run of spaces, or in a
# text that repeats the beginning of their token. Ours find the same, except that theirs for
# SoftLayer takes any `sl` for its name. Each pattern is searched for only in a text that contains
# its key, in lower case.
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
# A JSON web token, and a key of OpenAI. A run without one is skipped as a whole: if no match begins
# at its first possible position, none begins at a later one.
_WEB_TOKEN = re.compile(r"eyJ[\w=-]++(\.[\w=-]+\.?)?", re.A)
_OPENAI_RUN = re.compile(r"sk-[\w-]*+", re.A)
_OPENAI_MARK = "T3BlbkFJ"
_OPENAI_KEY = re.compile(rf"(?<=[A-Za-z0-9]{{20}}){_OPENAI_MARK}[A-Za-z0-9]{{20}}")
# The pattern of detect-secrets for npm takes minutes for a long line with many slashes; those for
# the others match in the middle of a word. Discord's tokens begin with decimal digits in base64.
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

    detectors = []
    for name in _DETECTORS:
        module, _, class_name = name.partition(".")
        plugin = importlib.import_module(f"detect_secrets.plugins.{module}")
        detectors.append(getattr(plugin, class_name)())
    return tuple(detectors)


@functools.cache
def _web_token_detector():
    from detect_secrets.plugins.jwt import JwtTokenDetector

    return JwtTokenDetector()


def _is_web_token(token: str) -> bool:
    """Return whether the parts of a token are JSON in base64."""
    try:
        return _web_token_detector().is_formally_valid(token)
    except RecursionError:  # it is JSON, nested too deeply to parse
        return True


def find_secrets(text: str) -> Iterator[str]:
    """Yield all of each match of the detectors; their own `analyze_string` returns only a group."""
    for detector in _detectors():
        group = 1 if type(detector).__name__ in _WITH_CONTEXT else 0
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


def _replace_private_keys(text: str) -> tuple[str, int]:
    """Return the text without private keys in PEM, and how many there were.

    A key extends from the first begin mark that is near enough to an end mark, to that end mark.
    """
    parts: list[str] = []
    begin_marks: collections.deque[re.Match] = collections.deque()
    copied = 0  # characters of the text that `parts` stand for
    for mark in _KEY_MARK.finditer(text):
        if mark[1] == "BEGIN":
            begin_marks.append(mark)
            continue
        while begin_marks and mark.start() - begin_marks[0].end() > _MAX_KEY_CHARACTERS:
            begin_marks.popleft()
        if begin_marks:
            parts += (text[copied : begin_marks[0].start()], SECRET)
            copied = mark.end()
        begin_marks.clear()
    return "".join([*parts, text[copied:]]), len(parts) // 2


def patterns() -> dict[str, re.Pattern]:
    """Return every pattern that texts are searched for, by its readable name."""
    constants = {name.strip("_").lower(): value for name, value in globals().items()}
    named = {name: value for name, value in constants.items() if isinstance(value, re.Pattern)}
    named |= {f"token {number}": pattern for number, pattern in enumerate(_TOKENS)}
    named |= {f"key of {word}": pattern for word, pattern in _NAMED_KEYS.items()}
    for detector in _detectors():
        for number, pattern in enumerate(detector.denylist):
            named[f"{type(detector).__name__} {number}"] = pattern
    return named


def redact(text: str) -> tuple[str, collections.Counter[str]]:
    """Return a text without addresses and secrets, and how many of each were replaced.

    Redacting a redacted text changes nothing. The time is proportional to the length of the text.

    Returns:
        (text, counts by kind: 'email' and 'secret').

    Raises:
        TooManySecretsError: There are more than `MAX_SECRETS` distinct secrets, or replacing some
            still reveals others after `MAX_ROUNDS` searches.
    """
    counts: collections.Counter[str] = collections.Counter()
    distinct: set[str] = set()
    for _ in range(MAX_ROUNDS):  # a replaced secret may have hidden the one next to it
        text, replaced = _redact_once(text, distinct)
        if not replaced:
            return text, counts
        counts += replaced
    raise TooManySecretsError(f"secrets still appear after {MAX_ROUNDS} rounds of redaction")


def _redact_once(text: str, distinct: set[str]) -> tuple[str, collections.Counter[str]]:
    """Redact as `redact` does, in one search; add what the detectors find to `distinct`."""
    counts: collections.Counter[str] = collections.Counter()
    if "PRIVATE KEY" in text:
        text, counts["secret"] = _replace_private_keys(text)
    text, num_formats = _replace_formats(text)
    text, num_detected = _replace_detected(text, distinct)
    counts["secret"] += num_formats + num_detected
    if _ADDRESSED.search(text):
        text, counts["email"] = _replace_addresses(text)
    return text, +counts


def _replace_formats(text: str) -> tuple[str, int]:
    """Return the text without the matches of our own patterns, and how many there were."""
    total = 0
    for pattern in _TOKENS:
        text, number = pattern.subn(SECRET, text)
        total += number
    for pattern in (_NPM_LOGIN, _BASIC_AUTH):
        text, number = pattern.subn(rf"\1{SECRET}", text)
        total += number
    return text, total


def _replace_detected(text: str, distinct: set[str]) -> tuple[str, int]:
    """Return the text without the secrets of `find_secrets`, and how many there were."""
    secrets = set()
    for secret in find_secrets(text):
        secrets.add(secret)
        distinct.add(secret)
        if len(distinct) > MAX_SECRETS:
            raise TooManySecretsError(f"more than {MAX_SECRETS:,} distinct secrets")
    total = 0
    # Replaces every occurrence, the longest secret first, since one may be part of another.
    for secret in sorted(secrets, key=lambda secret: (-len(secret), secret)):
        total += text.count(secret)
        text = text.replace(secret, SECRET)
    return text, total


def _replace_addresses(text: str) -> tuple[str, int]:
    """Return the text without e-mail addresses, and how many there were."""
    total = 0

    def replacement(match: re.Match) -> str:
        nonlocal total
        if match["user"]:
            return match[0]
        total += 1
        return EMAIL

    text = _EMAIL.sub(replacement, text)
    return text, total
