"""Medians and ratios as Markdown tables, and their place in a document."""

import datetime
import os
import pathlib
import platform
import statistics

BEGIN, END = "<!-- figures of Benchmarks/bench.py: begin -->", "<!-- figures of Benchmarks/bench.py: end -->"
HEADINGS = {"tcp": "TCP", "skein": "Skein", "unix": "Unix socket"}


def render(rows, figures, rounds):
    """`figures` has a list of Figure for each (row title, carrier)."""
    values = {key: statistics.median(figure.value for figure in found) for key, found in figures.items() if found}
    return "\n".join([machine(rounds), "", *main_table(rows, values), "", *latency_table(rows, figures)])


def machine(rounds):
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    count = "1 round" if rounds == 1 else f"medians of {rounds} interleaved rounds"
    return (f"{datetime.date.today()}, {os.cpu_count()} x {models[0] if models else platform.machine()}, "
            f"Linux {platform.release()}; {count}; ratios above 1 are in favour of Skein.")


def main_table(rows, values):
    lines = ["| measured | unit | TCP | Skein | Unix socket | Skein to TCP | Skein to Unix socket |",
             "|---|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        tcp, skein, unix = (values.get((row.title, carrier)) for carrier in HEADINGS)
        cells = [number(tcp), number(skein), number(unix), ratio(row, skein, tcp), ratio(row, skein, unix)]
        lines.append(f"| {row.title} | {row.unit} | {' | '.join(cells)} |")
    return lines


def latency_table(rows, figures):
    lines = small_table("50th, 99th and, where the program tells, 99.9th percentile, microseconds", rows, figures, percentiles)
    return [*lines, "", *small_table("processor time of both ends, microseconds a request", rows, figures, processor_time)]


def small_table(title, rows, figures, cell):
    lines = [f"| {title} | " + " | ".join(HEADINGS.values()) + " |", "|---|--:|--:|--:|"]
    for row in rows:
        cells = [cell(figures.get((row.title, carrier), [])) for carrier in HEADINGS]
        if any(cells):
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return lines


def percentiles(found):
    columns = ([figure.p50 for figure in found], [figure.p99 for figure in found], [figure.p999 for figure in found])
    return " / ".join(number(statistics.median(values)) for values in columns if values and None not in values)


def processor_time(found):
    values = [figure.cpu for figure in found if figure.cpu is not None]
    return number(statistics.median(values)) if values else ""


def ratio(row, mine, other):
    if not mine or not other:
        return ""
    return f"{other / mine if row.lower_is_better else mine / other:.2f}"


def number(value):
    """Three digits that mean something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def put_into(path, text, marks=(BEGIN, END)):
    """Replaces the part of the document between the marks, or adds it at the end."""
    begin, end = marks
    path = pathlib.Path(path)
    document = path.read_text() if path.exists() else "# Benchmarks\n\n"
    part = f"{begin}\n{text}\n{end}"
    if begin in document and end in document:
        before, rest = document.split(begin, 1)
        document = before + part + rest.split(end, 1)[1]
    else:
        document = document.rstrip("\n") + f"\n\n{part}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document)
