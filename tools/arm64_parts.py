"""Fetches and unpacks what `tools.arm64` puts together; installs nothing."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence

from tools.setup_messages import SetupError

EMULATOR = "qemu-aarch64-static"

_WHEEL_PLATFORMS = (
  "manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64",
  "manylinux_2_17_aarch64",
)  # fmt: skip

# LiteRT's CPU detection crashes without an ARM `/proc/cpuinfo`; the emulator looks
# under its root folder first. The figures are those of one Cortex-A76.
_MACHINE_FILES = {
  "proc/cpuinfo": (
    "processor\t: 0\n"
    "BogoMIPS\t: 48.00\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid"
    " asimdrdm lrcpc dcpop asimddp\n"
    "CPU implementer\t: 0x41\n"
    "CPU architecture: 8\n"
    "CPU variant\t: 0x3\n"
    "CPU part\t: 0xd0b\n"
    "CPU revision\t: 1\n"
  ),
  "sys/devices/system/cpu/possible": "0\n",
  "sys/devices/system/cpu/present": "0\n",
  "sys/devices/system/cpu/online": "0\n",
}


def write_machine_files(root: pathlib.Path) -> None:
  """Writes what the emulated program is to read about its CPU."""
  for name, text in _MACHINE_FILES.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def failure_line(output: str) -> str:
  """Picks from a program's output the line that tells why it failed."""
  lines = [line.strip() for line in output.splitlines() if line.strip()]
  errors = [line for line in lines if re.match(r"E:|Err:|ERROR", line)]
  return (errors or lines or ["no reason given"])[-1]


def say(message: str) -> None:
  """Prints a line of progress."""
  print(f"arm64: {message}", flush=True)


def call(command: Sequence[str], folder: pathlib.Path, mend: str) -> None:
  """Runs a program in a folder; its own reason and `mend` make up the error."""
  done = subprocess.run(
    command,
    cwd=folder,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    env={**os.environ, "LC_ALL": "C.UTF-8"},
    check=False,
  )
  if done.returncode:
    reason = failure_line(done.stdout.decode(errors="replace"))
    raise SetupError(f"{pathlib.Path(command[0]).name} failed ({reason}); {mend}")


def download_packages(work: pathlib.Path, names: Sequence[str]) -> None:
  """Downloads `.deb` files into work/debs, with package lists of its own."""
  for part in ("lists/partial", "cache/archives/partial", "debs"):
    (work / part).mkdir(parents=True)
  options = {
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64,arm64",
    "APT::Update::Error-Mode": "any",
    "Acquire::Retries": "2",
    "Dir::State::Lists": str(work / "lists"),
    "Dir::State::Status": "/dev/null",
    "Dir::Cache": str(work / "cache"),
  }
  apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
  say("reading Debian's package lists")
  call([*apt, "update"], work, "check the network and apt's sources")
  say(f"downloading {len(names)} Debian packages")
  call(
    [*apt, "download", *names],
    work / "debs",
    "check the network, and that apt's sources are Debian 12's (bookworm)",
  )


def unpack_emulator(package: pathlib.Path, target: pathlib.Path) -> None:
  """Writes the one emulator that is wanted of the forty in the package."""
  command = ["dpkg-deb", "--fsys-tarfile", str(package)]
  with (
    subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked,
    tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive,
  ):
    for member in archive:
      content = archive.extractfile(member) if member.isfile() else None
      if content and pathlib.PurePosixPath(member.name).name == EMULATOR:
        target.write_bytes(content.read())
        target.chmod(0o755)
        unpacked.kill()
        return
  raise SetupError(f"{package.name} holds no {EMULATOR}; use Debian 12")


def download_wheels(work: pathlib.Path, requirements: str) -> None:
  """Downloads the aarch64 wheels of a requirements file into work/wheels."""
  (work / "wheels.txt").write_text(requirements, encoding="utf-8")
  command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
  command += ["--no-input", "--quiet", "--only-binary=:all:", "--no-deps"]
  command += ["--require-hashes", "--python-version=3.11", "--implementation=cp"]
  command += [f"--platform={name}" for name in _WHEEL_PLATFORMS]
  command += ["--dest=wheels", "--requirement=wheels.txt"]
  say("downloading aarch64 wheels")
  call(command, work, "check the network and pip's package index")
