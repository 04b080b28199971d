"""Makes the corpora of the benchmark from files on this machine.

Each is a repository with the application under `app/`, `.git` with loose objects and a pack, a nested
`app/.git` and `docs/`, archived by Info-ZIP and by GNU tar as a CI job would do it:

    a   2,000 web files
    b   50,000 text files
    c   twenty files of 50 MiB, half machine code, half random
    d   one file of 2 GiB, likewise

The files differ from machine to machine, their number and sizes hardly; on one machine the same files
come again. The archives' entries lie in the order of their names.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

MIB = 1 << 20
# When every file was modified, as Unix time: the same archives come again.
MODIFIED = 1_767_225_600
# Raised where a corpus changes, so that older ones are made anew.
EDITION = 1
NAMES = ("a", "b", "c", "d")

TEXT_SUFFIXES = {
    ".c", ".cpp", ".css", ".h", ".htm", ".html", ".js", ".json", ".md", ".pl", ".pm", ".po", ".py",
    ".rb", ".rs", ".rst", ".sh", ".svg", ".toml", ".txt", ".xml", ".yaml", ".yml",
}
WEB_SUFFIXES = (".html", ".js", ".css", ".json", ".svg", ".xml")

APPSPEC = """\
version: 0.0
os: linux
files:
  - source: /
    destination: /srv/bench
hooks:
  AfterInstall:
    - location: scripts/after.sh
      timeout: 60
"""


def roots():
    """Where files are looked for: what every machine with Python and Rust has some of."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    rustup = Path(os.environ.get("RUSTUP_HOME", Path.home() / ".rustup"))
    places = (sys.prefix, sys.base_prefix, "/usr/lib", "/usr/share", "/usr/bin", cargo / "registry/src", rustup)
    return dict.fromkeys(Path(place).resolve() for place in places)


def files(accepts, bytes_wanted):
    """Paths of regular files in a fixed order, until they have that many bytes."""
    found, held = [], 0
    for root in roots():
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    if os.path.islink(path) or not accepts(path):
                        continue
                    held += os.path.getsize(path)
                except OSError:
                    continue
                found.append(path)
                if held >= bytes_wanted:
                    return found
    return found


def is_text(path):
    return os.path.splitext(path)[1] in TEXT_SUFFIXES and 64 <= os.path.getsize(path) <= 4 * MIB


def is_machine_code(path):
    if os.path.getsize(path) < 16 << 10:
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


class Pool:
    """An endless stream of the bytes of many files."""

    def __init__(self, paths, what):
        if not paths:
            raise SystemExit(f"this machine has no {what} to make the corpora from")
        self.paths, self.next, self.held, self.at = paths, 0, b"", 0

    def take(self, length):
        taken = bytearray()
        while len(taken) < length:
            if self.at >= len(self.held):
                with open(self.paths[self.next % len(self.paths)], "rb") as file:
                    self.held, self.at = file.read(), 0
                self.next += 1
            piece = self.held[self.at : self.at + length - len(taken)]
            taken += piece
            self.at += len(piece)
        return bytes(taken)


class Tree:
    """A folder that is being filled."""

    def __init__(self, root):
        self.root, self.folders = Path(root), set()

    def write(self, name, data, mode=0o644):
        path = self.root / name
        if path.parent not in self.folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folders.add(path.parent)
        path.write_bytes(data)
        path.chmod(mode)

    def paths(self):
        """All names in order, folders too, as `zip -@` and `tar --files-from` want them."""
        found = []
        for folder, folders, names in os.walk(self.root):
            inside = os.path.relpath(folder, self.root)
            found += [os.path.normpath(os.path.join(inside, name)) for name in folders + names]
        return sorted(found)


