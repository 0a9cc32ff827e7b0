"""A replica as a process of its own, until it is killed. Says on a line of its own when it leads a live upstream."""

from __future__ import annotations

import asyncio
import json
import sys

from massive_lab.clock import SystemClock
from massive_lab.config import Secret, Settings
from massive_lab.gateway.bus.follower import Replica
from massive_lab.gateway.bus.nats import Bus
from massive_lab.gateway.bus.policy import BusPolicy
from massive_lab.live.hub import Hub
from massive_lab.live.topics import Topic


class Sink:
    def __init__(self) -> None:
        self.inbox: list[object] = []

    def flush(self) -> int:
        self.inbox.clear()
        return 0


async def main() -> None:
    asked = json.loads(sys.argv[1])
    clock = SystemClock()
    bus = Bus(asked["bus"], timeout_s=asked["timeout_s"])
    settings = Settings(Secret(asked["key"]), ws_url=asked["ws_url"], sandbox=True)
    replica = Replica(bus, settings, "stocks", clock=clock, bus_policy=BusPolicy(**asked["policy"]))
    hub = Hub("stocks", f"{asked['ws_url']}/stocks", settings.api_key, clock=clock, connector=replica)
    for wire in asked["topics"]:
        hub.open(Topic.parse("stocks", wire), [Sink()])
    told = ""
    while True:
        state = f"{'leads' if replica.is_leader else 'follows'} {hub.state}"
        if state != told:
            sys.stdout.write(f"{state}\n")
            sys.stdout.flush()
            told = state
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
