"""The programs that a newcomer writes, run as they are: a device and a service, two processes over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LINES_MAX = 30
SEED = """
from decimal import Decimal
from server import authority
from contract import Customer
authority.load(
    Customer(code=f"{n:06}-01", name=name, city=city, rep="rep-17" if n != 7 else "rep-18", credit=Decimal("7000.00"))
    for n, name, city in [(312, "Padaria São Bento", "Recife"), (1, "Sao Benedito Ltda", "Campinas"), (2, "Ótica Sol", "Campinas"),
                          (7, "São Bento de Outro", "Campinas"), (9, "Mercado Norte", "Recife")])
authority.close()
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_open(port: int, server: subprocess.Popen[str]) -> None:
    for _ in range(300):
        with suppress(subprocess.TimeoutExpired):  # the wait between two looks, which ends early when the server does
            server.wait(timeout=0.05)
        assert server.poll() is None, server.communicate()[0]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("the server did not open its port")


@pytest.mark.parametrize("program", ["server.py", "server_asgi.py"])
def test_a_device_and_a_service_meet_over_http(program: str, tmp_path: Path) -> None:
    port = _free_port()
    for source in HERE.glob("*.py"):
        text = source.read_text(encoding="utf-8").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        (tmp_path / source.name).write_text(text.replace("port=8000", f"port={port}"), encoding="utf-8")
    (tmp_path / "token").write_text("secret-of-rep-17", encoding="utf-8")
    subprocess.run([sys.executable, "-c", SEED], cwd=tmp_path, check=True, timeout=60)
    server = subprocess.Popen(
        [sys.executable, program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        _until_open(port, server)
        device = subprocess.run(
            [sys.executable, "device.py"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    finally:
        server.terminate()
        log = server.communicate(timeout=30)[0]
    said = device.stdout  # two threads print, so words may stand between words
    print(said)
    assert device.returncode == 0, said + device.stderr + log
    assert "Traceback" not in device.stderr, device.stderr
    assert "3 records, " in said
    assert 0 < said.find("Sao Benedito Ltda") < said.find("Padaria São Bento")
    assert "São Bento de Outro" not in said, "a record outside the scope reached the device"
    assert "rejected" in said
    assert "credit left is 7000.00" in said
    assert said.rstrip().endswith(" 0 refused")


@pytest.mark.parametrize("name", ["contract.py", "device.py", "server.py", "server_asgi.py"])
def test_the_programs_may_only_get_shorter(name: str) -> None:
    assert len((HERE / name).read_text(encoding="utf-8").splitlines()) <= LINES_MAX
