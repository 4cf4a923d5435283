"""The demo starts its three processes, says so, survives a taken port, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SMALL = ["--products", "210", "--customers", "60"]
COMMAND = [sys.executable, "-X", "utf8", "-m", "offlinekit_portal", "demo", *SMALL]


@pytest.mark.slow
def test_check_starts_all_asks_each_for_a_page_and_stops(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [*COMMAND, "--check", "--port", str(port), "--data", str(tmp_path)],
            check=False, capture_output=True, encoding="utf-8", timeout=60,
        )  # fmt: skip
    print(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"port {port} is taken" in run.stdout
    addresses = dict(re.findall(r"^ok +(\w+) (http://127\.0\.0\.1:\d+/\S*) \(200\)$", run.stdout, re.M))
    assert set(addresses) == {"office", "plug", "portal"}
    for address in addresses.values():
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(address, timeout=10)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.log")} == dict.fromkeys(
        ("office.log", "plug.log", "portal.log"), ""
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to consoles only")
def test_it_says_where_to_sign_in_and_what_to_try_until_it_is_interrupted(tmp_path: Path) -> None:
    demo = subprocess.Popen([*COMMAND, "--port", "0", "--data", str(tmp_path)], stdout=subprocess.PIPE, encoding="utf-8",
                            env=os.environ | {"COLUMNS": "200"})  # fmt: skip
    assert demo.stdout is not None
    with demo.stdout:
        said = ""
        for line in demo.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        found = re.search(r"Open +(http://127\.0\.0\.1:\d+/) .*User +marina .*Password +(\S+) ", said, re.S)
        assert found, said
        assert found[2] == (tmp_path / "office" / "password.txt").read_text()
        assert re.findall(r"\b(\d)\. \S", said) == list("12345")
        assert urllib.request.urlopen(found[1], timeout=10).status == 200
        demo.send_signal(signal.SIGINT)
        assert demo.stdout.read().strip() == "Stopping ..."
    assert demo.wait(timeout=30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(found[1], timeout=10)


@pytest.mark.slow
def test_a_process_that_does_not_come_up_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "office").write_text("a file where a folder should be")
    command = [*COMMAND, "--check", "--data", str(tmp_path)]
    run = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", timeout=60)
    assert run.returncode == 1
    assert "the office ended while it started" in run.stdout
    assert "FileExistsError" in run.stdout
