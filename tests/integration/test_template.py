"""secretsctl template: files made from secrets, checked before they are in force, and made anew at rotations."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.certificates import certified
from tests.support.daemon import Daemon
from tests.support.http import Api
from tests.support.nginx import PROGRAM, Nginx, Requests
from tests.support.operators import Operators
from tests.support.waiting import PATIENCE_SECS, eventually

Unique = Callable[..., str]


@pytest.fixture(scope="module")
def daemon(broker: Broker, module_prefix: str) -> Iterator[Daemon]:
    with Daemon(bus=broker.url, prefix=module_prefix) as running:
        yield running.wait_bus()


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return daemon.api


@pytest.fixture
def render(daemon: Daemon, tmp_path: Path) -> Iterator[Operators]:
    """Start `secretsctl template`, by itself as `admin`."""
    with Operators(daemon, "template", tmp_path) as running:
        yield running


@pytest.fixture
def said(render: Operators) -> Callable[..., str]:
    return render.said


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Write a template."""

    def write(text: str, name: str = "conf.j2") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.skipif(PROGRAM is None, reason="nginx isn't installed")
def test_nginx_serves_a_rotated_value_without_a_failed_request_and_a_broken_one_never(
    api: Api,
    render: Operators,
    tmp_path: Path,
    written: Callable[[str], Path],
    said: Callable[..., str],
    unique: Unique,
) -> None:
    name = api.create(unique("token"), value="first-value")["name"]
    nginx = Nginx(tmp_path)
    source = written(nginx.template(f"{{{{ secret('{name}') }}}}"))
    order = (source, "--to", nginx.configuration, "--check", nginx.check)
    assert render(*order, "--once").wait(PATIENCE_SECS) == 0
    with nginx.serving():
        running = render(*order, "--reload", nginx.reload)
        eventually(lambda: "keeping" in said(2), "it waits for changes")
        requests = Requests(nginx)
        api.rotate(name, values={name: "second-value"})
        eventually(lambda: nginx.token() == "second-value", "the new value is served")
        api.rotate(name, values={name: 'broken; "hunter-the-second"'})
        eventually(lambda: "the check" in said(2), "the check has refused the value that breaks the configuration")
        assert nginx.token() == "second-value"
        assert "second-value" in nginx.configuration.read_text()
        assert f"secretsctl restore {name} 2" in said(2)
        api.rotate(name, values={name: "third-value"})
        eventually(lambda: "third-value" in requests.answers, "what comes after it is served, to the asker too")
        requests.end()
        assert running.poll() is None
    assert nginx.reloads() == 2
    assert not requests.failures
    assert set(requests.answers) == {"first-value", "second-value", "third-value"}
    assert not any(word in said(2) for word in ("first-value", "second-value", "third-value", "broken", "hunter"))


@pytest.mark.slow
def test_fifty_rotations_are_one_reload(
    api: Api, render: Operators, tmp_path: Path, written: Callable[[str], Path], unique: Unique
) -> None:
    start = unique("", start="many")
    names = [f"{start}{number:02}_password" for number in range(50)]
    for name in names:
        api.create(name)
    target, reloads = tmp_path / "conf", tmp_path / "reloads"
    source = written("".join(f"{{{{ secret('{name}').version }}}}\n" for name in names))
    render(source, "--to", target, "--shell", "--reload", f"echo x >>{reloads}")
    eventually(lambda: reloads.exists() and reloads.read_text() == "x\n", "the first one is in force")
    for name in names:
        api.rotate(name)
    eventually(lambda: target.read_text() == "2\n" * 50, "all new versions are in the file")
    eventually(lambda: reloads.read_text() == "x\nx\n", "one reload for all of them")


def test_what_was_rotated_while_nobody_ran_is_acted_on_at_the_start(
    api: Api,
    render: Operators,
    tmp_path: Path,
    written: Callable[[str], Path],
    said: Callable[..., str],
    unique: Unique,
) -> None:
    name = api.create(unique("password"))["name"]
    reloads = tmp_path / "reloads"
    order = (written(f"{{{{ secret('{name}') }}}}"), "--to", tmp_path / "conf", "--reload", f"tee -a {reloads}")
    assert render(*order, "--once").wait(PATIENCE_SECS) == 0
    assert render(*order, "--once").wait(PATIENCE_SECS) == 0
    assert "reloaded" in said(1)
    assert said(2) == "", "nothing has changed: nothing is done"
    api.rotate(name)
    running = render(*order, "--settle", "0s")
    eventually(lambda: "reloaded" in said(3), "the change is acted on")
    assert f"({name} (version 2))" in said(3)
    assert (tmp_path / "conf").read_text() == api.value(name)
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o600
    note = (tmp_path / ".conf.secretsctl.json").read_text()
    assert api.value(name) not in note
    running.send_signal(signal.SIGTERM)
    assert running.wait(PATIENCE_SECS) == 0


