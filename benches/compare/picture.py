#!/usr/bin/env python3
"""Draws the results of compare.py.

    target/venv/bin/python picture.py [RESULTS.json [PICTURE.svg]]

The picture has no background, and its colours are of medium brightness, so it works on light pages and on dark ones. Text
stays text. The same results give the same file.
"""

import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402 (after the choice of what it draws with)

HERE = pathlib.Path(__file__).resolve().parent

TEXT, FAINT = "#7d8590", "#80808040"
OURS, OTHERS = "#e8590c", "#6f8fb8"
LINES = (OURS, "#3b82c4", "#2f9e6e", "#b065c9", "#b58a1b", "#7d8590")
OUR_NAME = "switchboard"
COLUMNS = 3
WIDTH_IN = 10.0
BAR_IN, PANEL_EXTRA_IN, CURVE_IN, HEAD_IN = 0.155, 0.62, 2.5, 0.45
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "compare",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def draw(results, picture):
    """Bars for each workload, and below them how cost grows."""
    compared, curves = results["compared"], results.get("grown", {}).get("curves", [])
    bars_in = BAR_IN * len(compared["peers"]) + PANEL_EXTRA_IN
    rows = [bars_in] * math.ceil(len(compared["workloads"]) / COLUMNS) + [CURVE_IN] * math.ceil(len(curves) / COLUMNS)
    with pyplot.rc_context(STYLE):
        figure = pyplot.figure(figsize=(WIDTH_IN, sum(rows) + HEAD_IN), layout="constrained")
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - HEAD_IN / figure.get_figheight()), hspace=0.02)
        head(figure, compared)
        grid = figure.add_gridspec(len(rows), COLUMNS, height_ratios=rows)
        draw_bars(figure, grid, compared)
        first = len(rows) - math.ceil(len(curves) / COLUMNS)
        for nth, curve in enumerate(curves):
            draw_curve(figure.add_subplot(grid[first + nth // COLUMNS, nth % COLUMNS]), curve)
        figure.savefig(picture, transparent=True, metadata={"Date": None}, **({"dpi": 110} if picture.suffix == ".png" else {}))
        pyplot.close(figure)


def head(figure, compared):
    yardstick = compared["peers"][compared["yardstick"]]
    figure.suptitle(f"CPU time of the server, as a ratio to {yardstick}: less is better", fontsize=11, fontweight="bold")
    taken = f"{compared['date']}, {compared['machine']}; median of {compared['rounds']} rounds, thin lines are quartiles"
    figure.text(0.5, 1 - 0.38 / figure.get_figheight(), taken, ha="center", va="center", fontsize=9)


# ------------------------------------------------------------------------------------------------------ bars


def draw_bars(figure, grid, compared):
    names = by_cost(compared)
    least, most = range_of_ratios(compared)
    for nth, row in enumerate(compared["workloads"]):
        axes = figure.add_subplot(grid[nth // COLUMNS, nth % COLUMNS])
        axes.set_title(title(row, compared["yardstick"]), loc="left")
        axes.set_xscale("log")
        axes.set_xlim(least, most)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_major_locator(ticker.FixedLocator(ticks(least, most)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g×"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.axvline(1, color=TEXT, linewidth=0.8)
        axes.tick_params(length=0)
        axes.set_yticks(range(len(names)), names if nth % COLUMNS == 0 else [""] * len(names))
        for label in axes.get_yticklabels():
            if label.get_text() == OUR_NAME:
                label.set(color=OURS, fontweight="bold")
        axes.spines[:].set_visible(False)
        for place, name in enumerate(names):
            draw_bar(axes, place, name, row["peers"].get(name), most)


def draw_bar(axes, place, name, found, most):
    if found is None or "ratio" not in found:
        axes.text(1.06, place, "cannot", va="center", fontsize=7, fontstyle="italic")
        return
    low, middle, high = found["ratio"]
    colour = OURS if name == OUR_NAME else OTHERS
    axes.barh(place, middle - 1, left=1, height=0.72, color=colour, linewidth=0)
    axes.plot([low, high], [place, place], color=TEXT, linewidth=1, solid_capstyle="butt")
    # After the bar or, if there is no room, in it.
    end = max(high, 1)
    fits = end < most / 2
    where = {"x": end * 1.06, "ha": "left", "color": TEXT} if fits else {"x": middle / 1.06, "ha": "right", "color": "white"}
    axes.text(y=place, s=f"{middle:.2f}" if middle < 9.95 else f"{middle:.1f}", va="center", fontsize=7, **where)


def title(row, yardstick):
    cost = row["peers"][yardstick]["cpu_us"] if yardstick in row["peers"] else None
    figures = f"{cost:.3g} µs" if cost is not None else ""
    unit = "" if row["unit"] == "message" else f" per {row['unit']}"
    return f"{row['label']}\n1× = {figures}{unit}"


def by_cost(compared):
    """Returns the peers, beginning with the cheapest overall; the yardstick is the line at 1 and needs no bar."""

    def whole(name):
        ratios = [row["peers"][name]["ratio"][1] for row in compared["workloads"] if "ratio" in row["peers"].get(name, {})]
        return math.prod(ratios) ** (1 / len(ratios)) if ratios else math.inf

    return sorted((name for name in compared["peers"] if name != compared["yardstick"]), key=whole)


def range_of_ratios(compared):
    ratios = [found["ratio"] for row in compared["workloads"] for found in row["peers"].values() if "ratio" in found]
    return min(0.45, *(ratio[0] for ratio in ratios)) / 1.1, max(4.0, *(ratio[2] for ratio in ratios)) * 1.6


def ticks(least, most):
    return [value for value in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000) if least < value < most]


# ---------------------------------------------------------------------------------------------------- curves


def draw_curve(axes, curve):
    axes.set_title(curve["title"], loc="left")
    axes.set_xlabel(curve["x_label"])
    axes.set_ylabel(curve["y_label"])
    xs = sorted({x for series in curve["series"] for x in series["xs"]})
    if wide(xs):
        # Most curves begin at 0.
        axes.set_xscale("symlog", linthresh=min(x for x in xs if x > 0))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    shown = apart(xs) if wide(xs) else xs[:12]
    axes.set_xticks(shown, [short(x) for x in shown])
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: short(y)))
    for series, colour in zip(curve["series"], LINES * len(curve["series"])):
        axes.plot(series["xs"], series["ys"], color=colour, marker="o", markersize=3.5, linewidth=1.6, label=series["name"])
    axes.set_ylim(0, 1.25 * max(y for series in curve["series"] for y in series["ys"]))
    axes.grid(color=FAINT, linewidth=0.5)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curve["series"]) > 1:
        axes.legend(frameon=False, labelcolor=TEXT, fontsize=7.5)


def wide(xs):
    above = [x for x in xs if x > 0]
    return len(above) > 1 and max(above) / min(above) >= 50


def apart(xs):
    """Returns those that have room for a label on a logarithmic scale."""
    shown = []
    for x in xs:
        if not shown or shown[-1] == 0 or x >= 4 * shown[-1]:
            shown.append(x)
    return shown


def short(x):
    for size, unit in ((1_000_000, " M"), (1_000, " k")):
        if x >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def main():
    given = [pathlib.Path(argument) for argument in sys.argv[1:]]
    results = given[0] if given else HERE / "results.json"
    picture = given[1] if len(given) > 1 else HERE.parent / "compared.svg"
    draw(json.loads(results.read_text()), picture)
    print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
