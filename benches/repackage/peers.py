"""What a Lambda function in Python does to get the application out of an artifact.

    peers.py zip-in-memory SOURCE TARGET     zipfile, both archives in BytesIO
    peers.py zip-streamed SOURCE TARGET      zipfile, file to file, 1 MiB at a time
    peers.py tar-streamed SOURCE TARGET      tarfile to zipfile, likewise
    peers.py s3-zip BUCKET KEY TARGET_KEY    boto3 and zipfile in memory

`app/` loses its prefix and `.git` is left out; modes, times and links stay.
"""

import io
import shutil
import stat
import sys
import tarfile
import time
import zipfile

ROOT = "app/"
COPY_BYTES = 1 << 20


def kept_name(name, root=ROOT):
    """The name in the revision; None where the entry is left out."""
    if not name.startswith(root) or name == root:
        return None
    inside = name[len(root) :]
    return None if ".git" in inside.split("/") else inside


def renamed(info, name):
    copy = zipfile.ZipInfo(name, info.date_time)
    copy.compress_type = zipfile.ZIP_DEFLATED
    copy.create_system = info.create_system
    copy.external_attr = info.external_attr
    copy.file_size = info.file_size
    return copy


def zip_in_memory(source):
    target = io.BytesIO()
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as revision:
        for info in archive.infolist():
            if name := kept_name(info.filename):
                revision.writestr(renamed(info, name), archive.read(info))
    target.seek(0)
    return target


def zip_streamed(source, target):
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as revision:
        for info in archive.infolist():
            if name := kept_name(info.filename):
                with archive.open(info) as reader, revision.open(renamed(info, name), "w") as writer:
                    shutil.copyfileobj(reader, writer, COPY_BYTES)


def tar_streamed(source, target):
    with tarfile.open(fileobj=source, mode="r|gz") as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as revision:
        for member in archive:
            kind = stat.S_IFDIR if member.isdir() else stat.S_IFLNK if member.issym() else stat.S_IFREG
            name = kept_name(member.name + "/" if member.isdir() else member.name)
            if not name:
                continue
            info = zipfile.ZipInfo(name, time.gmtime(member.mtime)[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (kind | member.mode) << 16 | (0x10 if member.isdir() else 0)
            info.file_size = member.size
            if member.isreg():
                with archive.extractfile(member) as reader, revision.open(info, "w") as writer:
                    shutil.copyfileobj(reader, writer, COPY_BYTES)
            else:
                revision.writestr(info, member.linkname if member.issym() else b"")


def s3_zip(bucket, key, target_key):
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    artifact = io.BytesIO(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    client.upload_fileobj(zip_in_memory(artifact), bucket, target_key)


def main(command, *arguments):
    if command == "zip-in-memory":
        with open(arguments[0], "rb") as file:
            source = io.BytesIO(file.read())
        with open(arguments[1], "wb") as file:
            file.write(zip_in_memory(source).getbuffer())
    elif command in ("zip-streamed", "tar-streamed"):
        with open(arguments[0], "rb") as source, open(arguments[1], "wb") as target:
            (zip_streamed if command == "zip-streamed" else tar_streamed)(source, target)
    elif command == "s3-zip":
        s3_zip(*arguments)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
