"""E-mail addresses and secrets: what is taken out of a text, and what is left."""

import base64
import importlib
import string
import sysconfig
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codegen_pax.data.rules import redaction


def test_addresses_and_secrets_are_replaced():
    aws = "AKIA" + "IOSFODNN7EXAMPLE"
    token = "ghp_" + "a1B2c3D4e5F6a1B2c3D4e5F6a1B2c3D4e5F6"
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"
    text = f'# jane.doe+x@mail.corp.org\nkey = "{aws}"\ntoken = "{token}"\nk = """{key}"""\n'
    redacted, counts = redaction.redact(text)
    for secret in (aws, token, "MIIabc", "jane"):
        assert secret not in redacted
    assert counts == {"email": 1, "secret": 3}
    assert redacted.startswith("# <EMAIL>\n") and redacted.count("<SECRET>") == 3


# In parts, so that no scanner takes this file for one that holds secrets.
SECRETS = [
    "ghp_" + "a1B2c3D4e5F6" * 3,
    "glpat-" + "a1B2c3D4e5F6a1B2c3D4",
    "glcbt-0f_" + "a1B2c3D4e5F6a1B2c3D4",
    "SG." + "a" * 22 + "." + "b" * 43,
    "sk_live_" + "a1B2c3D4e5F6" * 2,
    "AC" + "0123456789abcdef" * 2,
    "sk-" + "A" * 20 + "T3BlbkFJ" + "B" * 20,
    "0123456789abcdef" * 2 + "-us12",
    "npm_" + "a1B2c3D4e5F6" * 3,
    "AKCp" + "a1B2c3D4e5F6" * 5,
    "MTk4NjIyNDgzNDcxOTI1" + "MjQ4.Cl2FMQ." + "ZnCjm1XVW7vRze4b7Cq4se7kKWs",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_of_a_secret_is_left(secret):
    text = f'ghp and glpat begin tokens\nkey = "{secret}"\n'
    assert redaction.redact(text)[0] == 'ghp and glpat begin tokens\nkey = "<SECRET>"\n'


@pytest.mark.parametrize(
    ("before", "secret", "after"),
    [
        ("https://jane:", "s3cr3t", "@corp.org/x"),
        ("redis://:", "s3cr3t", "@localhost:6379/0"),
        ("postgres://app.user:", "p%40ss-w0rd", "@10.0.0.1/db"),
        ("https://api.telegram.org/bot110201543:", "AAHdqTcvCH1vGWJxfSeof" + "SAs0K5PALDsaw1", "/"),
        ('cos_secret_access_key = "', "0123456789abcdef" * 3, '"'),
        ('softlayer_api_key = "', "0123456789abcdef" * 4, '"'),
    ],
)
def test_a_secret_is_told_by_what_stands_around_it(before, secret, after):
    text = f"secret = s3cr3t\n{before}{{}}{after}\n"
    assert redaction.redact(text.format(secret)) == (text.format("<SECRET>"), {"secret": 1})


CODE = ("x", "f(a)", "é", "path", "0")
MARKS_BEFORE = st.text(st.sampled_from(string.punctuation.replace("_", "") + " \n\t"), min_size=1)


@settings(deadline=None)
@given(st.sampled_from(CODE), MARKS_BEFORE, st.sampled_from(["jane@corp.org", "j.d+x@a-b.co.uk"]))
def test_an_address_is_replaced_whatever_stands_before_it(code, marks, address):
    assume(not marks.endswith("://"))  # then it is the user of a URL
    redacted, counts = redaction.redact(f"{code}{marks}{address}>, 2020")
    assert counts == {"email": 1} and redacted.endswith("<EMAIL>>, 2020")
    assert "@" not in redacted[len(code) + len(marks) :]


@pytest.mark.parametrize("name", ["é.jean", "_jane", "j+x"])
@pytest.mark.parametrize("host", ["corp.org", "münchen.de", "a-b.co.uk"])
def test_an_address_in_any_letters_is_replaced(name, host):
    assert redaction.redact(f"by <{name}@{host}>, 2020")[0] == "by <<EMAIL>>, 2020"


def test_more_secrets_than_are_replaced_are_no_document():
    keys = [f"AKIA{n:016d}" for n in range(redaction.MAX_SECRETS + 1)]
    assert redaction.redact("\n".join(keys[1:]))[1] == {"secret": redaction.MAX_SECRETS}
    assert redaction.redact("\n".join(keys[1:] * 9))[1] == {"secret": 9 * redaction.MAX_SECRETS}
    with pytest.raises(redaction.TooManySecretsError, match="more than 256 distinct secrets"):
        redaction.redact("\n".join(keys))


def theirs(module, name, text):
    """What a detector of detect-secrets finds by its own patterns."""
    plugin = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)()
    valid = getattr(plugin, "is_formally_valid", bool)
    matches = [match for one in plugin.denylist for match in one.finditer(text)]
    actual = {match[1] if match.re.groups else match[0] for match in matches}
    return {secret for secret in actual if valid(secret)}


