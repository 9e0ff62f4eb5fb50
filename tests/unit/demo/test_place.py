import hashlib
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from secretsd_bus import BusSettings

from demo.errors import TryoutError
from demo.place import Place, configure, furnish, held, shown

BUS = BusSettings(url="mqtt://127.0.0.1:1883")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with held(tmp_path / 'a "folder"') as place:
        furnish(place)
        configure(place, port=8081, bus=BUS, discovery=True)
        yield place


def test_a_second_try_out_in_the_same_folder_is_told_how_to_run_beside_it(place: Place) -> None:
    with pytest.raises(TryoutError, match="RUN_DIR="), held(place.root):
        pass


def test_nothing_in_the_folder_is_for_others_to_read(place: Place) -> None:
    assert {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in place.root.rglob("*.token")} == {
        "admin.token": "0o600",
        "backend.token": "0o600",
    }
    assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
    for file in (place.headers("admin"), place.env, place.config, place.policy):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_policy_knows_the_tokens_by_their_hash_alone(place: Place) -> None:
    policy = yaml.safe_load(place.policy.read_text())
    for client in ("admin", "backend"):
        token = place.token(client).read_text().strip()
        assert policy["clients"][client]["auth"] == [{"token_sha256": hashlib.sha256(token.encode()).hexdigest()}]
        assert token not in place.policy.read_text()


def test_a_second_run_keeps_tokens_and_an_edited_policy(place: Place) -> None:
    place.policy.write_text(place.policy.read_text() + "\n# mine\n")
    before = (place.policy.read_text(), place.token("admin").read_text())
    furnish(place)
    assert (place.policy.read_text(), place.token("admin").read_text()) == before


def test_a_policy_that_lost_a_token_is_reported_with_the_hash_to_put_there(place: Place) -> None:
    place.token("admin").write_text("another\n")
    with pytest.raises(TryoutError, match=hashlib.sha256(b"another").hexdigest()):
        furnish(place)


def test_the_configuration_is_toml_whatever_the_folder_is_called(place: Place) -> None:
    config = tomllib.loads(place.config.read_text())
    assert config["paths"]["vault_path"] == str(place.vault)
    assert config["bus"]["url"] == BUS.url
    assert config["homeassistant"]["discovery"] is True


def test_a_shell_takes_the_connection_from_the_env_file(place: Place) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            '. "$1"; printf "%s %s %s" "$JARVIS_SECRETS_URL" "$JARVIS_CLIENT_ID" "$JARVIS_CLIENT_TOKEN_FILE"',
            "sh",
            place.env,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert done.stdout == f"http://127.0.0.1:8081 admin {place.token('admin')}"


def test_a_path_is_shown_as_a_shell_takes_it(place: Place) -> None:
    written = subprocess.run(["sh", "-c", f"cat {shown(place.env)}"], check=True, capture_output=True, text=True).stdout
    assert written == place.env.read_text()
