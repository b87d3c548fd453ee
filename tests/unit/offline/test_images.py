"""The shapes `LLM` takes; what it does with engines is tested end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from serve_app import SamplingParams
from serve_app.offline.images import data_url, has_image, with_data_urls
from serve_app.offline.sampling_params import fields


def test_importing_the_package_is_light() -> None:
    check = "import sys, serve_app; sys.exit(any(m in sys.modules for m in ('ray', 'aiohttp', 'pydantic', 'vllm')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0, "max_tokens": 8, "stop": None},
        SamplingParams(temperature=0, max_tokens=8),
        SimpleNamespace(temperature=0, max_tokens=8, stop=[], output_kind=2),
    ],
)
def test_sampling_is_a_dict_ours_or_vllms(params: object) -> None:
    for chat in (True, False):
        assert fields(params, chat) == {"temperature": 0, "max_tokens": 8}


def test_a_misspelt_parameter_is_told() -> None:
    with pytest.raises(TypeError, match="did you mean `temperature`"):
        fields({"temprature": 0}, True)


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
