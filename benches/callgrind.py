"""Reads callgrind's output: instructions and calls, function by function."""

import re

_NAME = re.compile(r"(fn|cfn)=\((\d+)\)(?: (.*))?")


class Profile:
    """Returns the instructions spent in each function itself, and how often each was called."""

    def __init__(self, spent, called):
        self.spent = spent
        self.called = called

    @staticmethod
    def read(path):
        names, spent, called = {}, {}, {}
        function = callee = None
        calls = 0  # The next line of cost belongs to this call: to the callee, not to the function.
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                line = line.rstrip("\n")
                if match := _NAME.fullmatch(line):
                    kind, number, name = match.groups()
                    if name:
                        # A recursive function has a name for each level.
                        names[number] = re.sub(r"'\d+$", "", name)
                    if kind == "fn":
                        function = names[number]
                    else:
                        callee = names[number]
                elif line.startswith("calls="):
                    calls = int(line.removeprefix("calls=").split()[0])
                elif function and re.match(r"[+\-*\d]", line):
                    if calls:
                        called[callee] = called.get(callee, 0) + calls
                        calls = 0
                    else:
                        spent[function] = spent.get(function, 0) + int(line.split()[1])
        return Profile(spent, called)

    def __sub__(self, other):
        return Profile(_minus(self.spent, other.spent), _minus(self.called, other.called))

    def __truediv__(self, count):
        return Profile(*({name: n / count for name, n in some.items()} for some in (self.spent, self.called)))

    def instructions(self):
        return sum(self.spent.values())

    def calls(self, pattern):
        return sum(count for name, count in self.called.items() if pattern.fullmatch(name))

    def table(self, least=0.5):
        """Returns a table of the most expensive functions, with the number of their calls."""
        rows = sorted(self.spent.items(), key=lambda row: -row[1])
        shown = [f"{n:10.1f} {self.called.get(name, 0):8.2f}  {name}" for name, n in rows if n >= least]
        return "\n".join([f"{'instructions':>10} {'calls':>6}  function", *shown])


def _minus(left, right):
    return {name: left.get(name, 0) - right.get(name, 0) for name in {*left, *right}}
