"""Decoded pictures to RGB straight into the caller's memory, by the libswscale that PyAV itself has loaded.

PyAV's own converter makes a new picture each time, which then has to be copied to where it is wanted: a tenth of what a small picture
costs. The calls made here are the ones it makes, so the pixels are the same; where its library cannot be reached, or a picture's
width does not suit the library's wide stores, `Converter.into` says no and the caller goes through PyAV.
"""

import ctypes
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

BILINEAR, RGB24 = 2, b"rgb24"  # SWS_BILINEAR, what PyAV asks for
STORE = 16  # pixels; rows of a multiple of them end where a wide store ends
_Planes, _Strides = ctypes.c_void_p * 4, ctypes.c_int * 4
_Table = ctypes.POINTER(ctypes.c_int)


class Converter:
    """Converts pictures of one format, size and colour space. One thread at a time may use it.

    Attributes:
        usable: whether `into` can convert such pictures at all.
    """

    def __init__(self, picture: Any, colours: tuple[int, int] | None) -> None:
        """Prepare for pictures like `picture`; `colours` are swscale's numbers of the stream's colour space and of the one to read it by."""
        self.height = int(picture.height)
        self._context = self._free = None
        libraries = _libraries()
        if libraries is None or picture.width % STORE:
            return
        self._scale = libraries[0].sws_scale
        number = libraries[1].av_get_pix_fmt(str(picture.format.name).encode())
        rgb = libraries[1].av_get_pix_fmt(RGB24)
        size = (picture.width, picture.height)
        self._context = libraries[0].sws_getContext(*size, number, *size, rgb, BILINEAR, None, None, None)
        if self._context and colours is not None:
            _set_colours(libraries[0], self._context, colours)
        if self._context:
            self._free = weakref.finalize(self, libraries[0].sws_freeContext, self._context)
        self._strides = _Strides(3 * picture.width, 0, 0, 0)

    @property
    def usable(self) -> bool:
        """Whether there is a way around PyAV's converter."""
        return bool(self._context)

    def into(self, picture: Any, place: npt.NDArray[np.uint8]) -> bool:
        """Write a picture to a C-contiguous uint8[H, W, 3] of its size; False, and nothing is written, where that is not possible."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(place))  # a quarter of what `place.ctypes.data` costs
        if not self._context or address % STORE:
            return False
        planes = picture.planes
        source = _Planes(*[p.buffer_ptr for p in planes])
        strides = _Strides(*[p.line_size for p in planes])
        self._scale(self._context, source, strides, 0, self.height, _Planes(address), self._strides)
        return True


def _set_colours(library: Any, context: int, colours: tuple[int, int]) -> None:
    """Read the stream's colours by its own matrix, as PyAV does when it is told two colour spaces: limited range on both sides."""
    found = (_Table(), ctypes.c_int(), _Table(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int())
    library.sws_getColorspaceDetails(context, *map(ctypes.byref, found))
    tables = [library.sws_getCoefficients(number) for number in colours]
    library.sws_setColorspaceDetails(context, tables[0], 0, tables[1], 0, found[4], found[5], found[6])


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, Any] | None:
    """Return PyAV's libswscale and libavutil; None where they are not found beside it, or are of other versions than it uses."""
    root = Path(av.__file__).parent
    folders = (root.parent / "av.libs", root / ".dylibs")
    found: list[Any] = []
    for name, version in (("swscale", "swscale_version"), ("avutil", "avutil_version")):
        paths = [p for folder in folders if folder.is_dir() for p in sorted(folder.glob(f"*{name}*"))]
        if not paths:
            return None
        try:
            library = ctypes.CDLL(str(paths[0]))
            loaded = getattr(library, version)()
        except (OSError, AttributeError):
            return None
        if (loaded >> 16, loaded >> 8 & 255, loaded & 255) != av.library_versions[f"lib{name}"]:
            return None
        found.append(library)
    scale, util = found
    _declare(scale, util)
    return scale, util


def _declare(scale: Any, util: Any) -> None:
    """State the types of the functions called here: swscale.h and pixdesc.h."""
    number, pointer = ctypes.c_int, ctypes.c_void_p
    scale.sws_getContext.restype, scale.sws_getContext.argtypes = pointer, [number] * 7 + [pointer] * 3
    scale.sws_freeContext.restype, scale.sws_freeContext.argtypes = None, [pointer]
    scale.sws_scale.argtypes = [pointer, _Planes, _Strides, number, number, _Planes, _Strides]
    scale.sws_getCoefficients.restype, scale.sws_getCoefficients.argtypes = _Table, [number]
    scale.sws_getColorspaceDetails.argtypes = [pointer] * 8
    scale.sws_setColorspaceDetails.argtypes = [pointer, _Table, number, _Table, number, number, number, number]
    util.av_get_pix_fmt.argtypes = [ctypes.c_char_p]
