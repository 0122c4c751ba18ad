#!/usr/bin/env python3
"""Proves the pacing of the quota in front of an emulator that enforces the quota.

    pacing.py COUNTERMAND [--limit N] [--burst N] [--period SECONDS] [--seconds SECONDS] [SCENARIO...]

The scenarios:

local    One process under ten times the load that the quota allows.
shared   Three processes that share the quota through a real Valkey, under the same load.
faults   The same, while Valkey is killed, restarted and stopped.

A scenario in which only checks of times or refusals failed is repeated once. If the machine stalls in both runs, its
checks of times are skipped.

The load is a flood of polls, in the second half and in `faults` also a flood of reads by one caller. Cancels and the
reads of another caller arrive below the rate. The emulator's call log has the time and the status of each query.

By default, a period is 6 seconds, so that a scenario has nine of them, and the burst is a fifth of the limit. On a busy
machine, one query may reach the emulator late and the next ones in time. The delay may be longer than the twentieth of
6 seconds that the default burst of the program covers. Three minutes of Google's quota, with the default burst:

    pacing.py COUNTERMAND --limit 600 --burst 30 --period 60 --seconds 180 local
"""

import argparse
import asyncio
import collections
import contextlib
import enum
import itertools
import math
import pathlib
import signal
import statistics
import sys
import tempfile
import time

from load import ENTERPRISE, TICK, Load, percentile
from servers import POLL_INTERVAL, SCRIPT, Emulator, Processes, Replica, Valkey

OVERLOAD = 10
REPLICAS = 3
# The operations of a replica that are cancelled in turn.
CANCELLED = 4
# The first seconds of a flood. Each wait starts with a read, and reads use more of the burst than polls.
START_SECONDS = OVERLOAD * POLL_INTERVAL + 3
DEADLINE = 5
# The parts of the rate that cancels and the reads of the modest caller ask for.
CANCEL_SHARE, READ_SHARE = 1 / 12, 1 / 12
# Google's answer to a read: the operation does not exist.
ABSENT = ("NOT_FOUND", "NOT_FOUND")
# The client's own error when its deadline passes. A busy machine may delay the client.
LATE = ("DEADLINE_EXCEEDED", None)
CONSOLE, MODEST, FLOODER, WAITER = "console", "modest", "flooder", "waiter"
# The time from a fault until each replica reports it, and from its end until each has returned. In seconds.
AWAY_SECONDS, RETURN_SECONDS = 2, 5
# A machine with a tick that is this late stalls. In seconds.
STALL = 0.1


class Kind(enum.Enum):
    """What a failed check means."""

    HARD = "the scenario fails"
    REPEATED = "the scenario is repeated once"
    TIMING = "the same, and does not count if the machine stalls in both runs"


class Report:
    """Prints a line for each check of a run of a scenario, and counts the failed ones of each kind."""

    def __init__(self, scenario):
        self.scenario, self.failed, self.lateness = scenario, collections.Counter(), 0

    def check(self, what, holds, figure, kind=Kind.HARD):
        if not holds:
            self.failed[kind] += 1
        print(f"{SCRIPT}: {self.scenario}: {what}: {figure}" + ("" if holds else ": FAILED"), flush=True)

    def equal(self, what, got, wanted, kind=Kind.HARD):
        self.check(what, got == wanted, got if got == wanted else f"{got!r}, wanted {wanted!r}", kind)

    def figure(self, what, figure):
        self.check(what, True, figure)


class Quota:
    """The settings of the quota."""

    def __init__(self, limit, burst, period):
        self.limit, self.burst, self.period = limit, burst, period
        self.rate = (limit - burst) / period


