#!/usr/bin/env python3
"""Tests deploy/prometheus/alerts.yaml with promtool: syntax, and when each alert fires.

    alerts.py

A healthy hour fires nothing. In each case, one kind of trouble begins after half an hour, and exactly the named alerts
fire. Each alert needs a case, and a section in docs/OPERATING.md.
"""

import pathlib
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK = "docs/OPERATING.md"
# Four samples a minute; the trouble begins with sample 120.
INTERVAL, BEFORE = "15s", 120
LABELS = 'job="countermand", namespace="mdm", instance="a:9465"'
HOUR, WEEK = 3600, 7 * 86400


def steady(value, count=BEFORE):
    return f"{value}x{count - 1}"


def then(first, second):
    """The value `first`, and `second` from the trouble on."""
    return f"{steady(first)} {steady(second, 2 * BEFORE)}"


def rising(before, after=None, start=0):
    """A counter that rises by `before` in each interval, and by `after` from the trouble on."""
    after = before if after is None else after
    at = start + before * (BEFORE - 1)
    return f"{start}+{before}x{BEFORE - 1} {at + after}+{after}x{2 * BEFORE}"


def series(name, **labels):
    rest = "".join(f', {key}="{value}"' for key, value in labels.items())
    return f"{name}{{{LABELS}{rest}}}"


def calls(code, error=""):
    return series(
        "rpc_server_call_duration_seconds_count",
        rpc_system_name="grpc",
        rpc_response_status_code=code,
        error_type=error,
    )


def waits(code):
    return series("countermand_wait_duration_seconds_count", rpc_response_status_code=code)


def requests(status, error=""):
    return series("http_client_request_duration_seconds_count", http_response_status_code=status, error_type=error)


def bucket(le):
    return series("http_client_request_duration_seconds_bucket", le=le)


def errors(reason):
    return series("countermand_errors_total", reason=reason)


def queries(kind, decision):
    labels = {"class": kind, "decision": decision}
    return series("countermand_quota_queries_total", project="mdm-emea", **labels)


def refreshes(outcome):
    return series("countermand_token_refreshes_total", credential="emea", outcome=outcome)


UP, READY = series("up"), series("countermand_ready")
USABLE = series("countermand_credential_usable", credential="emea")
FETCHED = series("countermand_token_fetched_timestamp_seconds", credential="emea")
EXPIRY = series("countermand_token_expiry_timestamp_seconds", credential="emea")
BUDGET = series("countermand_retry_budget_exhausted_total")
AUDIT = series("countermand_audit_write_failures_total")
RELOAD = series("countermand_reload_failing", kind="policy")
CERTIFICATE = series("countermand_certificate_expiry_timestamp_seconds", certificate="server")
PROJECT = {"project": "mdm-emea"}
ALLOWED, SHADOW = series("countermand_quota_rate", **PROJECT), series("countermand_quota_shadow", **PROJECT)
GOOGLE_REFUSED = series("countermand_quota_google_refusals_total", **PROJECT)
REPLICAS, STORE = series("countermand_quota_replicas", **PROJECT), series("countermand_quota_shared_up")
REFUSED = series("countermand_connections_refused_total", reason="max_connections")
OPEN, MOST = series("process_open_fds"), series("process_max_fds")
TRIGGERED = series("countermand_guard_triggered_total")
DENY = series("countermand_policy_decisions_total", action="cancel", decision="deny")
ALLOW = series("countermand_policy_decisions_total", action="cancel", decision="allow")