def repository(tree, prefix, rng, text, loose, pack_bytes):
    """A `.git` folder: loose objects, which are deflated, and a pack, which is too."""
    tree.write(f"{prefix}.git/HEAD", b"ref: refs/heads/master\n")
    tree.write(f"{prefix}.git/config", b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
    tree.write(f"{prefix}.git/refs/heads/master", b"0" * 40 + b"\n")
    for _ in range(loose):
        name = rng.randbytes(20).hex()
        data = zlib.compress(text.take(int(rng.lognormvariate(7.6, 0.9))))
        tree.write(f"{prefix}.git/objects/{name[:2]}/{name[2:]}", data, 0o444)
    if pack_bytes:
        name = rng.randbytes(20).hex()
        pack = f"{prefix}.git/objects/pack/pack-{name}"
        tree.write(f"{pack}.pack", b"PACK\0\0\0\2" + rng.randbytes(pack_bytes), 0o444)
        tree.write(f"{pack}.idx", b"\xfftOc\0\0\0\2" + rng.randbytes(max(1032, pack_bytes // 200)), 0o444)


def frame(tree, rng, text, docs, loose, pack_bytes, nested):
    """All but the application's own files."""
    for folder in ("", "app/"):
        tree.write(f"{folder}appspec.yml", APPSPEC.encode())
        tree.write(f"{folder}scripts/after.sh", b"#!/bin/sh\nexit 0\n", 0o755)
    for number in range(docs):
        tree.write(f"docs/chapter-{number // 50:03}/page-{number:05}.md", text.take(int(rng.lognormvariate(8, 0.8))))
    repository(tree, "", rng, text, loose, pack_bytes)
    repository(tree, "app/", rng, text, nested, 0)


def half_and_half(path, rng, code, length):
    """A file of machine code and then as many random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for take in (code.take, rng.randbytes):
            for _ in range(length // 2 // MIB):
                file.write(take(MIB))


def fill(name, root):
    rng = random.Random(f"corpus {name}")
    tree = Tree(root)
    if name == "a":
        text = Pool(files(is_text, 64 * MIB), "text files")
        for number in range(1_800):
            suffix = WEB_SUFFIXES[number % len(WEB_SUFFIXES)]
            tree.write(f"app/public/{number // 24:02}/asset-{number:04}{suffix}", text.take(int(rng.lognormvariate(8.6, 1.0))))
        for number in range(200):
            tree.write(f"app/public/images/image-{number:03}.png", b"\x89PNG\r\n\x1a\n" + rng.randbytes(rng.randrange(4 << 10, 24 << 10)))
        frame(tree, rng, text, docs=120, loose=750, pack_bytes=4 * MIB, nested=40)
    elif name == "b":
        text = Pool(files(is_text, 512 * MIB), "text files")
        for number in range(50_000):
            suffix = WEB_SUFFIXES[number % len(WEB_SUFFIXES)]
            tree.write(f"app/content/{number // 1000:02}/{number // 25 % 40:02}/text-{number:05}{suffix}", text.take(int(rng.lognormvariate(8.8, 0.8))))
        frame(tree, rng, text, docs=3_000, loose=9_000, pack_bytes=14 * MIB, nested=400)
    else:
        text = Pool(files(is_text, 64 * MIB), "text files")
        code = Pool(files(is_machine_code, 1100 * MIB), "programs and libraries")
        if name == "c":
            for number in range(20):
                half_and_half(Path(root) / f"app/bin/service-{number:02}", rng, code, 50 * MIB)
            frame(tree, rng, text, docs=150, loose=180, pack_bytes=24 * MIB, nested=20)
        else:
            half_and_half(Path(root) / "app/data/model.bin", rng, code, 2048 * MIB)
            frame(tree, rng, text, docs=80, loose=80, pack_bytes=8 * MIB, nested=10)
    return tree


def make(folder, name):
    """Makes `NAME.zip` and `NAME.tar.gz` in `folder`, unless they are there."""
    note = folder / f"{name}.json"
    archives = [folder / f"{name}.zip", folder / f"{name}.tar.gz"]
    if note.exists() and all(archive.exists() for archive in archives):
        found = json.loads(note.read_text())
        if found["edition"] == EDITION:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"corpus-{name}-", dir=folder) as root:
        tree = fill(name, root)
        paths = tree.paths()
        for path in paths:
            os.utime(os.path.join(root, path), (MODIFIED, MODIFIED))
        listing = ("\n".join(paths) + "\n").encode()
        making = [(folder / f"making-{archive.name}").resolve() for archive in archives]
        for path in making:
            path.unlink(missing_ok=True)
        commands = [
            ["zip", "-q", "-6", str(making[0]), "-@"],
            ["tar", "--create", "--no-recursion", "--files-from=-", "--gzip", f"--file={making[1]}"],
        ]
        for command, path, archive in zip(commands, making, archives):
            subprocess.run(command, cwd=root, input=listing, check=True)
            path.rename(archive)
    sizes = [archive.stat().st_size for archive in archives]
    found = {"edition": EDITION, "entries": len(paths), "zip_bytes": sizes[0], "tar_gz_bytes": sizes[1]}
    note.write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench-corpora")
    for wanted in sys.argv[2:] or NAMES:
        print(wanted, make(target, wanted), flush=True)