class Fleet:
    """An emulator, and replicas in front of it."""

    def __init__(self, program, processes, quota, replicas, emulator_limit, valkey=None):
        self.quota, self.valkey = quota, valkey
        self.emulator = Emulator(program, processes, emulator_limit, quota.period)
        shared = f'[quota_shared]\nurl = "redis://127.0.0.1:{valkey.port}"\nreplicas = {replicas}' if valkey else ""
        self.replicas = [
            Replica(program, processes, f"replica-{number}", self.emulator, quota, shared)
            for number in range(replicas)
        ]
        self.load = Load([f"127.0.0.1:{replica.port}" for replica in self.replicas])
        waits = max(round(OVERLOAD * quota.rate * POLL_INTERVAL / replicas), 1)
        self.awaited, self.cancelled = self.issue("wait", waits), self.issue("cancel", CANCELLED)

    def issue(self, kind, count):
        """Issues commands to devices of each replica."""
        return [
            self.emulator.issue(f"{ENTERPRISE}/devices/{replica.name}-{kind}-{number}" for number in range(count))
            for replica in self.replicas
        ]

    async def start_load(self):
        """Starts all but the flood of reads, when the issued commands no longer count. Returns the time."""
        await asyncio.sleep(self.quota.period + 0.5)
        rate = self.quota.rate
        self.load.measure_lateness()
        self.load.waits(WAITER, self.awaited)
        self.load.cancels(CONSOLE, rate * CANCEL_SHARE, DEADLINE, self.cancelled)
        self.load.reads(MODEST, rate * READ_SHARE, DEADLINE)
        return time.time()

    async def stop_load(self, report):
        await self.load.stop()
        report.lateness = self.load.lateness
        report.figure(f"maximum lateness of a tick of {TICK * 1000:.0f} ms", f"{report.lateness * 1000:.0f} ms")

    def flood_reads(self):
        self.load.reads(FLOODER, self.quota.rate * OVERLOAD, DEADLINE)


def replica_of(call):
    """The name of the replica that sent a call of the emulator's log. The device has it."""
    return "-".join(call["name"].split("/")[3].split("-")[:2])


def max_in_window(times, length):
    """The maximum number of times in any window."""
    window, most = collections.deque(), 0
    for each in times:
        window.append(each)
        while window[0] <= each - length:
            window.popleft()
        most = max(most, len(window))
    return most


def per_second(times, start, end):
    """The number of times in each whole second."""
    counts = collections.Counter(int(each - start) for each in times)
    return [counts[second] for second in range(int(end - start))]


def check_cancels(report, what, cancels):
    report.equal(f"{what}: answers to cancels", {(call.code, call.reason) for call in cancels}, {("OK", None)})
    latencies = [call.latency for call in cancels]
    p99 = percentile(latencies, 0.99)
    figure = f"{p99:.3f} s, median {statistics.median(latencies):.3f} s, {len(latencies)} cancels"
    report.check(f"{what}: p99 of cancels below 1 s", p99 < 1, figure, Kind.TIMING)


def check_modest_reads(report, what, reads):
    report.equal(f"{what}: answers to a modest caller", {(call.code, call.reason) for call in reads}, {ABSENT})
    report.figure(f"{what}: median of its reads", f"{statistics.median(call.latency for call in reads):.3f} s")


def check_pacing(report, fleet, start, end, limit):
    """Checks that no query was refused, and that the rate was used."""
    quota = fleet.quota
    calls = fleet.emulator.calls(start, end)
    report.equal("refusals by the emulator", sum(call["status"] == 429 for call in calls), 0, Kind.REPEATED)
    most = max_in_window([call["time"] for call in calls], quota.period)
    # The emulator counts a query when it arrives, so a query above the limit is also a refusal.
    report.check(f"queries in any {quota.period} s at most {limit}", most <= limit, most, Kind.REPEATED)
    return calls


def check_use(report, what, fleet, calls, start, end):
    count = sum(start <= call["time"] < end for call in calls)
    use = count / (fleet.quota.rate * (end - start))
    figure = f"{use:.2%}, {count} queries in {end - start:.1f} s"
    report.check(f"{what}: at least 98 % of the paced rate", use >= 0.98, figure, Kind.TIMING)


