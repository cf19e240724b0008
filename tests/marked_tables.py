"""Tables of a page, each behind a mark with its name: what stands there, and how it is renewed."""

import re

_TABLE = r"<!-- table {} -->\n(?:\n(?:\|.*\n)+)?"


def names_in(text):
    """Of all tables of a page, in order."""
    return re.findall(r"<!-- table (\S+) -->", text)


def marked(name, table):
    """A table behind its mark, as it stands on the page."""
    return f"<!-- table {name} -->\n\n{table}\n"


def renewed(text, tables):
    """The page, with other tables of the same names."""
    for name, table in tables.items():
        (found,) = re.findall(_TABLE.format(name), text)
        text = text.replace(found, marked(name, table))
    return text


def rows_of(shown):
    """A frame as a table."""
    rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.values.tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
