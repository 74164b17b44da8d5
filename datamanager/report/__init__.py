"""Reports of a window of time: a page with plots, Markdown, JSON and CSV."""
