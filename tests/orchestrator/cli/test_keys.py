"""`orchestrator keys` shows a key once, keeps its hash, and says what it did."""

from __future__ import annotations

import json
import stat

from serve_apps.guard.guard import Guard
from serve_apps.guard.settings import GuardSettings
from tests.serve_apps.guard.guards import bearer

# The fixture `orchestrate` runs a command in a directory of its own.


def test_a_key_works_from_the_moment_it_is_shown(orchestrate, tmp_path):
    done = orchestrate("keys", "create", "--tenant", "acme", "--requests-per-minute", "1")
    key = done.stdout.strip()
    assert done.stdout.count("\n") == 1
    assert key not in done.stderr
    file = tmp_path / "keys.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text()
    assert Guard(GuardSettings(keys=str(file))).admit(bearer(key)).tenant == "acme"


def test_list_revoke_and_rotate(orchestrate):
    for tenant in ("acme", "zeta"):
        key = orchestrate("keys", "create", "--tenant", tenant, "--model", "m1").stdout.strip()
    listed = json.loads(orchestrate("keys", "list", "-o", "json").stdout)
    assert [k["tenant"] for k in listed] == ["acme", "zeta"]
    assert not [k for k in listed if "hash" in k]
    new = orchestrate("keys", "rotate", listed[1]["id"]).stdout.strip()
    assert new.startswith(key[:15])
    assert new != key
    assert orchestrate("keys", "revoke", listed[0]["id"]).returncode == 2  # not asked, not done
    assert orchestrate("keys", "revoke", listed[0]["id"], "-y").returncode == 0
    table = orchestrate("keys", "list").stdout
    assert "revoked" in table
    assert table.count("m1") == 2


def test_mistakes_are_told_in_the_words_of_the_options(orchestrate):
    done = orchestrate("keys", "create", "--tenant", "Two Words")
    assert done.returncode == 2
    assert "--tenant: found 'Two Words'" in done.stderr
    assert orchestrate("keys", "list").returncode == 2
    assert orchestrate("keys", "create", "--tenant", "a", "--file", "no/k.yaml").returncode == 2
