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

# Patterns begin with what is rare, and look back from there: a search for it alone is fast.

# The domains of RFC 2606 are nobody's.
_NOBODY = r"(?!(?:[\w-]+\.)*example\.(?:com|net|org)\b)"
_AT_HOST = rf"@{_NOBODY}(?:[^\W_](?:[^\W_]|-){{0,62}}\.)+[^\W\d_]{{2,24}}\b"
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
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----.{0,20000}?"
    r"-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    re.S,
)
_DETECTORS = (
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "ibm_cos_hmac.IbmCosHmacDetector",
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "softlayer.SoftlayerDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "twilio.TwilioKeyDetector",
)


# Their patterns hold what stands around a secret; the secret is the first group.
_IN_CONTEXT = {"AWSKeyDetector", "IbmCosHmacDetector", "SoftlayerDetector"}
# Slow ones -> what must stand in a text, in lower case, for them to look at it. SoftLayer's own
# would take any `sl` for the name.
_NEEDS = {"IbmCosHmacDetector": "secret", "SoftlayerDetector": "softlayer"}
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


def _secrets(detector, text: str) -> Iterator[str]:
    """What a detector finds, whole: its own `analyze_string` gives no more than a group's match."""
    name = type(detector).__name__
    if name in _NEEDS and _NEEDS[name] not in text.lower():
        return
    group = 1 if name in _IN_CONTEXT else 0
    is_valid = getattr(detector, "is_formally_valid", bool)  # of a JSON web token
    for pattern in detector.denylist:
        for match in pattern.finditer(text):
            secret = match[group] if pattern.groups else match[0]
            if is_valid(secret):
                yield secret


def redact(text: str) -> tuple[str, collections.Counter[str]]:
    """The text without them, and how many of each kind ('email', 'secret') were replaced.

    Of a text that is redacted already nothing is replaced.
    """
    counts: collections.Counter[str] = collections.Counter()
    while True:  # where one secret went, another may be told from what stood beside it
        text, found = _redact_once(text)
        if not found:
            return text, counts
        counts += found


def _redact_once(text: str) -> tuple[str, collections.Counter[str]]:
    counts: collections.Counter[str] = collections.Counter()

    def replace(kind: str, placeholder: str, pattern: re.Pattern, text: str) -> str:
        text, number = pattern.subn(placeholder, text)
        if number:
            counts[kind] += number
        return text

    def address(match: re.Match) -> str:
        if match["user"]:
            return match[0]
        counts["email"] += 1
        return EMAIL

    if "PRIVATE KEY" in text:
        text = replace("secret", SECRET, _PRIVATE_KEY, text)
    for pattern in _TOKENS:
        text = replace("secret", SECRET, pattern, text)
    for pattern in (_NPM_LOGIN, _BASIC_AUTH):
        text = replace("secret", rf"\1{SECRET}", pattern, text)
    found = {secret for detector in _detectors() for secret in _secrets(detector, text)}
    # The longest first: one may be part of another.
    for secret in sorted(found, key=lambda secret: (-len(secret), secret)):
        text = replace("secret", SECRET, re.compile(re.escape(secret)), text)
    if _ADDRESSED.search(text):
        text = _EMAIL.sub(address, text)
    return text, counts
