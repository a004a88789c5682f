"""Starting the run's container where the overlay comes late; the rest runs in the lab's tests."""

from __future__ import annotations

from typing import Any, cast

import pytest

from swarmscope.capture import endpoints
from swarmscope.cluster.agent_link import AgentLink
from swarmscope.cluster.engine import Engine
from swarmscope.errors import RemoteFailed
from swarmscope.model import NetworkSpec

LATE = "starting container c: attaching to network failed, make sure your network options are correct"


class SlowEngine:
    """Refuses as many starts as it has refusals, with Docker's words."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.started = 0

    def has_image(self, name: str) -> bool:
        return name == "here"

    def run_container(self, image: str, **options: Any) -> str:
        if self.refusals:
            raise RemoteFailed(self.refusals.pop(0), host="n2")
        self.started += 1
        return f"{image} on {options['network']}"


def start(engine: SlowEngine) -> object:
    return endpoints.start_container(
        cast(Engine, engine),
        cast(AgentLink, None),
        run="r",
        arm="subject",
        network=NetworkSpec("net", "10.88.0.0/24"),
        image="here",
        lifetime_s=5,
    )


def test_a_network_that_comes_late_is_waited_for_once_more() -> None:
    engine = SlowEngine(LATE)
    assert start(engine) == "here on net"
    assert engine.started == 1


@pytest.mark.parametrize("refusals", [(LATE, LATE), ("no space left on device",)])
def test_it_is_not_tried_for_ever_and_not_for_other_reasons(refusals: tuple[str, ...]) -> None:
    engine = SlowEngine(*refusals)
    with pytest.raises(RemoteFailed, match=refusals[-1]):
        start(engine)
    assert (engine.started, engine.refusals) == (0, [])
