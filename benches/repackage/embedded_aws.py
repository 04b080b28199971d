"""The embedded AWS as a server process: objects stored and fetched directly, callers behind its modelled network."""

import json
import subprocess

from measure import Run, cpu_of, measured, resident_peak

SETTINGS = """\
deployment:
  bench:
    branch: master
    codedeploy:
      {project}:
        application_root: {root}
        deployment_group: bench
        revision_location:
          revision_type: S3
          s3_location:
            bucket: revisions
            key_pattern: apps/{project}-{{BUILD_NUM}}
"""
COMMIT = "3f2c1a9d5b7e8f60412233445566778899aabbcc"


class EmbeddedAws:
    ARTIFACTS = "artifacts"
    REVISIONS = "revisions"

    def __init__(self, program):
        self.process = subprocess.Popen([program, "aws"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.environment = self.answer()
        self.clients = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the embedded AWS ended")
        return json.loads(line)

    def ask(self, **command):
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self.answer()

    def store(self, path, key):
        self.ask(do="store", path=str(path), key=key)

    def fetch(self, key, path):
        self.ask(do="fetch", key=key, path=str(path))

    def delete(self, key, bucket=REVISIONS):
        self.ask(do="delete", bucket=bucket, key=key)

    def deploy(self, held, project, root, suffix, work):
        """Stages a held object and has a new `deploy` process take it; gives the run and the revision's key."""
        key = f"staging/{project}/master/1-{COMMIT}{suffix}"
        settings = work / "settings.yml"
        settings.write_text(SETTINGS.format(project=project, root=root))
        self.store(settings, f"settings/{project}.yml")
        self.ask(do="stage", key=held, **{"as": key})
        self.ask(do="log")
        answer = self.ask(do="deploy", key=key)
        pid, drop = answer["pid"], answer["drop"]
        if drop["status"] != "deploying":
            raise SystemExit(f"{key} is {drop['status']}: {drop.get('findings')}")
        log = self.ask(do="log")
        deployment = drop["deployments"][0]
        run = Run(
            cpu_of(pid),
            answer["seconds"],
            resident_peak(pid),
            size=deployment["counts"]["size"],
            got=log["bytes_got"],
            put=log["bytes_put"],
            copied=deployment["counts"]["bytes_copied"],
            requests=sum(log["requests"].values()),
            repackaging=log["repackaging_seconds"],
        )
        self.ask(do="stop")
        self.delete(key, self.ARTIFACTS)
        return run, deployment["revision"]["key"]

    def client(self, held, commands):
        """Runs a peer's commands behind the network; gives the run, and no file."""
        self.clients += 1
        target = f"peers/revision-{self.clients}.zip"
        self.ask(do="log")
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **self.environment}
        run = measured(*commands(held, target), env=environment)
        log = self.ask(do="log")
        self.delete(target, self.ARTIFACTS)
        run.got, run.put = log["bytes_got"], log["bytes_put"]
        run.copied, run.requests = 0, sum(log["requests"].values())
        return run, None
