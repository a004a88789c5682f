"""The path as a picture: two hosts, the devices of each in the order a packet meets them, the wire between.

Scope: geometry only, in pixels; ``templates/path.svg.j2`` draws it. A packet goes down through the client's
devices, across the wire, and up through the server's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarmscope.compare.path import WIRE
from swarmscope.compare.result import Device, Ladder, Path
from swarmscope.report.wording import duration, share

BOX_WIDTH, BOX_HEIGHT, GAP = 176, 40, 20
PAD, HEAD = 22, 34
WIRE_GAP = 92
WIDTH = 2 * (BOX_WIDTH + 2 * PAD) + WIRE_GAP


@dataclass(frozen=True, slots=True)
class Box:
    """A device: top left corner, words, stage colour class, and whether it was inferred."""

    x: int
    y: int
    label: str
    dev: str
    time: str
    role: str
    inferred: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A host's outline."""

    x: int
    y: int
    width: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A step of the packet as an SVG path."""

    d: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything the template needs to draw one arm's path."""

    arm: str
    title: str
    caption: str
    width: int
    height: int
    frames: tuple[Frame, ...]
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    wire: str
    wire_x: int
    wire_y: int


def draw(path: Path, ladder: Ladder | None, *, title: str, rows: int) -> Picture:
    """Lay out one path; ``rows`` is the number of devices the tallest host of all pictures has."""
    first = path.devices[0].host
    client = [d for d in path.devices if d.host == first and d.role != WIRE]
    server = [d for d in path.devices if d.host != first and d.role != WIRE]
    wire = next((d for d in path.devices if d.role == WIRE), None)
    tall = HEAD + rows * (BOX_HEIGHT + GAP) - GAP + PAD
    right = BOX_WIDTH + 2 * PAD + WIRE_GAP
    # The device next to the wire stands lowest, so both hosts fill their column from the bottom up.
    left_boxes = _column(client, PAD, rows)
    right_boxes = _column(list(reversed(server)), right + PAD, rows)
    frames = (
        Frame(0, 0, BOX_WIDTH + 2 * PAD, tall, f"{first} (client)" if path.direction == "request" else first),
        Frame(right, 0, BOX_WIDTH + 2 * PAD, tall, server[0].host if server else ""),
    )
    arrows = [*_down(left_boxes, up=False), *_down(right_boxes, up=True)]
    low = HEAD + (rows - 1) * (BOX_HEIGHT + GAP) + BOX_HEIGHT // 2
    arrows.append(Arrow(f"M{PAD + BOX_WIDTH} {low} H{right + PAD - 3}"))
    return Picture(
        arm=path.arm,
        title=title,
        caption=_caption(path, ladder),
        width=WIDTH,
        height=tall + 2,
        frames=frames,
        boxes=(*left_boxes, *right_boxes),
        arrows=tuple(arrows),
        wire=_words(wire),
        wire_x=BOX_WIDTH + 2 * PAD + WIRE_GAP // 2,
        wire_y=low,
    )


def tallest(paths: Sequence[Path]) -> int:
    """Most devices on one host of any of the paths."""
    counts = [1]
    for path in paths:
        hosts = {d.host for d in path.devices if d.role != WIRE}
        counts += [sum(d.host == host and d.role != WIRE for d in path.devices) for host in hosts]
    return max(counts)


def _column(devices: Sequence[Device], x: int, rows: int) -> list[Box]:
    top = rows - len(devices)
    return [
        Box(x, HEAD + (top + i) * (BOX_HEIGHT + GAP), d.label, d.dev, _words(d), d.role, d.inferred)
        for i, d in enumerate(devices)
    ]


def _words(device: Device | None) -> str:
    return duration(device.time) if device and device.time is not None else ""


def _down(boxes: Sequence[Box], *, up: bool) -> list[Arrow]:
    arrows = []
    for box in boxes[:-1]:
        x, top, bottom = box.x + BOX_WIDTH // 2, box.y + BOX_HEIGHT, box.y + BOX_HEIGHT + GAP
        arrows.append(Arrow(f"M{x} {bottom} V{top + 3}" if up else f"M{x} {top} V{bottom - 3}"))
    return arrows


def _caption(path: Path, ladder: Ladder | None) -> str:
    words = f"{path.packets} packets, {share(path.share)} of them this way"
    if path.others:
        words += f" ({path.others} other {'way' if path.others == 1 else 'ways'})"
    if ladder is None:
        return words
    error = f" ± {duration(ladder.error)}" if ladder.error else ""
    return f"{words}; first to last event {duration(ladder.total)}{error}, traced"
