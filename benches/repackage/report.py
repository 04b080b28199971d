"""The tables: what was measured, and the goals beside it."""

from measure import MIB

OURS = "stagedrop"
RAW_COPY = "`zip` crate, raw copy with rename"
PYTHON_MEMORY = "Python `zipfile` in `BytesIO`"
PYTHON_STREAMED = "Python `zipfile`, streamed"
PYTHON_TAR = "Python `tarfile` to `zipfile`"
UNZIP_ZIP = "`unzip` + `zip -r -6`"
TAR_ZIP = "`tar xzf` + `zip -r -6`"
WITHOUT_GIT = "stagedrop, root `/`, `.git` dropped"
UNCHANGED = "stagedrop, root `/`, nothing to change"
TRANSCODED = "stagedrop, tar.gz to zip"
BOTO3 = "boto3 + `zipfile` in memory"
PUSH = "`aws s3 cp` + `unzip` + `aws deploy push`"

LOCAL = ("cp", OURS, RAW_COPY, PYTHON_MEMORY, PYTHON_STREAMED, UNZIP_ZIP)
TRANSCODE = (OURS, PYTHON_TAR, TAR_ZIP)
S3 = (OURS, BOTO3, PUSH, WITHOUT_GIT, UNCHANGED, TRANSCODED)

# What an artifact that needs no change may have read besides its directory: the end where that is looked for,
# AppSpec and hook script, settings and records. Artifacts up to 8 MiB are read whole.
BESIDE_DIRECTORY_BYTES = 128 << 10


class Gates:
    """Rows of goals: what was reached on each corpus, the goal, and whether it is reached."""

    def __init__(self, names):
        self.names, self.rows = names, []

    def add(self, title, value, goals, shown, at_least=False):
        """`value` of each corpus that has a goal; None is not measured."""
        cells = []
        for name in self.names:
            goal = goals.get(name)
            if goal is None:
                cells.append("")
                continue
            found = value(name)
            if found is None:
                cells.append("not measured")
                continue
            reached = found >= goal if at_least else found <= goal
            sign = "≥" if at_least else "≤"
            cells.append(f"{shown(found)} ({sign} {shown(goal)}) {'pass' if reached else '**FAIL**'}")
        if any(cells):
            self.rows.append([title, *cells])


def times(value):
    return f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def percent(value):
    return f"{value * 100:.2f} %"


def seconds(value):
    return f"{value:.2f} s"


