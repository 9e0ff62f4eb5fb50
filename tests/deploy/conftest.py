"""The images that the container tests start; all but the Debian underneath are removed again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import images
from tests.deploy.building import build, copy_context, debian_program

BASE_PACKAGES = ("python3", "python3-venv")
PASSWD = "root:x:0:0:root:/:/bin/false\nmosquitto:x:1883:1883::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The build's context with all its wheels, and the base image that they are for."""
    reason = images.unavailable("debootstrap", "mosquitto", "mosquitto_passwd")
    if reason is not None:
        pytest.skip(reason)
    base = images.debian(*BASE_PACKAGES)
    asked = ["docker", "run", "--rm", base, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    folder = copy_context(tmp_path_factory.mktemp("context"))
    fetched = subprocess.run(
        [folder / "deploy" / "wheelhouse", version],
        env={**os.environ, "PIP": f"{sys.executable} -m pip"},
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode != 0:
        pytest.skip(f"pip can't fetch what the image is built from: {fetched.stderr.strip()[-300:]}")
    # Under a tag of its own the stage that both images come from can be removed with them.
    stage = build(folder, "secretsd-test-build", base, target="build")
    yield folder, base
    images.remove(stage)


@pytest.fixture(scope="session")
def secretsd_image(context: tuple[Path, str]) -> Iterator[str]:
    """The daemon's image, built without a network."""
    folder, base = context
    tag = build(folder, "secretsd-test-daemon", base)
    yield tag
    images.remove(tag)


@pytest.fixture(scope="session")
def sample_image(context: tuple[Path, str]) -> Iterator[str]:
    """The sample service's image."""
    folder, base = context
    tag = build(folder, "secretsd-test-sample", base, target="sample-service")
    yield tag
    images.remove(tag)


@pytest.fixture(scope="session")
def broker_image() -> Iterator[str]:
    """This machine's Mosquitto as an image."""
    tag = images.from_programs(
        images.named("secretsd-test-broker"), ["mosquitto", "mosquitto_passwd"], files={"/etc/passwd": PASSWD}
    )
    yield tag
    images.remove(tag)


@pytest.fixture(scope="session")
def prometheus_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's Prometheus as an image; its package is unpacked, not installed."""
    program = debian_program("prometheus", "usr/bin/prometheus", tmp_path_factory.mktemp("prometheus"))
    if program is None:
        pytest.skip("Prometheus is neither installed here nor to be had from Debian")
    tag = images.from_programs(
        images.named("secretsd-test-prometheus"),
        [str(program)],
        files={"/etc/passwd": PASSWD},
        settings=[f'ENTRYPOINT ["{program}"]'],
    )
    yield tag
    images.remove(tag)
