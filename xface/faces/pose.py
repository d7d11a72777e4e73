"""Which way a head is turned: three angles from landmarks and a rigid model of a face."""

from __future__ import annotations

import cv2
import numpy as np

from xface.results import FloatArray

SIDES = {
    (17, 26): (68.26, 67.61, 44.02),  # outer ends of the eyebrows
    (21, 22): (13.30, 71.22, 69.04),  # inner ends of the eyebrows
    (36, 45): (53.11, 54.85, 39.88),  # outer corners of the eyes
    (39, 42): (17.90, 53.94, 44.13),  # inner corners of the eyes
    (31, 35): (20.06, 14.10, 61.66),  # sides of the nose
    (48, 54): (27.74, -20.81, 50.49),  # corners of the mouth
}
"""Millimetres to the side, up and forward of a point on the subject's right and of its mirror image, from the
anthropometric model of Martins and Batista, *Accurate single view model-based head pose estimation*, FG 2008.
Its chin and lower lip are left out: they follow the mouth, which would nod with every word."""

POINTS = [point for pair in SIDES for point in pair]
MODEL = np.array([(side * x, 40.14 - y, 51.54 - z) for x, y, z in SIDES.values() for side in (-1, 1)])
"""The same, from their mean, along the camera's axes: right, down, and away from it."""

Angles = tuple[float, float, float]
UNDEFINED: Angles = (np.nan, np.nan, np.nan)


def head_pose(landmarks: FloatArray, size: tuple[int, int]) -> Angles:
    """The head's yaw, pitch and roll in degrees, all near 0 for a face that looks into the camera.

    Twelve landmarks are fitted by the model under a pinhole camera whose focal length is the picture's width
    and whose axis is its centre (SQPnP: Terzakis and Lourakis, ECCV 2020). With the camera's axes x right,
    y down, z away, the head's rotation is R = Rz(roll) Ry(-yaw) Rx(-pitch).

    Args:
        landmarks: (68, 2), x before y, in pixels of the picture.
        size: the picture's (height, width).

    Returns:
        yaw: positive where the face turns to the subject's left, which is the viewer's right.
        pitch: positive where the face looks up.
        roll: positive where the head leans to the subject's left, clockwise in the picture.
        All NaN where no head in front of the camera fits.

    Example:
        >>> points = np.zeros((68, 2))
        >>> points[POINTS] = 100 + 0.5 * MODEL[:, :2]
        >>> abs(head_pose(points, (201, 201))[2]) < 1e-6
        True
    """
    height, width = size
    camera = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1]], np.float64)
    points = np.asarray(landmarks, np.float64)[POINTS]
    try:
        found, turn, place = cv2.solvePnP(MODEL, points, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return UNDEFINED
    rotation: FloatArray = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    return _angles(rotation) if found and place[2, 0] > 0 else UNDEFINED


def _angles(rotation: FloatArray) -> Angles:
    yaw = np.arcsin(np.clip(rotation[2, 0], -1, 1))
    pitch = -np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    degrees = np.rad2deg([yaw, pitch, roll])
    return float(degrees[0]), float(degrees[1]), float(degrees[2])
