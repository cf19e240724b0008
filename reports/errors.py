"""Exceptions of the reports."""


class ReportError(ValueError):
    """A report that cannot be made; the message says what was expected and what to do."""
