"""Which side of each patch is out: of closed ones by their volume, of open ones by the view from either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.hole_seams import inside_out
from shapestore.preprocess.geometry.holes import Filled, fill_holes
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import DECIDED, Patches, areas, cut, facets, patches, unit_normals
from shapestore.preprocess.geometry.views import Views, views
from shapestore.preprocess.geometry.visibility import Openness
from shapestore.preprocess.geometry.winding import WindingNumber

SHEET: Final = 0.35
"""A place is part of a sheet if its darker side is this open relative to the brighter one."""

OPEN: Final = 0.2
"""A sheet lies in the open: of what lies in a corner, little light shows which side is which."""

UNCLEAR: Final = (0.1, 0.6)
"""Between these the surface could be a sheet that is bent, or a wall around an opening."""

COHERENT: Final = 0.9
"""The raw winding is trusted if the view agrees with it, or contradicts it, on this much more of the area than not."""

_SAMPLES: Final = 3000
_OPENING_SAMPLES: Final = 256
_CONTAINED_PROBES: Final = 24


@dataclass(frozen=True, eq=False)
class Orientation:
    """A surface whose faces point outwards, and how sure that is.

    Attributes
    ----------
    mesh
        Welded, single, filled and turned faces; what bounds nothing is left out.
    barriers
        All filled faces and the caps over what is still open: what separates inside from outside.
    scene
        Rays through the filled mesh, or None where every patch is closed and no ray is needed.
    trusted
        Whether the raw winding is consistent.
    loose
        Open patches as a share of the faces: above a few percent the surface is torn.
    stump
        Whether some filling may be all that is left of a part.
    filling, enclosed, openings, sheets, unclear
        Shares of the area of all patches: of filled holes; of closed patches within others whose winding does not tell
        whether they bound a cavity; of openings that are seen from outside; of places that are
        at least a fifth as open on one side as on the other; and of places that are neither clearly walls nor sheets.
    """

    mesh: Mesh
    barriers: Mesh
    scene: Openness | None
    trusted: bool = True
    loose: float = 0.0
    stump: bool = False
    filling: float = 0.0
    enclosed: float = 0.0
    openings: float = 0.0
    sheets: float = 0.0
    unclear: float = 0.0


def orient(mesh: Mesh, rng: np.random.Generator) -> Orientation:
    """Turn every patch so that its normal points out.

    A closed patch is turned by its signed volume, except that a cavity stays one: a patch wholly within others, wound
    against all patches that are not, in a mesh whose winding is consistent. An open patch follows the raw winding if
    that agrees with the view throughout, else the side from which more rays leave, after the visibility vote of
    Takayama et al., "A simple method for correcting facet orientations in polygon meshes based on ray casting" (JCGT
    2014), taken over whole patches. Sheets, seen alike from both sides, are left out; so is what is not seen at all
    and has no trusted winding.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`, normalised by `box_frame`.
    rng
        Source of the samples and directions; not drawn from where every patch is closed.

    Returns
    -------
    Orientation
        O(F log F) time; about 1 kB a face, and 50 MB for the rays where some patch is open.

    Raises
    ------
    UsageError
        Some patch is open, and there is no embreex on this platform.
    """
    filled = _filled(patches(mesh))
    whole, closed = filled.patches, filled.closed
    barriers = Mesh(whole.mesh.vertices, np.concatenate([whole.mesh.faces, filled.openings]))
    signs, _, ambiguous = _closed_signs(whole, closed)
    enclosed = _share(whole, ambiguous)
    if closed.all():
        return Orientation(
            _turned(whole, signs), barriers, None, stump=filled.stump, filling=filled.filling, enclosed=enclosed
        )
    loose = float((~closed).sum() / len(whole.patch))
    scene = Openness(whole.mesh)
    look = views(whole, ~closed, scene, _SAMPLES, rng)
    mixed = _mixed(look)
    if mixed.any():
        split = facets(whole, mixed)
        closed = closed[whole.patch[_first_faces(split)]]
        whole, look = split, views(split, ~closed, scene, _SAMPLES, rng)
    signs, trusted = _signs(whole, closed, look)
    total, balance = float(areas(whole.mesh).sum()), look.balance()
    return Orientation(
        mesh=_turned(whole, signs),
        barriers=barriers,
        scene=scene,
        trusted=trusted,
        loose=loose,
        stump=filled.stump,
        filling=filled.filling,
        enclosed=enclosed,
        openings=_visible_openings(whole.mesh, filled.openings, scene, rng) / total,
        sheets=float((look.weight * (balance >= 0.2)).sum() / total),
        unclear=float((look.weight * (balance > UNCLEAR[0]) * (balance < UNCLEAR[1])).sum() / total),
    )


def signed_volumes(patches: Patches) -> NDArray[np.float64]:
    """(count,) signed volume of each patch, by the divergence theorem; > 0 if its faces point out."""
    corners = patches.mesh.vertices[patches.mesh.faces]
    # Measured from a corner of the patch, small far patches keep their digits.
    origin = corners[_first_faces(patches), 0]
    a, b, c = np.moveaxis(corners - origin[patches.patch][:, None], 1, 0)
    tetrahedra = (a * np.cross(b, c)).sum(axis=1) / 6
    return np.asarray(np.bincount(patches.patch, weights=tetrahedra, minlength=patches.count), np.float64)


def _filled(found: Patches) -> Filled:
    """Fill the holes, and once more where a filled patch without a clear winding turns out to be two bodies."""
    filled = fill_holes(found)
    whole, faces = filled.patches, len(found.patch)
    if len(whole.patch) == faces:
        return filled
    mended = np.bincount(whole.patch[faces:], minlength=whole.count) > 0
    doubtful = filled.closed & mended & (np.abs(_lean(whole)) < DECIDED)
    turned = inside_out(whole, np.sign(signed_volumes(whole)), doubtful)[:faces]
    return fill_holes(cut(found, turned)) if turned.any() else filled


def _signs(whole: Patches, closed: NDArray[np.bool_], look: Views) -> tuple[NDArray[np.float64], bool]:
    """(count,) +1 for patches to keep, -1 to turn, 0 to leave out; and whether the raw winding is trusted."""
    signs, sense, _ = _closed_signs(whole, closed)
    votes, sheet = _votes(look)
    lean = _lean(whole)
    raw = np.where(np.abs(lean) >= DECIDED, np.sign(lean), 0.0)
    # Dim light that falls in through cracks may reach a wall from its inside first.
    voting = look.area(np.maximum(look.front, look.back) >= OPEN) * (votes != 0)
    agreement = float((voting * votes * raw).sum()) / float(voting.sum()) if voting.any() else sense
    trusted = abs(agreement) >= COHERENT and sense in (0.0, np.sign(agreement))
    seen = np.where(sheet, 0.0, votes)
    # A flat sheet has a winding number of at most 0.5 on either side: kept as it is, it holds nothing.
    open_signs = np.where(raw != 0, np.sign(agreement) * raw, seen) if trusted else seen
    return np.where(closed, signs, open_signs), trusted


def _closed_signs(whole: Patches, closed: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]]:
    """Signs of the closed patches, the sense of the raw winding, and which closed patches could be cavities or not.

    The sense is how the patches that are exposed were wound: outwards 1, inwards -1, unknown 0, mixed NaN. A patch
    within others is taken for solid where there is no sense or the patch has no clear winding.
    """
    outward = np.where(closed, np.sign(signed_volumes(whole)), 0.0)
    lean = _lean(whole)
    known = closed & (np.abs(lean) >= DECIDED)
    raw = np.where(known, np.sign(lean) * outward, 0.0)
    none = np.zeros(whole.count, bool)
    if closed.sum() < 2 or (known[closed].all() and len(np.unique(raw[closed])) == 1):
        return outward, float(raw[closed].sum() / max(closed.sum(), 1)), none
    contained = _contained(whole, closed, outward)
    exposed = np.unique(raw[known & ~contained])
    if len(exposed) != 1:
        return outward, float("nan") if len(exposed) else 0.0, contained
    cavity = contained & (raw == -exposed[0])
    return np.where(cavity, -outward, outward), float(exposed[0]), contained & ~known


def _contained(whole: Patches, chosen: NDArray[np.bool_], outward: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(count,) which of the chosen patches lie within other closed patches, by probes just outside their faces."""
    order = np.argsort(whole.patch, kind="stable")
    owner = whole.patch[order]
    faces = np.bincount(owner, minlength=whole.count)
    rank = np.arange(len(order)) - (np.cumsum(faces) - faces)[owner]
    step = np.maximum(faces // _CONTAINED_PROBES, 1)[owner]
    probed = order[(rank % step == 0) & chosen[owner]]
    triangles = Mesh(whole.mesh.vertices, whole.mesh.faces[probed])
    owner = whole.patch[probed]
    lift = 1e-4 * outward[owner][:, None] * unit_normals(triangles)
    # The corners matter most: a part that sticks out of another does so with a corner.
    places = np.vstack([np.full(3, 1 / 3), 0.97 * np.eye(3) + 0.01])
    points = np.einsum("pk,fkx->fpx", places, triangles.vertices[triangles.faces]) + lift[:, None]
    free = WindingNumber(_turned(whole, outward)).at(points.reshape(-1, 3)) < 0.5
    exposed = np.bincount(np.repeat(owner, len(places)), weights=free, minlength=whole.count)
    return np.asarray(chosen & (exposed == 0))


def _votes(look: Views) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(count,) the clear vote of each patch for its front (+1) or back (-1), else 0; and whether it is a sheet."""
    wall = look.seen() & (look.balance() < SHEET)
    seen = look.area(look.seen())
    lead = look.area(wall & (look.front > look.back)) - look.area(wall & (look.front < look.back))
    clear = (np.abs(lead) >= DECIDED * seen) & (seen > 0)
    in_the_open = np.maximum(look.front, look.back) >= OPEN
    sheet = look.area(in_the_open & ~wall) > 0.5 * seen
    return np.where(clear, np.sign(lead), 0.0), sheet


def _mixed(look: Views) -> NDArray[np.bool_]:
    """(count,) patches of which some walls show their front and some their back: they join what does not belong."""
    wall = look.seen() & (look.balance() < 0.2)
    front, back = look.area(wall & (look.front > look.back)), look.area(wall & (look.front < look.back))
    return np.asarray((np.minimum(front, back) > 0.05 * (front + back)) & (front + back > 0))


def _visible_openings(mesh: Mesh, caps: NDArray[np.int64], scene: Openness, rng: np.random.Generator) -> float:
    """Area of the caps through which one looks from outside into something darker."""
    if len(caps) == 0:
        return 0.0
    one = np.ones(1, bool)
    opening = Patches(Mesh(mesh.vertices, caps), np.zeros(len(caps), np.int64), np.zeros(len(caps), np.int8), 1, one)
    look = views(opening, one, scene, _OPENING_SAMPLES, rng)
    bright = np.maximum(look.front, look.back) >= UNCLEAR[0]
    return float((look.weight * bright * (look.balance() < UNCLEAR[1])).sum())


def _lean(patches: Patches) -> NDArray[np.float64]:
    """(count,) mean raw winding of each patch by area, -1 to 1."""
    size = areas(patches.mesh)
    total = np.bincount(patches.patch, weights=size, minlength=patches.count)
    lean = np.bincount(patches.patch, weights=size * patches.agreement, minlength=patches.count)
    return np.divide(lean, total, out=np.zeros_like(total), where=total > 0)


def _share(patches: Patches, chosen: NDArray[np.bool_]) -> float:
    """Share of the area that the chosen patches have."""
    size = areas(patches.mesh)
    return float(size[chosen[patches.patch]].sum() / size.sum())


def _first_faces(patches: Patches) -> NDArray[np.int64]:
    """(count,) the first face of each patch."""
    first = np.zeros(patches.count, np.int64)
    first[patches.patch[::-1]] = np.arange(len(patches.patch))[::-1]
    return first


def _turned(patches: Patches, signs: NDArray[np.float64]) -> Mesh:
    """The patches with sign +1 as they are and those with -1 the other way round."""
    sign = signs[patches.patch]
    faces = np.where((sign < 0)[:, None], patches.mesh.faces[:, ::-1], patches.mesh.faces)
    return Mesh(patches.mesh.vertices, faces[sign != 0])