async def overload(report, fleet, seconds):
    """Runs the load, and checks the pacing, the cancels and the callers' shares. Returns the queries."""
    start = await fleet.start_load()
    await asyncio.sleep(seconds / 2)
    middle = time.time()
    fleet.flood_reads()
    await asyncio.sleep(seconds / 2)
    end = time.time()
    up = [replica.metric("countermand_quota_shared_up") for replica in fleet.replicas]
    counts = [replica.metric("countermand_quota_replicas") for replica in fleet.replicas]
    if fleet.valkey:
        report.equal("countermand_quota_shared_up", set(up), {1}, Kind.REPEATED)
        report.equal("countermand_quota_replicas", set(counts), {len(fleet.replicas)}, Kind.REPEATED)
    await fleet.stop_load(report)

    calls = check_pacing(report, fleet, start, end, fleet.quota.limit)
    # Calls that end after the load are not recorded.
    for what, first, last in [("polls", start, middle), ("polls and reads", middle, end - DEADLINE)]:
        check_cancels(report, what, fleet.load.ended("CancelOperation", CONSOLE, first, last))
        check_modest_reads(report, what, fleet.load.ended("GetOperation", MODEST, first, last))
    check_use(report, "polls", fleet, calls, start + START_SECONDS, middle)
    check_use(report, "polls and reads", fleet, calls, middle + START_SECONDS, end)
    flood = fleet.load.ended("GetOperation", FLOODER, middle, end)
    codes = collections.Counter((call.code, call.reason) for call in flood)
    report.figure("answers to the flooding caller", dict(codes))
    late = codes.pop(LATE, 0) / len(flood)
    report.check("at most 2 % of them late", late <= 0.02, f"{late:.1%}", Kind.TIMING)
    # Google's refusals would have the reason RATE_LIMIT_EXCEEDED.
    report.equal("kinds of the others", set(codes), {ABSENT, ("RESOURCE_EXHAUSTED", "QUOTA_BUDGET")})
    return calls


async def local(report, program, processes, quota, seconds):
    fleet = Fleet(program, processes, quota, 1, quota.limit)
    await overload(report, fleet, seconds)


async def shared(report, program, processes, quota, seconds):
    fleet = Fleet(program, processes, quota, REPLICAS, quota.limit, Valkey(processes))
    calls = await overload(report, fleet, seconds)
    queries = collections.Counter(map(replica_of, calls))
    shares = {replica.name: queries[replica.name] / len(calls) for replica in fleet.replicas}
    figure = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    report.check("each replica has at least 20 % of the queries", min(shares.values()) >= 0.2, figure)


class Watch:
    """Samples the health of the replicas, and whether each uses the shared store."""

    def __init__(self, fleet):
        self.fleet, self.health, self.up = fleet, collections.Counter(), []

    async def run(self):
        checks = [
            channel.unary_unary("/grpc.health.v1.Health/Check", lambda _: b"", lambda message: message)
            for channel in self.fleet.load.channels
        ]
        while True:
            for replica, check in zip(self.fleet.replicas, checks):
                # A HealthCheckResponse with the status SERVING.
                self.health[await check(None, timeout=5) == b"\x08\x01"] += 1
                up = await asyncio.to_thread(replica.metric, "countermand_quota_shared_up")
                self.up.append((time.time(), replica.name, up))
            await asyncio.sleep(0.2)

    def changes(self, name):
        """The values of a replica, without repetitions."""
        return [value for value, _ in itertools.groupby(up for _, replica, up in self.up if replica == name)]

    def delay(self, name, value, since):
        """The time from `since` until a replica has a value. Infinite if it never has."""
        seen = (at for at, replica, up in self.up if replica == name and at >= since and up == value)
        return next(seen, math.inf) - since


