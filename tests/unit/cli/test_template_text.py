"""Templates: what they become, what they may not do, and that their errors hold no value."""

from __future__ import annotations

import pytest
from secretsd_client import Secret

from secretsd.cli.rendering.template import BadTemplate, Rendered, Template, Wants

VALUE = 'hunter2;"\n'
NEVER = "9999-12-31T23:59:59.999Z"
SECRETS = {
    "token": Secret("token", VALUE, "kid-of-the-token", 3, NEVER),
    "bytes": Secret("bytes", "//79", "kid-of-the-bytes", 1, NEVER, encoding="base64"),
    "login": Secret("login", '{"user": "jarvis"}', "kid-of-the-login", 1, NEVER),
}


def rendered(text: str) -> str:
    made = Template(text, "conf.j2").render(SECRETS)
    assert isinstance(made, Rendered)
    return made.data.decode()


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("{{ secret('token') }}\n", f"{VALUE}\n"),
        ("{{ secret('token').version }} {{ secret('token').kid }}", "3 kid-of-the-token"),
        ("{{ secret('token').expires_at }} {{ secret('token').name }}", f"{NEVER} token"),
        ("{{ secret('token') | json }}", '"hunter2;\\"\\n"'),
        ("{{ secret('token') | b64 }} {{ secret('token') | b64 | b64decode }}", f"aHVudGVyMjsiCg== {VALUE}"),
        ("{{ secret('token') | shell }}", f"'{VALUE}'"),
        ("{{ secret('bytes') | b64 }} {{ secret('bytes') | hex }}", "//79 fffefd"),
        ("{{ (secret('login') | from_json).user }}", "jarvis"),
        ("{{ secret('login') | upper }}", '{"USER": "JARVIS"}'),
        ("{{ '<' }}", "<"),
        ("{% for name in ['login'] %}\n{{ secret(name).version }}\n{% endfor %}\n", "1\n"),
        ("{{ [secret('token')] }}", "[<secret token>]"),
    ],
)
def test_what_a_template_becomes(text: str, becomes: str) -> None:
    assert rendered(text) == becomes


def test_a_secret_that_is_not_there_yet_is_asked_for() -> None:
    template = Template("{{ secret('token') }}{{ secret('other') }}", "conf.j2")
    assert template.render(SECRETS) == Wants("other")
    assert template.names == {"token", "other"}


def test_only_what_was_used_is_named() -> None:
    made = Template("{% if false %}{{ secret('login') }}{% endif %}{{ secret('token') }}", "conf.j2").render(SECRETS)
    assert isinstance(made, Rendered)
    assert made.used == {"token"}
    assert VALUE not in repr(made)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n{% if %}", "conf.j2, line 2: Expected an expression"),
        ("\n{{ secreet('token') }}", "conf.j2, line 2: nothing is called secreet; did you mean secret?"),
        ("{% include 'other' %}", "a template can't read other files"),
        ("{% import '/etc/passwd' as x %}", "a template can't read other files"),
        ("{{ secret() }}", "secret() takes one secret's name"),
        ("{{ secret('not a name') }}", "secret() takes one secret's name"),
        ("{{ secret('token') | nosuch }}", "No filter named 'nosuch'"),
        ("\n{{ secret('token').kidd }}", "conf.j2, line 2: 'kidd' is not there"),
        ("\n{{ secret('bytes') }}", "conf.j2, line 2: bytes is bytes, not text"),
        ("{{ ''.__class__.__mro__ }}", "templates may not do that"),
        ("{{ [].append(1) }}", "templates may not do that"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(BadTemplate) as error:
        Template(text, "conf.j2").render(SECRETS)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ {'x': 1}[secret('token')] }}",
        "{{ (secret('login') | from_json)[secret('token')] }}",
        "{{ secret('token') | from_json }}",
        "{{ secret('token') | b64decode }}",
        "{{ 5 + secret('token') }}",
        "{{ secret(secret('token')) }}",
        "{{ secret(secret('token') | trim) }}",
        "{{ secret('token') | attr(secret('token')) }}",
        "{{ '{:d}'.format(secret('token')) }}",
    ],
)
def test_an_error_holds_no_value_and_no_value_is_asked_for(text: str) -> None:
    with pytest.raises(BadTemplate) as error:
        Template(text, "conf.j2").render(SECRETS)
    assert "conf.j2, line 1" in str(error.value)
    assert "hunter2" not in f"{error.value!r} {error.value.__context__!r} {error.value.__cause__!r}"
