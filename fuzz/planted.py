#!/usr/bin/env python3
"""Plants a bug in what each target tests, and sees the target find it: a target that finds nothing proves nothing.

    python3 fuzz/planted.py             all, some minutes
    python3 fuzz/planted.py proxy       those of this target
    python3 fuzz/planted.py --stand     only sees that the source of each is still there

Works on a copy of the tree in a scratch folder. A bug counts as found if an input fails within EXECUTIONS executions, from
a seed that does not change.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
from seeded_bugs import seed_bug  # noqa: E402

# The loop's programs take longer than parsers, and TLS a handshake.
EXECUTIONS = {"event_loop": 100_000, "tls": 20_000}
OF_PARSERS = 20_000_000

BUGS = [
    ("proxy", "src/proxy/header.rs", "if length < family.address_bytes() {", "if false {"),
    ("proxy", "src/proxy/header.rs", "let before = &whole[..whole.len() - after.len() - value.len()];",
     "let before = &whole[..whole.len() - after.len() - value.len() - 1];"),
    ("proxy", "src/proxy/header.rs", "words.next().is_none().then_some(Some(ends))", "Some(Some(ends))"),
    ("lines", "src/framing/lines.rs", "data.len() - usize::from(self.ending == LineEnding::CrLf && data.ends_with(b\"\\r\"))",
     "data.len()"),
    ("lines", "src/framing/lines.rs", "(bytes <= self.bytes_max()).then_some", "(bytes <= self.bytes_max() + 1).then_some"),
    ("telnet", "src/framing/telnet.rs", "_ => data[at - 1] == b'\\r',", "_ => false,"),
    ("frames", "src/framing/delimited.rs", "(window + 1).saturating_sub(delimiter_bytes).max(scanned)", "window.max(scanned)"),
    ("endpoint", "src/endpoint.rs", "                        if path.starts_with(b\"@\") {", "                        if false {"),
    ("resp", "examples/resp/request.rs", "if data.len() < end + 2 {", "if data.len() < end + 1 {"),
    ("http", "examples/http/head.rs", "*first == byte && !word.is_empty()", "*first == byte"),
    ("http", "examples/http/scan.rs", "(below | is_del) & !word &", "(below | is_del) &"),
    ("http", "examples/http/request.rs", "&data[searched.saturating_sub(2)..]", "&data[*searched..]"),
    ("chunks", "examples/http/chunks.rs", "(Escaped, _) => Some(Quoted),", "(Escaped, _) => Some(QuotedEnd),"),
    ("chunks", "examples/http/chunks.rs", "State::DataEnd => (byte == b'\\r')", "State::DataEnd => (byte != b'\\n')"),
    ("fetch_head", "companions/fetch/src/head.rs", "let begin = searched.saturating_sub(2);", "let begin = searched.saturating_sub(0);"),
    ("smtp", "examples/smtp/session.rs", "let line = line.strip_prefix(b\".\").unwrap_or(line);", ""),
    ("mqtt", "tests/outsider/examples/mqtt_broker/packets.rs", "if data.len() < 2 + more { 2 + more } else { end }", "end"),
    ("mqtt", "tests/outsider/examples/mqtt_broker/packets.rs", "    while length >= 0x80 {", "    while length > 0x80 {"),
    ("mqtt", "tests/outsider/examples/mqtt_broker/packets.rs", "(Some(\"#\"), _) | (None, None) => return true,",
     "(Some(\"#\"), Some(_)) | (None, None) => return true,"),
    ("service", "src/service/environment.rs", "        0 | u64::MAX => Err(", "        0 => Err("),
    ("service", "src/service/environment.rs", ".replace('%', \"%25\")", ""),
    ("service", "src/service/environment.rs", "variables(\"LISTEN_FDNAMES\").filter(|_| stated > 0)", "variables(\"LISTEN_FDNAMES\")"),
    ("tls", "src/filter/chain.rs", "        input.clear();\n        input.trim();\n        count", "        input.trim();\n        count"),
    ("event_loop", "src/sys/sim/links.rs", "at.max(last)", "at.max(last.min(at))"),
    ("event_loop", "src/event_loop/parts.rs", "            self.carry_over(id);\n        }\n    }\n\n    pub(crate) fn set_protocol(",
     "        }\n    }\n\n    pub(crate) fn set_protocol("),
]


def find(tree, target_folder, name):
    driver = ["cargo", "run", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", str(target_folder)]
    build = subprocess.run([*driver[:1], "build", *driver[2:]], cwd=tree, capture_output=True, text=True)
    if build.returncode != 0:
        return "does not compile", build.stderr
    command = [*driver, "--", "--executions", str(EXECUTIONS.get(name, OF_PARSERS)), "--seed", "1", name]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=1800)
    if run.returncode == 0:
        return "NOT FOUND", run.stdout
    executions = re.search(rf"^{name} +(\d+) executions", run.stdout, re.MULTILINE)
    return f"found after {executions[1]} executions" if executions else "found in the corpus", ""


def main():
    if sys.argv[1:] == ["--stand"]:
        out_of_date = [f"{path}: {source!r}" for _, path, source, _ in BUGS if (ROOT / path).read_text().count(source) != 1]
        without = {folder.name for folder in (ROOT / "fuzz/corpus").iterdir()} - {name for name, *_ in BUGS}
        out_of_date += [f"nothing is planted for {name}" for name in sorted(without)]
        print("\n".join(out_of_date) or f"all {len(BUGS)} stand")
        sys.exit(len(out_of_date) > 0)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("target", ".git", "__pycache__", "artifacts"))
        for name, path, source, bug in BUGS:
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            texts, outcome = seed_bug(tree, [(path, source, bug)])
            output = ""
            if texts is not None:
                outcome, output = find(tree, pathlib.Path(scratch, "target"), name)
                for file, text in texts.items():
                    file.write_text(text)
            good = outcome.startswith("found")
            failed += not good
            print(f"{'ok' if good else 'FAILED'}: {name}: {source.strip()[:60]!r}: {outcome}", flush=True)
            if not good:
                print(output[-2000:])
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
