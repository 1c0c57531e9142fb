"""What an error, a warning or a message means: the text of the documentation, at the prompt."""

from __future__ import annotations

import difflib
import re
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sparselmm.exceptions import Message, ParameterError, SparseLMMError, SparseLMMWarning

PARTS = ("errors", "messages", "findings")
WIDTH = 79  # columns of a terminal
_LINK = re.compile(r"\[([^\]]+)\]\(([\w/-]+)\.md(?:#[\w-]+)?\)")


@dataclass(frozen=True, repr=False)
class Explanation:
    """What a kind of error or a message means and what to do about it; prints as text.

    Attributes
    ----------
    topic : str
        Class of the error or code of the message.
    markdown : str
        The text, with links to pages of the documentation.
    """

    topic: str
    markdown: str

    def __repr__(self) -> str:
        blocks = _without_links(self.markdown).split("\n\n")
        return "\n\n".join([self.topic, *map(_wrapped, blocks)])

    def _repr_markdown_(self) -> str:
        return f"**{self.topic}**\n\n{_without_links(self.markdown)}"


def explain(topic: str | BaseException | type | Message | None = None) -> Explanation:
    """Return what an error, a warning or a message means and what to do about it.

    Parameters
    ----------
    topic : str, exception, warning class or Message, optional
        For example ``"singular"``, ``"DesignError"``, an error that was caught, or an entry of
        ``fit.messages``. At the prompt nothing is needed after an error: the last one is explained.

    Returns
    -------
    Explanation
        The section of the documentation; it prints as text.

    Raises
    ------
    ParameterError
        When there is nothing about the topic; the text lists all topics.

    Examples
    --------
    >>> import sparselmm as slm
    >>> slm.explain("zero_weights")
    zero_weights
    <BLANKLINE>
    Rows with prior weight zero were left out; they do not count in `nobs` either.
    """
    name = _name(_last_error() if topic is None else topic)
    texts = _texts()
    if name not in texts:
        near = difflib.get_close_matches(name, texts, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(texts)}"
        raise ParameterError(f"there is nothing about {name!r}; {hint}")
    return Explanation(name, texts[name])


def _name(topic: str | BaseException | type | Message) -> str:
    """Return the heading of a topic: the nearest class that has one, or the code of a message."""
    if isinstance(topic, str):
        return topic
    if isinstance(topic, Message):
        return topic.code
    kind = topic if isinstance(topic, type) else type(topic)
    if issubclass(kind, SparseLMMWarning) and kind.topic is not None:
        return kind.topic
    return next((c.__name__ for c in kind.__mro__ if c.__name__ in _texts()), kind.__name__)


def _last_error() -> BaseException:
    """Return the error that ended the last statement at the prompt."""
    found = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(found, SparseLMMError):
        raise ParameterError(f"the last error is not one of this package; name a topic: {', '.join(_texts())}")
    return found


@cache
def _texts() -> dict[str, str]:
    """Return the sections by heading."""
    folder = files("sparselmm.report") / "explanations"
    text = "\n".join((folder / f"{part}.md").read_text(encoding="utf-8") for part in PARTS)
    sections = (section.partition("\n") for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:])
    return {heading.strip(): body.strip() for heading, _, body in sections}


def _without_links(markdown: str) -> str:
    return _LINK.sub(r"\1 (docs/\2.md)", markdown)


def _wrapped(block: str) -> str:
    """Return a paragraph or a list in lines of 79 characters."""
    items = re.split(r"\n(?=- )", block)
    return "\n".join(
        textwrap.fill(" ".join(item.split()), WIDTH, subsequent_indent="  " if item.startswith("- ") else "")
        for item in items
    )