KEY = "A" * 20 + "T3BlbkFJ" + "b" * 20
WEB_TOKEN = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxIn0" + ".c2ln"
WORDS = [
    *(
        "sk-",
        "sk",
        "-",
        "_",
        ".",
        "=",
        " ",
        "\n",
        "'",
        '"',
        "[",
        "]",
        ":",
        ":=",
        "=>",
        "::",
        "a",
        "é",
    ),
    *(KEY, KEY[:-1], KEY[1:], "A" * 20 + "T3BlbkFJ", "T3BlbkFJ", "0a1b2c3d4e5f" * 4, "x9" * 32),
    *(WEB_TOKEN, WEB_TOKEN[:-5], WEB_TOKEN[:20], "eyJ", "eyJh.e30", "cos_", "ibm-cos-hmac-"),
    *("secret_key", "secretaccesskey", "softlayer_api_key", "softlayer-token", "  ", "/v3.1/"),
    *("http://api.softlayer.com/soap", "SECRET_KEY", "SoftLayer_Pass"),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9).map("".join))
def test_our_patterns_find_what_those_of_detect_secrets_do(text):
    detectors = {
        "jwt": "JwtTokenDetector",
        "openai": "OpenAIDetector",
        "ibm_cos_hmac": "IbmCosHmacDetector",
        "softlayer": "SoftlayerDetector",
    }
    expected = set().union(*(theirs(module, name, text) for module, name in detectors.items()))
    assert set(redaction.find_secrets(text)) == expected


BEGIN, END = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a{BEGIN}\nb\n{END}c", "a<SECRET>c"),
        (f"{BEGIN}a{BEGIN}b{END}c{END}", f"<SECRET>c{END}"),
        (f"{END}{BEGIN}a{END}{BEGIN}b", f"{END}<SECRET>{BEGIN}b"),
        (f"{BEGIN}{'a' * 20_000}{END}", "<SECRET>"),
        (f"{BEGIN}{'a' * 20_001}{END}", None),
        (f"{BEGIN}{'a' * 20_000}{BEGIN}b{END}", f"{BEGIN}{'a' * 20_000}<SECRET>"),
    ],
)
def test_a_private_key_goes_from_its_first_mark_to_its_last(text, expected):
    assert redaction.redact(text)[0] == (text if expected is None else expected)


def test_a_web_token_nested_without_an_end_is_no_fault():
    nested = base64.urlsafe_b64encode(b'{"a":' + b"[" * 200_000).decode().rstrip("=")
    redaction.redact(f"{nested}.{nested}")


def test_what_stands_around_a_secret_is_left():
    aws, npm = "a1B2/" * 8, "npm_" + "a1B2c3D4e5F6" * 3
    text = f"aws_secret_key = '{aws}'\n//registry.npmjs.org/:_authToken={npm}\n"
    expected = "aws_secret_key = '<SECRET>'\n//registry.npmjs.org/:_authToken=<SECRET>\n"
    assert redaction.redact(text) == (expected, {"secret": 2})


@pytest.mark.parametrize(
    "text",
    [
        "@functools.cache\ndef f(a @ b): ...",
        "git clone git@github.com:owner/name.git",
        "write to user@example.com or a@sub.example.org",
        "x = a@b",
        "sha = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "12345678:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "ssh://jane.doe@corp.org/x and ssh://hg@bitbucket.org",
        "'://%s:%s@' % 1; f'https://{user}:{password}@{host}'; http://${USER}:${PASSWORD}@corp.org",
        "http://user:password@corp.org or http://user:pass@corp.org or http://a:s3cr3t@example.com",
        "import Notifications24Characters.module.SomeVeryLongNameOfAModule27",
    ],
)
def test_what_is_no_secret_is_left(text):
    assert redaction.redact(text) == (text, {})


def test_a_module_loses_its_addresses_and_nothing_else():
    path = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    redacted, counts = redaction.redact(path.read_text())
    assert set(counts) == {"email"} and redacted.count("<EMAIL>") == counts["email"]
    compile(redacted, path.name, "exec")


PIECES = (
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1B2c3D4e5F6a1B2c3D4e5F6a1B2c3D4e5F6",
    "sk_live_" + "a1B2c3D4e5F6a1B2c3D4e5F6",
    "jane.doe@mail.corp.org",
    "b@c.org",
    "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----",
    "<EMAIL>",
    "<SECRET>",
    *"@._-/<> \n'\"=xA0",
)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_what_is_redacted_stays_as_it_is(text):
    redacted, counts = redaction.redact(text)
    assert redaction.redact(redacted) == (redacted, {})
    assert bool(counts) == (redacted != text)


def test_a_secret_behind_a_secret_is_told_too():
    slack = "xoxb-123456789012-abcdef"
    redacted, counts = redaction.redact(slack + "pypi-AgEIcHlwaS5vcmc" + "a" * 80)
    assert (redacted, counts) == ("<SECRET><SECRET>", {"secret": 2})
