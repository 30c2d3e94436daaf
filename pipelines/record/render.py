"""Offscreen MuJoCo rendering: which OpenGL platform works here, and pictures, masks and camera geometry from a simulated scene.

MuJoCo binds to its OpenGL platform when it is first imported, so nothing here imports it before `activate` was called.
"""

import atexit
import os
import subprocess
import sys
from ctypes.util import find_library
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.record.rollout import F64, U8
from pipelines.record.sights import Sight
from pipelines.record.spec import GlBackend
from schemas.errors import DependencyError, UsageError

Backend = Literal["egl", "osmesa"]
LIBRARIES: dict[Backend, str] = {"egl": "EGL", "osmesa": "OSMesa"}
INSTALL = "apt-get install -y libegl1 libgl1-mesa-dri libosmesa6"
PROBE_SECONDS = 60
PROP = 999  # type and id of a drawn distractor: no object of a model has it
# A library may be present and still have no driver behind it; only drawing something tells.
PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().shape == (16, 16, 3)
"""


def choose_backend(asked: GlBackend = "auto") -> Backend:
    """Return an OpenGL platform that draws on this machine: the one asked for, else `$MUJOCO_GL`, else EGL before OSMesa.

    Raises:
        DependencyError: none draws; the message names the packages to install.
    """
    preferred = os.environ.get("MUJOCO_GL", "").lower()
    order: list[Backend] = sorted(LIBRARIES, key=lambda b: b != preferred)
    if asked != "auto":
        order = [asked]
    failures = {backend: why for backend in order if (why := failure(backend))}
    for backend in order:
        if backend not in failures:
            return backend
    reasons = "; ".join(f"{backend}: {why}" for backend, why in failures.items())
    raise DependencyError(f"MuJoCo cannot render on this machine ({reasons}). Run `{INSTALL}`, or record with --simulator pusht")


@lru_cache
def failure(backend: Backend) -> str:
    """Say why MuJoCo cannot draw through `backend` here; empty if it can. Tried in a process of its own, once."""
    environment = os.environ | {"MUJOCO_GL": backend}
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"a test picture took longer than {PROBE_SECONDS} s"
    if done.returncode == 0:
        return ""
    if find_library(LIBRARIES[backend]) is None:
        return f"lib{LIBRARIES[backend]} is not installed"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def activate(backend: Backend) -> None:
    """Make this process render through `backend`; call it before MuJoCo is imported."""
    os.environ["MUJOCO_GL"] = backend
    # Mesa's software rasteriser would start a thread per core in every worker process; the workers are the parallelism.
    os.environ.setdefault("LP_NUM_THREADS", "0")


def check_bound() -> None:
    """Check that MuJoCo bound to the platform that `activate` chose.

    Raises:
        UsageError: it was imported earlier and bound to another one.
    """
    import mujoco

    wanted, bound = os.environ.get("MUJOCO_GL", ""), mujoco.GLContext.__module__.rpartition(".")[2]
    if bound != wanted:
        raise UsageError(
            f"MuJoCo was imported into this process earlier and renders through {bound}, not {wanted}; "
            f"record in worker processes (workers >= 1) or set MUJOCO_GL={wanted} before the first import"
        )


@dataclass(frozen=True, slots=True)
class View:
    """A camera that a MuJoCo model names. `upside_down` ones are mounted so; their pictures are turned by 180 degrees."""

    camera: str
    upside_down: bool = False


@dataclass(frozen=True, slots=True)
class FreeView:
    """A camera that belongs to no model: it looks at a point of the world, `distance` metres away.

    `azimuth` is degrees from the world's x axis, counter-clockwise from above; `elevation` is negative when looking down.
    """

    target: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


@dataclass(frozen=True)
class Photographer:
    """Takes pictures of one MuJoCo model. Holds an OpenGL context: use it in one thread and `close` it."""

    model: Any
    width: int
    height: int
    props: list[Any] = field(default_factory=list[Any])  # `metaworld_factors.Prop`s to draw into the scene

    @cached_property
    def _renderer(self) -> Any:
        import mujoco

        check_bound()
        quality = self.model.vis.quality
        # No multisampling and no shadow map: these three choices make software rendering several times faster.
        quality.offsamples, quality.shadowsize = 0, 0
        renderer = mujoco.Renderer(self.model, self.height, self.width)
        # Registered after MuJoCo's own handler, so it runs before EGL goes away; a context freed later complains on stderr.
        atexit.register(self.close)
        return renderer

    @cached_property
    def _body_of_geom(self) -> U8:
        bodies = np.asarray(self.model.geom_bodyid)
        if self.model.nbody > np.iinfo(np.uint8).max:
            raise UsageError(f"segmentation holds at most 254 bodies and this model has {self.model.nbody}")
        return (bodies + 1).astype(np.uint8)

    def picture(self, data: Any, view: View | FreeView) -> U8:
        """Return what `view` sees, uint8[height, width, 3], RGB, upright."""
        self._look(data, view)
        return _upright(self._renderer.render(), view)

    def masks(self, data: Any, view: View | FreeView) -> U8:
        """Return per pixel the body seen there, uint8[height, width]: body id + 1, or 0 where there is none."""
        import mujoco

        self._renderer.enable_segmentation_rendering()
        try:
            self._look(data, view, sites=False)
            seen = self._renderer.render()
        finally:
            self._renderer.disable_segmentation_rendering()
        ids, kinds = seen[..., 0], seen[..., 1]
        is_geom = kinds == int(mujoco.mjtObj.mjOBJ_GEOM)
        seen_bodies = np.where(is_geom, self._body_of_geom[np.where(is_geom, ids, 0)], np.uint8(0))
        return _upright(np.where((kinds == PROP) & (ids == PROP), np.uint8(self.model.nbody + 1), seen_bodies), view)

    def depths(self, data: Any, view: View | FreeView) -> npt.NDArray[np.uint16]:
        """Return per pixel the distance along the optical axis, uint16[height, width] millimetres; 0 beyond 65.535 m."""
        self._renderer.enable_depth_rendering()
        try:
            self._look(data, view, sites=False)
            metres = self._renderer.render()
        finally:
            self._renderer.disable_depth_rendering()
        return np.asarray(_upright(np.where(metres < 65.535, np.rint(metres * 1000), 0).astype(np.uint16), view))

    def sight(self, view: View | FreeView, point: F64) -> Sight:
        """Return where the picture drawn last, of `view`, was taken from, and where in it a world point is."""
        import mujoco

        camera = mujoco.mjv_averageCamera(*self._renderer.scene.camera)
        ahead, up = np.array(camera.forward, np.float64), np.array(camera.up, np.float64)
        right, away = np.cross(ahead, up), np.asarray(point) - camera.pos
        tall = float(camera.frustum_top - camera.frustum_bottom)
        focal, depth = camera.frustum_near * self.height / tall, float(away @ ahead)
        centre = np.array([(self.width - 1) / 2, self.height * camera.frustum_top / tall - 0.5])
        pixel = centre + (np.array([away @ right, -(away @ up)]) * focal / depth if depth > 0 else np.nan)
        turned = isinstance(view, View) and view.upside_down
        if turned:
            centre, pixel = (np.array([self.width, self.height]) - 1 - v for v in (centre, pixel))
        pose = np.eye(4)
        pose[:3, :3] = np.stack([-right, up, ahead] if turned else [right, -up, ahead], axis=1)
        pose[:3, 3] = camera.pos
        return Sight(np.array([focal, focal, *centre]), pose, pixel)

    def intrinsics(self, view: View) -> tuple[float, ...]:
        """Return the row-major 3x3 pinhole matrix of `view` in pixels; pixel centres have integer coordinates."""
        fovy = np.deg2rad(float(self.model.camera(view.camera).fovy[0]))
        focal = self.height / 2 / float(np.tan(fovy / 2))
        return (focal, 0.0, (self.width - 1) / 2, 0.0, focal, (self.height - 1) / 2, 0.0, 0.0, 1.0)

    def pose(self, data: Any, view: View) -> F64:
        """Return T_world_camera, float64[4, 4], metres: x right, y down, z forward in the upright picture."""
        camera = data.camera(view.camera)
        # MuJoCo's cameras look along -z with y up.
        axes = np.diag([-1.0, 1.0, -1.0]) if view.upside_down else np.diag([1.0, -1.0, -1.0])
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(camera.xmat).reshape(3, 3) @ axes
        matrix[:3, 3] = camera.xpos
        return matrix

    def close(self) -> None:
        """Free the OpenGL context; a later picture opens a new one."""
        renderer = self.__dict__.pop("_renderer", None)
        if renderer is not None:
            renderer.close()
            atexit.unregister(self.close)

    def _look(self, data: Any, view: View | FreeView, *, sites: bool = True) -> None:
        import mujoco

        options = mujoco.MjvOption()
        if not sites:
            options.sitegroup[:] = 0
        self._renderer.update_scene(data, camera=_camera(view), scene_option=options)
        self._place_props()
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def _place_props(self) -> None:
        import mujoco

        scene = self._renderer.scene
        for prop in self.props:
            geom, kind = scene.geoms[scene.ngeom], getattr(mujoco.mjtGeom, f"mjGEOM_{prop.kind.upper()}")
            colour = np.array([*prop.colour, 1.0], np.float32)
            size = {"sphere": [prop.size[0]] * 3, "cylinder": [prop.size[0]] * 2 + [prop.size[1]]}.get(prop.kind, prop.size)
            mujoco.mjv_initGeom(geom, kind, np.array(size, float), np.array(prop.place), np.eye(3).ravel(), colour)
            geom.objtype, geom.objid, geom.segid = PROP, PROP, scene.ngeom
            scene.ngeom += 1


def body_names(model: Any) -> dict[str, str]:
    """Return the names behind the numbers of `Photographer.masks`, `"0"` being the background."""
    names = {str(i + 1): model.body(i).name or f"body{i}" for i in range(model.nbody)}
    return {"0": "background", **names}


def _camera(view: View | FreeView) -> Any:
    if isinstance(view, View):
        return view.camera
    import mujoco

    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = view.target
    camera.distance, camera.azimuth, camera.elevation = view.distance, view.azimuth, view.elevation
    return camera


def _upright(image: npt.NDArray[Any], view: View | FreeView) -> Any:
    return np.ascontiguousarray(image[::-1, ::-1]) if isinstance(view, View) and view.upside_down else image.copy()
