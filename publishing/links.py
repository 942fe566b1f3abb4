"""Finds dead links in a folder of HTML pages: to pages, pictures and places in pages; other sites are not asked."""

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects what a page links and the ids to which others can link."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif value and (name == "src" or (name == "href" and tag in ("a", "link"))):
                self.links.append(value)


@cache
def _page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def dead_links(folder: Path, *, left_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each dead link of the pages in a folder. left_out: paths of pages that are not checked."""
    _page.cache_clear()
    for path in sorted(folder.rglob("*.html")):
        shown = path.relative_to(folder)
        for link in dict.fromkeys(() if str(shown) in left_out else _page(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{shown}: there is no {link}"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _page(target).ids:
                yield f"{shown}: {parts.path or 'this page'} has no place #{parts.fragment}"