HEALTHY = {
    UP: steady(1, 3 * BEFORE),
    READY: steady(1, 3 * BEFORE),
    USABLE: steady(1, 3 * BEFORE),
    # A token every 55 minutes: the one of second 0 is replaced at minute 55.
    FETCHED: f"0x219 3300x{BEFORE}",
    EXPIRY: f"3600x219 6900x{BEFORE}",
    refreshes("success"): f"1x219 2x{BEFORE}",
    refreshes("failure"): steady(0, 3 * BEFORE),
    # A hundred calls a second. Of a hundred, one is denied, and one fails.
    calls("OK"): rising(1500),
    calls("NOT_FOUND"): rising(300),
    calls("UNIMPLEMENTED", "UNIMPLEMENTED"): rising(300),
    calls("UNAVAILABLE", "UNAVAILABLE"): rising(15),
    calls("RESOURCE_EXHAUSTED"): rising(6),
    # A wait that is cut off by its caller is normal.
    waits("OK"): rising(150),
    waits("CANCELLED"): rising(150),
    waits("UNAVAILABLE"): rising(0),
    waits("RESOURCE_EXHAUSTED"): rising(0),
    requests("200"): rising(1500),
    requests("404", "404"): rising(300),
    requests("_OTHER", ""): rising(0),
    requests("_OTHER", "4xx"): rising(0),
    requests("503", "503"): rising(15),
    bucket("0.25"): rising(1790),
    bucket("2.5"): rising(1800),
    bucket("5"): rising(1815),
    bucket("+Inf"): rising(1815),
    errors("UPSTREAM_CREDENTIAL_REJECTED"): rising(0),
    errors("OVERLOADED"): rising(0),
    errors("AUDIT_UNAVAILABLE"): rising(0),
    errors("INVALID_NAME"): rising(15),
    BUDGET: rising(0),
    AUDIT: rising(0),
    RELOAD: steady(0, 3 * BEFORE),
    CERTIFICATE: steady(30 * 86400, 3 * BEFORE),
    REFUSED: rising(0),
    # Eight queries a second of 9.5. A poll that is refused is normal.
    ALLOWED: steady(9.5, 3 * BEFORE),
    SHADOW: steady(0, 3 * BEFORE),
    queries("cancel", "refused"): rising(0),
    queries("read", "immediate"): rising(105),
    queries("read", "refused"): rising(0),
    queries("poll", "delayed"): rising(15),
    queries("poll", "refused"): rising(1),
    GOOGLE_REFUSED: rising(0),
    OPEN: steady(500, 3 * BEFORE),
    MOST: steady(65536, 3 * BEFORE),
    ALLOW: rising(1500),
    DENY: rising(15),
    TRIGGERED: rising(0),
}

# Three replicas share the budget. The queries are those of one.
SHARED = {ALLOWED: steady(28.5, 3 * BEFORE), REPLICAS: steady(3, 3 * BEFORE), STORE: steady(1, 3 * BEFORE)}

# The alert, the series that change or that are absent (None), and the minute of the hour in which the alert must fire.
CASES = [
    ("CountermandDown", {UP: then(1, 0)}, 33),
    # The last instance vanishes from service discovery.
    ("CountermandDown", dict.fromkeys(HEALTHY) | {UP: steady(1)}, 40),
    ("CountermandNotReady", {READY: then(1, 0)}, 33),
    ("CountermandHighErrorRatio", {calls("UNAVAILABLE", "UNAVAILABLE"): rising(15, 300)}, 42),
    ("CountermandHighErrorRatio", {waits("UNAVAILABLE"): rising(0, 300)}, 42),
    # Only waits are called, and all fail.
    (
        "CountermandHighErrorRatio",
        {each: None for each in HEALTHY if "call_duration" in each}
        | {waits("OK"): None, waits("CANCELLED"): None, waits("UNAVAILABLE"): rising(0, 1)},
        42,
    ),
    ("CountermandCredentialFailing", {refreshes("failure"): rising(0, 1)}, 32),
    ("CountermandTokenExpiring", {FETCHED: "0x239", EXPIRY: "3600x239"}, 58),
    ("CountermandCredentialUnusable", {USABLE: then(1, 0)}, 32),
    ("CountermandCredentialRejected", {errors("UPSTREAM_CREDENTIAL_REJECTED"): rising(0, 1)}, 33),
    ("CountermandQuotaExhausted", {calls("RESOURCE_EXHAUSTED"): rising(6, 150)}, 34),
    ("CountermandQuotaExhausted", {waits("RESOURCE_EXHAUSTED"): rising(0, 150)}, 34),
    ("CountermandQuotaNearlySpent", {queries("poll", "delayed"): rising(15, 30)}, 46),
    ("CountermandQuotaNearlySpent", {ALLOWED: then(9.5, 6.65)}, 46),
    # One of three replicas sends more than its part.
    ("CountermandQuotaNearlySpent", SHARED | {queries("read", "immediate"): rising(105, 120)}, 46),
    ("CountermandQuotaRefusesCalls", {queries("read", "refused"): rising(0, 1)}, 34),
    ("CountermandQuotaRefusesCalls", {queries("cancel", "refused"): rising(0, 1)}, 34),
    ("CountermandQuotaShadowRefuses", {queries("read", "refused"): rising(0, 1), SHADOW: steady(1, 3 * BEFORE)}, 34),
    ("CountermandGoogleRefusesPacedQueries", {GOOGLE_REFUSED: f"0x{BEFORE - 1} 1x{2 * BEFORE}"}, 32),
    # Each of three replicas that cannot reach the store has a third of the rate.
    ("CountermandQuotaStoreAway", SHARED | {STORE: then(1, 0), ALLOWED: then(28.5, 9.5)}, 46),
    ("CountermandUpstreamErrors", {requests("503", "503"): rising(15, 500)}, 41),
    ("CountermandUpstreamErrors", {requests("", "timeout"): rising(0, 500)}, 41),
    ("CountermandUpstreamSlow", {bucket("0.25"): rising(1790, 900), bucket("2.5"): rising(1800, 1000)}, 45),
    ("CountermandRetryBudgetExhausted", {BUDGET: rising(0, 5)}, 34),
    ("CountermandOverloaded", {errors("OVERLOADED"): rising(0, 5)}, 34),
    ("CountermandAuditFailing", {AUDIT: rising(0, 5)}, 33),
    ("CountermandAuditFailing", {errors("AUDIT_UNAVAILABLE"): rising(0, 5)}, 33),
    ("CountermandReloadFailing", {RELOAD: then(0, 1)}, 36),
    ("CountermandCertificateExpiring", {CERTIFICATE: then(30 * 86400, WEEK)}, 41),
    ("CountermandConnectionsRefused", {REFUSED: rising(0, 1)}, 34),
    ("CountermandDescriptorsNearLimit", {OPEN: then(500, 60000)}, 36),
    # One report is shown for a quarter of an hour.
    ("CountermandManyPendingWipes", {TRIGGERED: then(0, 1)}, 31),
    ("CountermandManyPendingWipes", {TRIGGERED: then(0, 1)}, 44),
    ("CountermandPolicyDenialsSurge", {DENY: rising(0, 150)}, 42),
    (None, {TRIGGERED: then(0, 1)}, 46),
    # Trouble that has no alert, because a retry or a caller corrects it.
    (None, {refreshes("failure"): f"0x120 1x{BEFORE}", refreshes("success"): f"1x121 2x{BEFORE}"}, 34),
    (None, {DENY: rising(60, 80)}, 45),
    (None, {queries("poll", "refused"): rising(1, 100)}, 45),
    (None, {queries("read", "immediate"): rising(105, 200), ALLOWED: then(9.5, 28.5)}, 50),
    # Google refuses queries that are not paced.
    (None, {GOOGLE_REFUSED: rising(0, 1), SHADOW: steady(1, 3 * BEFORE)}, 45),
    (None, {DENY: rising(0, 1)}, 42),
    (None, {requests("_OTHER", ""): rising(0, 1000), requests("_OTHER", "4xx"): rising(0, 1000)}, 45),
    # A list over all devices needed no response.
    (None, {requests("", "abandoned"): rising(0, 1000)}, 45),
    (None, {calls("UNIMPLEMENTED", "UNIMPLEMENTED"): rising(300, 3000)}, 45),
]


