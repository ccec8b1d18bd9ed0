"""How much each kind of corruption does at strengths 1 to 5; what the numbers mean stands in docs/robust.md."""

from __future__ import annotations

AMOUNTS: dict[str, tuple[float, float, float, float, float]] = {
    # standard deviation, values in 0..1; shot noise: light per photon; speckle: share of the pixel; share of the pixels
    "gaussian_noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "shot_noise": (0.015, 0.04, 0.08, 0.15, 0.28),
    "speckle_noise": (0.1, 0.18, 0.28, 0.4, 0.55),
    "salt_and_pepper": (0.01, 0.03, 0.06, 0.11, 0.18),
    # shares of the shorter side: sigma less 0.3 pixels; half the streak less 0.6 pixels; radius less 1 pixel
    "gaussian_blur": (0.006, 0.011, 0.017, 0.025, 0.034),
    "motion_blur": (0.025, 0.05, 0.08, 0.11, 0.14),
    "defocus": (0.012, 0.02, 0.03, 0.042, 0.056),
    # degrees; way to grey, or twice that away from it; gain of one channel, and its inverse of another; way to 3,300 or 15,000 kelvin
    "hue_shift": (10, 20, 34, 50, 75),
    "saturation_shift": (0.2, 0.4, 0.6, 0.8, 1.0),
    "colour_cast": (0.08, 0.15, 0.25, 0.38, 0.55),
    "colour_temperature": (0.2, 0.38, 0.57, 0.78, 1.0),
    # stops; what is left of the contrast; exponent or its inverse; how much lighter and darker at the ends; depth
    "exposure": (0.2, 0.4, 0.65, 0.95, 1.3),
    "low_contrast": (0.75, 0.55, 0.4, 0.28, 0.18),
    "gamma_shift": (1.2, 1.5, 1.9, 2.4, 3.2),
    "uneven_light": (0.15, 0.3, 0.45, 0.6, 0.8),
    "cloud_shadow": (0.2, 0.35, 0.5, 0.65, 0.8),
    # share of the area; number of bands; depth; streaks per column
    "occlusion": (0.04, 0.08, 0.14, 0.22, 0.32),
    "bands": (2, 3, 4, 5, 6),
    "fog": (0.12, 0.25, 0.4, 0.55, 0.7),
    "streaks": (0.1, 0.2, 0.35, 0.55, 0.8),
    # degrees; degrees; factor or its inverse; shift of the corners, share of the side; shift of the pixels, likewise
    "rotation": (6, 12, 20, 30, 45),
    "shear": (6, 12, 18, 25, 33),
    "zoom": (1.1, 1.2, 1.35, 1.5, 1.7),
    "perspective": (0.04, 0.08, 0.12, 0.16, 0.21),
    "elastic": (0.008, 0.014, 0.021, 0.03, 0.042),
    # quality; share of the pixels along a side
    "jpeg": (50, 30, 18, 10, 5),
    "pixelation": (0.7, 0.5, 0.38, 0.28, 0.2),
}
