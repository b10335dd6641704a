"""Files of sound -> arrays: WAV by the standard library, other formats by soundfile, an extra."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphc.cli.specs import shape_text
from graphc.dtypes import is_float
from graphc.errors import InputError, MissingPackageError
from graphc.signature import Spec


@dataclass(frozen=True)
class Sound:
    """samples: [channels, frames], whole numbers of `bits` bits, or floats from -1 to 1 (bits 0)."""

    samples: np.ndarray
    rate: int
    bits: int = 0

    @property
    def floats(self) -> np.ndarray:
        """float32 from -1 to 1: the largest negative number is -1."""
        return (self.samples / np.float32(1 << (self.bits - 1))).astype(np.float32) if self.bits else self.samples


def read_sound(data: bytes, what: str) -> Sound:
    """Raises InputError for what is no file of sound, and where soundfile is missing for one that it reads."""
    if data[:4] == b"RIFF":
        try:
            with wave.open(io.BytesIO(data)) as f:
                return _pcm(f.readframes(f.getnframes()), f.getsampwidth(), f.getnchannels(), f.getframerate(), what)
        except EOFError:
            raise InputError(f"'{what}' ends too early", hint="the file is damaged") from None
        except wave.Error as error:
            if "unknown format" not in str(error):
                raise InputError(f"'{what}' is no WAV file: {error}", hint="the file is damaged") from None
    return _by_soundfile(data, what)


def _pcm(data: bytes, width: int, channels: int, rate: int, what: str) -> Sound:
    """Frames of little-endian whole numbers; those of one byte are from 0 to 255."""
    if width not in (1, 2, 3, 4):
        raise InputError(f"'{what}' has samples of {8 * width} bits", hint="save it with 16 bits")
    data = data[: len(data) // (width * channels) * width * channels]
    if width == 1:
        samples = np.frombuffer(data, np.uint8).astype(np.int32) - 128
    elif width == 3:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        samples = parts[:, 0] | parts[:, 1] << 8 | (parts[:, 2] ^ 128) - 128 << 16
    else:
        samples = np.frombuffer(data, f"<i{width}").astype(np.int32)
    return Sound(samples.reshape(-1, channels).T, rate, 8 * width)


def _by_soundfile(data: bytes, what: str) -> Sound:
    try:
        import soundfile  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        hint = "pip install 'graphc[sound]', or save it as WAV with 16 bits"
        raise MissingPackageError(
            f"'{what}' is no WAV file of whole numbers, and soundfile is not installed", hint=hint
        ) from None
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise InputError(f"'{what}' is no sound that can be read: {error}") from None
    return Sound(samples.T, rate)


def prepared_sound(sound: Sound, spec: Spec, what: str, tell: Callable[[str], None]) -> np.ndarray:
    """A sound as an input of shape [frames], [batch, frames] or [batch, channels, frames] reads it: floats from -1 to 1, or whole
    numbers where it is int16. Channels are averaged where it reads one. Raises InputError for other inputs."""
    shape = spec.shape or ()
    whole = spec.dtype == np.int16 and sound.bits == 16
    floats = spec.dtype is not None and is_float(spec.dtype)
    if spec.content is not None or len(shape) not in (1, 2, 3) or not (floats or whole):
        raise InputError(
            f"input '{spec.name}' is {spec.type or spec}, and '{what}' a sound",
            hint="sounds are floats (or int16, of files with 16 bits) [frames], [batch, frames] or [batch, channels, frames]",
        )
    samples, said = sound.samples if whole else sound.floats, f"{sound.rate} Hz"
    channels = len(samples)
    one = len(shape) < 3 or shape[1] == 1
    if one and channels > 1:
        samples = samples.mean(axis=0, keepdims=True)
        said += f", {channels} channels averaged"
    elif len(shape) == 3 and isinstance(shape[1], int) and shape[1] != channels:
        raise InputError(f"'{what}' has {channels} channels, input '{spec.name}' is {shape_text(shape)}")
    if isinstance(shape[-1], int) and shape[-1] != samples.shape[-1]:
        raise InputError(
            f"'{what}' has {samples.shape[-1]} frames at {sound.rate} Hz, input '{spec.name}' is {shape_text(shape)}",
            hint="cut it, or fill it up with zeros",
        )
    tell(f"sounds as input '{spec.name}': {said}, {'whole numbers' if whole else 'values from -1 to 1'}")
    samples = np.round(samples) if whole else samples
    array = samples[0] if len(shape) == 1 else samples if len(shape) == 2 else samples[None]
    return np.ascontiguousarray(array.astype(spec.dtype))