def test_group(name, minute, changes, alert):
    values = HEALTHY | changes
    fired = [{"labels": f'ALERTS{{alertname="{alert}"}}', "value": 1}] if alert else []
    return {
        "name": name,
        "interval": INTERVAL,
        "input_series": [{"series": each, "values": value} for each, value in values.items() if value],
        "promql_expr_test": [
            {"expr": 'max by (__name__, alertname) (ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": exp}
            for at, exp in (("29m", []), (f"{minute}m", fired))
        ],
    }


def promtool(*arguments):
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    if result.returncode != 0:
        sys.exit(f"alerts.py: promtool {' '.join(arguments[:2])}: {result.stdout}{result.stderr}")


def check_annotations(rules):
    """Each alert has what an operator needs, and its section in the runbook."""
    headings = [
        line.lstrip("# ").strip().lower() for line in (ROOT / RUNBOOK).read_text().splitlines() if line.startswith("#")
    ]
    for rule in rules:
        name = rule["alert"]
        if not rule.get("for") or rule["labels"]["severity"] not in ("critical", "warning", "info"):
            sys.exit(f"alerts.py: {name}: for or severity")
        if not all(rule["annotations"].get(key) for key in ("summary", "description")):
            sys.exit(f"alerts.py: {name}: summary or description")
        if rule["annotations"]["runbook_url"] != f"{RUNBOOK}#{name.lower()}":
            sys.exit(f"alerts.py: {name}: runbook_url")
        if name.lower() not in headings:
            sys.exit(f"alerts.py: {name}: no section in {RUNBOOK}")


def main():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    names = {rule["alert"] for rule in rules}
    missing = names ^ {alert for alert, _, _ in CASES if alert}
    if missing:
        sys.exit(f"alerts.py: without a case, or without a rule: {sorted(missing)}")
    promtool("check", "rules", str(RULES))
    groups = [test_group("healthy", 59, {}, None)]
    groups += [test_group(f"case {number}: {case[0]}", case[2], case[1], case[0]) for number, case in enumerate(CASES)]
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "test.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": groups}))
        promtool("test", "rules", str(file))
    print(f"alerts.py: {len(names)} alerts, {len(CASES)} cases")
    check_annotations(rules)


if __name__ == "__main__":
    main()
