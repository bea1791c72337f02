"""Computes figures from turns, and tables from figures."""

import statistics

COMMAND = "python3 benches/compare/compare.py"
NOTHING = "–"
OURS = "switchboard"
# Whose spread is shown in a table: this crate as a peer, and two of its examples.
WITH_SPREAD = (OURS, "http_server", "resp_server")


# --------------------------------------------------------------------------------------------------- figures


def row(workload, rounds, yardstick):
    """Returns a workload's figures by peer. `rounds` has the turns of each peer in each round."""
    peers = {name: figures([turns for turns in rounds if name in turns], name, yardstick) for name in rounds[0]}
    return {"name": workload.name, "label": workload.label, "unit": workload.unit, "peers": peers}


def figures(rounds, name, yardstick):
    """Returns medians over rounds; the ratio has quartiles, and is taken within each round."""
    turns = [turn for turns in rounds for turn in turns[name]]
    found = {
        "rounds": len(rounds),
        "cpu_us": statistics.median(cpu_us(turns[name]) for turns in rounds),
        "messages_per_s": statistics.median(turn["messages"] / turn["seconds"] for turn in turns),
        "p50_us": statistics.median(turn["latency_us"]["p50"] for turn in turns),
        "p99_us": statistics.median(turn["latency_us"]["p99"] for turn in turns),
    }
    ratios = [cpu_us(turns[name]) / cpu_us(turns[yardstick]) for turns in rounds if yardstick in turns]
    if ratios:
        found["ratio"] = quartiles(ratios)
    return found


def cpu_us(turns):
    """Returns the server's CPU time a message, over the turns of one round."""
    return 1e6 * sum(turn["server_cpu_s"] for turn in turns) / sum(turn["messages"] for turn in turns)


def quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


# --------------------------------------------------------------------------------------------------- in words


