"""Random images of a known colour: flat shades with noise, as PNG or JPEG."""

import colorsys
import io

import numpy as np
from PIL import Image

# Ranges of hue (degrees), saturation and value; a gap lies between neighbouring hues.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-10, 8), (0.75, 1.0), (0.55, 1.0)),
    "orange": ((22, 40), (0.75, 1.0), (0.88, 1.0)),
    "yellow": ((51, 64), (0.6, 1.0), (0.8, 1.0)),
    "green": ((90, 150), (0.6, 1.0), (0.45, 1.0)),
    "blue": ((207, 248), (0.65, 1.0), (0.5, 1.0)),
    "purple": ((270, 303), (0.55, 1.0), (0.45, 1.0)),
    "black": ((0, 360), (0.0, 1.0), (0.0, 0.14)),
    "white": ((0, 360), (0.0, 0.07), (0.91, 1.0)),
}
PURE: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "orange": (255, 165, 0),
    "yellow": (255, 255, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "purple": (128, 0, 128),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}
MAX_ASPECT = 8.0


def random_shade(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """An RGB shade that anyone would call `colour`."""
    if rng.random() < 0.1:
        return PURE[colour]
    hue, saturation, value = (rng.uniform(*span) for span in COLOURS[colour])
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def random_size(rng: np.random.Generator, max_pixels: int) -> tuple[int, int]:
    """Width and height: 8 to 3000 a side, up to 1:8, mostly small."""
    side = float(np.exp(rng.uniform(np.log(8), np.log(2400))))
    aspect = float(np.exp(rng.uniform(-1, 1) * np.log(MAX_ASPECT)))
    if rng.random() < 0.2:
        aspect = 1.0
    width = min(3000.0, max(8.0, side * aspect**0.5))
    height = min(2000.0, max(8.0, side / aspect**0.5))
    shrink = min(1.0, (max_pixels / (width * height)) ** 0.5)
    width, height = max(8, round(width * shrink)), max(8, round(height * shrink))
    limit = int(MAX_ASPECT * min(width, height))
    return min(width, limit), min(height, limit)


def paint(colour: str, rng: np.random.Generator, max_pixels: int = 6_000_000) -> Image.Image:
    """A picture of one colour with noise and, at times, a faint gradient."""
    width, height = random_size(rng, max_pixels)
    shade = np.array(random_shade(colour, rng), dtype=np.float32)
    pixels = np.tile(shade, (height, width, 1))
    if rng.random() < 0.3:
        ramp = np.linspace(-1, 1, width, dtype=np.float32)
        pixels += (rng.uniform(-12, 12) * ramp)[None, :, None]
    spread = float(rng.choice([0, 4, 10, 20]))
    if spread:
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * spread
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: Image.Image, rng: np.random.Generator) -> bytes:
    """PNG or JPEG bytes."""
    buffer = io.BytesIO()
    if rng.random() < 0.5:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return buffer.getvalue()


def random_colour(rng: np.random.Generator) -> str:
    """One of the eight."""
    return str(rng.choice(list(COLOURS)))


def random_image(rng: np.random.Generator, colour: str | None = None, max_pixels: int = 6_000_000) -> tuple[bytes, str]:
    """An encoded image and the name of its colour."""
    colour = colour or random_colour(rng)
    return encode(paint(colour, rng, max_pixels), rng), colour
