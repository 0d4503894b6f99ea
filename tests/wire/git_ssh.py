"""Stands for ssh in a test: notes how it is called, then runs what it was to run, on this machine.

Called by git as `ssh [options] user@host command`. What it notes goes to the file named by its first argument.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    notes, *arguments = sys.argv[1:]
    options: dict[str, str] = {}
    rest: list[str] = []
    while arguments:
        word = arguments.pop(0)
        if word == "-o":
            name, _, value = arguments.pop(0).partition("=")
            options[name] = value
        elif word in ("-F", "-p"):
            options[word] = arguments.pop(0)
        else:
            rest.append(word)
    key = Path(options["IdentityFile"])
    noted = {
        "options": options,
        "target": rest[0],
        "command": rest[1],
        "key": key.read_text(),
        "key_mode": oct(key.stat().st_mode & 0o777),
        "known_hosts": Path(options["UserKnownHostsFile"]).read_text(),
        "environment": sorted(os.environ),
    }
    with Path(notes).open("a") as file:
        file.write(json.dumps(noted) + "\n")
    os.execvp("/bin/sh", ["/bin/sh", "-c", rest[1]])


main()
