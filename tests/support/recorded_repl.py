"""A stand-in for Lean's REPL that answers from a recording, and keeps a list of what it was asked."""

import json
import sys


def main(recording: str, log: str) -> None:
    """Read requests from standard input, separated by blank lines, until one has no recorded answer."""
    with open(recording, encoding="utf-8") as file:
        exchanges = json.load(file)
    lines: list[str] = []
    for line in sys.stdin:
        if line.strip():
            lines.append(line)
            continue
        request = json.loads("".join(lines))
        lines.clear()
        with open(log, "a", encoding="utf-8") as file:
            print(json.dumps(request), file=file)
        answer = next((one["answer"] for one in exchanges if one["request"] == request), "death")
        if answer == "death":
            sys.exit(1)
        if answer != "silence":
            print(answer if isinstance(answer, str) else json.dumps(answer), end="\n\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