@pytest.mark.slow
def test_a_pair_is_checked_in_its_place_and_taken_back_together(
    api: Api, render: Operators, tmp_path: Path, written: Callable[..., Path], said: Callable[..., str], unique: Unique
) -> None:
    start = unique("", start="pair")
    left, right = (api.create(f"{start}{side}_token", value="same")["name"] for side in ("left", "right"))
    for side, name in (("left", left), ("right", right)):
        written(f"{{{{ secret('{name}') }}}}\n", f"{side}.j2")
    table = '[[template]]\nfile = "{0}.j2"\nto = "{0}"\ncheck = "cmp {1}/left {1}/right"\n'
    listed = written("".join(table.format(side, tmp_path) for side in ("left", "right")), "list.toml")
    running = render("--config", listed, "--settle", "0s")
    eventually((tmp_path / "right").exists, "both are there")
    api.rotate(left, values={left: "other"})
    eventually(lambda: "the check" in said(), "the pair that doesn't fit is refused")
    eventually(lambda: (tmp_path / "left").read_text() == "same\n", "the file is what it was")
    api.rotate(right, values={right: "other"})
    eventually(lambda: said().count("written") == 4, "the pair that fits is in force")
    assert [(tmp_path / side).read_text() for side in ("left", "right")] == ["other\n"] * 2
    kept = [f".{side}.secretsctl.{kind}" for side in ("left", "right") for kind in ("json", "lock")]
    eventually(lambda: sorted(path.name for path in tmp_path.glob(".*")) == kept, "nothing else is left")
    assert running.poll() is None


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="nginx isn't installed")
def test_nginx_gets_a_certificate_and_its_key_together_and_never_half_of_a_pair(
    api: Api, render: Operators, tmp_path: Path, written: Callable[..., Path], said: Callable[..., str], unique: Unique
) -> None:
    start = unique("", start="tls")
    pairs = [certified(tmp_path, f"generation{number}") for number in range(3)]
    crt, key = f"{start}site_crt_token", f"{start}site_key_token"

    def values(number: int) -> dict[str, str]:
        return {crt: pairs[number].cert_file.read_text(), key: pairs[number].key_file.read_text()}

    for name, value in values(0).items():
        api.create(name, value=value)
    nginx = Nginx(tmp_path)
    nginx.write_tls()
    check = nginx.check.replace("{}", str(nginx.configuration))
    table = '[[template]]\nfile = "{0}.j2"\nto = "site.{0}"\ncheck = "{1}"\nreload = "{2}"\n'
    for kind, name in (("crt", crt), ("key", key)):
        written(f"{{{{ secret('{name}') }}}}", f"{kind}.j2")
    listed = written("".join(table.format(kind, check, nginx.reload) for kind in ("crt", "key")), "list.toml")
    # At the first start nothing is there to reload.
    assert render("--config", listed, "--once").wait(PATIENCE_SECS) == 1
    with nginx.serving():
        render("--config", listed, "--settle", "0s")
        eventually(lambda: "keeping" in said(2), "it waits for changes")
        api.rotate(crt, key, values=values(1))
        eventually(lambda: nginx.certificate() == values(1)[crt], "the new certificate is shown")
        api.rotate(key, values={key: values(2)[key]})
        eventually(lambda: "the check" in said(2), "a key without its certificate is refused")
        # A worker of before may still take a connection while nginx reloads.
        eventually(lambda: nginx.certificate() == values(1)[crt], "the pair before is shown")
        api.rotate(crt, values={crt: values(2)[crt]})
        eventually(lambda: nginx.certificate() == values(2)[crt], "the pair is shown")


@pytest.mark.slow
def test_a_file_that_no_check_has_passed_before_a_kill_is_taken_back_at_the_next_start(
    api: Api,
    render: Operators,
    tmp_path: Path,
    written: Callable[[str], Path],
    said: Callable[..., str],
    unique: Unique,
) -> None:
    name = api.create(unique("token"), value="good")["name"]
    target, hang = tmp_path / "conf", tmp_path / "hang"
    order = (written(f"{{{{ secret('{name}') }}}}"), "--to", target, "--settle", "0s", "--shell")
    running = render(*order, "--check", f"! test -e {hang} || sleep 20")
    eventually(lambda: "keeping" in said(), "the first value has passed the check")
    hang.touch()
    api.rotate(name, values={name: "unchecked"})
    eventually(lambda: target.read_text() == "unchecked", "the check looks at the second one")
    running.kill()
    running.wait(PATIENCE_SECS)
    assert render(*order[:3], "--once", "--check", "false").wait(PATIENCE_SECS) == 1
    assert target.read_text() == "good"


@pytest.mark.slow
def test_a_reload_that_fails_is_tried_again_without_another_change(
    api: Api,
    render: Operators,
    tmp_path: Path,
    written: Callable[[str], Path],
    said: Callable[..., str],
    unique: Unique,
) -> None:
    name = api.create(unique("password"))["name"]
    ready, reloads = tmp_path / "ready", tmp_path / "reloads"
    source = written(f"{{{{ secret('{name}') }}}}")
    render(source, "--to", tmp_path / "conf", "--shell", "--reload", f"test -e {ready} && echo x >>{reloads}")
    eventually(lambda: "ended with status 1" in said(), "the reload fails")
    assert (tmp_path / "conf").read_text() == api.value(name), "the file is in force all the same"
    ready.touch()
    eventually(lambda: reloads.read_text() == "x\n", "the service is told")