async def faults(report, program, processes, quota, seconds):
    """Valkey is killed, restarted with an empty store, stopped, and continued, at equal distances."""
    valkey = Valkey(processes)
    # Google's quota leaves a margin of one burst here, because a restarted Valkey has forgotten the queries.
    limit = quota.limit + quota.burst
    fleet = Fleet(program, processes, quota, REPLICAS, limit, valkey)
    watch = Watch(fleet)
    start = await fleet.start_load()
    fleet.flood_reads()
    watching = fleet.load.spawn(watch.run())
    times = []
    steps = [
        valkey.process.kill,
        valkey.start,
        lambda: valkey.process.send_signal(signal.SIGSTOP),
        lambda: valkey.process.send_signal(signal.SIGCONT),
    ]
    for step in steps:
        await asyncio.sleep(seconds / 5)
        times.append(time.time())
        await asyncio.to_thread(step)
    await asyncio.sleep(seconds / 5)
    end = time.time()
    if watching.done():
        watching.result()
    await fleet.stop_load(report)

    calls = check_pacing(report, fleet, start, end, limit)
    report.equal("health checks that were not SERVING", watch.health[False], 0)
    for replica in fleet.replicas:
        values = watch.changes(replica.name)
        # A stall may take a replica away once more.
        holds = len(values) >= 5 and values == [1, 0] * (len(values) // 2) + [1]
        report.check(f"countermand_quota_shared_up of {replica.name}", holds, values, Kind.TIMING)
        limits = [AWAY_SECONDS, RETURN_SECONDS] * 2
        delays = [watch.delay(replica.name, value, at) for value, at in zip([0, 1] * 2, times)]
        holds = all(delay <= most for delay, most in zip(delays, limits))
        figure = ", ".join(f"{delay:.1f} s" for delay in delays)
        what = f"{replica.name}: away within {AWAY_SECONDS} s, back within {RETURN_SECONDS} s"
        report.check(what, holds, figure, Kind.TIMING)
    last = end - DEADLINE
    check_cancels(report, "during the faults", fleet.load.ended("CancelOperation", CONSOLE, start, last))
    check_modest_reads(report, "during the faults", fleet.load.ended("GetOperation", MODEST, start, last))
    counts = per_second([call["time"] for call in calls], start, end)[int(START_SECONDS) :]
    least = min(counts) / quota.rate
    report.check("at least half of the rate in each second", least >= 0.5, f"{least:.0%}, {counts}", Kind.TIMING)
    use = sum(counts) / len(counts) / quota.rate
    report.figure("use of the paced rate", f"{use:.2%}")


def run_once(label, name, program, quota, seconds):
    """Runs a scenario with its own servers. Returns the report."""
    report = Report(label)
    scenario = {"local": local, "shared": shared, "faults": faults}[name]
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        processes = Processes(pathlib.Path(directory))
        stack.callback(processes.end_all)
        try:
            asyncio.run(scenario(report, program, processes, quota, seconds))
        except BaseException:
            processes.show_logs()
            raise
        for each, process in processes.running:
            # Valkey is killed in one scenario.
            if each != "valkey":
                report.equal(f"{each} runs", process.poll(), None)
        if report.failed:
            processes.show_logs()
    return report


def run(name, *arguments):
    """Runs a scenario, and repeats it if no hard check failed. Returns the number of failed checks."""
    first = run_once(name, name, *arguments)
    if not first.failed or first.failed[Kind.HARD]:
        return first.failed.total()
    print(f"{SCRIPT}: {name}: repeated", flush=True)
    second = run_once(f"{name}, again", name, *arguments)
    stall = min(first.lateness, second.lateness)
    if second.failed[Kind.TIMING] and stall > STALL:
        count = second.failed.pop(Kind.TIMING)
        print(f"{SCRIPT}: SKIPPED: {name}: {count} checks of times: the machine stalls for {stall:.3f} s", flush=True)
    return second.failed.total()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("scenarios", nargs="*", default=["local", "shared", "faults"], metavar="scenario")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--burst", type=int, default=60)
    parser.add_argument("--period", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=54)
    arguments = parser.parse_intermixed_args()
    # As an exception, so that the processes end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    quota = Quota(arguments.limit, arguments.burst, arguments.period)
    program = arguments.program.resolve()
    failed = sum(run(name, program, quota, arguments.seconds) for name in arguments.scenarios)
    print(f"{SCRIPT}: {time.monotonic() - started:.0f} s")
    raise SystemExit(f"{SCRIPT}: {failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
