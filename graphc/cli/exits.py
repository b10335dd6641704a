"""Exit codes, which docs/commands.md documents, and which error ends a command with which."""

from __future__ import annotations

import errno

from graphc.errors import DeviceError, GraphcError, InputError, MissingPackageError, UnreachableError

DONE = 0
DIFFERENT = 1  # what was compared or tested is not as it should be
USAGE = 2  # the command line can't be read: click's own
MODEL = 3  # a mistake in the model, or something in it that graphc can't do
INPUT = 4  # inputs, values of options, or files to read or write that don't fit
MACHINE = 5  # memory, room on a disk, a GPU, a package that is not installed, a scheduler that does not answer
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130
NO_READER = 141  # of the output

EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
OF_MACHINE = (MemoryError, DeviceError, MissingPackageError, UnreachableError)


def code_of(error: BaseException) -> int:
    """The exit code of a command that this error ends."""
    if isinstance(error, OF_MACHINE) or (isinstance(error, OSError) and error.errno in EXHAUSTED):
        return MACHINE
    if isinstance(error, InputError) or (isinstance(error, OSError) and error.filename is not None):
        return INPUT
    return MODEL if isinstance(error, GraphcError) else BUG
