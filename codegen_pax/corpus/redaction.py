"""E-mail addresses and secrets out of a text, before it is tokenised.

Secrets are told by the detectors of detect-secrets that know a service's own format (its detectors
of high entropy and of keywords also find hashes, colours and examples). Nothing is asked of any
service.
"""

from __future__ import annotations

import collections
import functools
import re

EMAIL = "<EMAIL>"
SECRET = "<SECRET>"

# The domains of RFC 2606 are nobody's; `git@host` is an account of all.
_EMAIL = re.compile(
    r"(?<![\w.+/-])(?!git@)[A-Za-z0-9][\w.+-]{0,63}@"
    r"(?!(?:[\w-]+\.)*example\.(?:com|net|org)\b)"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.)+[A-Za-z]{2,24}\b"
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
    "npm.NpmDetector",
    "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "twilio.TwilioKeyDetector",
)


@functools.cache
def _detectors() -> tuple:
    import importlib

    found = []
    for name in _DETECTORS:
        module, _, kind = name.partition(".")
        found.append(getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), kind)())
    return tuple(found)


def redact(text: str) -> tuple[str, collections.Counter[str]]:
    """The text without them, and how many of each kind ('email', 'secret') were replaced."""
    counts: collections.Counter[str] = collections.Counter()

    def replace(kind: str, placeholder: str, pattern: re.Pattern, text: str) -> str:
        text, number = pattern.subn(placeholder, text)
        if number:
            counts[kind] += number
        return text

    if "PRIVATE KEY" in text:
        text = replace("secret", SECRET, _PRIVATE_KEY, text)
    found = {secret for detector in _detectors() for secret in detector.analyze_string(text)}
    # The longest first: one may be part of another.
    for secret in sorted(found - {""}, key=lambda secret: (-len(secret), secret)):
        text = replace("secret", SECRET, re.compile(re.escape(secret)), text)
    if "@" in text:
        text = replace("email", EMAIL, _EMAIL, text)
    return text, counts