def mebibytes(value):
    return f"{value / MIB:.0f} MiB"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def significant(value):
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def cost(results, section, name, label):
    """CPU seconds, seconds, peak and size of the revision of one candidate."""
    cpu = results.median(section, name, label, "cpu")
    if cpu is None:
        return "–"
    peak = results.most(section, name, label, "peak")
    size = results.median(section, name, label, "size")
    figures = [significant(cpu), significant(results.median(section, name, label, "wall"))]
    figures += [str(peak // MIB) if peak else "–", f"{size / 1e6:.1f}" if size else "–"]
    return " / ".join(figures)


def traffic(results, name, label):
    got, put, copied, requests = (results.median("s3", name, label, what) for what in ("got", "put", "copied", "requests"))
    if got is None:
        return "–"
    return f"{got / 1e6:.2f} / {put / 1e6:.2f} / {copied / 1e6:.0f} / {requests:.0f}"


def tables(bench, machine):
    results, names, made, options = bench.results, bench.names, bench.made, bench.options
    out = [f"Measured on {machine}; medians of {options.rounds} rounds, peers that inflate and deflate of {options.heavy_rounds}; peaks are of the largest process, – where smaller than the measuring one.\n"]
    heads = [f"**{name}**: {made[name]['entries']:,} entries, zip {made[name]['zip_bytes'] / 1e6:.0f} MB" for name in names]
    out.append("Corpora: " + "; ".join(heads) + ".\n")

    sections = {section for section, _, _ in results.runs}
    if "local" in sections:
        out.append("### Zip to zip, `/app`, file to file: CPU s / s / peak MiB / MB written\n")
        out.append(table(["", *names], [[label, *(cost(results, "local", name, label) for name in names)] for label in LOCAL]))
        gates = Gates(names)
        over = lambda label: lambda name: results.ratio("local", name, label, OURS)
        gates.add("CPU, times `cp`", lambda name: results.ratio("local", name, OURS, "cp"), {"b": 1.5, "c": 1.3, "d": 1.3}, times)
        gates.add("less CPU than the `zip` crate's raw copy", over(RAW_COPY), {"b": 4}, times, at_least=True)
        for label in (PYTHON_MEMORY, PYTHON_STREAMED, UNZIP_ZIP):
            gates.add(f"less CPU than {label}", over(label), {"a": 45, "b": 100, "c": 70, "d": 70}, times, at_least=True)
        out.append(table(["goal", *names], gates.rows))
    if "s3" in sections:
        out.append("### The `deploy` process through S3 with a modelled network, `verify: passing`: CPU s / s / peak MiB / MB written\n")
        out.append(table(["", *names], [[label, *(cost(results, "s3", name, label) for name in names)] for label in S3]))
        out.append("Its traffic: MB got / MB put / MB copied by S3 / requests\n")
        out.append(table(["", *names], [[label, *(traffic(results, name, label) for name in names)] for label in S3]))
        gates = Gates(names)
        value = lambda label, what: lambda name: results.median("s3", name, label, what)
        most = lambda label, what: lambda name: results.most("s3", name, label, what)

        def share(label):
            def of(name):
                through = [results.median("s3", name, label, what) for what in ("got", "put")]
                return None if None in through else max(through) / made[name]["zip_bytes"]

            return of

        gates.add("from the first read of the artifact to the written revision", value(OURS, "repackaging"), {"a": 0.5, "b": 2.5, "c": 1.6, "d": 1.2}, seconds)
        gates.add("less CPU than boto3", lambda name: results.ratio("s3", name, BOTO3, OURS), {"a": 20, "b": 30, "c": 100, "d": 500}, times, at_least=True)
        memory = {name: (96 if made[name]["entries"] >= 60_000 else 64) * MIB for name in names}
        for label in (OURS, WITHOUT_GIT, UNCHANGED):
            gates.add(f"peak memory, {label}", most(label, "peak"), memory, mebibytes)
        gates.add(f"peak memory, {TRANSCODED}", most(TRANSCODED, "peak"), dict.fromkeys(names, 96 * MIB), mebibytes)
        gates.add("bytes through the function, of the artifact", share(OURS), {"c": 0.02, "d": 0.005}, percent)
        gates.add(f"the same, {WITHOUT_GIT}", share(WITHOUT_GIT), {"c": 0.01, "d": 0.01}, percent)
        beside = lambda name: (found := most(UNCHANGED, "got")(name)) and found - bench.directories[name]
        gates.add(f"bytes read beside the directory, {UNCHANGED}", beside, dict.fromkeys((name for name in names if name != "a"), BESIDE_DIRECTORY_BYTES), lambda value: f"{value / 1024:.0f} KiB")
        out.append(table(["goal", *names], gates.rows))
    if "transcode" in sections:
        out.append("### tar.gz to zip, `/app`, file to file: CPU s / s / peak MiB / MB written\n")
        out.append(table(["", *names], [[label, *(cost(results, "transcode", name, label) for name in names)] for label in TRANSCODE]))
        gates = Gates(names)
        over = lambda label: lambda name: results.ratio("transcode", name, label, OURS)
        gates.add(f"less CPU than {TAR_ZIP}", over(TAR_ZIP), {"a": 3, "b": 3, "c": 20, "d": 20}, times, at_least=True)
        gates.add(f"less CPU than {PYTHON_TAR}", over(PYTHON_TAR), {"a": 3, "b": 3, "c": 15, "d": 15}, times, at_least=True)
        gates.add("size, times `zip -6`'s", lambda name: results.ratio("transcode", name, OURS, TAR_ZIP, "size"), dict.fromkeys(names, 1.005), lambda value: f"{value:.4f}")
        gates.add("peak memory", lambda name: results.most("transcode", name, OURS, "peak"), dict.fromkeys(names, 96 * MIB), mebibytes)
        out.append(table(["goal", *names], gates.rows))
    if results.missing:
        out.append("Missing: " + "; ".join(f"{what} ({why})" for what, why in results.missing.items()) + ".\n")
    return "\n".join(out)
