"""Messages for the command line: on one line, with options in place of Python's arguments."""

from __future__ import annotations

import re

#: Arguments of Python in messages, and what does the same here.
_OPTIONS = (
    (re.compile(r"(?:,? *)?\b(sep|decimal|thousands|encoding)=('[^']*')"), lambda m: f" --{m[1]} {m[2]}"),
    (re.compile(r" *\bna_values=\[([^\]]*)\]"), lambda m: "".join(f" --na {t.strip()}" for t in m[1].split(","))),
    (re.compile(r"; a variable of your own goes in context=\{.*?\}"), lambda m: ""),
)


def for_shell(text: str) -> str:
    """Return a message with options of the command in place of Python's arguments.

    >>> for_shell("the numbers have a decimal comma; read the file again with decimal=','")
    "the numbers have a decimal comma; read the file again with --decimal ','"
    >>> for_shell("read the file again with na_values=['n/d', 'absent']")
    "read the file again with --na 'n/d' --na 'absent'"
    """
    for pattern, option in _OPTIONS:
        text = pattern.sub(option, text)
    return text


def one_line(message: str) -> str:
    """Return a message on one line; a caret below a formula becomes an arrow inside it."""
    lines = message.splitlines()
    if len(lines) >= 2 and lines[-1].strip("^ ") == "" and "^" in lines[-1]:
        at = lines.pop().index("^")
        lines[-1] = f"{lines[-1][:at]}-->{lines[-1][at:]}"
    return " ".join(" ".join(lines).split())
