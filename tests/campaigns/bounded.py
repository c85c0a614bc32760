"""bounded.py SECONDS MIB COMMAND...: runs it under a limit of its address space.

Prints `EXIT PEAK`: the exit code (128 and the number for a signal, 124 for too long) and the peak of
memory in MiB. What it says stays on standard error.
"""

import resource
import subprocess
import sys

seconds, mib, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def limit() -> None:
    """Runs in the child."""
    resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


try:
    ended = subprocess.run(
        command, stdout=sys.stderr, preexec_fn=limit, timeout=seconds, check=False
    )
    code = ended.returncode
except subprocess.TimeoutExpired:
    code = 124
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
print(code if code >= 0 else 128 - code, peak)
