"""Templates, and what is embedded in pages made of them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2

from benchmarks.records.files import write
from reports.figures.plot import Plot
from reports.pages import files
from reports.pages.sorting import LAST, LONG, library
from reports.words import units
from reports.words.hints import hint

TEMPLATES = Path(__file__).parent / "templates"


def template(name: str) -> jinja2.Template:
    """A template by the name of its file.

    Args:
        name: In the folder of the templates.

    Returns:
        The template; it escapes what it is given, and refuses what it is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(hint=hint, order=order, library=library, long=LONG)
    return environment.get_template(name)


def order(text: str) -> str:
    """By what a cell of a column of measurements is sorted."""
    number = units.amount(text)
    return LAST if number is None else f"{number:.6g}"


@dataclass(frozen=True)
class Drawing:
    """A figure as it is embedded in the page."""

    plot: Plot
    uri: str

    @classmethod
    def of(cls, plot: Plot, image: bytes) -> Drawing:
        """Embed an image.

        Args:
            plot: What it shows.
            image: The WebP.

        Returns:
            The figure with its image as a data URI.
        """
        return cls(plot, "data:image/webp;base64," + base64.b64encode(image).decode())


def draw(plot: Plot, folder: Path) -> Drawing:
    """Draw a figure, as files and for a page.

    Args:
        plot: The figure.
        folder: Where its files go.

    Returns:
        The figure with its image.
    """
    figure = plot.draw()
    image = files.webp(figure)
    figure.set_layout_engine(None)  # all stays where it is: to lay it out again takes long
    write(folder / f"{plot.name}.webp", image)
    write(folder / f"{plot.name}.pdf", files.pdf(figure))
    return Drawing.of(plot, image)
