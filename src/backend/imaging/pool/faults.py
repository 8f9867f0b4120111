"""What becomes of work that failed, and of devices that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backend.errors import (
    AllDevicesLost,
    DeviceFault,
    DeviceLost,
    DeviceOutOfMemory,
    GatorError,
    RenderCancelled,
    from_wire,
)
from backend.imaging.pool.dispatcher import Dispatcher
from backend.imaging.pool.learning import Sizes
from backend.imaging.pool.messages import Failed
from backend.imaging.pool.seat import FAILURES, Group, Seat, attempt
from backend.imaging.pool.tickets import Ticket
from backend.logs import get_logger

log = get_logger(__name__)

ATTEMPTS = 2
"""How often a picture is tried where the device failed."""

DOUBTS = 8
"""Losses in a row that one poisoned picture explains: log2 of the largest micro-batch, and more."""

_ELSEWHERE = (DeviceLost, DeviceFault, DeviceOutOfMemory)


class Faults:
    """Puts tickets where they may succeed, and keeps devices that fail out of the way."""

    def __init__(self, seats: Mapping[int, Seat], dispatcher: Dispatcher, sizes: Sizes) -> None:
        self._seats = seats
        self._dispatcher = dispatcher
        self._sizes = sizes

    def place(self, ticket: Ticket, devices: Sequence[int]) -> None:
        """Queue a new ticket at its home, or at another device where that is quarantined."""
        usable = [i for i in devices if not self._seats[i].quarantine]
        if not usable:
            ticket.fail(self._none_left())
            return
        if ticket.home not in usable:
            ticket.home = self._shortest(usable)
        self._dispatcher.put(ticket)

    def succeeded(self, seat: Seat) -> None:
        """A device did what it was given, to the end: the picture is a file."""
        seat.failures = seat.doubts = 0

    def group_failed(self, seat: Seat, group: Group, failed: Failed) -> None:
        """A micro-batch failed as a whole; the worker may be alive or not."""
        self._failed(seat, group, from_wire(failed.code, failed.message, failed.details))

    def picture_failed(self, seat: Seat, failed: Failed) -> None:
        """One picture of a task could not be made a file; the others may be well."""
        for group in (seat.encoding.get(failed.task), seat.group):
            if group is not None and group.task == failed.task and failed.index is not None:
                ticket = group.tickets.pop(failed.index, None)
                if not group.tickets:
                    seat.encoding.pop(group.task, None)
                if ticket is not None:
                    seat.failed += 1
                    self._give_up(
                        seat, ticket, from_wire(failed.code, failed.message, failed.details)
                    )

    def worker_lost(
        self, seat: Seat, error: DeviceLost | None, reason: str, *, was_starting: bool = False
    ) -> None:
        """A worker is gone; what it had in hand is done again, and it may be held against it."""
        group, seat.group = seat.group, None
        innocent = [t for g in seat.encoding.values() for t in g.tickets.values()]
        seat.encoding.clear()
        if error is None:
            innocent += group.tickets.values() if group else ()
        elif group is not None:
            self._failed(seat, group, error)
        elif was_starting:
            self._blame(seat, error)
        self._again(innocent, seat, reason)

    def release(self, name: str) -> None:
        """Let a quarantined device work again."""
        for seat in self._seats.values():
            if seat.device.name == name:
                log.info("device.released", device=name, reason=seat.quarantine)
                seat.quarantine = ""
                seat.failures = 0

    def fail_all(self, error: GatorError) -> None:
        """Fail everything that waits or is rendered."""
        tickets = self._dispatcher.drain()
        for seat in self._seats.values():
            groups = [*seat.encoding.values(), *([seat.group] if seat.group else [])]
            tickets += [ticket for group in groups for ticket in group.tickets.values()]
            seat.group = None
            seat.encoding.clear()
        for ticket in tickets:
            ticket.fail(error)

    def _failed(self, seat: Seat, group: Group, error: GatorError) -> None:
        tickets = list(group.tickets.values())
        if isinstance(error, DeviceOutOfMemory):
            self._sizes.too_large(seat.device.device_id, group.like, group.size)
        if isinstance(error, RenderCancelled):
            self._again(tickets, seat, error.message)
        elif group.size > 1:
            self._blame_if_lost(seat, error, tickets[0])
            for ticket in tickets:
                ticket.largest = (group.size + 1) // 2
            self._again(tickets, seat, error.message)
        else:
            self._one_failed(seat, group, tickets[0], error)

    def _one_failed(self, seat: Seat, group: Group, ticket: Ticket, error: GatorError) -> None:
        """A picture by itself failed: another device tries it, or it has failed for good."""
        ticket.attempts.append(dict(attempt(seat.device.name, group, error.code, error.message)))
        seat.failed += 1
        devices = [*ticket.avoid, seat.device.device_id]
        if not isinstance(error, _ELSEWHERE) or len(ticket.attempts) >= ATTEMPTS:
            if len(set(devices)) > 1:
                for device_id in devices:
                    self._seats[device_id].failures = max(0, self._seats[device_id].failures - 1)
            else:
                self._blame_if_lost(seat, error, ticket)
            self._give_up(seat, ticket, _final(error, ticket))
            return
        ticket.avoid.add(seat.device.device_id)
        self._blame_if_lost(seat, error, ticket)
        self._again([ticket], seat, error.message)

    def _give_up(self, seat: Seat, ticket: Ticket, error: GatorError) -> None:
        ticket.log.warning(
            "picture.failed", device=seat.device.name, code=error.code, error=error.message
        )
        ticket.fail(error)

    def _again(self, tickets: Sequence[Ticket], seat: Seat, reason: str) -> None:
        """Queue tickets anew that a device did not finish, and say why."""
        wanted = [ticket for ticket in tickets if ticket.is_wanted]
        self._requeue(wanted)
        for ticket in wanted:
            if ticket.is_wanted:
                home = self._seats[ticket.home].device.name
                ticket.log.warning("picture.again", device=seat.device.name, to=home, error=reason)

    def _requeue(self, tickets: Sequence[Ticket]) -> None:
        """Queue tickets again, each at a device that it need not avoid, where there is one."""
        usable = [i for i, other in self._seats.items() if not other.quarantine]
        if not usable:
            for ticket in tickets:
                ticket.fail(self._none_left())
            return
        for ticket in tickets:
            fresh = [i for i in usable if i not in ticket.avoid]
            if not fresh:
                ticket.avoid.clear()
            if ticket.home not in (fresh or usable):
                ticket.home = self._shortest(fresh or usable)
        self._dispatcher.put_back(tickets)

    def _blame_if_lost(self, seat: Seat, error: GatorError, ticket: Ticket) -> None:
        """Hold a loss against the device, unless the search for a poisoned picture explains it."""
        if isinstance(error, DeviceLost | DeviceFault):
            seat.doubts += ticket.largest is not None
            if ticket.largest is None or seat.doubts > DOUBTS:
                self._blame(seat, error)

    def _blame(self, seat: Seat, error: GatorError) -> None:
        seat.failures += 1
        if seat.failures >= FAILURES and not seat.quarantine:
            seat.quarantine = f"failed {FAILURES} times in a row, at last: {error.message}"
            home = seat.device.device_id
            waiting = self._dispatcher.drain(lambda ticket: ticket.home == home)
            log.error(
                "device.quarantined",
                device=seat.device.name,
                reason=seat.quarantine,
                waiting=len(waiting),
            )
            self._requeue([ticket for ticket in waiting if ticket.is_wanted])
            self._strand_check()

    def _strand_check(self) -> None:
        if all(seat.quarantine for seat in self._seats.values()):
            for ticket in self._dispatcher.drain():
                ticket.fail(self._none_left())

    def _shortest(self, devices: Sequence[int]) -> int:
        """Return the device that has least to do; of several one that is up."""

        def load(device_id: int) -> tuple[int, bool]:
            seat = self._seats[device_id]
            in_hand = len(seat.group.tickets) if seat.group else 0
            return (self._dispatcher.waiting(device_id) + in_hand, seat.worker is None)

        return min(devices, key=load)

    def _none_left(self) -> AllDevicesLost:
        reasons = {seat.device.name: seat.quarantine for seat in self._seats.values()}
        said = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return AllDevicesLost(
            f"no device is left. {said} See what `gator doctor` says, then let one work again with "
            "`gator devices release NAME`.",
            {"devices": reasons},
        )


def _final(error: GatorError, ticket: Ticket) -> GatorError:
    """Return the error that a ticket ends with: the last one, and what came before."""
    before = "".join(
        f" Before that, on {a['device']}: {a['message']}" for a in ticket.attempts[:-1]
    )
    details = {**error.details, "attempts": ticket.attempts}
    return from_wire(error.code, f"{error.message}{before}", details)