def number(value):
    """Formats a number with three significant digits, as many as the measurement supports."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def rate(per_s):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if per_s >= size:
            return f"{number(per_s / size)} {unit}"
    return number(per_s)


def in_words(row):
    """Returns one line for each peer, with the spread of its ratio."""
    lines = [f"{row['name']} ({row['label']}), CPU time of the server per {row['unit']}:"]
    for name, found in row["peers"].items():
        line = f"  {name:12} {number(found['cpu_us']):>8} µs"
        if "ratio" in found:
            low, middle, high = found["ratio"]
            line += f"  × {middle:.3f} ({low:.3f} to {high:.3f})"
        lines.append(f"{line}  {rate(found['messages_per_s'])}/s  p50 {number(found['p50_us'])} µs")
    return "\n".join(lines)


def columns(compared):
    """Returns the peers in the order of the columns: the yardstick first."""
    return sorted(compared["peers"], key=lambda name: name != compared["yardstick"])


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def costs(compared):
    """CPU time a message: in µs for the yardstick, as ratios to it for the others."""
    names = columns(compared)
    head = ["CPU time of the server", *(f"{name}, µs" if name == compared["yardstick"] else name for name in names)]
    rows = []
    for row in compared["workloads"]:
        label = row["label"] if row["unit"] == "message" else f"{row['label']}, per {row['unit']}"
        rows.append([label, *(cost(row["peers"].get(name), name, compared) for name in names)])
    return markdown(head, rows)


def cost(found, name, compared):
    if found is None:
        return NOTHING
    if name == compared["yardstick"] or "ratio" not in found:
        return number(found["cpu_us"])
    low, middle, high = found["ratio"]
    return f"{middle:.2f} ({low:.2f}–{high:.2f})" if name in WITH_SPREAD else f"{middle:.2f}"


def versions(compared):
    """Returns a paragraph with the versions of the peers that have one."""
    known = [f"{name} {version}" for name, version in compared.get("versions", {}).items() if version]
    return f"Versions: {', '.join(known)}.\n\n" if known else ""


def speeds(compared):
    """Latency and throughput, as the clients see them."""
    names = columns(compared)
    rows = []
    for row in compared["workloads"]:
        rows.append([row["label"], *(speed(row["peers"].get(name)) for name in names)])
    return markdown(["p50 / p99 in µs, each second", *names], rows)


def speed(found):
    if found is None:
        return NOTHING
    return f"{number(found['p50_us'])} / {number(found['p99_us'])}, {rate(found['messages_per_s'])}"


# What the front page shows: one row for each kind of load, and the peers that readers ask about.
SUMMED_UP = ("tcp-echo-50", "tcp-echo-1000", "tcp-pipelined", "tcp-connect", "fanout-1000")
ASKED_FOR = ("switchboard", "mio", "tokio", "calloop", "libuv", "go", "asyncio")


def summary(results, picture, found):
    """Returns the picture, five rows, and a sixth of the answers that were lost, as `lost.py` has found it."""
    compared = results["compared"]
    by_name = {row["name"]: row for row in compared["workloads"]}
    names = [name for name in ASKED_FOR if name in compared["peers"]]
    rows = []
    for row in (by_name[name] for name in SUMMED_UP if name in by_name):
        rows.append([row["label"], *(cost(row["peers"].get(name), name, compared) for name in names)])
    return (
        f"![CPU time of the server beside its peers, and how cost grows]({picture})\n\n"
        f"CPU time of the server, as a ratio to a loop by hand on epoll ({compared['date']}, `{COMMAND}`; medians, with"
        " quartiles for this crate):\n\n"
        f"{markdown(['', *names], [*rows, lost_row(found, names)])}\n{lost_in_words(found)}\n"
    )


def for_readme(results, picture):
    compared = results["compared"]
    widest = max(
        (found["ratio"][2] - found["ratio"][0]) / found["ratio"][1]
        for row in compared["workloads"]
        for name, found in row["peers"].items()
        if name != compared["yardstick"]
    )
    return (
        f"Measured on {compared['date']} by `{COMMAND} --rounds {compared['rounds']} --write-readme`: {compared['machine']}; the server on one core, its clients on the"
        f" other; {compared['rounds']} rounds of {compared['turns_s']:.1f} s for each, all started {compared['starts']} times.\n\n"
        f"![CPU time of the server beside its peers, and how cost grows]({picture})\n\n"
        "In microseconds of the server's CPU for a message of 64 bytes (or what the row says) for the loop by hand on"
        " epoll; for the others as a ratio to it: the median over rounds, for this crate with its quartiles. The widest"
        f" quartiles of all are {100 * widest:.0f} % apart. {NOTHING}: it cannot do that.\n\n"
        f"{costs(compared)}\n"
        f"{versions(compared)}"
        "<details><summary>Latency and throughput, as the clients see them</summary>\n\n"
        "Time from sending to the answer, median and 99th percentile in µs (in a fan-out, until a member has the lines of"
        " all), and messages, connections or delivered lines a second. All clients send again at once, so these say how"
        " fast the whole is, not how long a message takes on a server at rest.\n\n"
        f"{speeds(compared)}\n</details>\n"
    )


# -------------------------------------------------------------------------------------------------- lost answers

LOST_COMMAND = "python3 benches/compare/lost.py"
DIALECTS = {"echo": "echo", "http": "HTTP", "resp": "Redis' protocol"}
# Those whose losses the front page states in words, besides the columns of its table.
SAID = ("http", "resp")


def lost(found):
    """Returns how many answers arrived, a row for each server."""
    head = ["server", "version", *found["scenarios"].values(), "memory at the peak (at rest), MiB"]
    rows = []
    for name, server in found["servers"].items():
        scenarios = [server["scenarios"][scenario] for scenario in found["scenarios"]]
        shown = f"{DIALECTS[server['dialect']]}: {name}"
        rows.append([shown, server["version"], *map(arrived, scenarios), memory(scenarios)])
    return markdown(head, rows)


def arrived(scenario):
    shown = "all" if scenario["ended"] == "all" else f"{scenario['received']:,}, then {scenario['ended']}"
    return shown if scenario["serves"] else f"{shown}; serves nobody any more"


def memory(scenarios):
    peaks = [scenario["peak_mib"] for scenario in scenarios if scenario["peak_mib"] is not None]
    return f"{max(peaks):.1f} ({min(scenario['at_rest_mib'] for scenario in scenarios):.1f})"


def lost_of(server):
    return sum(scenario["sent"] - scenario["received"] for scenario in server["scenarios"].values())


def lost_for_readme(found):
    return f"Measured on {found['date']} by `{LOST_COMMAND} --write-readme`: {found['machine']}.\n\n{lost(found)}"


def lost_row(found, names):
    """Returns the row of the front page's table."""
    total = sum(scenario["sent"] for scenario in found["servers"][OURS]["scenarios"].values())
    counts = (f"{lost_of(found['servers'][name]):,}" if name in found["servers"] else NOTHING for name in names)
    return [f"answers lost, of {total:,}", *counts]


def lost_in_words(found):
    """Returns a paragraph of the servers that the table has no column for."""
    shares = []
    for dialect in SAID:
        for name, server in found["servers"].items():
            if server["dialect"] == dialect:
                shares.append(f"{name} {lost_of(server):,}")
    return (
        f"The last row counts the answers to {found['requests']:,} pipelined requests that did not arrive, in each of four"
        " cases: the client reads late, also ends its stream before that, reads slowly, or is beside others that reset"
        f" ({found['date']}, `{LOST_COMMAND}`). Servers of HTTP and of Redis' protocol: {', '.join(shares)}."
    )
