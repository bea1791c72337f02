"""What tables of figures share: on which machine they were taken, and how they get into a page."""

import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.+)$", file.read(), re.M)
    rustc = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[1]
    kernel = ".".join(platform.release().split(".")[:2])
    processor = model.group(1) if model else platform.machine()
    return f"{processor}, Linux {re.match(r'[0-9.]+', kernel).group()}, Rust {rustc}"


def write_between_marks(page, name, text):
    """Puts a text into a page (a path), in place of what stands between its two lines that bear this name."""
    begin, end = (f"<!-- {name}: {edge} -->\n" for edge in ("begin", "end"))
    before, found_begin, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no lines {begin.strip()!r} and {end.strip()!r}")
    page.write_text(before + begin + text + end + after)
