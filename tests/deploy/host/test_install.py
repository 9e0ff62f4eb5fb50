"""install.sh on a bare Debian: first secret, upgrade over a running vault, a bad release, removal; and in a chroot."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import images
from tests.deploy.host.machine import PACKAGES, Machine
from tests.deploy.host.wheels import ROOT

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

INSTALLER = ROOT / "deploy" / "install.sh"
UNIT = "jarvis-secretsd.service"
CTL = "JARVIS_CLIENT_ID=admin JARVIS_CLIENT_TOKEN_FILE=/etc/jarvis-secretsd/tokens/admin.token secretsctl"
INSTALL = "sh /src/deploy/install.sh --wheels /wheels"
PASSPHRASE = "correct horse battery staple"
SERVES = b"    try:\n        settings = config.load"
COMPLETIONS = (
    "bash-completion/completions/secretsctl",
    "zsh/site-functions/_secretsctl",
    "fish/vendor_completions.d/secretsctl.fish",
)
EVERYTHING = "find /etc /opt /usr/local /home /root -xdev | sort"


# Without a machine


def test_the_help_tells_every_option() -> None:
    told = subprocess.run(["sh", str(INSTALLER), "--help"], capture_output=True, check=True, text=True).stdout
    for option in ("--wheels", "--python", "--passphrase-file", "--no-start", "--purge", "--dry-run"):
        assert option in told


def test_what_it_does_not_know_is_refused() -> None:
    done = subprocess.run(["sh", str(INSTALLER), "--foo"], capture_output=True, check=False, text=True)
    assert (done.returncode, "don't know '--foo'" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("config", "service", "http"),
    [
        ("", None, None),
        ('[server]\nbind_addr = "127.0.0.1:9000"\n', None, "[Socket]\nListenStream=\nListenStream=127.0.0.1:9000\n"),
        ('[bus]\nurl = "mqtt://192.0.2.7:1883"\n', "[Service]\nIPAddressAllow=192.0.2.7\n", None),
        ('[bus]\nurl = "mqtt://broker.lan:1883"\n', "[Service]\nIPAddressAllow=any\n", None),
        (
            '[bus]\nusername = "u"\npassword_file = "/etc/p%w"\n',
            "[Service]\nLoadCredential=secretsd-bus.password_file:/etc/p%%w\n",
            None,
        ),
        (
            '[paths]\nvault_path = "/srv/my vault/vault.json"\n',
            '[Unit]\nRequiresMountsFor="/srv/my vault"\n[Service]\nReadWritePaths="/srv/my vault"\n',
            None,
        ),
    ],
)
def test_the_units_follow_the_configuration(tmp_path: Path, config: str, service: str | None, http: str | None) -> None:
    (tmp_path / "config.toml").write_text(config)
    command = [sys.executable, str(ROOT / "deploy/systemd/follow-config"), "--config", str(tmp_path / "config.toml")]
    subprocess.run([*command, "--units", str(tmp_path)], check=True, capture_output=True)

    def written(unit: str) -> str | None:
        path = tmp_path / f"{unit}.d" / "50-config.conf"
        return path.read_text().partition("\n")[2] if path.exists() else None

    assert (written(UNIT), written("jarvis-secretsd-http.socket")) == (service, http)


# On a machine, one after the other as an operator would


@pytest.fixture(scope="module")
def machine(wheels: Path) -> Iterator[Machine]:
    with Machine() as booted:
        booted.bring_checkout(wheels)
        yield booted


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """A machine with a vault under a passphrase; made by the first who asks."""
    if not machine.succeeds("test -e /opt/jarvis-secretsd/current"):
        machine.write("/root/passphrase", PASSPHRASE + "\n", "0600")
        machine.run(f"{INSTALL} --passphrase-file /root/passphrase -- --no-bus")
        machine.run("rm /root/passphrase")
        machine.run(f"printf kept | {CTL} put first_secret")
    return machine


def broken(wheels: Path, folder: Path) -> Path:
    """Return a wheel of a release that can say its version, and nothing more."""
    (wheel,) = wheels.glob("jarvis_secretsd-*.whl")
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(folder / wheel.name, "w") as bad:
        for entry in good.infolist():
            content = good.read(entry)
            if entry.filename == "secretsd/daemon/__init__.py":
                content = content.replace(SERVES, b"    return 1\n" + SERVES)
                assert b"    return 1\n" in content
            bad.writestr(entry, content)
    return folder / wheel.name


def test_a_dry_run_tells_the_steps_and_changes_nothing(machine: Machine) -> None:
    before = machine.run(EVERYTHING)
    told = machine.run(f"{INSTALL} --dry-run")
    assert "would make a virtual environment" in told
    assert "would make a first configuration" in told
    assert machine.run(EVERYTHING) == before


def test_after_the_installation_the_first_secret_can_be_kept(installed: Machine) -> None:
    assert installed.run(f"{CTL} get first_secret") == "kept"
    assert installed.run(f"systemctl is-enabled {UNIT}").strip() == "enabled"
    findings = installed.run(f"{CTL} doctor --only sandbox --only reach --only owners --only modes --only core-dumps")
    assert "5 ok, 0 warnings, 0 failures" in findings, findings


def test_man_pages_and_completion_are_where_they_are_looked_for(installed: Machine) -> None:
    assert ".TH SECRETSCTL-GET 1" in installed.run("cat /usr/local/share/man/man1/secretsctl-get.1")
    for path in COMPLETIONS:
        assert "secretsctl" in installed.run(f"cat /usr/local/share/{path}")


def test_the_passphrase_is_on_disk_only_as_a_credential_of_this_machine(installed: Machine) -> None:
    assert "argon2id" in installed.run("cat /opt/jarvis/secrets/master.key")
    sealed = "/etc/credstore.encrypted/secretsd-passphrase"
    assert installed.run(f"systemd-creds decrypt --name=secretsd-passphrase {sealed} -").strip() == PASSPHRASE
    found = installed.run(f"grep -rlF '{PASSPHRASE}' /etc /opt /root /var /usr/local", status=1)
    assert found == ""


def test_an_upgrade_over_a_running_vault_keeps_it_and_the_release_before(installed: Machine) -> None:
    before = installed.run("readlink /opt/jarvis-secretsd/current").strip()
    pid = installed.show(UNIT, "MainPID")
    installed.run("sed -i 's/^grace_days = 14/grace_days = 7/' /etc/jarvis-secretsd/config.toml")
    installed.run(INSTALL)
    assert installed.run("readlink /opt/jarvis-secretsd/current").strip() != before
    assert installed.show(UNIT, "MainPID") != pid
    assert installed.run(f"{CTL} get first_secret") == "kept"
    assert "grace_days = 7" in installed.run("cat /etc/jarvis-secretsd/config.toml")
    assert before in installed.run("ls -d /opt/jarvis-secretsd/releases/*").split()


def test_a_release_that_does_not_come_up_gives_way_to_the_old_one(
    installed: Machine, wheels: Path, tmp_path: Path
) -> None:
    before = installed.run("readlink /opt/jarvis-secretsd/current")
    installed.run("cp -r /wheels /bad")
    installed.bring(broken(wheels, tmp_path), "/bad/")
    told = installed.run("sh /src/deploy/install.sh --wheels /bad", status=1)
    assert "the old release serves again" in told
    assert installed.run("readlink /opt/jarvis-secretsd/current") == before
    assert installed.run(f"{CTL} get first_secret") == "kept"


def test_removal_keeps_the_state_and_an_installation_finds_it_whoever_owns_it(installed: Machine) -> None:
    before = installed.run(EVERYTHING)
    assert f"would stop and disable {UNIT}" in installed.run("sh /src/deploy/install.sh remove --purge --dry-run")
    assert installed.run(EVERYTHING) == before
    installed.run("sh /src/deploy/install.sh remove")
    assert not installed.succeeds(f"systemctl cat {UNIT}")
    assert installed.run("ls -d /opt/jarvis-secretsd /usr/local/bin/secretsctl", status=2)
    assert installed.run("find /usr/local/share -name '*secretsctl*'") == ""
    # As the scripts of the old installation leave it: root's settings, and the state of a user `jarvis`.
    installed.run("useradd --system jarvis; chown -R jarvis: /opt/jarvis/secrets /opt/jarvis/audit")
    installed.run("chmod 0700 /etc/jarvis-secretsd; chmod 0400 /etc/jarvis-secretsd/*.*")
    installed.write("/etc/logrotate.d/jarvis", "/opt/jarvis/audit/audit.jsonl {\n  daily\n}\n")
    assert "/etc/logrotate.d/jarvis rotates the audit log too" in installed.run(INSTALL)
    assert installed.run(f"{CTL} get first_secret") == "kept"
    assert installed.run("stat -c '%U %a' /opt/jarvis/secrets/vault.json").split() == ["jarvis-secretsd", "600"]


def test_a_purge_leaves_nothing(installed: Machine) -> None:
    installed.run("sh /src/deploy/install.sh remove --purge")
    left = "ls -d /opt/jarvis* /etc/jarvis-secretsd /etc/credstore.encrypted/secretsd-* /usr/local/bin/secretsctl"
    assert "jarvis" not in installed.run(f"{left} 2>/dev/null", status=2)
    assert not installed.succeeds("id jarvis-secretsd")


# Where no systemd runs: an image that is being built, a rescue system


@pytest.fixture
def chroot(wheels: Path, tmp_path: Path) -> Path:
    """A debootstrapped root with the checkout in it."""
    root = tmp_path / "root"
    root.mkdir()
    create = ["docker", "create", images.debian(*PACKAGES), "true"]
    made = subprocess.run(create, capture_output=True, check=True, text=True).stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", made], stdout=subprocess.PIPE) as export:
            subprocess.run(["tar", "-x", "-C", str(root)], stdin=export.stdout, check=True)
    finally:
        subprocess.run(["docker", "rm", made], capture_output=True, check=True)
    (root / "src").mkdir()
    for source, target in ((ROOT / "deploy", "src/deploy"), (ROOT / "docs", "src/docs"), (wheels, "wheels")):
        shutil.copytree(source, root / target)
    return root


def run_in(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a chroot with /proc and no environment of ours."""
    inside = f"mount -t proc proc {root}/proc && exec chroot {root} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {command}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside], capture_output=True, check=False, text=True, timeout=400
    )


def test_in_a_chroot_it_is_put_in_place_for_the_next_boot(chroot: Path) -> None:
    done = run_in(chroot, f"{INSTALL} -- --no-bus")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starts with the next boot" in done.stdout
    wants = chroot / "etc/systemd/system"
    assert (wants / "multi-user.target.wants" / UNIT).is_symlink()
    assert (wants / "sockets.target.wants/jarvis-secretsd.socket").is_symlink()
    assert (chroot / "opt/jarvis/secrets/vault.json").exists()
    for path in ("man/man1/secretsctl-get.1", "man/man8/jarvis-secretsd.8", *COMPLETIONS):
        found = run_in(chroot, f"head -c 1 /usr/local/share/{path}")
        assert found.returncode == 0, found.stderr
    assert run_in(chroot, "sh /src/deploy/install.sh remove").returncode == 0
    assert run_in(chroot, "find /usr/local/share -name '*secretsctl*'").stdout == ""
    assert not (chroot / "opt/jarvis-secretsd").exists()
    assert (chroot / "opt/jarvis/secrets/vault.json").exists()
