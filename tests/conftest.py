"""What every test gets: no key of the user's, no way off this machine, and Hypothesis without a stopwatch."""

from __future__ import annotations

import ipaddress
import os
import sys

import hypothesis
import pytest

# A shared or slow machine must not fail a law.
# Under CI, Hypothesis loads a profile of its own that also fixes the examples.
hypothesis.settings.register_profile("massive_lab", deadline=None)
if not os.environ.get("CI"):
    hypothesis.settings.load_profile("massive_lab")


def _stay_on_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if not isinstance(address, tuple) or not isinstance(address[0], str):
        return  # a Unix socket
    host = address[0].partition("%")[0]
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise RuntimeError(f"a test tried to connect to {host}: tests talk to the loopback interface only")


sys.addaudithook(_stay_on_this_machine)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MASSIVE_")]:
        monkeypatch.delenv(name)
