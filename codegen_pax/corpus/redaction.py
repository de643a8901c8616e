"""E-mail addresses and secrets out of a text, before it is tokenised.

Secrets are told by the detectors of detect-secrets that know a service's own format (its detectors
of high entropy and of keywords also find hashes, colours and examples). Nothing is asked of any
service.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Iterator

EMAIL = "<EMAIL>"
SECRET = "<SECRET>"

# The domains of RFC 2606 are nobody's; `git@host` is an account of all.
_EMAIL = re.compile(
    r"(?<![\w.+/-])(?!git@)\w[\w.+-]{0,63}@"
    r"(?!(?:[\w-]+\.)*example\.(?:com|net|org)\b)"
    r"(?:[^\W_](?:[^\W_]|-){0,62}\.)+[^\W\d_]{2,24}\b"
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
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "twilio.TwilioKeyDetector",
)


# Its patterns hold what stands around a secret; the secret is the first group.
_IN_CONTEXT = "AWSKeyDetector"
# Ours: detect-secrets' own takes minutes for a long line with many slashes.
_NPM_TOKEN = re.compile(r"(?:\bnpm_[A-Za-z0-9]{36}|(?<=:_authToken=)[A-Fa-f0-9-]{36})\b")


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
    group = 1 if type(detector).__name__ == _IN_CONTEXT else 0
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

    if "PRIVATE KEY" in text:
        text = replace("secret", SECRET, _PRIVATE_KEY, text)
    text = replace("secret", SECRET, _NPM_TOKEN, text)
    found = {secret for detector in _detectors() for secret in _secrets(detector, text)}
    # The longest first: one may be part of another.
    for secret in sorted(found, key=lambda secret: (-len(secret), secret)):
        text = replace("secret", SECRET, re.compile(re.escape(secret)), text)
    if "@" in text:
        text = replace("email", EMAIL, _EMAIL, text)
    return text, counts
