"""The load of the quota's tests: waits that poll, reads and cancels, on one or more replicas."""

import asyncio
import collections
import itertools
import math
import time

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

ENTERPRISE = "enterprises/LC0quota"
TICK = 0.01

# A call that has ended. `start` is a unix time, and `latency` is in seconds.
Call = collections.namedtuple("Call", "kind caller replica start latency code reason")


def percentile(values, share):
    """The smallest value that is not below `share` of the values."""
    return sorted(values)[max(math.ceil(len(values) * share) - 1, 0)]


def reason_of(error):
    """The reason in the ErrorInfo of an error. None without one."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return None


class Load:
    """Calls to the replicas. Each kind of calls is distributed over all replicas equally."""

    def __init__(self, addresses):
        self.channels = [grpc.aio.insecure_channel(address) for address in addresses]
        self.stubs = [operations_pb2_grpc.OperationsStub(channel) for channel in self.channels]
        self.calls, self.tasks, self.numbers = [], set(), itertools.count()
        # The maximum lateness of a tick, in seconds.
        self.lateness = 0

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def measure_lateness(self):
        """Measures how late the machine runs a task that sleeps for a tick."""

        async def ticks():
            while True:
                due = time.monotonic() + TICK
                await asyncio.sleep(TICK)
                self.lateness = max(self.lateness, time.monotonic() - due)

        self.spawn(ticks())

    async def call(self, kind, caller, replica, request, timeout):
        """Makes a call, and records it."""
        method = getattr(self.stubs[replica], kind)
        metadata = [("x-forwarded-client-cert", f"URI=spiffe://corp.example/ns/mdm/sa/{caller}")]
        start, began = time.time(), time.monotonic()
        code, reason = "OK", None
        try:
            await method(request, metadata=metadata, timeout=timeout)
        except grpc.RpcError as error:
            code, reason = error.code().name, reason_of(error)
        latency = time.monotonic() - began
        self.calls.append(Call(kind, caller, replica, start, latency, code, reason))

    async def at_rate(self, rate, call):
        """Starts calls with the numbers of the replicas in turn, at a rate, whether or not earlier calls have ended."""
        start = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
            self.spawn(call(number % len(self.stubs)))

    def reads(self, caller, rate, timeout):
        """Gets operations that do not exist, each a new one."""

        def read(replica):
            name = f"{ENTERPRISE}/devices/replica-{replica}-read/operations/{next(self.numbers)}"
            request = operations_pb2.GetOperationRequest(name=name)
            return self.call("GetOperation", caller, replica, request, timeout)

        return self.spawn(self.at_rate(rate, read))

    def cancels(self, caller, rate, timeout, names):
        """Cancels the operations in turn. `names` has the operations of each replica."""
        turns = [itertools.cycle(own) for own in names]

        def cancel(replica):
            request = operations_pb2.CancelOperationRequest(name=next(turns[replica]))
            return self.call("CancelOperation", caller, replica, request, timeout)

        return self.spawn(self.at_rate(rate, cancel))

    def waits(self, caller, names):
        """Waits for all operations. `names` has the operations of each replica."""

        async def wait(replica, name):
            timeout = duration_pb2.Duration(seconds=30)
            request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
            while True:
                await self.call("WaitOperation", caller, replica, request, 35)

        for replica, own in enumerate(names):
            for name in own:
                self.spawn(wait(replica, name))

    async def stop(self):
        """Ends the load. Calls in flight are cancelled and not recorded."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for channel in self.channels:
            await channel.close()

    def ended(self, kind, caller, start, end):
        """The calls of a caller that started from `start` up to `end`."""
        calls = [call for call in self.calls if (call.kind, call.caller) == (kind, caller)]
        return [call for call in calls if start <= call.start < end]
