"""What collectors subscribe to is changed while they run: by single symbols, or by reading the TOML again.

**Protocol** The collector's spec file is replaced and SIGHUP sent (`collectors.subscribing`); the child's plan keeps the
change, so that a restart repeats it. A reload applies subscriptions at once; other changes of a worker wait for its restart
and are told.
A change by symbols lasts until `down`: the TOML is what an instance begins with.
"""

import os
import signal
from collections.abc import Mapping
from typing import Any

import msgspec

from collectors.venues import DECODERS
from ops import control
from ops.child import Child, write_private
from ops.options import Topology
from ops.plan import Plan, Ports, make_plan
from shm.errors import ConfigurationError

VERBS = ("subscribe", "unsubscribe", "reload")
Listed = list[dict[str, Any]]


def answer(children: Mapping[str, Child], ports: Ports, request: control.Request) -> control.Answer:
    """Do what a client asks with one of VERBS; what cannot be done changes nothing and is told."""
    try:
        if request.verb == "reload":
            plan = make_plan(msgspec.convert(request.config, Topology))
            names, notes = reload(children, plan, ports)
            return control.Answer(names=names, notes=notes)
        for name in request.names:
            what = request.verb, request.channel, request.symbols, request.depth
            change(children, name, ports, *what)
    except (ConfigurationError, msgspec.ValidationError, OSError) as error:
        return control.Answer(ok=False, error=str(error))
    return control.Answer(names=request.names)


def edited(
    venue: str, given: Listed, verb: str, channel: str, symbols: list[str], depth: int
) -> Listed:
    """Return a spec's subscriptions with these symbols of a channel in ("subscribe") or out ("unsubscribe").

    Raises:
        ConfigurationError: the venue has no such channel or depth, or nothing would be left.
    """
    kind = DECODERS[venue]
    if channel not in kind.channels:
        there = ", ".join(sorted(kind.channels))
        raise ConfigurationError(f"channel {channel!r}; {venue} has {there}")
    if channel == "book" and depth and depth not in kind.depths:
        there = ", ".join(map(str, sorted(kind.depths)))
        raise ConfigurationError(f"book depth {depth}; {venue} has {there}")
    kept = []
    for each in given:
        names = [s for s in each["symbols"] if each["channel"] != channel or s not in symbols]
        if names or not each["symbols"]:
            kept.append(each | {"symbols": names})
    if verb == "subscribe":
        kept.append({"channel": channel, "symbols": list(dict.fromkeys(symbols)), "depth": depth})
    if not kept:
        raise ConfigurationError("nothing would be left to collect; `tickring down NAME` ends it")
    return kept


def change(
    children: Mapping[str, Child],
    name: str,
    ports: Ports,
    verb: str,
    channel: str,
    symbols: list[str],
    depth: int,
) -> None:
    """Change one collector's subscriptions.

    Raises:
        ConfigurationError: it is no collector, or `edited` refuses.
    """
    child = children.get(name)
    if child is None or child.worker.kind != "collector":
        there = ", ".join(n for n, c in children.items() if c.worker.kind == "collector")
        raise ConfigurationError(f"{name} is no collector; there are {there}")
    if not symbols:
        raise ConfigurationError("name at least one symbol")
    spec = msgspec.json.decode(child.worker.spec(ports))
    wanted = edited(spec["venue"], spec["subscriptions"], verb, channel, symbols, depth)
    base = child.worker.spec

    def build(ports: Ports) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(base(ports)) | {"subscriptions": wanted})

    child.worker = child.worker._replace(spec=build)
    _tell(child, ports)


def reload(children: Mapping[str, Child], plan: Plan, ports: Ports) -> tuple[list[str], list[str]]:
    """Take up a new plan; returns the collectors whose subscriptions have changed, and a note for all that has to wait."""
    changed, notes = [], []
    workers = {worker.name: worker for worker in plan.workers}
    for name, child in children.items():
        worker = workers.pop(name, None)
        if worker is None:
            notes.append(
                f"{name} is not in the configuration any more; `tickring down {name}` ends it"
            )
            continue
        old, new = child.worker.spec(ports), worker.spec(ports)
        is_same = child.options == worker.options and old == new
        child.worker, child.options = worker, worker.options
        if is_same:
            continue
        if child.worker.kind == "collector" and _but_subscriptions(old) == _but_subscriptions(new):
            changed.append(name)
            _tell(child, ports)
        else:
            notes.append(f"{name} has changed; `tickring restart {name}` applies it")
    notes += [f"{name} is new; `tickring down` and `up` start it" for name in workers]
    return changed, notes


def _but_subscriptions(spec: bytes) -> dict[str, Any]:
    return {k: v for k, v in msgspec.json.decode(spec).items() if k != "subscriptions"}


def _tell(child: Child, ports: Ports) -> None:
    """Replace the spec of a running collector and have it read again; one that is starting has read it or fails as it would."""
    if child.is_running:
        write_private(child.spec_file, child.worker.spec(ports))
    if child.state == "RUNNING":
        os.kill(child.facts.pid, signal.SIGHUP)
