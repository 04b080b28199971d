"""Measures repackaging beside its peers and prints the tables; `cargo bench --bench repackage` runs it.

Everything is done in one run, candidates in turn, medians over the rounds. What takes seconds (anything
that inflates and deflates) has rounds of its own, fewer. Results are checked beside the timing: `unzip -tq`
must have nothing to say, and names, modes, sizes and CRC-32 must be those of the artifact.
"""

import argparse
import dataclasses
import filecmp
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import corpora
import report
from embedded_aws import EmbeddedAws
from measure import Failed, Results, measured, say
from peers import kept_name

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ROOT = "/app"
SECTIONS = ("local", "transcode", "s3")
# What the peers need besides the standard library.
REQUIREMENTS = ["boto3==1.44.5", "awscli==1.46.3"]


def arguments():
    parser = argparse.ArgumentParser(prog="cargo bench --bench repackage --", description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--corpora", type=Path, default=REPOSITORY / "target/bench-corpora", help="folder of the corpora, 4.6 GB and as much again while they are made and used")
    parser.add_argument("--only", default="abcd", help="corpora to measure, such as `ab`")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of what takes no time (default %(default)s)")
    parser.add_argument("--heavy-rounds", type=int, default=1, help="of what takes seconds; 0 leaves it out (default %(default)s)")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    return parser.parse_args()


class Bench:
    def __init__(self, options):
        self.options = options
        self.program = str(options.program.resolve())
        self.corpora = options.corpora.resolve()
        self.work = self.corpora / "work"
        self.names = [name for name in corpora.NAMES if name in options.only]
        self.results = Results()
        self.made = {}
        # Sizes of the directories of the artifacts that need no change.
        self.directories = {}
        self.venv = None

    def path(self, name, suffix):
        return self.corpora / f"{name}{suffix}"

    def fresh(self, name="work"):
        """An empty folder, outside of what is timed."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def has(self, tool):
        if shutil.which(tool):
            return True
        self.results.missing[tool] = "not installed"
        return False

    def prepare(self):
        for name in self.names:
            say(f"corpus {name}")
            self.made[name] = corpora.make(self.corpora, name)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    def python_with(self):
        """A virtual environment with the peers' libraries, beside the corpora; None where it cannot be had."""
        if self.venv is None:
            folder = self.corpora / "venv"
            note = folder / "requirements"
            try:
                if not note.exists() or note.read_text().split() != REQUIREMENTS:
                    say("installing " + ", ".join(REQUIREMENTS))
                    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
                    subprocess.run([folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS], check=True)
                    note.write_text("\n".join(REQUIREMENTS))
                self.venv = folder / "bin"
            except (subprocess.CalledProcessError, OSError) as error:
                self.results.missing["boto3 and aws"] = f"not installed: {error}"
                self.venv = False
        return self.venv or None

    def rounds(self, section, name, candidates):
        """Measures candidates in turn: `(label, heavy, function)`, where the function gives a run and its result."""
        for number in range(max(self.options.rounds, self.options.heavy_rounds)):
            for label, heavy, function in candidates:
                if number >= (self.options.heavy_rounds if heavy else self.options.rounds):
                    continue
                if label in self.results.missing:
                    continue
                try:
                    run, result = function()
                except (Failed, OSError) as error:
                    say(f"  {label}: {error}")
                    self.results.missing[label] = f"failed on {name}: {str(error)[:200]}"
                    continue
                if result is not None:
                    run.size = os.path.getsize(result)
                    if number == 0 and label != "cp":
                        check(result, self.path(name, ".zip"))
                self.note(section, name, label, run)
                if result is not None:
                    os.unlink(result)

    def note(self, section, name, label, run):
        self.results.add(section, name, label, run)
        through = f", got {run.got}, put {run.put}, {run.requests} requests" if run.requests else ""
        say(f"  {section} {name} {label}: {run.cpu:.3f} s CPU, {run.wall:.3f} s, {(run.peak or 0) >> 20} MiB{through}")

    # Zip to zip, file to file.

    def local(self, name):
        source = str(self.path(name, ".zip"))
        target = str(self.work / f"{name}-revision.zip")

        def ours(command):
            return lambda: (measured([self.program, command, source, target, ROOT]), target)

        def python(command):
            return lambda: (measured([sys.executable, str(HERE / "peers.py"), command, source, target]), target)

        def unzip_zip():
            folder = self.fresh()
            run = measured(
                ["unzip", "-q", source, "app/*", "-d", str(folder)],
                ["sh", "-c", f"cd '{folder}/app' && zip -q -r -6 '{target}' . -x '.git/*'"],
            )
            self.fresh()
            return run, target

        candidates = [
            ("cp", False, lambda: (measured(["cp", source, target]), target)),
            (report.OURS, False, ours("splice")),
            (report.RAW_COPY, False, ours("raw-copy")),
            (report.PYTHON_MEMORY, True, python("zip-in-memory")),
            (report.PYTHON_STREAMED, True, python("zip-streamed")),
        ]
        if self.has("unzip") and self.has("zip"):
            candidates.append((report.UNZIP_ZIP, True, unzip_zip))
        self.rounds("local", name, candidates)

    # tar.gz to zip, file to file.

    def transcode(self, name):
        source = str(self.path(name, ".tar.gz"))
        target = str(self.work / f"{name}-revision.zip")

        def tar_zip():
            folder = self.fresh()
            run = measured(
                ["tar", "--extract", "--gzip", "--file", source, "--directory", str(folder), "app"],
                ["sh", "-c", f"cd '{folder}/app' && zip -q -r -6 '{target}' . -x '.git/*'"],
            )
            self.fresh()
            return run, target

        candidates = [
            (report.OURS, False, lambda: (measured([self.program, "transcode", source, target, ROOT]), target)),
            (report.PYTHON_TAR, True, lambda: (measured([sys.executable, str(HERE / "peers.py"), "tar-streamed", source, target]), target)),
        ]
        if self.has("tar") and self.has("zip"):
            candidates.append((report.TAR_ZIP, True, tar_zip))
        self.rounds("transcode", name, candidates)

    # Through S3.

    def through_s3(self):
        with EmbeddedAws(self.program) as aws:
            for name in self.names:
                self.zip_through_s3(aws, name)
                self.tar_gz_through_s3(aws, name)

    def zip_through_s3(self, aws, name):
        source, held = self.path(name, ".zip"), f"held/{name}.zip"
        aws.store(source, held)
        unchanged, held_unchanged = self.work / f"{name}-unchanged.zip", f"held/{name}-unchanged.zip"
        self.deploy(aws, name, report.OURS, held, f"zip-{name}", "/app")
        self.deploy(aws, name, report.WITHOUT_GIT, held, f"root-{name}", "/", keep=unchanged)
        self.directories[name] = directory_bytes(unchanged)
        aws.store(unchanged, held_unchanged)
        self.deploy(aws, name, report.UNCHANGED, held_unchanged, f"unchanged-{name}", "/", same=unchanged)
        unchanged.unlink()
        aws.delete(held_unchanged, aws.ARTIFACTS)
        if self.options.heavy_rounds and (libraries := self.python_with()):
            self.peers_through_s3(aws, name, held, libraries)
        aws.delete(held, aws.ARTIFACTS)

    def peers_through_s3(self, aws, name, held, libraries):
        def boto3():
            return aws.client(held, lambda key, target: [[str(libraries / "python"), str(HERE / "peers.py"), "s3-zip", aws.ARTIFACTS, key, target]])

        def push():
            folder = self.fresh()
            tool, artifact = str(libraries / "aws"), str(folder / "artifact.zip")
            run = aws.client(
                held,
                lambda key, target: [
                    [tool, "s3", "cp", "--quiet", f"s3://{aws.ARTIFACTS}/{key}", artifact],
                    ["unzip", "-q", artifact, "app/*", "-d", str(folder)],
                    [tool, "deploy", "push", "--application-name", "peers", "--ignore-hidden-files", "--s3-location", f"s3://{aws.ARTIFACTS}/{target}", "--source", str(folder / "app")],
                ],
            )
            self.fresh()
            return run

        candidates = [(report.BOTO3, True, boto3)]
        if self.has("unzip"):
            candidates.append((report.PUSH, True, push))
        self.rounds("s3", name, candidates)

    def tar_gz_through_s3(self, aws, name):
        held = f"held/{name}.tar.gz"
        aws.store(self.path(name, ".tar.gz"), held)
        self.deploy(aws, name, report.TRANSCODED, held, f"targz-{name}", "/app")
        aws.delete(held, aws.ARTIFACTS)

    def deploy(self, aws, name, label, held, project, root, keep=None, same=None):
        """A held artifact, staged anew for each round, and a new `deploy` process that takes it."""
        suffix = held[held.index(".") :]
        for number in range(self.options.rounds):
            run, revision = aws.deploy(held, f"{project}-{number}", root, suffix, self.work)
            if number == 0:
                result = self.work / f"{project}-revision.zip"
                aws.fetch(revision, result)
                if same:
                    check_equal(result, same)
                else:
                    check(result, self.path(name, ".zip"), root)
                if keep:
                    result.rename(keep)
                else:
                    result.unlink()
            aws.delete(revision)
            self.note("s3", name, label, run)

    def run(self):
        self.prepare()
        sections = self.options.sections.split(",")
        for name in self.names:
            if "local" in sections:
                self.local(name)
            if "transcode" in sections:
                self.transcode(name)
        if "s3" in sections:
            self.through_s3()
        shutil.rmtree(self.work, ignore_errors=True)


def check(result, artifact, root=ROOT):
    """Holds a revision against its artifact, by other people's readers."""
    said = subprocess.run(["unzip", "-tq", result], capture_output=True, text=True)
    if said.returncode != 0 or said.stderr or not said.stdout.startswith("No errors detected"):
        raise SystemExit(f"{result}: unzip has something to say: {said.stdout}{said.stderr}")

    def contents(archive, prefix):
        found = {}
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if (name := kept_name(info.filename, prefix)) and not name.endswith("/"):
                    found[name] = (info.file_size, info.CRC, info.external_attr >> 16)
        return found

    expected, found = contents(artifact, root.removeprefix("/") + "/" * (root != "/")), contents(result, "")
    if expected != found:
        different = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise SystemExit(f"{result} is not the artifact's {root}: {len(different)} entries differ, such as {different[:3]}")


def directory_bytes(archive):
    with zipfile.ZipFile(archive) as opened:
        return archive.stat().st_size - opened.start_dir


def check_equal(result, artifact):
    if not filecmp.cmp(result, artifact, shallow=False):
        raise SystemExit(f"{result} is not the artifact, which needed no change")


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}"


def main():
    options = arguments()
    begun = time.monotonic()
    bench = Bench(options)
    bench.run()
    text = report.tables(bench, machine())
    print(text)
    say(f"took {time.monotonic() - begun:.0f} s")
    if options.output:
        options.output.write_text(text)
    raw = {" / ".join(key): [dataclasses.asdict(run) if dataclasses.is_dataclass(run) else run for run in runs] for key, runs in bench.results.runs.items()}
    (bench.corpora / "runs.json").write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
