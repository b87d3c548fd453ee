"""Images in the messages that `LLM` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from serve_app.offline.images import data_url, has_image, with_data_urls


def test_images_of_this_machine_become_data_urls(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), "red")
    image.save(tmp_path / "red.jpg")
    turn = {
        "role": "user",
        "content": [
            {"type": "text", "text": "?"},
            {"type": "image", "image": image},
            {"type": "image_pil", "image_pil": image},
            {"type": "image_url", "image_url": {"url": str(tmp_path / "red.jpg"), "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    }
    text, *images = with_data_urls([turn])[0]["content"]
    assert text == {"type": "text", "text": "?"}
    urls = [part["image_url"]["url"] for part in images]
    assert urls[0] == urls[1] and urls[0].startswith("data:image/png;base64,")
    assert urls[2].startswith("data:image/jpeg;base64,") and images[2]["image_url"]["detail"] == "low"
    assert urls[3] == "https://example.com/a.png"
    assert has_image([turn]) and not has_image([{"role": "user", "content": "?"}])
    with pytest.raises(TypeError, match="not int"):
        data_url(3)
