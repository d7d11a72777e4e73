"""Elements of a drawing for the page; what they hold is escaped when they become text."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

Node = Tree.Element


def node(tag: str, *children: Node, text: str | None = None, **attributes: object) -> Node:
    """An element; `_` in an attribute's name stands for `-`, and a trailing one for nothing.

    Example:
        >>> as_text(node("text", text="<b>", x=1, text_anchor="end", class_="name"))
        '<text x="1" text-anchor="end" class="name">&lt;b&gt;</text>'
    """
    named = {name.rstrip("_").replace("_", "-"): _value(value) for name, value in attributes.items()}
    made = Tree.Element(tag, named)
    made.text = text
    made.extend(children)
    return made


def drawing(width: float, height: float, alt: str, *children: Node) -> Node:
    """An SVG of this size with words for who cannot see it."""
    return node("svg", node("title", text=alt), *children, viewBox=f"0 0 {width:g} {height:g}", role="img")


def wide_drawing(height: float, alt: str, *children: Node) -> Node:
    """An SVG as wide as its place, its letters and marks of their own size; places are per cent of its width.

    Example:
        >>> as_text(wide_drawing(9, "dot", node("circle", cx="50%", r=4)))
        '<svg width="100%" height="9" role="img"><title>dot</title><circle cx="50%" r="4"></circle></svg>'
    """
    return node("svg", node("title", text=alt), *children, width="100%", height=height, role="img")


def as_text(made: Node) -> str:
    """The element as HTML."""
    return Tree.tostring(made, encoding="unicode", method="html")


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
